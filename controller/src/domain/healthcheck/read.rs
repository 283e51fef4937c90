//! Probes, as clients write them (contract §2.9): refused in the words of a JSON schema.

use paas_api::config::{HttpGetAction, Probe, Probes};
use serde_json::{Map, Value};

use super::Kind;

/// Longest time that a probe may be told to wait, in seconds.
const LONGEST: u64 = 3600;
/// Most trials in a row that may be demanded.
const MOST_TRIALS: u64 = 1000;
/// Most words of a command, most headers.
const MOST_PARTS: usize = 100;
/// Longest text in a probe, in bytes.
const LONGEST_TEXT: usize = 8192;
/// So much of what was refused is shown.
const SHOWN: usize = 500;

/// Reads one probe, in the words of a JSON schema where it is not one.
pub fn read(kind: Kind, value: Value) -> Result<Probe, String> {
    let shown: String = value.to_string().chars().take(SHOWN).collect();
    let probe = check(&value).and_then(|()| serde_json::from_value::<Probe>(value).map_err(|error| error.to_string()));
    let probe = probe.map_err(|reason| format!("could not validate {shown}: {reason}"))?;
    if kind == Kind::Liveness && probe.success_threshold.is_some_and(|threshold| threshold != 1) {
        return Err("livenessProbe successThreshold can only be 1".to_owned());
    }
    Ok(probe)
}

fn check(value: &Value) -> Result<(), String> {
    let probe = object(value)?;
    let mut actions = 0;
    if let Some(exec) = probe.get("exec") {
        actions += 1;
        let words = array(required(object(exec)?, "command")?)?;
        if words.is_empty() {
            return Err("[] is too short".to_owned());
        }
        words.iter().try_for_each(|word| text(word).map(drop))?;
    }
    if let Some(page) = probe.get("httpGet") {
        actions += 1;
        check_page(object(page)?)?;
    }
    if let Some(socket) = probe.get("tcpSocket") {
        actions += 1;
        number(required(object(socket)?, "port")?, "port", 1, u64::from(u16::MAX))?;
    }
    for (name, least, most) in [
        ("initialDelaySeconds", 0, LONGEST),
        ("timeoutSeconds", 1, LONGEST),
        ("periodSeconds", 1, LONGEST),
        ("successThreshold", 1, MOST_TRIALS),
        ("failureThreshold", 1, MOST_TRIALS),
    ] {
        if let Some(value) = probe.get(name) {
            number(value, name, least, most)?;
        }
    }
    match actions {
        1 => Ok(()),
        _ => Err("there must be one of exec, httpGet and tcpSocket".to_owned()),
    }
}

fn check_page(page: &Map<String, Value>) -> Result<(), String> {
    number(required(page, "port")?, "port", 1, u64::from(u16::MAX))?;
    let plain = |value: &Value, name: &str| {
        let text = text(value)?;
        if text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(text.to_owned())
        } else {
            Err(format!("{name} may hold printable ASCII without blanks only"))
        }
    };
    if let Some(path) = page.get("path") {
        plain(path, "path")?;
    }
    if let Some(host) = page.get("host") {
        plain(host, "host")?;
    }
    if let Some(scheme) = page.get("scheme")
        && !["http", "https"].iter().any(|known| text(scheme).is_ok_and(|scheme| scheme.eq_ignore_ascii_case(known)))
    {
        return Err("scheme can only be HTTP or HTTPS".to_owned());
    }
    let Some(headers) = page.get("httpHeaders") else { return Ok(()) };
    for header in array(headers)? {
        let header = object(header)?;
        let name = text(required(header, "name")?)?;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err("a header's name can only be letters, digits and !#$%&'*+-.^_`|~".to_owned());
        }
        if text(required(header, "value")?)?.chars().any(char::is_control) {
            return Err("a header's value may not hold control characters".to_owned());
        }
    }
    Ok(())
}

fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
    .chars()
    .take(SHOWN)
    .collect()
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{} is not of type 'object'", brief(value)))
}

fn array(value: &Value) -> Result<&[Value], String> {
    let array = value.as_array().ok_or_else(|| format!("{} is not of type 'array'", brief(value)))?;
    if array.len() > MOST_PARTS { Err(format!("{} is too long", brief(value))) } else { Ok(array) }
}

fn text(value: &Value) -> Result<&str, String> {
    let text = value.as_str().ok_or_else(|| format!("{} is not of type 'string'", brief(value)))?;
    if text.len() > LONGEST_TEXT || text.contains('\0') {
        return Err(format!("a text may have {LONGEST_TEXT} bytes and no NUL"));
    }
    Ok(text)
}

fn required<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
    object.get(name).ok_or_else(|| format!("'{name}' is a required property"))
}

fn number(value: &Value, name: &str, least: u64, most: u64) -> Result<(), String> {
    if !value.is_i64() && !value.is_u64() {
        return Err(format!("{} is not of type 'integer'", brief(value)));
    }
    if value.as_u64().is_some_and(|number| (least..=most).contains(&number)) {
        Ok(())
    } else {
        Err(format!("{name} needs to be between {least} and {most}"))
    }
}

/// The probes that `HEALTHCHECK_URL` and its like ask for (contract §1.7).
pub fn of_variables(get: impl Fn(&str) -> Option<u32>, path: &str) -> Probes {
    let probe = Probe {
        http_get: Some(HttpGetAction {
            port: None,
            path: Some(path.to_owned()),
            host: None,
            scheme: None,
            http_headers: None,
            other: Map::new(),
        }),
        initial_delay_seconds: Some(get("HEALTHCHECK_INITIAL_DELAY").unwrap_or(50)),
        timeout_seconds: Some(get("HEALTHCHECK_TIMEOUT").unwrap_or(50)),
        period_seconds: Some(get("HEALTHCHECK_PERIOD_SECONDS").unwrap_or(10)),
        success_threshold: Some(1),
        failure_threshold: Some(get("HEALTHCHECK_FAILURE_THRESHOLD").unwrap_or(3)),
        ..Probe::default()
    };
    let readiness =
        Probe { success_threshold: Some(get("HEALTHCHECK_SUCCESS_THRESHOLD").unwrap_or(1)), ..probe.clone() };
    Probes { liveness: Some(probe), readiness: Some(readiness) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_probe_is_named_in_a_schemas_words() {
        for (value, reason) in [
            (json!(5), "5 is not of type 'object'"),
            (json!({"exec": {}}), "'command' is a required property"),
            (json!({"exec": {"command": []}}), "[] is too short"),
            (json!({"exec": {"command": "ls"}}), "'ls' is not of type 'array'"),
            (json!({"exec": {"command": [1]}}), "1 is not of type 'string'"),
            (json!({"httpGet": {"path": "/"}}), "'port' is a required property"),
            (json!({"httpGet": {"port": "80"}}), "'80' is not of type 'integer'"),
            (json!({"httpGet": {"port": 0}}), "port needs to be between 1 and 65535"),
            (
                json!({"httpGet": {"port": 1, "path": "/ HTTP/1.1\r\nX: y"}}),
                "path may hold printable ASCII without blanks only",
            ),
            (json!({"httpGet": {"port": 1, "scheme": "GOPHER"}}), "scheme can only be HTTP or HTTPS"),
            (json!({"httpGet": {"port": 1, "httpHeaders": [{"name": "X"}]}}), "'value' is a required property"),
            (
                json!({"httpGet": {"port": 1, "httpHeaders": [{"name": "X", "value": "a\nb"}]}}),
                "a header's value may not hold control characters",
            ),
            (json!({"tcpSocket": {}}), "'port' is a required property"),
            (json!({"tcpSocket": {"port": 1}, "periodSeconds": 1.5}), "1.5 is not of type 'integer'"),
            (json!({"tcpSocket": {"port": 1}, "periodSeconds": 0}), "periodSeconds needs to be between 1 and 3600"),
            (json!({"periodSeconds": 5}), "there must be one of exec, httpGet and tcpSocket"),
        ] {
            let told = read(Kind::Readiness, value.clone()).err().unwrap();
            assert_eq!(told, format!("could not validate {value}: {reason}"));
        }
        let twice = json!({"tcpSocket": {"port": 1}, "successThreshold": 2});
        let told = read(Kind::Liveness, twice.clone()).err().unwrap();
        assert_eq!(told, "livenessProbe successThreshold can only be 1");
        assert!(read(Kind::Readiness, twice).is_ok());
        assert_eq!(
            "liveness".parse::<Kind>().unwrap_err(),
            "Healthcheck keys must be either livenessProbe or readinessProbe"
        );
    }
}

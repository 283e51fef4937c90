//! Health checks: how probes are read and what they mean (contract §2.9), with Kubernetes' meaning of the numbers.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use paas_api::{
    ProcessType,
    config::{HttpGetAction, LIVENESS, Probe, Probes, READINESS},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::Changed;

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

/// Whose probes they are: a process type's, or those of `web/cmd`, which hold for both that have none of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// The type that stands for `web` and `cmd`.
const WEB_AND_CMD: &str = "web/cmd";

impl Owner {
    /// `web/cmd`.
    pub fn web_and_cmd() -> Self {
        Self(WEB_AND_CMD.to_owned())
    }
}

impl FromStr for Owner {
    type Err = paas_api::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text != WEB_AND_CMD {
            text.parse::<ProcessType>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Owner {
    type Error = paas_api::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the two probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether a process must be started again.
    Liveness,
    /// Whether a process can be sent visitors.
    Readiness,
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            LIVENESS => Ok(Self::Liveness),
            READINESS => Ok(Self::Readiness),
            _ => Err("Healthcheck keys must be either livenessProbe or readinessProbe".to_owned()),
        }
    }
}

/// The probes of an app.
pub type Healthchecks = BTreeMap<Owner, Probes>;

/// Probes to set or, with `None`, to unset: all of an owner's, or one.
pub type ChangedProbes = Changed<Owner, ChangesOfOwner>;

/// Probes of one owner to set or to unset.
pub type ChangesOfOwner = BTreeMap<Kind, Option<Box<Probe>>>;

/// Changes the probes; the error names an owner who has not what was to be unset.
pub fn merge(checks: &mut Healthchecks, changes: ChangedProbes) -> Result<(), Owner> {
    for (owner, change) in changes {
        let Some(change) = change else {
            checks.remove(&owner).ok_or(owner)?;
            continue;
        };
        let mut probes = checks.remove(&owner).unwrap_or_default();
        for (kind, probe) in change {
            let place = match kind {
                Kind::Liveness => &mut probes.liveness,
                Kind::Readiness => &mut probes.readiness,
            };
            if probe.is_none() && place.is_none() {
                return Err(owner);
            }
            *place = probe.map(|probe| *probe);
        }
        if probes != Probes::default() {
            checks.insert(owner, probes);
        }
    }
    Ok(())
}

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

/// What is tried.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trial {
    /// A command in the container; good when it ends with 0.
    Exec(Vec<String>),
    /// A page of the process; good with a status from 200 to 399.
    Page {
        /// Port.
        port: u16,
        /// Path and query, beginning with a slash.
        path: String,
        /// What the `Host` header says.
        host: Option<String>,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// Whether it is visited by HTTPS; whatever certificate is shown is taken.
        #[serde(default)]
        tls: bool,
    },
    /// A connection to the process; good when it is accepted.
    Connection {
        /// Port.
        port: u16,
    },
}

impl fmt::Debug for Trial {
    /// Commands and headers can hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(_) => f.write_str("its command"),
            Self::Page { port, path, tls, .. } => {
                let how = if *tls { " by HTTPS" } else { "" };
                write!(f, "GET {} on port {port}{how}", path.split('?').next().unwrap_or_default())
            }
            Self::Connection { port } => write!(f, "connecting to port {port}"),
        }
    }
}

/// A probe, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is tried.
    pub trial: Trial,
    /// Time between the start of the process and the first trial.
    pub initial_delay: Duration,
    /// A trial that takes longer has failed.
    pub timeout: Duration,
    /// Time between two trials.
    pub period: Duration,
    /// Good trials in a row after which a check that failed passes.
    pub successes: u32,
    /// Bad trials in a row after which a check that passed fails.
    pub failures: u32,
}

impl Check {
    /// Nothing when the probe needs a port, and there is none.
    fn of(probe: &Probe, port: Option<u16>) -> Option<Self> {
        let trial = if let Some(exec) = &probe.exec {
            Trial::Exec(exec.command.clone())
        } else if let Some(page) = &probe.http_get {
            let path = page.path.as_deref().unwrap_or("/");
            let headers = page.http_headers.iter().flatten();
            Trial::Page {
                port: page.port.or(port)?,
                path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
                host: page.host.clone().filter(|host| !host.is_empty()),
                headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
                tls: page.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            }
        } else {
            Trial::Connection { port: probe.tcp_socket.as_ref()?.port }
        };
        let seconds = |told: Option<u32>, usual: u32| Duration::from_secs(u64::from(told.unwrap_or(usual)));
        Some(Self {
            trial,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            timeout: seconds(probe.timeout_seconds, 1),
            period: seconds(probe.period_seconds, 10),
            successes: probe.success_threshold.unwrap_or(1),
            failures: probe.failure_threshold.unwrap_or(3),
        })
    }
}

/// The checks of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Whether it must be started again.
    pub liveness: Option<Check>,
    /// Whether it can be sent visitors.
    pub readiness: Option<Check>,
}

impl Checks {
    /// The checks of a process of this type, whose port is this.
    pub fn of(checks: &Healthchecks, process_type: &ProcessType, port: Option<u16>) -> Self {
        let own = checks.get(&Owner(process_type.as_str().to_owned()));
        let shared = checks.get(&Owner::web_and_cmd()).filter(|_| process_type.is_routable());
        let Some(probes) = own.or(shared) else { return Self::default() };
        let check = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| Check::of(probe, port));
        Self { liveness: check(&probes.liveness), readiness: check(&probes.readiness) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a check stands, trial by trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    passes: bool,
    against: u32,
}

impl Standing {
    /// Where a check stands before its first trial.
    pub fn new(passes: bool) -> Self {
        Self { passes, against: 0 }
    }

    /// Counts a trial; true when it changed how the check stands.
    pub fn count(&mut self, good: bool, check: &Check) -> bool {
        if good == self.passes {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let turns = self.against >= if good { check.successes } else { check.failures };
        if turns {
            *self = Self::new(good);
        }
        turns
    }

    /// Whether the check passes.
    pub fn passes(self) -> bool {
        self.passes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn probe(value: Value) -> Probe {
        read(Kind::Readiness, value).unwrap()
    }

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

    #[test]
    fn a_type_has_its_own_probes_or_those_of_web_and_cmd() {
        let probes =
            |port: u16| Probes { liveness: None, readiness: Some(probe(json!({"tcpSocket": {"port": port}}))) };
        let checks = Healthchecks::from([
            (Owner::web_and_cmd(), probes(1)),
            ("web".parse().unwrap(), probes(2)),
            ("worker".parse().unwrap(), probes(3)),
        ]);
        let port = |process_type: &str| {
            let checks = Checks::of(&checks, &process_type.parse().unwrap(), None);
            checks.readiness.map(|check| check.trial.to_string())
        };
        assert_eq!(port("web").as_deref(), Some("connecting to port 2"));
        assert_eq!(port("cmd").as_deref(), Some("connecting to port 1"));
        assert_eq!(port("worker").as_deref(), Some("connecting to port 3"));
        assert_eq!(port("clock"), None);
    }

    #[test]
    fn a_probe_has_kubernetes_usual_numbers_and_the_apps_port() {
        let variables = of_variables(|_| None, "healthz");
        let checks = Healthchecks::from([(Owner::web_and_cmd(), variables)]);
        let check = Checks::of(&checks, &ProcessType::web(), Some(5000)).liveness.unwrap();
        assert_eq!(check.trial.to_string(), "GET /healthz on port 5000");
        assert_eq!((check.initial_delay, check.timeout), (Duration::from_secs(50), Duration::from_secs(50)));
        assert!(Checks::of(&checks, &ProcessType::web(), None).is_empty());
        let check = Check::of(&probe(json!({"exec": {"command": ["true"]}})), None).unwrap();
        assert_eq!((check.initial_delay, check.timeout), (Duration::ZERO, Duration::from_secs(1)));
        assert_eq!((check.period, check.successes, check.failures), (Duration::from_secs(10), 1, 3));
    }

    #[test]
    fn a_check_turns_after_its_threshold_in_a_row() {
        let mut check = Check::of(&probe(json!({"exec": {"command": ["true"]}})), None).unwrap();
        check.successes = 2;
        let mut standing = Standing::new(false);
        let mut turns = |good: &[bool]| good.iter().map(|good| standing.count(*good, &check)).collect::<Vec<_>>();
        assert_eq!(turns(&[true, false, true, true]), [false, false, false, true]);
        assert_eq!(turns(&[false, false, true, false, false, false]), [false, false, false, false, false, true]);
        assert!(!standing.passes());
    }
}

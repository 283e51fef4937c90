//! What an app's owner says about its requests: what the original took as annotations (contract §6.2, §6.3), and more.

use std::num::{NonZeroU32, NonZeroU64};

use paas_router::model::ReferrerPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::SettingsError;

/// Largest body that can be asked for, in bytes.
const MOST_BYTES: u64 = 100 << 30;
/// Longest time to connect, in seconds.
const MOST_TO_CONNECT: u32 = 300;
/// Longest silence, in seconds.
const MOST_TO_ANSWER: u32 = 86_400;

/// The rules; the default leaves everything to the router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct Routing {
    /// Largest body of a request, in bytes.
    pub body_size: Option<NonZeroU64>,
    /// Seconds to take a connection.
    pub connect_timeout: Option<NonZeroU32>,
    /// Seconds of silence.
    pub response_timeout: Option<NonZeroU32>,
    /// Visitors stay with one process.
    pub sticky: bool,
    /// Requests are numbered.
    pub request_ids: bool,
    /// Processes are told when a request came.
    pub request_start: bool,
    /// The router logs each request.
    pub access_log: bool,
    /// Header of that name.
    pub referrer_policy: Option<ReferrerPolicy>,
}

impl Routing {
    /// Sets one rule, or with `None` unsets it.
    pub fn change(&mut self, name: &str, value: Option<&Value>) -> Result<(), SettingsError> {
        match name {
            "body_size" => set(&mut self.body_size, name, value, size),
            "connect_timeout" => set(&mut self.connect_timeout, name, value, |it| seconds(it, MOST_TO_CONNECT)),
            "response_timeout" => set(&mut self.response_timeout, name, value, |it| seconds(it, MOST_TO_ANSWER)),
            "referrer_policy" => set(&mut self.referrer_policy, name, value, policy),
            "sticky" => switch(&mut self.sticky, name, value),
            "request_ids" => switch(&mut self.request_ids, name, value),
            "request_start" => switch(&mut self.request_start, name, value),
            "access_log" => switch(&mut self.access_log, name, value),
            _ => Err(SettingsError::Routing(format!(
                "{} is none of body_size, connect_timeout, response_timeout, sticky, request_ids, request_start, \
                 access_log and referrer_policy",
                name.chars().take(50).collect::<String>().escape_debug()
            ))),
        }
    }
}

fn set<T>(
    field: &mut Option<T>,
    name: &str,
    value: Option<&Value>,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<(), SettingsError> {
    match value {
        Some(value) => {
            *field = Some(read(value).map_err(|wanted| SettingsError::Routing(format!("{name} is {wanted}")))?);
        }
        None => drop(field.take().ok_or_else(|| SettingsError::NoRule(name.to_owned()))?),
    }
    Ok(())
}

fn switch(field: &mut bool, name: &str, value: Option<&Value>) -> Result<(), SettingsError> {
    let meant = match value {
        None if *field => Some(false),
        None => return Err(SettingsError::NoRule(name.to_owned())),
        Some(Value::Bool(on)) => Some(*on),
        Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        Some(_) => None,
    };
    *field = meant.ok_or_else(|| SettingsError::Routing(format!("{name} is on or off")))?;
    Ok(())
}

/// A number, and the letters behind it.
fn parts(value: &Value) -> Option<(u64, String)> {
    match value {
        Value::Number(number) => Some((number.as_u64()?, String::new())),
        Value::String(text) => {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at_checked(end)?;
            Some((number.parse().ok()?, unit.to_ascii_lowercase()))
        }
        _ => None,
    }
}

fn size(value: &Value) -> Result<NonZeroU64, String> {
    let read = || {
        let (number, unit) = parts(value)?;
        let shift = match unit.as_str() {
            "" | "b" => 0,
            "k" | "kb" => 10,
            "m" | "mb" => 20,
            "g" | "gb" => 30,
            _ => return None,
        };
        NonZeroU64::new(number.checked_mul(1 << shift)?).filter(|size| size.get() <= MOST_BYTES)
    };
    read().ok_or_else(|| "a number of bytes up to 100G, such as 512K, 10M or 1G".to_owned())
}

fn seconds(value: &Value, most: u32) -> Result<NonZeroU32, String> {
    let read = || {
        let (number, unit) = parts(value)?;
        let factor = match unit.as_str() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let seconds = u32::try_from(number.checked_mul(factor)?).ok()?;
        NonZeroU32::new(seconds).filter(|seconds| seconds.get() <= most)
    };
    read().ok_or_else(|| format!("a number of seconds from 1 to {most}, such as 30, 30s or 5m"))
}

fn policy(value: &Value) -> Result<ReferrerPolicy, String> {
    let asked = value.as_str().unwrap_or_default();
    ReferrerPolicy::ALL.into_iter().find(|policy| policy.as_str() == asked).ok_or_else(|| {
        let all: Vec<&str> = ReferrerPolicy::ALL.into_iter().map(ReferrerPolicy::as_str).collect();
        format!("one of {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_set_and_unset() {
        let mut rules = Routing::default();
        for (name, value) in [
            ("body_size", json!("10M")),
            ("connect_timeout", json!(5)),
            ("response_timeout", json!("5m")),
            ("sticky", json!("on")),
            ("request_ids", json!(true)),
            ("referrer_policy", json!("same-origin")),
        ] {
            rules.change(name, Some(&value)).unwrap();
        }
        assert_eq!(rules.body_size.unwrap().get(), 10 << 20);
        assert_eq!((rules.connect_timeout.unwrap().get(), rules.response_timeout.unwrap().get()), (5, 300));
        assert!(rules.sticky && rules.request_ids && !rules.access_log);
        for name in ["body_size", "connect_timeout", "response_timeout", "sticky", "request_ids", "referrer_policy"] {
            rules.change(name, None).unwrap();
            let error = rules.change(name, None).unwrap_err().to_string();
            assert_eq!(error, format!("{name} does not exist under routing"));
        }
        assert_eq!(rules, Routing::default());
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for (name, values) in [
            (
                "body_size",
                vec![json!(0), json!("0M"), json!("10X"), json!("M"), json!("-1"), json!("101G"), json!(1.5)],
            ),
            ("connect_timeout", vec![json!(0), json!(301), json!("1h"), json!("5 s"), json!(null), json!([])]),
            ("response_timeout", vec![json!("25h"), json!("99999999999999999999h"), json!(true)]),
            ("sticky", vec![json!("maybe"), json!(1), json!({})]),
            ("referrer_policy", vec![json!("x\r\nSet-Cookie: a=b"), json!(""), json!(3)]),
            ("everything", vec![json!(1)]),
        ] {
            for value in values {
                assert!(Routing::default().change(name, Some(&value)).is_err(), "{name}={value}");
            }
        }
    }
}

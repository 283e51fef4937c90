//! Checks: probes ready to be carried out, with Kubernetes' meaning of the numbers.

use std::{fmt, time::Duration};

use paas_api::{ProcessType, config::Probe};
use serde::{Deserialize, Serialize};

use super::{Healthchecks, Owner};

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
    use paas_api::config::Probes;
    use serde_json::{Value, json};

    use super::{
        super::{Kind, of_variables, read},
        *,
    };

    fn probe(value: Value) -> Probe {
        read(Kind::Readiness, value).unwrap()
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

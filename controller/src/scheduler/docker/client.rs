//! The connection to the engine, and what its errors mean.

use std::{error::Error as _, sync::RwLock, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};

use crate::scheduler::SchedulerError;

/// No single answer of a healthy engine takes longer; starts wait for each other inside it.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Words of the engine's that blame the image or the command, whatever status they come with.
const ABOUT_THE_PROCESS: [&str; 5] =
    ["OCI runtime", "runc create failed", "failed to create shim", "unable to find user", "unable to find group"];

/// A client that agrees with the engine on the version of its API the first time that it is reached, and anew after the
/// engine was away: it may have come back as another version.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
    negotiated: RwLock<Option<Docker>>,
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), negotiated: RwLock::new(None) }
    }

    /// Where the engine is: `unix:///…`, `tcp://…`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The engine, ready for requests.
    pub(super) async fn engine(&self) -> Result<Docker, SchedulerError> {
        if let Some(docker) = self.negotiated.read().ok().and_then(|known| known.clone()) {
            return Ok(docker);
        }
        let docker = connect(&self.address).map_err(explain)?.negotiate_version().await.map_err(explain)?;
        if let Ok(mut known) = self.negotiated.write() {
            *known = Some(docker.clone());
        }
        Ok(docker)
    }

    /// Agrees on the version anew with the next request.
    pub(super) fn forget(&self) {
        if let Ok(mut known) = self.negotiated.write() {
            *known = None;
        }
    }
}

fn connect(address: &str) -> Result<Docker, Error> {
    let timeout = TIMEOUT.as_secs();
    match address.split_once("://") {
        Some(("tcp" | "http", _)) => Docker::connect_with_http(address, timeout, API_DEFAULT_VERSION),
        _ => Docker::connect_with_unix(address, timeout, API_DEFAULT_VERSION),
    }
}

/// What to tell about a failed request. What the runtime says about a process that it cannot make is for the app's owner.
pub(super) fn explain(error: Error) -> SchedulerError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            if matches!(status_code, 400 | 404 | 409) || ABOUT_THE_PROCESS.iter().any(|text| message.contains(text)) {
                SchedulerError::Refused(message)
            } else {
                SchedulerError::Unavailable(message)
            }
        }
        Error::DockerStreamError { error } => SchedulerError::Refused(error),
        Error::RequestTimeoutError => SchedulerError::Unavailable("no answer within a minute".to_owned()),
        other => {
            let mut text = other.to_string();
            let mut source = other.source();
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            SchedulerError::Unavailable(format!("Docker does not answer as it should: {text}"))
        }
    }
}

/// The status and text of the engine's refusal, if it was one.
pub(super) fn refusal(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

/// Whether the thing is not there.
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(refusal(error), Some((404, _)))
}

/// Turns "it is not there" into a none.
pub(super) fn if_present<T>(result: Result<T, Error>) -> Result<Option<T>, SchedulerError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(explain(error)),
    }
}

//! Why a push is refused: the pusher's part and the platform's part are told apart, in words.

use paas_api::{AppName, client::ClientError};

/// The end of a push that did not deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What was asked makes no sense; nothing was built.
    Push(String),
    /// The source does not become an image.
    Build(String),
    /// The image does not become a running release.
    Start(String),
    /// Not the pusher's fault; nothing changed.
    Platform(String),
    /// The controller was lost while it deployed.
    Unknown(String),
}

impl Refusal {
    /// What the pusher reads: the reason, then the next step.
    pub(crate) fn lines(&self, app: &AppName) -> Vec<String> {
        let (reason, next) = match self {
            Self::Push(reason) => (reason.clone(), "Nothing was built or changed.".to_owned()),
            Self::Build(reason) => (
                format!("your build failed: {reason}"),
                format!("Nothing changed for the visitors of {app}. Fix the build, commit, and push again."),
            ),
            Self::Start(reason) => (
                format!("your app did not start: {reason}"),
                format!("Nothing changed for the visitors of {app}. Fix the app, commit, and push again."),
            ),
            Self::Platform(reason) => (
                format!("the platform failed: {reason}"),
                format!("This is not the fault of your code. Nothing changed for {app}: push again."),
            ),
            Self::Unknown(reason) => (
                format!("the platform failed while it deployed: {reason}"),
                format!("Whether {app} was deployed is not known: look at `deis releases -a {app}`, then push again."),
            ),
        };
        // The first line says what; the others, such as an app's last output, stand below it.
        let mut parts = reason.lines();
        let first = format!("Error running git receive hook [{}]", parts.next().unwrap_or_default());
        let rest = parts.map(str::to_owned);
        [String::new(), first].into_iter().chain(rest).chain([next, String::new()]).collect()
    }
}

/// Text of an error and of all that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The controller could not be asked before anything had changed.
pub(crate) fn controller_away(error: &ClientError) -> Refusal {
    Refusal::Platform(chain(error))
}

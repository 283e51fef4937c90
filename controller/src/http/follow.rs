//! Changes that deploy: recorded whatever becomes of the client, then waited for, streamed, or answered at once.

use std::{convert::Infallible, time::Duration};

use anyhow::anyhow;
use axum::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{
    HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};
use paas_api::{
    AppName, NDJSON, ReleaseVersion,
    hooks::{Deployed, GOES_ON, Progress},
    releases::Version,
};
use uuid::Uuid;

use super::{
    Api,
    error::{Answer, ApiError},
};
use crate::{
    deploy::{
        intent::IntentError,
        wait::{self, Outcome},
    },
    domain::{app::App, deployment::Kind},
};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const AT_ONCE: HeaderValue = HeaderValue::from_static("respond-async");

/// How long a client is still kept waiting when the controller has been told to stop.
const LAST_CALL: Duration = Duration::from_secs(4);

/// How a client wants to hear of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// When it has ended, as the contract says.
    AtTheEnd,
    /// Not at all: the change is recorded, that is enough.
    AtOnce,
    /// Line by line.
    LineByLine,
}

impl FromRequestParts<Api> for Wish {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        let says = |name: HeaderName, wanted: &str| {
            let values = parts.headers.get_all(name);
            values
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split([',', ';']))
                .any(|word| word.trim().eq_ignore_ascii_case(wanted))
        };
        Ok(if says(PREFER, "respond-async") {
            Self::AtOnce
        } else if says(ACCEPT, NDJSON) {
            Self::LineByLine
        } else {
            Self::AtTheEnd
        })
    }
}

/// Records a change to its end, even when the client goes away in the middle of it.
pub(super) async fn record<T, F>(change: F) -> Answer<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, IntentError>> + Send + 'static,
{
    let recorded = tokio::spawn(change).await;
    Ok(recorded.map_err(|error| ApiError::Internal(anyhow!("recording a change ended early: {error}")))??)
}

/// A recorded change and the deployment that it became.
pub(super) struct Recorded {
    /// Which app changed.
    pub(super) app: App,
    /// The release that it works on.
    pub(super) release: ReleaseVersion,
    /// What it moves.
    pub(super) kind: Kind,
    /// None when there is nothing to deploy.
    pub(super) deployment: Option<Uuid>,
}

impl Recorded {
    /// Answers as the client wishes; `done` makes the contract's answer to a change that went well.
    pub(super) async fn answer<F>(self, api: &Api, wish: Wish, done: impl FnOnce() -> F) -> Answer<Response>
    where
        F: Future<Output = Answer<Response>>,
    {
        match wish {
            Wish::AtTheEnd => {
                self.settle(api).await?;
                done().await
            }
            Wish::AtOnce => {
                let mut response = done().await?;
                response.headers_mut().insert(PREFERENCE_APPLIED, AT_ONCE);
                Ok(response)
            }
            Wish::LineByLine => Ok(self.lines(api.clone())),
        }
    }

    /// Waits until the deployment has ended; an error when it ended badly.
    async fn settle(&self, api: &Api) -> Answer<()> {
        let Some(deployment) = self.deployment else { return Ok(()) };
        let outcome = tokio::select! {
            outcome = wait::settled(api.platform(), deployment) => outcome,
            () = last_call(api) => return Err(ApiError::Unavailable(format!(
                "The controller is being stopped. The change to {} {GOES_ON}.",
                self.app.name
            ))),
        };
        match outcome {
            Outcome::Succeeded => Ok(()),
            Outcome::Gone => Err(ApiError::NotFound("App")),
            Outcome::Superseded => Err(ApiError::Conflict(format!(
                "The deployment of {} {} was superseded by another change",
                self.app.name, self.release
            ))),
            Outcome::Failed(reason) => Err(self.failure(&reason)),
        }
    }

    fn failure(&self, reason: &str) -> ApiError {
        match self.kind {
            Kind::Release => ApiError::Refused(format!("(app::deploy): {reason}")),
            Kind::Scale => ApiError::Unavailable(format!("(scale): {reason}")),
            Kind::Restart => ApiError::Unavailable(format!("(restart): {reason}")),
        }
    }

    fn lines(self, api: Api) -> Response {
        let lines = async_stream::stream! {
            if let Some(deployment) = self.deployment {
                let mut progress = Box::pin(wait::progress(api.platform().clone(), deployment));
                loop {
                    tokio::select! {
                        words = progress.next() => match words {
                            Some(words) => yield line(&Progress::Progress(words)),
                            None => break,
                        },
                        () = last_call(&api) => break,
                    }
                }
            }
            yield line(&match self.settle(&api).await {
                Ok(()) => Progress::Done(self.deployed(&api)),
                Err(error) => failed(error),
            });
        };
        ([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
    }

    /// The release, and where visitors reach it.
    pub(super) fn deployed(&self, api: &Api) -> Deployed {
        Deployed { release: Version { version: self.release }, url: Some(address(api, &self.app.name)) }
    }
}

/// Where visitors reach an app.
pub(super) fn address(api: &Api, app: &AppName) -> String {
    let options = api.options();
    options.url(&options.host(app.as_str()))
}

fn failed(error: ApiError) -> Progress {
    let (status, body) = error.parts();
    Progress::Failed { status: status.as_u16(), detail: body.message() }
}

fn line(progress: &Progress) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(progress)?;
    text.push(b'\n');
    Ok(text.into())
}

async fn last_call(api: &Api) {
    api.stopping().cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

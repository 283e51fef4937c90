//! Error answers, in the contract's words (§1.0.4). Each is made here, and what the client must not see is logged here.

use std::collections::BTreeMap;

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use paas_api::error::ErrorBody;

use crate::{
    db::{self, DbError},
    deploy::{intent::IntentError, workload::WorkloadError},
    scheduler::SchedulerError,
};

/// Why a request is not answered as asked.
#[derive(Debug)]
pub enum ApiError {
    /// Nobody, or nobody that we know.
    Unauthenticated(&'static str),
    /// Known, and not allowed to.
    Forbidden(&'static str),
    /// No such object: `App`, `Key`, …
    NotFound(&'static str),
    /// No such thing, in words of its own.
    NothingThere(String),
    /// No such path.
    Unrouted,
    /// The path is there, the method is not.
    MethodNotAllowed(Method),
    /// Fields of the body that are wrong.
    Fields(BTreeMap<String, Vec<String>>),
    /// What is wrong, outside fields.
    List(Vec<String>),
    /// A rule of the platform says no.
    Refused(String),
    /// Nothing changed, or it collides with what is there.
    Conflict(String),
    /// Unsetting what is not set.
    Unprocessable(String),
    /// The body did not arrive in time.
    Slow,
    /// The body is larger than the limit.
    TooLarge,
    /// The body is not of a type that is read here.
    UnsupportedMediaType(String),
    /// The client takes nothing that is written here.
    NotAcceptable,
    /// Something that the platform needs is away.
    Unavailable(String),
    /// Our fault; the client learns nothing about it.
    Internal(anyhow::Error),
}

/// Text for a client whose token or password is missing.
pub(crate) const NO_CREDENTIALS: &str = "Authentication credentials were not provided.";
/// Text for a client that may not.
pub(crate) const FORBIDDEN: &str = "You do not have permission to perform this action.";
/// Text for a client while Postgres is away.
pub(crate) const DATABASE_AWAY: &str =
    "The platform's database does not answer. Nothing was changed; try again in a moment.";

impl ApiError {
    /// One field with one message.
    pub(crate) fn field(name: &str, message: impl Into<String>) -> Self {
        Self::Fields(BTreeMap::from([(name.to_owned(), vec![message.into()])]))
    }

    /// Status and body, as the client sees them.
    pub(crate) fn parts(self) -> (StatusCode, ErrorBody) {
        let detail = |text: String| ErrorBody::detail(text);
        match self {
            Self::Unauthenticated(text) => (StatusCode::UNAUTHORIZED, detail(text.to_owned())),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, detail(text.to_owned())),
            Self::NotFound(noun) => {
                (StatusCode::NOT_FOUND, ErrorBody::Text(format!("No {noun} matches the given query.")))
            }
            Self::NothingThere(text) => (StatusCode::NOT_FOUND, detail(text)),
            Self::Unrouted => (StatusCode::NOT_FOUND, ErrorBody::Text("Not Found".to_owned())),
            Self::MethodNotAllowed(method) => {
                (StatusCode::METHOD_NOT_ALLOWED, detail(format!("Method \"{method}\" not allowed.")))
            }
            Self::Fields(fields) => (StatusCode::BAD_REQUEST, ErrorBody::Fields(fields)),
            Self::List(texts) => (StatusCode::BAD_REQUEST, ErrorBody::List(texts)),
            Self::Refused(text) => (StatusCode::BAD_REQUEST, detail(text)),
            Self::Conflict(text) => (StatusCode::CONFLICT, detail(text)),
            Self::Unprocessable(text) => (StatusCode::UNPROCESSABLE_ENTITY, detail(text)),
            Self::Slow => {
                (StatusCode::REQUEST_TIMEOUT, detail("The request's body took too long to arrive.".to_owned()))
            }
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                detail(format!("The request's body is larger than {} bytes.", super::body::LARGEST)),
            ),
            Self::UnsupportedMediaType(given) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, detail(format!("Unsupported media type \"{given}\" in request.")))
            }
            Self::NotAcceptable => {
                (StatusCode::NOT_ACCEPTABLE, detail("Could not satisfy the request Accept header.".to_owned()))
            }
            Self::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, detail(text)),
            Self::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "a request failed through no fault of the client");
                (StatusCode::INTERNAL_SERVER_ERROR, detail("Server Error".to_owned()))
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if matches!(self, Self::Unrouted) {
            return (
                StatusCode::NOT_FOUND,
                Html("<h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n"),
            )
                .into_response();
        }
        let (status, body) = self.parts();
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], readable(&text)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
        }
        response
    }
}

/// The same JSON, in which what a terminal obeys or what turns the order of a line around is escaped: a client's words are
/// in refusals, and people read those.
fn readable(json: &str) -> String {
    use std::fmt::Write as _;
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if c.is_control() || turns(c) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
        text
    })
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Driver(error) => error.into(),
            DbError::Inconsistent { .. } => Self::Internal(error.into()),
        }
    }
}

impl From<WorkloadError> for ApiError {
    fn from(error: WorkloadError) -> Self {
        match error {
            WorkloadError::Db(error) => error.into(),
            WorkloadError::Seal(_) => Self::Internal(error.into()),
        }
    }
}

impl From<IntentError> for ApiError {
    fn from(error: IntentError) -> Self {
        match error {
            IntentError::Refused(text) => Self::Refused(text),
            IntentError::Field(name, text) => Self::field(name, text),
            IntentError::NotFound(text) => Self::NothingThere(text),
            IntentError::Conflict(text) => Self::Conflict(text),
            IntentError::InProgress(_) => Self::Conflict(error.to_string()),
            IntentError::Unprocessable(text) => Self::Unprocessable(text),
            IntentError::Gone => Self::NotFound("App"),
            IntentError::Unavailable(text) => Self::Unavailable(text),
            IntentError::Internal(error) => error.into(),
        }
    }
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        IntentError::from(error).into()
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if db::is_away(&error) {
            tracing::warn!(%error, "the database does not answer");
            return Self::Unavailable(DATABASE_AWAY.to_owned());
        }
        Self::Internal(anyhow::Error::new(error).context("a statement failed"))
    }
}

/// What a handler answers with, or why not.
pub(crate) type Answer<T> = Result<T, ApiError>;

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_means_the_same() {
        let text = "caf\u{e9} \u{9b}31m \u{202e}txt.exe\u{2069} \u{1f4a9}";
        let json = serde_json::to_string(text).unwrap();
        let escaped = readable(&json);
        assert_eq!(escaped, "\"caf\u{e9} \\u009b31m \\u202etxt.exe\\u2069 \u{1f4a9}\"");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}

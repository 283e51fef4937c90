//! What every request and answer goes through: the version, security and CORS headers (contract §1.0.1, §1.0.2), what the
//! client accepts, a limit in time, and one line in the log.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
    },
};
use paas_api::{API_VERSION, API_VERSION_HEADER, NDJSON, PLATFORM_VERSION, PLATFORM_VERSION_HEADER, Username};

use super::{
    error::{ApiError, DATABASE_AWAY},
    router::Table,
};

/// How long anything may take that does not wait for a deployment, a process or a change.
const QUICK: Duration = Duration::from_secs(30);

const EVERYWHERE: [(HeaderName, HeaderValue); 9] = [
    (HeaderName::from_static(API_VERSION_HEADER), HeaderValue::from_static(API_VERSION)),
    (HeaderName::from_static(PLATFORM_VERSION_HEADER), HeaderValue::from_static(PLATFORM_VERSION)),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_XSS_PROTECTION, HeaderValue::from_static("1; mode=block")),
    (VARY, HeaderValue::from_static("Accept")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("DEIS_API_VERSION, DEIS_PLATFORM_VERSION")),
];

const PREFLIGHT: [(HeaderName, HeaderValue); 3] = [
    (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("DELETE, GET, OPTIONS, PATCH, POST, PUT")),
    (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, accept, origin, authorization, host")),
    (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
];

/// What a request's line in the log shall tell beyond its head.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestNote(Arc<OnceLock<String>>);

impl RequestNote {
    /// The user whose token it bears.
    pub(crate) fn user(&self, username: &Username) {
        self.caller(username.as_str());
    }

    /// Somebody else who has proven who they are.
    pub(crate) fn caller(&self, name: &str) {
        self.0.get_or_init(|| name.to_owned());
    }
}

/// The outermost layer.
pub(crate) async fn apply(State(table): State<Table>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let template = path.as_ref().map(MatchedPath::as_str);
    let note = RequestNote::default();
    request.extensions_mut().insert(note.clone());

    let mut response = answer(&table, template, request, next).await;

    let headers = response.headers_mut();
    for (name, value) in EVERYWHERE {
        headers.insert(name, value);
    }
    if let Some(allow) = template.and_then(|template| table.allow(template)) {
        headers.insert(ALLOW, allow);
    }
    // What probes and routers say every few seconds is no news.
    let is_routine =
        |template: &str| ["/healthz", "/readiness"].contains(&template) || template.starts_with("/v2/router/");
    if !template.is_some_and(is_routine) || !response.status().is_success() {
        tracing::info!(
            http.method = %method,
            http.route = template.unwrap_or("-"),
            http.status = response.status().as_u16(),
            user = note.0.get().map_or("-", String::as_str),
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
    response
}

async fn answer(table: &Table, template: Option<&str>, request: Request, next: Next) -> Response {
    let Some(template) = template else { return ApiError::Unrouted.into_response() };
    if request.method() == Method::OPTIONS {
        return (StatusCode::OK, PREFLIGHT).into_response();
    }
    if template.starts_with("/v2") && !accepts_ours(request.headers()) {
        return ApiError::NotAcceptable.into_response();
    }
    if table.is_patient(template, request.method()) {
        return next.run(request).await;
    }
    match tokio::time::timeout(QUICK, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable(DATABASE_AWAY.to_owned()).into_response(),
    }
}

/// Whether the client takes something that is written here.
fn accepts_ours(headers: &HeaderMap) -> bool {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("*/*").split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .filter(|range| !range.is_empty())
        .peekable();
    ranges.peek().is_none()
        || ranges
            .any(|range| ["*/*", "application/*", "application/json", "text/plain", NDJSON].contains(&range.as_str()))
}

/// What a client gets when a handler panicked; the panic itself is in the log.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    let body = r#"{"detail":"Server Error"}"#;
    (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "application/json")], body).into_response()
}

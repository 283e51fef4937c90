//! The router's own answers: short, clear, and silent about its insides.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::activity::Activity;
use super::body::ResponseBody;

/// Every answer that the router gives by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// The router is up.
    Healthy,
    /// The request names no host, several, or something that is none.
    BadHost,
    /// A method that is no business of an app.
    BadMethod,
    /// No route has the host.
    UnknownHost,
    /// The app is visited by TLS alone.
    HttpsOnly,
    /// The visitor's address is not on the app's whitelist.
    Forbidden,
    /// The app is in maintenance.
    Maintenance,
    /// The route has no process.
    NoTarget,
    /// No table was ever seen.
    Starting,
    /// The process cannot be reached, or broke off before it answered.
    BadGateway,
    /// The process did not answer in time.
    TimedOut,
    /// The request's body is larger than the app takes.
    TooLarge,
}

impl Page {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Healthy => StatusCode::OK,
            Self::BadHost => StatusCode::BAD_REQUEST,
            Self::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost => StatusCode::NOT_FOUND,
            Self::HttpsOnly => StatusCode::MOVED_PERMANENTLY,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Maintenance | Self::NoTarget | Self::Starting => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Healthy => "OK",
            Self::BadHost => "The request does not name one valid host.",
            Self::BadMethod => "This method is not supported here.",
            Self::UnknownHost => "There is no app at this address.",
            Self::HttpsOnly => "This app is visited by https.",
            Self::Forbidden => "This app is not open to your address.",
            Self::Maintenance => "This app is down for maintenance. Try again later.",
            Self::NoTarget => "This app has no running process at the moment.",
            Self::Starting => "This service is starting. Try again in a moment.",
            Self::BadGateway => "This app cannot be reached at the moment. Try again in a moment.",
            Self::TimedOut => "This app did not answer in time.",
            Self::TooLarge => "This is more than this app takes in one request.",
        }
    }

    /// The answer, as HTML for browsers and as plain text for everyone else.
    pub(super) fn answer(self, request: &HeaderMap, visitor: &Arc<Activity>) -> Response<ResponseBody> {
        let status = self.status();
        let html = request.get(ACCEPT).is_some_and(|accept| contains(accept.as_bytes(), b"text/html"));
        let (kind, body) = if self == Self::Healthy {
            ("text/plain; charset=utf-8", Bytes::from_static(b"OK"))
        } else if html {
            ("text/html; charset=utf-8", self.html(status).into())
        } else {
            let line = format!("{status}\n{}\n", self.text());
            ("text/plain; charset=utf-8", line.into())
        };
        response(status, kind, body, visitor)
    }

    /// The answer with a page of the app's own.
    pub(super) fn answer_with(self, html: Bytes, visitor: &Arc<Activity>) -> Response<ResponseBody> {
        response(self.status(), "text/html; charset=utf-8", html, visitor)
    }

    /// The answer to a certificate authority (RFC 8555, 8.3).
    pub(super) fn challenge(answer: String, visitor: &Arc<Activity>) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::page(answer.into(), visitor));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response
    }

    fn html(self, status: StatusCode) -> String {
        let text = self.text();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{status}</title>\n\
             <style>body{{font:1rem/1.5 system-ui,sans-serif;margin:20vh auto;max-width:30rem;\
             padding:0 1rem}}</style>\n<h1>{status}</h1>\n<p>{text}</p>\n</html>\n"
        )
    }
}

fn response(status: StatusCode, kind: &'static str, body: Bytes, visitor: &Arc<Activity>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::page(body, visitor));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

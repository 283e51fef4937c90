//! What the router itself answers because of TLS: who is sent there, what browsers are to remember, and what certificate
//! authorities ask.

use std::rc::Rc;

use hyper::Response;
use hyper::header::{HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use hyper::http::request::Parts;

use super::body::ResponseBody;
use super::pages::Page;
use super::visitor::Visitor;
use super::worker::Worker;

/// Where certificate authorities ask whether a host is ours (RFC 8555, 8.3).
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// The answer to a certificate authority's question, if it is one that somebody waits for.
pub(super) fn challenge(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    host: &str,
    parts: &Parts,
) -> Option<Response<ResponseBody>> {
    let token = parts.uri.path().strip_prefix(CHALLENGE_PATH)?;
    let answer = worker.switchboard.challenge(host, token)?;
    Some(Page::challenge(answer, &visitor.activity))
}

/// Tells a browser that came by TLS to come so again, where the app wants that and does not say so itself.
pub(super) fn remembered(
    worker: &Rc<Worker>,
    host: &str,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if let Some(hsts) = worker.switchboard.hsts(host) {
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts);
    }
    response
}

/// Sends a visitor to the same place by TLS.
pub(super) fn redirect(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    host: &str,
    parts: &Parts,
) -> Response<ResponseBody> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let port = match worker.https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let mut response = Page::HttpsOnly.answer(&parts.headers, &visitor.activity);
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{path}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

//! One request, from its host to the answer of a target.
//!
//! When is a request sent a second time? Only when that cannot do anything twice:
//!
//! - A target that takes no connection got nothing: the next target is tried.
//! - A request that hyper hands back was not sent at all: it goes to a fresh connection.
//! - An idempotent request without a body may run twice (RFC 9110, 9.2.2): when the connection
//!   breaks before an answer, it goes to a fresh connection.
//! - Every other request is sent once. So it goes to a fresh connection, or to one that was used
//!   a moment ago: an older one may be closed by the target in the very moment of its reuse, and
//!   then nobody knows what the target did.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use super::activity::Phase;
use super::body::{BodyError, RequestBody, ResponseBody};
use super::marks::Marks;
use super::pages::Page;
use super::upstream::{ConnectError, Connection, Exchange};
use super::visitor::Visitor;
use super::worker::Worker;
use super::{affinity, headers, host, https, upgrade, vouched};
use crate::switchboard::{Caller, Choice};
use crate::table::{Closed, LiveRules};
use crate::target::Lease;

/// Sends of one request, counting those that reached nobody.
const MOST_ATTEMPTS: usize = 5;

/// Where load balancers ask whether the router is up.
const HEALTH_PATH: &str = "/healthz";

/// Answers one request of a visitor, and tells of it in the access log when that is on.
pub(super) async fn answer(
    worker: Rc<Worker>,
    visitor: Rc<Visitor>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    visitor.activity.enter(Phase::Busy);
    let (parts, body) = request.into_parts();
    let visitor = vouched::visitor(&worker, visitor, &parts.headers);
    let mut line = worker.access_log.then(|| Box::new(LogLine::new(&parts)));
    let response = route(&worker, &visitor, Request::from_parts(parts, body), &mut line).await;
    if let Some(line) = line {
        line.write(&visitor, response.status());
    }
    response
}

/// What the access log tells of a request.
struct LogLine {
    /// The app's owner wants it told.
    wanted: bool,
    started: Instant,
    host: Option<HeaderValue>,
    method: Method,
    path: String,
}

impl LogLine {
    fn new(parts: &Parts) -> Self {
        Self {
            wanted: false,
            started: Instant::now(),
            host: parts.headers.get(HOST).cloned(),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
        }
    }

    fn write(&self, visitor: &Visitor, status: StatusCode) {
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    client.address = ?visitor.forwarded.address,
                    http.host = ?self.host,
                    http.method = %self.method,
                    http.path = self.path,
                    http.status = status.as_u16(),
                    duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "request"
                )
            };
        }
        if self.wanted { write!(info) } else { write!(debug) }
    }
}

async fn route(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    mut request: Request<Incoming>,
    line: &mut Option<Box<LogLine>>,
) -> Response<ResponseBody> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Page::BadMethod.answer(request.headers(), &visitor.activity);
    }
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let Ok(host) = host::of(&mut parts) else {
        return Page::BadHost.answer(&parts.headers, &visitor.activity);
    };
    if let Some(answer) = https::challenge(worker, visitor, &host, &parts) {
        return answer;
    }
    let response = route_to(worker, visitor, &host, on_upgrade, parts, body, line).await;
    if visitor.caller.secure { https::remembered(worker, &host, response) } else { response }
}

/// Answers a request for a host from its route.
async fn route_to(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    host: &str,
    on_upgrade: OnUpgrade,
    mut parts: Parts,
    body: Incoming,
    log: &mut Option<Box<LogLine>>,
) -> Response<ResponseBody> {
    let wish = || affinity::asked(&parts.headers);
    let (choice, live) = worker.switchboard.choose(host, parts.uri.path(), visitor.caller, wish, &[]);
    let live = live.as_deref();
    if live.is_some_and(|live| live.rules.access_log) {
        log.get_or_insert_with(|| Box::new(LogLine::new(&parts))).wanted = true;
    }
    let first = match choice {
        Choice::Target(lease) => lease,
        Choice::HttpsOnly => return https::redirect(worker, visitor, host, &parts),
        Choice::Closed(Closed::Maintenance) if let Some(page) = live.and_then(|live| live.maintenance_page.clone()) => {
            return Page::Maintenance.answer_with(page, &visitor.activity);
        }
        nowhere => {
            let page = page_for(&nowhere, &parts.method, &parts.uri);
            return page.answer(&parts.headers, &visitor.activity);
        }
    };
    if parts.version == Version::HTTP_2 {
        headers::from_http2(&mut parts.headers, !body.is_end_stream());
    }
    let limit = live.and_then(|live| live.rules.body_bytes);
    let Some(body) = RequestBody::new(body, limit.map(NonZeroU64::get)) else {
        return Page::TooLarge.answer(&parts.headers, &visitor.activity);
    };
    let protocol = headers::prepare_request(&mut parts, &visitor.forwarded);
    if parts.uri.authority().is_some() {
        parts.uri = origin_form(&parts.uri);
    }
    let switch = protocol.map(|_| on_upgrade);
    let marks = live.map(|live| Marks::put(live, &mut parts.headers));
    let accept = parts.headers.get(ACCEPT).cloned();
    let request = Request::from_parts(parts, body);
    match send(worker, host, visitor.caller, first, live, request).await {
        Ok((mut response, exchange)) => {
            if let (Some(live), Some(marks)) = (live, marks) {
                marks.show(live, visitor, exchange.target(), response.headers_mut());
            }
            pass_back(worker, visitor, response, exchange, switch)
        }
        Err(page) => page.answer(&accept_only(accept), &visitor.activity),
    }
}

/// The answer when the table leads nowhere. A host that nobody claims is where load balancers
/// ask for the router's own health.
fn page_for(nowhere: &Choice, method: &Method, uri: &Uri) -> Page {
    let asks_health = uri.path() == HEALTH_PATH && matches!(*method, Method::GET | Method::HEAD);
    match nowhere {
        Choice::UnknownHost | Choice::NoTable if asks_health => Page::Healthy,
        Choice::UnknownHost => Page::UnknownHost,
        Choice::NoTable => Page::Starting,
        Choice::Closed(Closed::Forbidden) => Page::Forbidden,
        Choice::Closed(Closed::Maintenance) => Page::Maintenance,
        Choice::HttpsOnly => Page::HttpsOnly,
        Choice::NoTarget | Choice::Target(_) => Page::NoTarget,
    }
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().map(|path| Uri::from(path.clone())).unwrap_or_default()
}

fn accept_only(accept: Option<HeaderValue>) -> HeaderMap {
    accept.map(|accept| (ACCEPT, accept)).into_iter().collect()
}

/// Sends a request to the first target, or to another as long as that is safe.
async fn send(
    worker: &Rc<Worker>,
    host: &str,
    caller: Caller,
    first: Lease,
    live: Option<&LiveRules>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Exchange), Page> {
    let repeatable = matches!(request.body(), RequestBody::Empty) && request.method().is_idempotent();
    let mut reuse = true;
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut failure = Page::NoTarget;
    let mut next = Some(first);
    for _ in 0..MOST_ATTEMPTS {
        let lease = if let Some(lease) = next.take() {
            lease
        } else {
            let wish = || affinity::asked(request.headers());
            match worker.switchboard.choose(host, request.uri().path(), caller, wish, &tried) {
                (Choice::Target(lease), _) => lease,
                _ => return Err(failure),
            }
        };
        let kept = match (reuse, repeatable) {
            (true, true) => worker.pool.take(lease.target(), live),
            (true, false) => worker.pool.take_certain(lease.target(), live).await,
            (false, _) => None,
        };
        let fresh = kept.is_none();
        let mut connection = match kept {
            Some(connection) => connection,
            // Boxed: the usual request needs none of this, and should not carry it along.
            None => match Box::pin(connect(worker, &lease, live)).await {
                Ok(connection) => connection,
                Err(page) => {
                    failure = page;
                    tried.push(lease.target().address());
                    continue;
                }
            },
        };
        let spare = repeatable.then(|| head_of(&request));
        let mut error = match connection.send(request).await {
            Ok(response) => {
                let exchange = Exchange::new(lease, connection, Rc::clone(&worker.pool));
                return Ok((response, exchange));
            }
            Err(error) => *error,
        };
        if connection.was_silent() {
            return Err(Page::TimedOut);
        }
        if is_too_large(error.error()) {
            return Err(Page::TooLarge);
        }
        tracing::debug!(
            target.address = %lease.target().address(),
            error = ?error.error(),
            "a target broke off before it answered"
        );
        failure = Page::BadGateway;
        request = error.take_message().or(spare).ok_or(failure)?;
        // The other kept connections are likely to be as dead as this one was.
        reuse = false;
        if fresh {
            tried.push(lease.target().address());
        }
    }
    Err(failure)
}

async fn connect(worker: &Rc<Worker>, lease: &Lease, live: Option<&LiveRules>) -> Result<Connection, Page> {
    let target = lease.target();
    worker.pool.connect(target, live).await.map_err(|error| {
        target.refused();
        tracing::debug!(
            target.address = %target.address(),
            error = &error as &dyn std::error::Error,
            "a target took no connection"
        );
        match error {
            ConnectError::TimedOut => Page::TimedOut,
            ConnectError::Unreachable(_) | ConnectError::Ended(_) => Page::BadGateway,
        }
    })
}

/// Whether a request was given up because the visitor sent more than the app takes.
fn is_too_large(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(BodyError::TooLarge))
}

/// The same request once more; only for those without a body.
fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Hands a target's answer to the visitor.
fn pass_back(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    mut response: Response<Incoming>,
    exchange: Exchange,
    switch: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(of_visitor) = switch else {
            // It switches to something that nobody asked for.
            return Page::BadGateway.answer(&HeaderMap::new(), &visitor.activity);
        };
        let of_target = hyper::upgrade::on(&mut response);
        upgrade::start(worker, visitor, of_visitor, of_target, exchange);
        let (mut parts, _) = response.into_parts();
        headers::prepare_switch(&mut parts.headers);
        let nothing = ResponseBody::page(bytes::Bytes::new(), &visitor.activity);
        return Response::from_parts(parts, nothing);
    }
    let (mut parts, body) = response.into_parts();
    headers::prepare_response(&mut parts.headers);
    parts.version = hyper::Version::HTTP_11;
    parts.extensions.clear();
    let body = ResponseBody::from_target(body, exchange, &visitor.activity);
    Response::from_parts(parts, body)
}

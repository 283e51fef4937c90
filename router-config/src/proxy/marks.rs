//! What an app's rules put on its requests and answers: numbers, the moment of coming, the cookie of a visitor that stays.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE};

use super::affinity;
use super::visitor::Visitor;
use crate::table::LiveRules;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

/// Longest correlation id that is taken from a visitor.
const LONGEST_ID: usize = 128;

/// What one request was marked with.
pub(super) struct Marks {
    /// Number of the request.
    id: Option<HeaderValue>,
    /// The target with which the visitor would like to stay.
    wish: Option<Box<str>>,
}

impl Marks {
    /// Marks a request on its way to a target.
    pub(super) fn put(live: &LiveRules, headers: &mut HeaderMap) -> Self {
        let wish = live.rules.sticky.as_ref().and_then(|_| affinity::asked(headers)).map(Box::from);
        let id = live.rules.request_ids.then(|| HeaderValue::try_from(draw()).ok()).flatten();
        if let Some(id) = &id {
            if !headers.get(CORRELATION_ID).is_some_and(is_id) || headers.get_all(CORRELATION_ID).iter().count() > 1 {
                headers.insert(CORRELATION_ID, id.clone());
            }
            headers.insert(REQUEST_ID, id.clone());
        }
        if live.rules.request_start
            && let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH)
            && let Ok(moment) = HeaderValue::try_from(format!("t={}.{:03}", now.as_secs(), now.subsec_millis()))
        {
            headers.insert(REQUEST_START, moment);
        }
        Self { id, wish }
    }

    /// Shows the visitor what matters to it.
    pub(super) fn show(self, live: &LiveRules, visitor: &Visitor, target: SocketAddr, headers: &mut HeaderMap) {
        if let Some(id) = self.id {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(policy) = live.rules.referrer_policy {
            headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static(policy.as_str()));
        }
        let name = live.name_of(target).filter(|name| self.wish.as_deref() != Some(*name));
        if let Some(cookie) = name.and_then(|name| affinity::cookie(name, visitor.forwarded.protocol == "https")) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// A number that no other request has.
fn draw() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Whether a visitor's id can be one: short, and of letters, digits and `-_.:`.
fn is_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=LONGEST_ID).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
}

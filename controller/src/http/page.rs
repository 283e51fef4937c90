//! Lists (contract §1.0.5).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{HeaderValue, header::HOST, request::Parts};
use paas_api::Page;

use super::{Api, client};
use crate::db::{Slice, Sliced};

/// Rows of a list when the client does not say.
const USUAL: i64 = 100;
/// Most rows of one answer: a list of any length must not be held in memory.
const MOST: i64 = 10_000;

/// Which part of a list is wanted, and where the list is.
#[derive(Debug)]
pub(crate) struct Paging {
    slice: Slice,
    base: String,
}

impl FromRequestParts<Api> for Paging {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let asked = |name: &str| {
            let query = parts.uri.query().unwrap_or_default();
            let value = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?.1;
            value.parse::<i64>().ok().filter(|number| *number > 0)
        };
        let slice = Slice {
            limit: asked("limit").map_or(USUAL, |limit| limit.min(MOST)),
            offset: asked("offset").unwrap_or(0),
        };
        let host = parts.headers.get(HOST).map(HeaderValue::to_str).and_then(Result::ok);
        let host = host.unwrap_or("localhost");
        let scheme = client::scheme(parts, &api.rules().trusted_proxies);
        let path = parts.uri.path();
        Ok(Self { slice, base: format!("{scheme}://{host}{path}") })
    }
}

impl Paging {
    /// The rows that are wanted.
    pub(crate) fn slice(&self) -> Slice {
        self.slice
    }

    /// The page that these rows make.
    pub(crate) fn page<R, T>(&self, sliced: Sliced<R>, show: impl FnMut(R) -> T) -> Page<T> {
        let Slice { limit, offset } = self.slice;
        let after = offset.saturating_add(limit);
        let before = offset.saturating_sub(limit);
        let at = |offset: i64| match offset {
            ..=0 => format!("{}?limit={limit}", self.base),
            _ => format!("{}?limit={limit}&offset={offset}", self.base),
        };
        Page {
            count: sliced.count,
            next: (after < sliced.count).then(|| at(after)),
            previous: (offset > 0).then(|| at(before)),
            results: sliced.rows.into_iter().map(show).collect(),
        }
    }
}

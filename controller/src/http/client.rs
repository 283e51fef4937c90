//! Who speaks to us, as far as the network can tell.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{HeaderMap, HeaderName, HeaderValue, header::ORIGIN, request::Parts};

use crate::domain::network::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether the request comes from the controller's own machine, and not from a page that a browser there shows: such a
/// page can be anybody's.
pub(super) fn is_local(parts: &Parts, proxies: &[Network]) -> bool {
    address(parts, proxies).is_some_and(|address| address.to_canonical().is_loopback())
        && !parts.headers.contains_key(ORIGIN)
}

/// `http` or `https`, as the client sees it.
pub(super) fn scheme(parts: &Parts, proxies: &[Network]) -> &'static str {
    let told = parts.headers.get(FORWARDED_PROTO).is_some_and(|value| value == "https");
    if told && peer(parts).is_some_and(|peer| is_proxy(peer, proxies)) { "https" } else { "http" }
}

/// The client's address: the peer, or, when that is a proxy of ours, the last address in front of it that is not.
fn address(parts: &Parts, proxies: &[Network]) -> Option<IpAddr> {
    behind(peer(parts)?, &parts.headers, proxies)
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

fn is_proxy(address: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|proxy| proxy.contains(address))
}

/// `None` when a proxy of ours says something that is no address.
fn behind(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> Option<IpAddr> {
    let mut found = peer;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for told in HeaderValue::to_str(value).ok()?.rsplit(',') {
            if !is_proxy(found, proxies) {
                return Some(found);
            }
            found = told.trim().parse().ok()?;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind_of(peer: &str, forwarded: &[&'static str]) -> Option<String> {
        let proxies = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        behind(peer.parse().unwrap(), &headers, &proxies).map(|address| address.to_string())
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        for (peer, forwarded, client) in [
            ("127.0.0.1", &[][..], Some("127.0.0.1")),
            ("203.0.113.9", &["127.0.0.1"], Some("203.0.113.9")),
            ("127.0.0.1", &["203.0.113.9"], Some("203.0.113.9")),
            ("127.0.0.1", &["127.0.0.1, 203.0.113.9"], Some("203.0.113.9")),
            ("127.0.0.1", &["127.0.0.1", "203.0.113.9, 10.1.2.3"], Some("203.0.113.9")),
            ("127.0.0.1", &["127.0.0.1"], Some("127.0.0.1")),
            ("127.0.0.1", &["nonsense"], None),
            ("127.0.0.1", &[""], None),
        ] {
            assert_eq!(behind_of(peer, forwarded).as_deref(), client, "{peer} {forwarded:?}");
        }
    }
}

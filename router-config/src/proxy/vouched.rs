//! Who asks, when a proxy before us says it (contract 6.3, `proxyRealIpCidrs`).
//!
//! Behind a load balancer every connection is the balancer's. What it tells in `X-Forwarded-*` is taken for true when its
//! address is one that the operator trusts, and from nobody else.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::{FORWARDED_FOR, FORWARDED_PORT, FORWARDED_PROTO};
use super::visitor::Visitor;
use super::worker::Worker;

/// The visitor as a trusted proxy tells of it, or as it came.
pub(super) fn visitor(worker: &Worker, came: Rc<Visitor>, headers: &HeaderMap) -> Rc<Visitor> {
    let trusted = &worker.trusted_proxies;
    if !is_trusted(trusted, came.caller.address) {
        return came;
    }
    let address = address(trusted, came.caller.address, headers);
    let secure = match last(headers, &FORWARDED_PROTO) {
        Some("https") => true,
        Some("http") => false,
        _ => came.caller.secure,
    };
    let port = last(headers, &FORWARDED_PORT).and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    came.vouched_for(worker, address, secure, port.map(HeaderValue::from))
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The last address that no trusted proxy has: what stands before it, the visitor itself may have written.
fn address(trusted: &[IpNet], came: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut found = came;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for text in value.to_str().unwrap_or("?").rsplit(',') {
            if !is_trusted(trusted, found) {
                return found;
            }
            let Some(address) = parsed(text.trim()) else { return found };
            found = address;
        }
    }
    found
}

/// An address, also with the port that some proxies write.
fn parsed(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>().ok();
    bare.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip())).map(|address| address.to_canonical())
}

/// What the nearest proxy says.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(told: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for value in told {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        address(&trusted, "10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_visitors() {
        assert_eq!(found(&[]), "10.0.0.1");
        assert_eq!(found(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(found(&["203.0.113.9, 192.0.2.1"]), "192.0.2.1", "the first is of the visitor's own invention");
        assert_eq!(found(&["203.0.113.9", "192.0.2.1,10.1.1.1", "2001:db8::1 "]), "192.0.2.1");
        assert_eq!(found(&["10.2.2.2, 10.1.1.1"]), "10.2.2.2", "a visitor from inside");
        assert_eq!(found(&["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(found(&["[2001:db9::1]:4711"]), "2001:db9::1");
        assert_eq!(found(&["::ffff:192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn nonsense_is_nobodys_address() {
        for told in ["", "unknown", "192.0.2.1, nobody", "192.0.2.1,", "192.0.2.1 192.0.2.2", "999.1.1.1", "\t"] {
            assert_eq!(found(&[told]), "10.0.0.1", "{told:?}");
        }
        assert_eq!(found(&["192.0.2.1, _hidden, 10.1.1.1"]), "10.1.1.1");
    }

    #[test]
    fn the_nearest_proxy_counts() {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_PROTO, HeaderValue::from_static("https, http"));
        assert_eq!(last(&headers, &FORWARDED_PROTO), Some("http"));
        headers.append(FORWARDED_PROTO, HeaderValue::from_static("https"));
        assert_eq!(last(&headers, &FORWARDED_PROTO), Some("https"));
    }
}

//! What changes in a head on its way through: hop-by-hop fields end here, the visitor's address
//! is told to the app and cannot be forged.

use hyper::Version;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request;

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const REAL_ADDRESS: HeaderName = HeaderName::from_static("x-real-ip");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What an app is told about its visitor.
#[derive(Debug, Clone)]
pub(super) struct Forwarded {
    pub(super) address: HeaderValue,
    pub(super) protocol: HeaderValue,
    pub(super) port: HeaderValue,
}

/// Makes a head of HTTP/2 one of HTTP/1.1 (RFC 9113, 8.2.3): cookies that came one by one are one field again, and a body
/// whose length nobody told comes in chunks.
pub(super) fn from_http2(headers: &mut HeaderMap, has_body: bool) {
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
    headers.remove(TRANSFER_ENCODING);
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes a visitor's head one for a target. Gives the protocol to which the visitor asks to
/// upgrade, if so.
pub(super) fn prepare_request(parts: &mut request::Parts, forwarded: &Forwarded) -> Option<HeaderValue> {
    let headers = &mut parts.headers;
    let upgrade = requested_upgrade(headers, parts.version);
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let trailers = headers.get(TE).is_some_and(|te| tokens(te).any(|token| token.eq_ignore_ascii_case("trailers")));
    drop_hop_by_hop(headers);
    for name in [EXPECT, FORWARDED, FORWARDED_HOST, REAL_ADDRESS, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    if chunked {
        // Said outright: hyper takes a GET without a length for one without a body.
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    headers.insert(FORWARDED_FOR, forwarded.address.clone());
    headers.insert(FORWARDED_PROTO, forwarded.protocol.clone());
    headers.insert(FORWARDED_PORT, forwarded.port.clone());
    parts.version = Version::HTTP_11;
    upgrade
}

/// Makes a target's head one for a visitor.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    drop_hop_by_hop(headers);
}

/// Makes the head of a target's 101 one for a visitor.
pub(super) fn prepare_switch(headers: &mut HeaderMap) {
    let protocol = headers.get(UPGRADE).cloned();
    drop_hop_by_hop(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
    }
}

/// The protocol asked for. HTTP/2 in clear text is not passed on: requests inside it would
/// go around everything that this module does.
fn requested_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = version == Version::HTTP_11
        && headers.get_all(CONNECTION).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let http2 = tokens(protocol).any(|token| token.eq_ignore_ascii_case("h2c"));
    (asked && !http2).then(|| protocol.clone())
}

/// Drops the fields that speak of one connection only, also those that `Connection` names.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // The frame and the addressee are never a matter of one connection.
            .filter(|name| ![HOST, CONTENT_LENGTH, CONNECTION].contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn prepared(lines: &[(&str, &str)]) -> (HeaderMap, Option<HeaderValue>) {
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let forwarded = Forwarded {
            address: HeaderValue::from_static("192.0.2.1"),
            protocol: HeaderValue::from_static("http"),
            port: HeaderValue::from_static("80"),
        };
        let upgrade = prepare_request(&mut parts, &forwarded);
        (parts.headers, upgrade)
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let (headers, _) = prepared(&[
            ("host", "a.b"),
            ("connection", "close, X-Private"),
            ("connection", "keep-alive, host, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("content-length", "3"),
            ("cookie", "a=b"),
        ]);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["content-length", "cookie", "host", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"]
        );
    }

    #[test]
    fn what_a_visitor_says_of_its_address_is_not_believed() {
        let (headers, _) = prepared(&[
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.10"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "evil.example"),
            ("x-real-ip", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
        ]);
        let all: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(all, ["192.0.2.1"]);
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-port"], "80");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn an_upgrade_is_passed_on_only_when_the_connection_asks_for_it() {
        let (headers, upgrade) = prepared(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade.unwrap(), "websocket");
        assert_eq!(headers["connection"], "upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")],
        ] {
            let (headers, upgrade) = prepared(lines);
            assert_eq!(upgrade, None, "{lines:?}");
            assert_eq!(headers.len(), 3, "{lines:?}");
        }
    }

    #[test]
    fn a_head_of_http2_becomes_one_of_http1() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=b"));
        headers.append("cookie", HeaderValue::from_static("c=d"));
        from_http2(&mut headers, true);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=b; c=d"]);
        assert_eq!(headers["transfer-encoding"], "chunked");
        let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("3"))]);
        from_http2(&mut headers, true);
        assert_eq!(headers.len(), 1);
        let mut headers = HeaderMap::new();
        from_http2(&mut headers, false);
        assert!(headers.is_empty());
    }

    #[test]
    fn trailers_and_chunks_are_announced_again() {
        let (headers, _) = prepared(&[
            ("te", "trailers, deflate;q=0.5"),
            ("connection", "TE"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
        ]);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["transfer-encoding"], "chunked");
        assert_eq!(headers["trailer"], "x-sum");
    }
}

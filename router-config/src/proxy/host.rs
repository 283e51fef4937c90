//! Which host a request is for.

use std::borrow::Cow;

use hyper::Version;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::http::request::Parts;

/// Longest `Host` that is looked at: the longest name, its dot, and a port.
const LONGEST: usize = 253 + 1 + 6;

/// The request names no host, more than one, or something that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadHost;

/// The host as the table knows it: lower-case, without port and final dot.
///
/// A host in the request line counts before the header, as RFC 9112 (3.2.2) demands, and the
/// header is made the same. HTTP/1.0 may leave it out: then it is empty, and unknown.
pub(super) fn of(parts: &mut Parts) -> Result<String, BadHost> {
    if let Some(authority) = parts.uri.authority() {
        let name = name_in(authority.as_str().as_bytes())?.into_owned();
        let header = HeaderValue::from_str(authority.as_str()).map_err(|_| BadHost)?;
        if parts.headers.get_all(HOST).iter().count() > 1 {
            return Err(BadHost);
        }
        parts.headers.insert(HOST, header);
        return Ok(name);
    }
    Ok(in_header(&parts.headers, parts.version)?.into_owned())
}

fn in_header(headers: &HeaderMap, version: Version) -> Result<Cow<'_, str>, BadHost> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => name_in(host.as_bytes()),
        (None, _) if version == Version::HTTP_10 => Ok(Cow::Borrowed("")),
        _ => Err(BadHost),
    }
}

fn name_in(host: &[u8]) -> Result<Cow<'_, str>, BadHost> {
    if host.is_empty() || host.len() > LONGEST {
        return Err(BadHost);
    }
    let host = std::str::from_utf8(host).map_err(|_| BadHost)?;
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        // An IPv6 address has no route; it must only be well-formed.
        let (address, rest) = rest.split_once(']').ok_or(BadHost)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| BadHost)?;
        let port = match rest {
            "" => None,
            _ => Some(rest.strip_prefix(':').ok_or(BadHost)?),
        };
        (address, port)
    } else {
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if !name.bytes().all(is_name_byte) || name.is_empty() || name.contains("..") {
            return Err(BadHost);
        }
        (name, port)
    };
    if let Some(port) = port
        && !(port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5)
    {
        return Err(BadHost);
    }
    Ok(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_final_dots_and_case_do_not_matter() {
        for (host, name) in [
            ("hello.localhost", "hello.localhost"),
            ("HeLLo.localhost.", "hello.localhost"),
            ("hello.localhost:8080", "hello.localhost"),
            ("hello.localhost.:8080", "hello.localhost"),
            ("hello.localhost:", "hello.localhost"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
            ("my_app.example.com", "my_app.example.com"),
        ] {
            assert_eq!(name_in(host.as_bytes()).unwrap(), name, "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:123456",
            "a..b",
            "[::1",
            "[x]",
            "[::1]80",
            "a,b",
            "b\u{fc}cher.example",
            "a\tb",
            "a%2eb",
            "a\\b",
            "a#b",
            "a?b",
        ] {
            assert_eq!(name_in(host.as_bytes()), Err(BadHost), "{host:?}");
        }
        assert_eq!(name_in(&[b'a'; LONGEST + 1]), Err(BadHost));
        assert_eq!(name_in(&[0xff]), Err(BadHost));
    }
}

//! Visitors that stay with one target: the cookie that says which.

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderValue};

/// Name of the cookie.
const NAME: &str = "paas-affinity";

/// What the visitor's cookie says.
pub(super) fn asked(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// The cookie that keeps a visitor with a target. It goes when the browser is closed.
pub(super) fn cookie(target: &str, is_secure: bool) -> Option<HeaderValue> {
    let secure = if is_secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{NAME}={target}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("a=b; xpaas-affinity=no;paas-affinity2=no"));
        assert_eq!(asked(&headers), None);
        headers.append(COOKIE, HeaderValue::from_static("c=d;  paas-affinity=0123; e=f"));
        assert_eq!(asked(&headers), Some("0123"));
        assert_eq!(cookie("0123", false).unwrap(), "paas-affinity=0123; Path=/; HttpOnly; SameSite=Lax");
        assert!(cookie("0123", true).unwrap().to_str().unwrap().ends_with("; Secure"));
    }
}

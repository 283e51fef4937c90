//! A controller's refusals, and the lack of any answer, in words for the user (contract §4.6).

use std::io;

use paas_api::{client::ClientError, error::ErrorBody};
use reqwest::StatusCode;

use crate::error::Error;

/// Longest body that is shown as it came.
const SHOWN_BODY: usize = 2000;

/// The words for an answer of the controller at `controller`.
pub(crate) fn explain(error: &ClientError, controller: &str) -> Error {
    match error {
        ClientError::Refused { status, body, raw } => refused(*status, body.as_ref(), raw, controller),
        ClientError::Unreachable { source, .. } => unreachable(source, controller),
        ClientError::NotAsked { .. } => Error::new(error.to_string()),
        ClientError::Unexpected { .. } => Error::new(error.to_string())
            .hint(format!("is {controller} the address of the controller? see 'paas whoami'")),
    }
}

fn refused(status: StatusCode, body: Option<&ErrorBody>, raw: &str, controller: &str) -> Error {
    if is_page(status, raw) {
        return Error::new(format!("{controller} answered {status} with a web page, not as a controller does")).hint(
            "check the address; when it is right, the platform's router has no controller to ask: look at 'paas up'",
        );
    }
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if let Some((text, detail)) = known_detail(body) => {
            Error::new(text).hint(detail)
        }
        StatusCode::BAD_REQUEST => {
            let error = Error::new(bad_request(body, raw));
            match certificate_fault(body) {
                Some(fault) => error.hint(fault),
                None => error,
            }
        }
        StatusCode::UNAUTHORIZED => Error::new("Unauthorized: Missing or Invalid Token")
            .hint(format!("the session has ended or was removed; start one: paas login {controller}")),
        StatusCode::FORBIDDEN => Error::new(match body {
            Some(ErrorBody::Detail { detail }) => detail.as_str(),
            _ => "You do not have permission to perform this action.",
        }),
        StatusCode::NOT_FOUND => Error::new(not_found(body, raw)),
        StatusCode::METHOD_NOT_ALLOWED => Error::new("Method Not Allowed"),
        StatusCode::CONFLICT => Error::new(conflict(body, raw)),
        StatusCode::UNPROCESSABLE_ENTITY => {
            Error::new(format!("Unable to process your request: {}", body.map_or_else(|| cut(raw), ErrorBody::message)))
        }
        StatusCode::INTERNAL_SERVER_ERROR => Error::new("Internal Server Error").hint("the controller's log says why"),
        _ => Error::new(plain(status, body, raw)),
    }
}

/// The words of a refusal of a known shape; the body itself of any other.
fn plain(status: StatusCode, body: Option<&ErrorBody>, raw: &str) -> String {
    match body {
        Some(ErrorBody::Fields(fields)) => {
            let texts = fields.iter().flat_map(|(field, texts)| texts.iter().map(move |text| on_field(field, text)));
            texts.collect::<Vec<_>>().join("\n")
        }
        Some(body) => body.message(),
        None => format!("Unknown Error ({}): {}", status.as_u16(), cut(raw)),
    }
}

/// What is wrong with a field, with the field's name where the text needs it.
fn on_field(field: &str, text: &str) -> String {
    if text.starts_with("This field") { format!("{field}: {text}") } else { text.to_owned() }
}

fn bad_request(body: Option<&ErrorBody>, raw: &str) -> String {
    let known = match body {
        Some(ErrorBody::Fields(fields)) => fields
            .iter()
            .flat_map(|(field, texts)| texts.iter().map(move |text| (field, text)))
            .find_map(|(field, text)| field_text(field, text)),
        _ => None,
    };
    known.map_or_else(|| plain(StatusCode::BAD_REQUEST, body, raw), str::to_owned)
}

/// What is wrong with a certificate, which the contract does not show.
fn certificate_fault(body: Option<&ErrorBody>) -> Option<&str> {
    let Some(ErrorBody::Fields(fields)) = body else { return None };
    fields.get("certificate")?.iter().find_map(|text| text.strip_prefix("Could not load certificate: "))
}

/// What the contract shows for a message on a field.
fn field_text(field: &str, text: &str) -> Option<&'static str> {
    const BLANK: &str = "This field may not be blank.";
    const USERNAME: &str =
        "Enter a valid username. This value may contain only letters, numbers and @/./+/-/_ characters.";
    const NAME: &str = "Can only contain a-z (lowercase), 0-9 and hyphens";
    Some(match (field, text) {
        ("username", BLANK | USERNAME) => USERNAME,
        ("username", "A user with that username already exists.") => "A user with that username already exists.",
        ("password", BLANK) => "A Password is required",
        ("non_field_errors", "Unable to log in with provided credentials.") => {
            "Unable to log in with provided credentials."
        }
        ("id", "App name can only contain a-z (lowercase), 0-9 and hyphens") => {
            "App name can only contain a-z (lowercase), 0-9 and hyphens"
        }
        ("id", "Application with this id already exists.") => "Application with this id already exists.",
        ("id", BLANK) => "An id is required",
        ("public", BLANK | "Key contains invalid base64 chars") | ("key", BLANK) => "A key is required",
        ("key" | "public", "Public Key is already in use") => "Public Key is already in use",
        ("name", BLANK | NAME) => "Name can only contain a-z (lowercase), 0-9 and hyphens",
        ("domain", "Hostname does not look valid.") => "Hostname does not look valid.",
        ("domain", "Domain is already in use by another application") => {
            "Domain is already in use by another application"
        }
        ("image", BLANK) => "The given image is invalid",
        ("email", "Enter a valid email address.") => "Enter a valid email address.",
        ("certificate", BLANK) => "Could not load certificate",
        ("certificate", text) if text.contains("Could not load certificate") => "Could not load certificate",
        _ => return None,
    })
}

/// What the contract shows for a business rule, and the controller's own words, which say more.
fn known_detail(body: Option<&ErrorBody>) -> Option<(&'static str, &str)> {
    let Some(ErrorBody::Detail { detail }) = body else { return None };
    let text = if detail.contains("does not exist in application") {
        "Pod not found in application"
    } else if detail.contains("version cannot be below 0") {
        "The given version is invalid"
    } else if detail.contains("No nodes matched the provided labels") {
        "No nodes matched the provided labels"
    } else {
        return None;
    };
    Some((text, detail))
}

fn not_found(body: Option<&ErrorBody>, raw: &str) -> String {
    match body {
        Some(ErrorBody::Detail { detail }) => detail.clone(),
        _ if raw.trim().is_empty() => "Not Found".into(),
        // The contract shows the text with its quotes.
        _ => cut(raw),
    }
}

fn conflict(body: Option<&ErrorBody>, raw: &str) -> String {
    let text = plain(StatusCode::CONFLICT, body, raw);
    if text.contains("still has applications assigned. Delete or transfer ownership") {
        "Failed to delete user because the user still has applications assigned. Delete or transfer ownership.".into()
    } else {
        text
    }
}

/// Whether it is a page, of the web or of the platform's router, whose text begins with the status.
fn is_page(status: StatusCode, raw: &str) -> bool {
    raw.trim_start().starts_with('<')
        || raw.strip_prefix(&status.to_string()).is_some_and(|rest| rest.starts_with('\n'))
}

fn cut(raw: &str) -> String {
    let text = raw.trim();
    match text.char_indices().nth(SHOWN_BODY) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn unreachable(error: &reqwest::Error, controller: &str) -> Error {
    if let Some(tls) = tls_failure(error) {
        return Error::new(format!("no trusted connection to {controller}: {tls}"))
            .hint("if the certificate is of your own making: paas login --ssl-verify=false")
            .hint("if the controller has no certificate, its address begins with http://");
    }
    let reason = deepest(error);
    let told = if error.is_timeout() {
        Error::new(format!("the controller at {controller} does not answer"))
    } else if error.is_connect() {
        Error::new(format!("cannot reach the controller at {controller}: {reason}"))
    } else {
        Error::new(format!("the connection to the controller at {controller} broke: {reason}"))
    };
    if controller.contains("localhost") || controller.contains("127.0.0.1") {
        told.hint("is the platform running on this machine? start it with 'paas up'")
    } else {
        told.hint("check the address, your network and any proxy; 'paas login <controller>' goes to another controller")
    }
}

/// The TLS failure within an error, if that was it.
fn tls_failure(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.to_string());
    }
    // An I/O error does not count what it was made of among its sources.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inside) => tls_failure(inside),
        None => tls_failure(error.source()?),
    }
}

/// What lies at the bottom of an error.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, raw: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        refused(status, serde_json::from_str(raw).ok().as_ref(), raw, "http://x").to_string()
    }

    #[test]
    fn refusals_read_as_the_contract_says() {
        for (status, raw, text) in [
            (
                400,
                r#"{"username":["This field may not be blank."]}"#,
                "Enter a valid username. This value may contain only letters, numbers and @/./+/-/_ characters.",
            ),
            (400, r#"{"password":["This field may not be blank."]}"#, "A Password is required"),
            (
                400,
                r#"{"non_field_errors":["Unable to log in with provided credentials."]}"#,
                "Unable to log in with provided credentials.",
            ),
            (400, r#"{"id":["Application with this id already exists."]}"#, "Application with this id already exists."),
            (400, r#"{"public":["Public Key is already in use"]}"#, "Public Key is already in use"),
            (400, r#"{"public":["Key contains invalid base64 chars"]}"#, "A key is required"),
            (400, r#"{"detail":"version cannot be below 0"}"#, "The given version is invalid"),
            (400, r#"{"detail":"Cannot roll back to initial release."}"#, "Cannot roll back to initial release."),
            (400, r#"{"values":["PORT can only be a numeric value"]}"#, "PORT can only be a numeric value"),
            (400, r#"{"sha":["This field is too long."]}"#, "sha: This field is too long."),
            (400, "oh", "Unknown Error (400): oh"),
            (401, r#"{"detail":"Invalid token."}"#, "Unauthorized: Missing or Invalid Token"),
            (403, r#"{"detail":"Registration is disabled"}"#, "Registration is disabled"),
            (403, "", "You do not have permission to perform this action."),
            (404, r#""No App matches the given query.""#, r#""No App matches the given query.""#),
            (404, r#"{"detail":"Container type foo does not exist in application"}"#, "Pod not found in application"),
            (404, "", "Not Found"),
            (405, "{}", "Method Not Allowed"),
            (409, r#"{"detail":"ann changed nothing - release stopped"}"#, "ann changed nothing - release stopped"),
            (
                422,
                r#"{"detail":"FOO does not exist under values"}"#,
                "Unable to process your request: FOO does not exist under values",
            ),
            (500, r#"{"detail":"Server Error"}"#, "Internal Server Error"),
            (503, r#"{"detail":"Docker does not answer"}"#, "Docker does not answer"),
            (503, "", "Unknown Error (503): "),
        ] {
            assert_eq!(told(status, raw), text);
        }
    }

    #[test]
    fn the_controllers_own_words_are_kept() {
        let body = ErrorBody::detail("Container type foo does not exist in application");
        let told = refused(StatusCode::NOT_FOUND, Some(&body), "{}", "http://x").report();
        assert_eq!(
            told,
            "Error: Pod not found in application\nhint: Container type foo does not exist in application\n"
        );
    }

    #[test]
    fn a_web_page_is_not_printed() {
        for page in [
            "<!DOCTYPE html><html>no such host</html>",
            "\n<h1>Not Found</h1>",
            "404 Not Found\nThere is no app here.\n",
        ] {
            let text = told(404, page);
            assert!(text.contains("web page") && !text.contains('<') && !text.contains("no app"), "{text}");
        }
    }

    #[test]
    fn a_long_body_is_cut() {
        assert!(told(418, &"ü".repeat(70_000)).len() < 5000);
    }
}

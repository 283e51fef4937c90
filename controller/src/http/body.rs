//! Bodies: read within limits, checked field by field, refused in the contract's words.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::{
    Api,
    error::{Answer, ApiError},
};

/// Largest body that is read, in bytes.
pub(crate) const LARGEST: usize = 1 << 20;
/// Longest time that a body may take to arrive: less than any answer may take, for else the platform is said to be slow.
const LONGEST: Duration = Duration::from_secs(20);

const REQUIRED: &str = "This field is required.";
const BLANK: &str = "This field may not be blank.";
const NULL: &str = "This field may not be null.";

/// The fields of a JSON object. Every getter notes what is wrong with its field; [`Fields::check`] tells all of it at once.
#[derive(Debug)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: BTreeMap<String, Vec<String>>,
}

impl FromRequest<Api> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Api) -> Result<Self, ApiError> {
        let kind =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let bytes = read(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self { values: Map::new(), errors: BTreeMap::new() });
        }
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::UnsupportedMediaType(kind.chars().take(100).collect()));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(values)) => Ok(Self { values, errors: BTreeMap::new() }),
            Ok(other) => Err(ApiError::field(
                "non_field_errors",
                format!("Invalid data. Expected a dictionary, but got {}.", kind_of(&other)),
            )),
            Err(error) => Err(ApiError::Refused(format!("JSON parse error - {error}"))),
        }
    }
}

async fn read(body: Body) -> Answer<bytes::Bytes> {
    match tokio::time::timeout(LONGEST, Limited::new(body, LARGEST).collect()).await {
        Err(_) => Err(ApiError::Slow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge),
        // The client went away or broke the protocol; whatever is answered will hardly be read.
        Ok(Err(_)) => Err(ApiError::Refused("The request's body did not arrive whole.".to_owned())),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

impl Fields {
    /// Whether the field is there, whatever it holds.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Takes a field as it came.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    /// Takes all that is left.
    pub(crate) fn take_all(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.values)
    }

    /// Notes what is wrong with a field.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.entry(name.to_owned()).or_default().push(message.into());
    }

    /// A text that must be there and not be empty; empty after it was refused.
    pub(crate) fn required(&mut self, name: &str, longest: usize) -> String {
        match self.values.remove(name) {
            None => {
                self.refuse(name, REQUIRED);
                String::new()
            }
            Some(value) => match self.text(name, &value, longest) {
                Some(text) if text.is_empty() => {
                    self.refuse(name, BLANK);
                    text
                }
                text => text.unwrap_or_default(),
            },
        }
    }

    /// A text that may be absent, null or empty.
    pub(crate) fn optional(&mut self, name: &str, longest: usize) -> Option<String> {
        match self.values.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.text(name, &value, longest),
        }
    }

    /// A text that must be there and parse; the error of parsing is the message.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match self.values.remove(name) {
            None => {
                self.refuse(name, REQUIRED);
                None
            }
            Some(value) => {
                let text = self.text(name, &value, LARGEST)?;
                text.parse().map_err(|error: T::Err| self.refuse(name, error.to_string())).ok()
            }
        }
    }

    fn text(&mut self, name: &str, value: &Value, longest: usize) -> Option<String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null => {
                self.refuse(name, NULL);
                return None;
            }
            _ => {
                self.refuse(name, "Not a valid string.");
                return None;
            }
        };
        if text.contains('\0') {
            self.refuse(name, "Null characters are not allowed.");
            return None;
        }
        if text.chars().count() > longest {
            self.refuse(name, format!("Ensure this field has no more than {longest} characters."));
            return None;
        }
        Some(text)
    }

    /// Refuses the request when anything was wrong with a field.
    pub(crate) fn check(&mut self) -> Answer<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::Fields(std::mem::take(&mut self.errors))) }
    }
}

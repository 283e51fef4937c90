//! Error answers (contract §1.0.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The four shapes an error body can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ErrorBody {
    /// A business rule: `{"detail":"…"}`.
    Detail {
        /// The text.
        detail: String,
    },
    /// Fields with what is wrong with each.
    Fields(BTreeMap<String, Vec<String>>),
    /// A bare list, from validation outside fields.
    List(Vec<String>),
    /// A bare text: an object that was not found.
    Text(String),
}

impl ErrorBody {
    /// `{"detail": text}`.
    pub fn detail(text: impl Into<String>) -> Self {
        Self::Detail { detail: text.into() }
    }

    /// One field with one message.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self::Fields(BTreeMap::from([(name.to_owned(), vec![message.into()])]))
    }

    /// The words in it, on one line.
    pub fn message(&self) -> String {
        match self {
            Self::Detail { detail } => detail.clone(),
            Self::Fields(fields) => {
                let parts: Vec<String> =
                    fields.iter().map(|(name, texts)| format!("{name}: {}", texts.join(" "))).collect();
                parts.join("; ")
            }
            Self::List(texts) => texts.join("; "),
            Self::Text(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_back() {
        for (json, message) in [
            (r#"{"detail":"no"}"#, "no"),
            (r#"{"id":["a","b"]}"#, "id: a b"),
            (r#"["x"]"#, "x"),
            (r#""No App matches the given query.""#, "No App matches the given query."),
        ] {
            let body: ErrorBody = serde_json::from_str(json).unwrap();
            assert_eq!(body.message(), message);
            assert_eq!(serde_json::to_string(&body).unwrap(), json);
        }
    }
}

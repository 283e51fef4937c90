//! Why there is no certificate, in words for the app's log.

use super::ATTEMPT;
use crate::{db::DbError, deploy::certs::CertError, seal::SealError};

/// Longest part of an authority's words that is told.
const LONGEST_WORDS: usize = 500;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    /// The authority said no.
    #[error("{0}")]
    Refused(String),
    /// The domain does not lead here.
    #[error("{0}")]
    Elsewhere(String),
    /// The authority could not be talked to.
    #[error("the certificate authority cannot be reached or does not answer as it should: {0}")]
    Unreachable(String),
    /// Nothing of it is wanted any more.
    #[error("the domain or its app has changed meanwhile")]
    Unwanted,
    /// It took too long.
    #[error("it took longer than {} minutes", ATTEMPT.as_secs() / 60)]
    TooLong,
    /// Some router did not follow.
    #[error("a router does not follow")]
    Routers,
    /// A key could not be made, sealed or opened.
    #[error("a private key cannot be used: {0}")]
    Key(String),
    /// The ledger has no answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::Refused(words(&problem)),
            other => Self::Unreachable(shown(&other.to_string())),
        }
    }
}

impl From<sqlx::Error> for AcmeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

impl From<SealError> for AcmeError {
    fn from(error: SealError) -> Self {
        Self::Key(error.to_string())
    }
}

impl From<CertError> for AcmeError {
    fn from(error: CertError) -> Self {
        match error {
            CertError::Db(error) => Self::Db(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What an authority said, as text that does no harm.
pub(super) fn words(problem: &instant_acme::Problem) -> String {
    let detail = problem.detail.as_deref().or(problem.r#type.as_deref()).unwrap_or("it says no more than no");
    shown(detail)
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_elsewhere_are_harmless() {
        let problem = instant_acme::Problem {
            r#type: None,
            detail: Some(format!("a\u{1b}[2J\nb{}", "x".repeat(1000))),
            status: None,
            subproblems: Vec::new(),
        };
        let told = words(&problem);
        assert!(told.starts_with("a [2J bx") && told.len() == LONGEST_WORDS, "{told}");
    }
}

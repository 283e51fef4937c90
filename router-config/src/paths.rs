//! Which paths of a host lead to a service of its own.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Longest list of patterns, in bytes.
const LONGEST: usize = 1000;

/// Most memory that a list of patterns may take, in bytes. Matching takes time in proportion to the path and this.
const MOST_MEMORY: usize = 256 << 10;

/// Regular expressions, separated by commas. A path matches when it begins with what one of them describes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    text: String,
    any: Regex,
}

impl PathPattern {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a path, as the visitor sent it, leads there.
    pub fn matches(&self, path: &str) -> bool {
        self.any.is_match(path)
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// One of the list has nothing in it.
    #[error("A path pattern may not be blank")]
    Blank,
    /// The list is too long.
    #[error("Path patterns have at most {LONGEST} characters")]
    TooLong,
    /// One of the list is no regular expression, or one that would take too much.
    #[error("The path pattern {0} is not valid")]
    NoRegex(String),
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > LONGEST {
            return Err(InvalidPattern::TooLong);
        }
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(InvalidPattern::Blank);
            }
            let bad = || InvalidPattern::NoRegex(part.chars().take(100).collect());
            // Each by itself: `a)(b` is none, whatever it makes among others.
            if part.chars().any(char::is_control) || compile(part).is_err() {
                return Err(bad());
            }
            all.push(format!("(?:{part})"));
        }
        let any = compile(&format!("^(?:{})", all.join("|")));
        let any = any.map_err(|_| InvalidPattern::NoRegex(text.chars().take(100).collect()))?;
        Ok(Self { text: text.to_owned(), any })
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MOST_MEMORY).dfa_size_limit(MOST_MEMORY).build()
}

impl TryFrom<String> for PathPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.text
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}

impl fmt::Debug for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_when_it_begins_with_one_of_the_list() {
        let pattern: PathPattern = "/hooks, /v[0-9]+/hooks/,^/exact$".parse().unwrap();
        for path in ["/hooks", "/hooks/github", "/hooksmith", "/v2/hooks/", "/exact"] {
            assert!(pattern.matches(path), "{path}");
        }
        for path in ["/", "/other/hooks", "/v2/hooks", "/vx/hooks/", "/exactly", ""] {
            assert!(!pattern.matches(path), "{path}");
        }
        assert_eq!(serde_json::to_value(&pattern).unwrap(), "/hooks, /v[0-9]+/hooks/,^/exact$");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", " ", "/a,", ",", "/a,,/b"] {
            assert_eq!(text.parse::<PathPattern>().unwrap_err(), InvalidPattern::Blank, "{text:?}");
        }
        for text in ["(", "a)(b", "[", "*", "\\", "(?=x)", "a\0b", "a\nb", "((a{50}){50}){50}", "\\p{Nonsense}"] {
            assert!(matches!(text.parse::<PathPattern>(), Err(InvalidPattern::NoRegex(_))), "{text:?}");
        }
        assert_eq!("a".repeat(1001).parse::<PathPattern>().unwrap_err(), InvalidPattern::TooLong);
        assert!(serde_json::from_str::<PathPattern>(r#""(""#).is_err());
    }
}

//! Names: parsed at the edge, valid ever after. The texts of the errors are the contract's (§2).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a name; the text is the contract's own message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// A name: a text that was checked when it was parsed, told to others as text and parsed again from them.
///
/// `name!(/** doc */ Name, |text| check)`, where the check gives the text of a [`NameError`].
#[macro_export]
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::NameError;
            fn from_str(text: &str) -> Result<Self, $crate::NameError> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map_err($crate::NameError)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::NameError;
            fn try_from(text: String) -> Result<Self, $crate::NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

name!(
    /// The id of an app: a DNS label that starts with a letter (contract §2.1).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    AppName,
    |text| {
        if text.is_empty() {
            return Err("This field may not be blank.".into());
        }
        if text.chars().count() > 63 {
            return Err("Ensure this field has no more than 63 characters.".into());
        }
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let legal = text.chars().all(|c| is_lower_or_digit(c) || c == '-');
        if starts && legal && !text.ends_with('-') {
            Ok(())
        } else {
            // The text that clients know how to show (contract §2.1, last line).
            Err("App name can only contain a-z (lowercase), 0-9 and hyphens".into())
        }
    }
);

name!(
    /// A process type of a Procfile, such as `web` (contract §2.7).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    ProcessType,
    |text| {
        let legal = !text.is_empty()
            && text.len() <= 63
            && text.split('-').all(|part| !part.is_empty() && part.chars().all(is_lower_or_digit));
        if legal {
            Ok(())
        } else {
            Err("Process types can only contain lowercase alphanumeric characters".into())
        }
    }
);

impl ProcessType {
    /// The type that visitors reach.
    pub fn web() -> Self {
        Self("web".into())
    }

    /// The type of an image that runs its own command line (contract §3.3).
    pub fn cmd() -> Self {
        Self("cmd".into())
    }

    /// Whether visitors can be routed to it: `web`, or `cmd` where there is no `web` (contract §3.3, step 6).
    pub fn is_routable(&self) -> bool {
        self.0 == "web" || self.0 == "cmd"
    }
}

name!(
    /// The name of a certificate (contract §2.10).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    CertName,
    |text| {
        if text.is_empty() {
            return Err("This field may not be blank.".into());
        }
        if text.len() > 253 {
            return Err("Ensure this field has no more than 253 characters.".into());
        }
        if text.chars().all(|c| is_lower_or_digit(c) || c == '-') {
            Ok(())
        } else {
            Err("Can only contain a-z (lowercase), 0-9 and hyphens".into())
        }
    }
);

name!(
    /// The name of a user (contract §2.2).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    Username,
    |text| {
        if text.is_empty() {
            return Err("This field may not be blank.".into());
        }
        if text.chars().count() > 150 {
            return Err("Ensure this field has no more than 150 characters.".into());
        }
        // A name made of dots alone cannot stand in a URL.
        if text.chars().all(|c| c.is_alphanumeric() || "_.@+-".contains(c)) && text != "." && text != ".." {
            Ok(())
        } else {
            Err("Enter a valid username. This value may contain only letters, numbers and @/./+/-/_ characters.".into())
        }
    }
);

name!(
    /// The name that a user gives a token, unlike any token's id.
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"))]
    TokenName,
    |text| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if text.is_empty() {
            Err("This field may not be blank.".into())
        } else if text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(legal)
            && uuid::Uuid::try_parse(text).is_err()
        {
            Ok(())
        } else {
            Err("The name of a token has up to 64 letters, digits, dots, hyphens and @, and is no UUID.".into())
        }
    }
);

name!(
    /// The name of a config variable (contract §2.4).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,252}$"))]
    ConfigKey,
    |text| {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts && text.len() <= 253 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            Ok(())
        } else {
            Err("Config keys must start with a letter or underscore and only contain [A-z0-9_]".into())
        }
    }
);

name!(
    /// A full or short commit id: 7 to 40 lower-case hexadecimal digits (contract §2.10, §5.3).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(pattern = "^[0-9a-f]{7,40}$"))]
    CommitSha,
    |text| {
        if (7..=40).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            Ok(())
        } else {
            Err("A commit is named by 7 to 40 hexadecimal digits".into())
        }
    }
);

impl CommitSha {
    /// The first seven digits, as release summaries show them (contract §3.2).
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

name!(
    /// A branch name that git would take (the parts of `git check-ref-format` that matter here).
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    BranchName,
    |text| {
        let bad = text.is_empty()
            || text.len() > 244
            || text.starts_with(['-', '/', '.'])
            || text.ends_with(['/', '.'])
            || text.strip_suffix(".lock").is_some()
            || text.contains("..")
            || text.contains("//")
            || text.contains("@{")
            || text.contains("/.")
            || text.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c));
        if bad { Err(format!("{text:?} is not a branch name")) } else { Ok(()) }
    }
);

/// The number of a release: 1, 2, … within an app; written `v3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ReleaseVersion(i32);

impl ReleaseVersion {
    /// The release that an app is born with.
    pub const INITIAL: Self = Self(1);

    /// A release number; `None` below 1.
    pub fn new(number: i32) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// The bare number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for ReleaseVersion {
    type Err = NameError;
    /// `v3` or `3`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix('v').unwrap_or(text);
        digits
            .parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| NameError(format!("{text:?} is not a release; releases are named v1, v2, …")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_dns_labels() {
        for good in ["a", "hello", "a-1", "a--b", &"x".repeat(63)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a.b", "a/b", "../a", "a\0", "a b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn process_types_follow_the_contract() {
        for good in ["web", "cmd", "worker-2", "1"] {
            assert!(good.parse::<ProcessType>().is_ok(), "{good}");
        }
        for bad in ["worker_test", "Worker-test1", "-", "worker-", "-worker", "", "a--b"] {
            assert!(bad.parse::<ProcessType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn config_keys_follow_the_contract() {
        for good in ["A", "_a", "FOO_1", "foo"] {
            assert!(good.parse::<ConfigKey>().is_ok(), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "Ä", "A\n"] {
            assert!(bad.parse::<ConfigKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn usernames_refuse_what_django_refused() {
        for good in ["ann", "ann@example.test", "a.b+c-d_e", "ünal"] {
            assert!(good.parse::<Username>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a;b", "a\n", ".", "..", &"x".repeat(151)] {
            assert!(bad.parse::<Username>().is_err(), "{bad}");
        }
    }

    #[test]
    fn releases_are_read_with_and_without_v() {
        assert_eq!("v3".parse::<ReleaseVersion>().unwrap().number(), 3);
        assert_eq!("3".parse::<ReleaseVersion>().unwrap().to_string(), "v3");
        for bad in ["", "v", "v0", "-1", "vv1", "3.0", "v99999999999"] {
            assert!(bad.parse::<ReleaseVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branch_names_cannot_be_options_or_paths() {
        for good in ["main", "feature/x", "v1.0"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in ["", "-h", "--upload-pack=x", "../x", "a..b", "a b", "a\n", "a.lock", "x@{1}", "/a", "a/"] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }
}

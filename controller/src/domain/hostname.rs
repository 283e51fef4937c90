//! Host names of apps (contract §2.6), as DNS knows them: lower-case ASCII, by IDNA.

use std::{fmt, str::FromStr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// Longest name that DNS knows.
const LONGEST: usize = 253;
/// Longest text that is looked at: what is longer has no form that fits.
const LONGEST_TEXT: usize = 1024;

/// A host name of an app; one without a dot is a subdomain of the platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hostname(String);

/// Why a text is no host name, in the contract's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing but `*`.
    #[error("Hostname can't only be a wildcard")]
    OnlyWildcard,
    /// A label that has no form in ASCII.
    #[error("Hostname does not look valid, could not convert to ACE {0}: {1}")]
    NoAce(String, &'static str),
    /// A last label of digits: that is an address.
    #[error("Hostname does not look valid.")]
    Invalid,
    /// Too long for DNS.
    #[error("Hostname must be 253 characters or less.")]
    TooLong,
}

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it is stored: below the platform's own domain the first label alone, so that a host has one name only
    /// and two apps cannot claim it in two forms.
    #[must_use]
    pub fn within(self, platform: &str) -> Self {
        match self.0.strip_suffix(platform).and_then(|rest| rest.strip_suffix('.')) {
            Some(label) if !label.contains('.') && label != "*" => Self(label.to_owned()),
            _ => self,
        }
    }

    /// Whether it takes all names below the platform's own domain, which belong to apps that others make.
    pub fn takes_all_of(&self, platform: &str) -> bool {
        self.0.strip_prefix("*.").is_some_and(|suffix| suffix == platform || is_below(platform, suffix))
    }
}

/// Whether a name lies below another.
fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text == "*" {
            return Err(HostnameError::OnlyWildcard);
        }
        if text.len() > LONGEST_TEXT {
            return Err(HostnameError::TooLong);
        }
        let (wildcard, rest) = text.strip_prefix("*.").map_or(("", text), |rest| ("*.", rest));
        let labels = rest.split('.').map(ace).collect::<Result<Vec<_>, _>>().map_err(|why| {
            let shown = text.chars().take(LONGEST).collect();
            HostnameError::NoAce(shown, why)
        })?;
        if labels.last().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(HostnameError::Invalid);
        }
        let name = format!("{wildcard}{}", labels.join("."));
        if name.len() > LONGEST { Err(HostnameError::TooLong) } else { Ok(Self(name)) }
    }
}

/// One label in ASCII.
fn ace(label: &str) -> Result<String, &'static str> {
    if label.is_empty() {
        return Err("a label is empty");
    }
    if label.contains('*') {
        return Err("* stands only alone, as the first label");
    }
    let ace = Uts46::new()
        .to_ascii(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Ignore)
        .map_err(|_| "a label has characters that no host name has")?;
    if ace.contains('.') {
        return Err("a label has a character that stands for a dot");
    }
    if ace.len() > 63 { Err("a label is longer than 63 characters") } else { Ok(ace.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_in_ascii() {
        for (text, name) in [
            ("www.example.test", "www.example.test"),
            ("WWW.Example.TEST.", "www.example.test"),
            ("ドメイン.テスト", "xn--eckwd4c7c.xn--zckzah"),
            ("xn--80ahd1agd.ru", "xn--80ahd1agd.ru"),
            ("*.домена.испытание", "*.xn--80ahd1agd.xn--80akhbyknj4f"),
            ("django.paas-sandbox", "django.paas-sandbox"),
            ("a.b.c", "a.b.c"),
            ("hello", "hello"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<Hostname>().unwrap().as_str(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        use HostnameError::{Invalid, OnlyWildcard, TooLong};
        assert_eq!("*".parse::<Hostname>(), Err(OnlyWildcard));
        assert_eq!("this-is-an.invalid.1".parse::<Hostname>(), Err(Invalid));
        assert_eq!("10.0.0.1".parse::<Hostname>(), Err(Invalid));
        assert_eq!(vec!["a"; 150].join(".").parse::<Hostname>(), Err(TooLong));
        assert_eq!("a".repeat(3000).parse::<Hostname>(), Err(TooLong));
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "this_is_an.invalid.domain",
            "django.pa--assandbox",
            "foo.*.bar.com",
            "*a.example",
            "-a.example",
            "a-.example",
            "a..b",
            "a b.example",
            "a/b.example",
            "a:80.example",
            "xn--a.example",
            "a\u{3002}b.example",
            "a\u{0}.example",
            &format!("{long}.example"),
            &"x".repeat(300),
        ] {
            let error = text.parse::<Hostname>().unwrap_err().to_string();
            assert!(error.starts_with("Hostname does not look valid, could not convert to ACE"), "{text}: {error}");
        }
    }

    #[test]
    fn a_host_of_the_platform_has_one_name() {
        let within = |text: &str| text.parse::<Hostname>().unwrap().within("paas.example").0;
        assert_eq!(within("shop.paas.example"), "shop");
        assert_eq!(within("shop"), "shop");
        assert_eq!(within("www.shop.paas.example"), "www.shop.paas.example");
        assert_eq!(within("shop.other.example"), "shop.other.example");
        assert_eq!(within("paas.example"), "paas.example");
    }

    #[test]
    fn nobody_takes_all_names_of_the_platform() {
        let takes = |text: &str| text.parse::<Hostname>().unwrap().takes_all_of("paas.example");
        assert!(takes("*.paas.example"));
        assert!(takes("*.example"));
        assert!(!takes("*.shop.paas.example"));
        assert!(!takes("*.other-paas.example"));
        assert!(!takes("shop.paas.example"));
    }
}

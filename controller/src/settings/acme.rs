//! Where certificates are fetched from.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use instant_acme::LetsEncrypt;
use url::Url;

use super::Problems;
use crate::deploy::acme::{Authority, Check};

/// The flags of automatic certificates.
#[derive(Debug, Args)]
#[group(skip)]
#[expect(clippy::struct_field_names, reason = "the flags are called so")]
pub(super) struct Arguments {
    /// Authority that certificates are fetched from: `letsencrypt`, `letsencrypt-staging` or the address of an ACME
    /// directory. Giving one accepts its terms of service. Without one, no certificates are fetched.
    #[arg(long, env = "PAAS_ACME_DIRECTORY")]
    acme_directory: Option<String>,
    /// Mail addresses that the authority may write to, separated by commas.
    #[arg(long, env = "PAAS_ACME_CONTACT", default_value = "")]
    acme_contact: String,
    /// File with the root certificate that vouches for the authority's directory, instead of the system's.
    #[arg(long, env = "PAAS_ACME_ROOT")]
    acme_root: Option<PathBuf>,
    /// Seconds to wait after an authority said no; they double with each time.
    #[arg(long, env = "PAAS_ACME_RETRY", default_value = "300")]
    acme_retry: u64,
    /// Whether one looks that a domain leads here before the authority is asked: `on` or `off`.
    #[arg(long, env = "PAAS_ACME_CHECK", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    acme_check: bool,
    /// Port at which the domain is asked then; an authority comes to 80.
    #[arg(long, env = "PAAS_ACME_CHECK_PORT", default_value = "80", value_parser = clap::value_parser!(u16).range(1..))]
    acme_check_port: u16,
    /// Name server that is asked then, as address and port, where this machine's own tells other addresses than the
    /// world hears.
    #[arg(long, env = "PAAS_ACME_CHECK_DNS")]
    acme_check_dns: Option<SocketAddr>,
    /// Whether certificates are fetched for the API's own hosts, below the platform's domain: `on` or `off`.
    #[arg(long, env = "PAAS_ACME_OWN_HOSTS", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    acme_own_hosts: bool,
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

impl Arguments {
    /// The authority, if one is chosen; what is wrong with it is noted.
    pub(super) fn check(self, problems: &mut Problems) -> Option<Authority> {
        let directory = match self.acme_directory.as_deref()? {
            "" => return None,
            "letsencrypt" => LetsEncrypt::Production.url().to_owned(),
            "letsencrypt-staging" => LetsEncrypt::Staging.url().to_owned(),
            other => {
                let wanted = "letsencrypt, letsencrypt-staging or an address";
                let url = problems.parse::<Url>("acme-directory", other, wanted)?;
                if url.scheme() != "https" {
                    problems.0.push(format!("--acme-directory is {other:?}, which does not begin with https://"));
                    return None;
                }
                url.into()
            }
        };
        let mut contacts = Vec::new();
        for address in self.acme_contact.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            if address.split_once('@').is_none_or(|(user, host)| user.is_empty() || host.is_empty()) {
                problems.0.push(format!("--acme-contact is {address:?}, which is not a mail address"));
            }
            contacts.push(format!("mailto:{address}"));
        }
        if let Some(root) = &self.acme_root
            && let Err(error) = fs::metadata(root)
        {
            problems.0.push(format!("--acme-root: cannot read {}: {error}", root.display()));
        }
        let retry = Duration::from_secs(self.acme_retry.clamp(1, 86_400));
        let check = Check { port: self.acme_check_port, name_server: self.acme_check_dns };
        let check = self.acme_check.then_some(check);
        Some(Authority { directory, contacts, root: self.acme_root, retry, check, own_hosts: self.acme_own_hosts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(directory: &str, contact: &str, root: Option<&str>) -> (Option<Authority>, Vec<String>) {
        let arguments = Arguments {
            acme_directory: Some(directory.to_owned()),
            acme_contact: contact.to_owned(),
            acme_root: root.map(PathBuf::from),
            acme_retry: 300,
            acme_check: true,
            acme_check_port: 80,
            acme_check_dns: None,
            acme_own_hosts: true,
        };
        let mut problems = Problems::default();
        (arguments.check(&mut problems), problems.0)
    }

    #[test]
    fn an_authority_has_a_name_or_an_address() {
        for (given, meant) in [
            ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
            ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
            ("https://ca.example.test/dir", "https://ca.example.test/dir"),
        ] {
            let (authority, problems) = checked(given, "a@example.test, b@example.test", None);
            let authority = authority.unwrap();
            assert_eq!((authority.directory.as_str(), problems), (meant, vec![]));
            assert_eq!(authority.contacts, ["mailto:a@example.test", "mailto:b@example.test"]);
        }
        let (authority, problems) = checked("", "", None);
        assert!(authority.is_none() && problems.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        for (directory, contact, root, told) in [
            ("http://ca.example.test", "", None, "--acme-directory is"),
            ("nonsense", "", None, "--acme-directory is"),
            ("letsencrypt", "nobody", None, "--acme-contact is"),
            ("letsencrypt", "", Some("/nowhere/root.pem"), "--acme-root: cannot read"),
        ] {
            let (_, problems) = checked(directory, contact, root);
            assert!(problems.len() == 1 && problems[0].starts_with(told), "{problems:?}");
        }
    }
}

//! Who is told of deployments that have ended (contract §1.14).

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;
use paas_api::Secret;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Problems;
use crate::domain::network::Network;

/// Most receivers.
const MOST_URLS: usize = 20;
/// Longest URL of a receiver, in bytes.
const LONGEST_URL: usize = 2000;

/// The flags of deploy hooks. The contract's own variables are read too.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// URLs that are told when a deployment of a release has ended, separated by commas.
    #[arg(long, env = "PAAS_DEPLOY_HOOK_URLS", hide_env_values = true)]
    deploy_hook_urls: Option<Secret>,
    /// File that holds the secret by which these calls are signed.
    #[arg(long, env = "PAAS_DEPLOY_HOOK_SECRET_FILE")]
    deploy_hook_secret_file: Option<PathBuf>,
    /// The secret itself, when it is not in a file.
    #[arg(long, env = "PAAS_DEPLOY_HOOK_SECRET_KEY", hide_env_values = true)]
    deploy_hook_secret_key: Option<Secret>,
    /// Addresses and networks that are not public and may be told all the same, separated by commas.
    #[arg(long, env = "PAAS_DEPLOY_HOOK_ALLOW", default_value = "")]
    deploy_hook_allow: String,
    #[arg(long, env = "DEIS_DEPLOY_HOOK_URLS", hide = true)]
    deis_deploy_hook_urls: Option<Secret>,
    #[arg(long, env = "DEIS_DEPLOY_HOOK_SECRET_KEY", hide = true)]
    deis_deploy_hook_secret_key: Option<Secret>,
}

/// Who is told, and how.
#[derive(Debug, Clone, Default)]
pub struct DeployHooks {
    /// Every receiver, once.
    pub urls: Vec<HookUrl>,
    /// Signs the calls.
    pub secret: Option<Secret>,
    /// What may be told although it is not public.
    pub allowed: Vec<Network>,
}

/// Where a receiver is. Path and query may be a secret of its own: only the origin is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Url);

impl HookUrl {
    /// The whole URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The hash by which the ledger knows it.
    pub fn key(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_str().as_bytes()).into()
    }
}

/// `https://hooks.example.com`.
impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({self}/…)")
    }
}

impl FromStr for HookUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL such as https://example.com/hook")?;
        if !matches!(url.scheme(), "http" | "https") {
            Err("is neither http nor https")
        } else if !url.username().is_empty() || url.password().is_some() {
            Err("holds a user or a password, where the signature has its place; put a token into its query")
        } else if url.fragment().is_some() {
            Err("has a fragment, which is never sent")
        } else if text.len() > LONGEST_URL {
            Err("is longer than 2000 characters")
        } else {
            Ok(Self(url))
        }
    }
}

impl Arguments {
    /// The settings; what is wrong with them is noted, without the URLs.
    pub(super) fn check(self, problems: &mut Problems) -> DeployHooks {
        let mut hooks = DeployHooks::default();
        let urls = one(problems, "DEPLOY_HOOK_URLS", self.deploy_hook_urls, self.deis_deploy_hook_urls);
        let urls = urls.as_ref().map_or("", Secret::expose);
        for (number, text) in listed(urls).enumerate() {
            match text.parse::<HookUrl>() {
                Ok(url) if hooks.urls.contains(&url) => {}
                Ok(url) => hooks.urls.push(url),
                Err(fault) => problems.0.push(format!("--deploy-hook-urls: number {} {fault}", number + 1)),
            }
        }
        if hooks.urls.len() > MOST_URLS {
            problems.0.push(format!("--deploy-hook-urls has more than {MOST_URLS} URLs"));
        }
        let key = self.deploy_hook_secret_key;
        let key = one(problems, "DEPLOY_HOOK_SECRET_KEY", key, self.deis_deploy_hook_secret_key);
        let key = key.filter(|key| !key.expose().is_empty());
        hooks.secret = match (key, self.deploy_hook_secret_file) {
            (Some(_), Some(_)) => {
                problems
                    .0
                    .push("--deploy-hook-secret-key and --deploy-hook-secret-file are both given; give one".into());
                None
            }
            (Some(key), None) => Some(key),
            (None, Some(file)) => problems.file("deploy-hook-secret-file", &file),
            (None, None) => None,
        };
        for network in listed(&self.deploy_hook_allow) {
            hooks.allowed.extend(problems.parse::<Network>("deploy-hook-allow", network, "an address or a network"));
        }
        hooks
    }
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A setting that has two names, of which one may be used.
fn one(problems: &mut Problems, name: &str, ours: Option<Secret>, theirs: Option<Secret>) -> Option<Secret> {
    if ours.is_some() && theirs.is_some() && ours != theirs {
        problems.0.push(format!("PAAS_{name} and DEIS_{name} are both given and differ; give one"));
    }
    ours.or(theirs)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        hooks: Arguments,
    }

    fn check(flags: &[&str]) -> (DeployHooks, String) {
        let flags = Flags::try_parse_from([&["x"], flags].concat()).unwrap();
        let mut problems = Problems::default();
        let hooks = flags.hooks.check(&mut problems);
        (hooks, problems.0.join("; "))
    }

    #[test]
    fn urls_come_under_either_name_and_show_their_origin_only() {
        for flag in ["--deploy-hook-urls", "--deis-deploy-hook-urls"] {
            let (hooks, problems) =
                check(&[flag, " https://a.test/hunter2 ,http://b.test:81/?x=hunter2,,https://a.test/hunter2"]);
            assert_eq!(problems, "");
            assert_eq!(hooks.urls.len(), 2);
            assert_eq!(hooks.urls[1].to_string(), "http://b.test:81");
            assert!(!format!("{hooks:?}").contains("hunter2"), "{hooks:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_url() {
        for bad in
            ["hunter2", "ftp://hunter2.test", "https://u:hunter2@a.test", "https://a.test/#hunter2", "file:///hunter2"]
        {
            let (hooks, problems) = check(&["--deploy-hook-urls", &format!("https://good.test,{bad}")]);
            assert!(problems.contains("number 2") && !problems.contains("hunter2"), "{bad}: {problems}");
            assert_eq!(hooks.urls.len(), 1);
        }
        let (_, problems) = check(&["--deploy-hook-secret-key", "a", "--deis-deploy-hook-secret-key", "b"]);
        assert!(problems.contains("differ"), "{problems}");
        let (_, problems) = check(&["--deploy-hook-secret-key", "a", "--deploy-hook-secret-file", "/nowhere"]);
        assert!(problems.contains("give one"), "{problems}");
        let (_, problems) = check(&["--deploy-hook-allow", "10.0.0.0/8,everything"]);
        assert!(problems.contains("everything"), "{problems}");
    }
}

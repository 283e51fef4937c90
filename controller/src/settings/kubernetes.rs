//! How a cluster is used.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum as _};

use super::Problems;
use crate::scheduler::{
    entrance::Entry,
    kubernetes::{Account, BoundsError, Settings},
};

/// Longest beginning of a namespace's name; the rest is the app's.
const LONGEST_PREFIX: usize = 40;

/// The flags of clusters.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// File that leads to the cluster; without it, `$KUBECONFIG`, `~/.kube/config` and the pod that we run in are tried.
    #[arg(long, env = "PAAS_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// What the names of apps' namespaces begin with.
    #[arg(long, env = "PAAS_KUBERNETES_NAMESPACE_PREFIX", default_value = "paas-")]
    kubernetes_namespace_prefix: String,
    /// Registries that are spoken to without TLS, separated by commas, as `host` or `host:port`. Those on this machine are in
    /// any case; the cluster's machines must know them, too.
    #[arg(long, env = "PAAS_KUBERNETES_PLAIN_REGISTRIES", value_delimiter = ',')]
    kubernetes_plain_registries: Vec<String>,
    /// `ClusterRole` that the platform binds to its own account in every app's namespace. Without it, the account is
    /// supposed to have all rights that it needs everywhere.
    #[arg(long, env = "PAAS_KUBERNETES_ROLE", requires = "kubernetes_account")]
    kubernetes_role: Option<String>,
    /// The platform's own account, as `namespace:name`.
    #[arg(long, env = "PAAS_KUBERNETES_ACCOUNT")]
    kubernetes_account: Option<String>,
    /// Who brings visitors to apps: `router`, our own; `ingress`, the cluster's Ingress controller, by Ingress objects that
    /// the controller keeps; `none`, whatever you make of the apps' Services.
    #[arg(long, env = "PAAS_KUBERNETES_ROUTING", default_value = "router", value_name = "HOW")]
    kubernetes_routing: String,
    /// Class of apps' Ingresses; the cluster's default one when empty.
    #[arg(long, env = "PAAS_KUBERNETES_INGRESS_CLASS")]
    kubernetes_ingress_class: Option<String>,
    /// Seconds that a process goes on running after visitors are sent to others, until every Ingress controller knows.
    /// Without our routers nobody tells whether it has visitors still.
    #[arg(long, env = "PAAS_KUBERNETES_LEAVE_SECONDS", default_value_t = 10)]
    kubernetes_leave_seconds: u64,
    /// What each app may use in all: the `hard` of a `ResourceQuota`, as JSON, such as {"limits.memory": "4Gi", "pods": 20}.
    #[arg(long, env = "PAAS_KUBERNETES_QUOTA")]
    kubernetes_quota: Option<String>,
    /// What a process may use, and what it gets that does not say: the `limits` of a `LimitRange`, as JSON, such as
    /// [{"type": "Container", "defaultRequest": {"memory": "64Mi"}}].
    #[arg(long, env = "PAAS_KUBERNETES_LIMIT_RANGE")]
    kubernetes_limit_range: Option<String>,
}

impl Arguments {
    /// How long a process goes on running after visitors are sent to others by the cluster.
    pub(super) fn leave(&self) -> Duration {
        Duration::from_secs(self.kubernetes_leave_seconds)
    }

    /// The settings; what is wrong with them is noted.
    pub(super) fn check(self, problems: &mut Problems) -> Option<Settings> {
        let prefix = self.kubernetes_namespace_prefix;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if prefix.len() > LONGEST_PREFIX || prefix.starts_with('-') || !prefix.chars().all(legal) {
            problems.0.push(format!(
                "--kubernetes-namespace-prefix is {prefix:?}, which is not up to {LONGEST_PREFIX} lower-case letters, digits and dashes"
            ));
            return None;
        }
        let account = |text: &str| {
            let (namespace, name) = text.split_once(':')?;
            let given = !namespace.is_empty() && !name.is_empty();
            given.then(|| Account { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        let role = match (self.kubernetes_role.filter(|role| !role.is_empty()), self.kubernetes_account.as_deref()) {
            (None, _) => None,
            (Some(role), Some(text)) => {
                let Some(account) = account(text) else {
                    problems.0.push(format!("--kubernetes-account is {text:?}, which is not namespace:name"));
                    return None;
                };
                Some((role, account))
            }
            (Some(_), None) => return problems.there("kubernetes-account", "PAAS_KUBERNETES_ACCOUNT", None),
        };
        let Ok(entry) = Entry::from_str(&self.kubernetes_routing, false) else {
            let given = &self.kubernetes_routing;
            problems.0.push(format!("--kubernetes-routing is {given:?}, which is not router, ingress or none"));
            return None;
        };
        let ingress_class = self.kubernetes_ingress_class.filter(|class| !class.is_empty());
        if ingress_class.as_ref().is_some_and(|class| !is_object_name(class)) {
            problems.0.push(format!(
                "--kubernetes-ingress-class is {:?}, which is no name of an IngressClass",
                ingress_class.unwrap_or_default()
            ));
            return None;
        }
        let quota =
            read(problems, "--kubernetes-quota", "the `hard` of a ResourceQuota", self.kubernetes_quota.as_deref());
        let limits = self.kubernetes_limit_range.as_deref();
        let limit_range = read(problems, "--kubernetes-limit-range", "the `limits` of a LimitRange", limits);
        let plain = self.kubernetes_plain_registries.into_iter().map(|host| host.trim().to_owned());
        let plain_registries = plain.filter(|host| !host.is_empty()).collect();
        Some(Settings {
            kubeconfig: self.kubeconfig,
            namespace_prefix: prefix,
            plain_registries,
            role,
            entry,
            ingress_class,
            quota,
            limit_range,
        })
    }
}

/// What a text says, if there is one; what is wrong with it is noted.
fn read<T: FromStr<Err = BoundsError>>(
    problems: &mut Problems,
    name: &str,
    what: &str,
    text: Option<&str>,
) -> Option<T> {
    match text.filter(|text| !text.trim().is_empty())?.parse() {
        Ok(read) => Some(read),
        Err(error) => {
            problems.0.push(format!("{name} is not {what} as JSON: {error}"));
            None
        }
    }
}

/// Whether an object of a cluster may have that name (RFC 1123).
fn is_object_name(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-' || c == '.')
}

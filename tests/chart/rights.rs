//! The controller's rights: what it must do it can, and nothing else.

use anyhow::{Context as _, ensure};
use paas_tests::{both, scenarios, succeed};

use crate::helm::{Cluster, call, chart, cluster};

scenarios!(the_controller_can_do_what_it_must_and_no_more);

/// What it may do everywhere, as `verb resource`.
const EVERYWHERE: [(&str, &[&str]); 13] = [
    ("namespaces", &["get", "list", "watch", "create", "patch", "delete"]),
    ("nodes", &["get", "list", "watch"]),
    ("pods", &["list", "watch"]),
    ("events", &["list", "watch"]),
    ("services", &["list", "watch"]),
    ("resourcequotas", &["list", "watch"]),
    ("limitranges", &["list", "watch"]),
    ("deployments.apps", &["list", "watch"]),
    ("horizontalpodautoscalers.autoscaling", &["list", "watch"]),
    ("networkpolicies.networking.k8s.io", &["list", "watch"]),
    ("ingresses.networking.k8s.io", &["list", "watch"]),
    ("rolebindings.rbac.authorization.k8s.io", &["get", "create", "patch", "delete"]),
    ("clusterroles.rbac.authorization.k8s.io", &["bind"]),
];

const ALL: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// All of what it watches everywhere.
const UNWATCHED: &[&str] = &["get", "create", "patch", "delete"];

/// What it may do in the namespace of an app besides.
const IN_AN_APP: [(&str, &[&str]); 15] = [
    ("pods", ALL),
    ("services", UNWATCHED),
    ("secrets", &["get", "list", "create", "patch", "delete"]),
    ("resourcequotas", UNWATCHED),
    ("limitranges", UNWATCHED),
    ("pods/log", &["get"]),
    ("pods/exec", &["get", "create"]),
    ("pods/attach", &["get", "create"]),
    ("events", &["list", "watch"]),
    ("deployments.apps", ALL),
    ("horizontalpodautoscalers.autoscaling", UNWATCHED),
    ("poddisruptionbudgets.policy", ALL),
    ("networkpolicies.networking.k8s.io", ALL),
    ("ingresses.networking.k8s.io", UNWATCHED),
    ("pods.metrics.k8s.io", &["get", "list"]),
];

/// What everybody may who has an account: to ask what they may.
const EVERYBODY: [&str; 2] =
    ["selfsubjectaccessreviews.authorization.k8s.io", "selfsubjectrulesreviews.authorization.k8s.io"];

struct Account<'a> {
    cluster: &'a Cluster,
    user: String,
}

impl Account<'_> {
    fn can(&self, verb: &str, resource: &str, namespace: &str) -> anyhow::Result<bool> {
        let arguments = ["auth", "can-i", verb, resource, "--namespace", namespace, "--as", &self.user];
        let output = self.cluster.call("kubectl", &arguments, b"")?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim() {
            "yes" => Ok(true),
            said if said.starts_with("no") => Ok(false),
            _ => anyhow::bail!("{}", both(&output)),
        }
    }

    /// What it may do in a namespace: the lines of `kubectl auth can-i --list` that name resources.
    fn list(&self, namespace: &str) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let text = self.cluster.kubectl(&["auth", "can-i", "--list", "--namespace", namespace, "--as", &self.user])?;
        let mut found = Vec::new();
        for line in text.lines().skip(1) {
            let Some(resource) = line.split_whitespace().next().filter(|word| !word.starts_with('[')) else { continue };
            let verbs = line.rsplit_once('[').context("a line without verbs")?.1.trim_end_matches(']');
            found.push((resource.to_owned(), verbs.split_whitespace().map(str::to_owned).collect()));
        }
        Ok(found)
    }

    /// Does it, as the controller, and is refused for want of rights.
    fn must_not(&self, arguments: &[&str], input: &str) -> anyhow::Result<()> {
        let output = self.cluster.call("kubectl", &[&["--as", &self.user], arguments].concat(), input.as_bytes())?;
        let said = both(&output);
        let refused = !output.status.success() && (said.contains("orbidden") || said.contains("cannot"));
        ensure!(refused, "kubectl {} was not refused: {said}", arguments.join(" "));
        Ok(())
    }
}

async fn the_controller_can_do_what_it_must_and_no_more() -> anyhow::Result<()> {
    let Some(mut cluster) = cluster()? else { return Ok(()) };
    let platform = cluster.namespace("paas-rights")?;
    let app = cluster.namespace("paas-rights-app")?;
    let foreign = cluster.namespace("paas-rights-foreign")?;
    let chart = chart();
    let shown = ["serviceaccount", "clusterrole", "clusterrole-apps", "clusterrolebinding"]
        .map(|name| format!("--show-only=templates/controller/{name}.yaml"));
    let mut arguments = vec!["template", "paas", chart.to_str().context("path")?, "--namespace", &platform];
    arguments.extend(shown.iter().map(String::as_str));
    let objects = succeed(&call("helm", &arguments, b"")?)?;
    let role = format!("{platform}-paas-apps");
    for object in [
        format!("clusterrole/{role}"),
        format!("clusterrole/{platform}-paas-controller"),
        format!("clusterrolebinding/{platform}-paas-controller"),
    ] {
        cluster.remember(object);
    }
    cluster.apply(&platform, &objects)?;
    let account = Account { cluster: &cluster, user: format!("system:serviceaccount:{platform}:paas-controller") };

    // It binds its role in an app's namespace by itself …
    let account_flag = format!("--serviceaccount={platform}:paas-controller");
    let role_flag = format!("--clusterrole={role}");
    let bind = |role: &str, namespace: &str| -> anyhow::Result<String> {
        let made = [
            "create",
            "rolebinding",
            "paas-controller",
            role,
            &account_flag,
            "--namespace",
            namespace,
            "--dry-run=client",
            "-o",
            "yaml",
        ];
        cluster.kubectl(&made)
    };
    let binding = bind(&role_flag, &app)?;
    let applied = cluster.call("kubectl", &["create", "--filename", "-", "--as", &account.user], binding.as_bytes())?;
    succeed(&applied)?;
    // … and no other role.
    for other in ["cluster-admin", "admin", "system:node"] {
        let binding = bind(&format!("--clusterrole={other}"), &app)?.replace(
            "name: paas-controller\n  namespace: paas-rights-app",
            "name: other\n  namespace: paas-rights-app",
        );
        account
            .must_not(&["create", "--filename", "-"], &binding.replacen("name: paas-controller", "name: other", 1))?;
    }

    // What it must, by the cluster's own list.
    let (here, there) = (account.list(&app)?, account.list(&foreign)?);
    let may = |list: &[(String, Vec<String>)], resource: &str, verb: &str| {
        list.iter().any(|(name, verbs)| name == resource && verbs.iter().any(|known| known == verb))
    };
    for (resource, verbs) in EVERYWHERE {
        for verb in verbs {
            ensure!(may(&there, resource, verb), "it cannot {verb} {resource}: {there:?}");
        }
    }
    for (resource, verbs) in IN_AN_APP {
        for verb in verbs {
            ensure!(may(&here, resource, verb), "it cannot {verb} {resource} in an app's namespace: {here:?}");
        }
    }

    // No more.
    for (namespace, is_app) in [(&app, true), (&foreign, false), (&"kube-system".to_owned(), false), (&platform, false)]
    {
        for (resource, verbs) in account.list(namespace)? {
            if EVERYBODY.contains(&resource.as_str()) {
                continue;
            }
            for verb in verbs {
                let of = |list: &[(&str, &[&str])]| {
                    list.iter().any(|(name, verbs)| *name == resource && verbs.contains(&verb.as_str()))
                };
                ensure!(of(&EVERYWHERE) || (is_app && of(&IN_AN_APP)), "it may {verb} {resource} in {namespace}");
            }
        }
    }

    refuses_the_rest(&account, &platform, &app, &foreign, &role)
}

/// Tries what it must not.
fn refuses_the_rest(account: &Account<'_>, platform: &str, app: &str, foreign: &str, role: &str) -> anyhow::Result<()> {
    let role_flag = format!("--clusterrole={role}");
    let account_flag = format!("--serviceaccount={platform}:paas-controller");
    let kube_system = "--namespace=kube-system";
    let foreign_flag = format!("--namespace={foreign}");
    account.must_not(&["get", "secrets", kube_system], "")?;
    account.must_not(&["get", "secrets", "--all-namespaces"], "")?;
    account.must_not(&["get", "secrets", &format!("--namespace={platform}")], "")?;
    account.must_not(&["create", "secret", "generic", "x", &foreign_flag], "")?;
    account.must_not(&["get", "configmaps", kube_system], "")?;
    account.must_not(&["create", "deployment", "x", "--image=x", &foreign_flag], "")?;
    account.must_not(&["run", "x", "--image=x", &foreign_flag], "")?;
    account.must_not(&["exec", "nobody", &foreign_flag, "--", "true"], "")?;
    let node = account.cluster.kubectl(&["get", "nodes", "-o", "name"])?;
    let node = node.lines().next().context("a cluster without nodes")?;
    account.must_not(&["label", node, "paas-test=x"], "")?;
    account.must_not(&["delete", node], "")?;
    account.must_not(&["create", "clusterrole", "x", "--verb=get", "--resource=secrets"], "")?;
    account.must_not(&["create", "clusterrolebinding", "x", &role_flag, &account_flag], "")?;
    account
        .must_not(&["create", "role", "x", "--verb=get", "--resource=secrets", &format!("--namespace={app}")], "")?;
    let more = r#"{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#;
    account.must_not(&["patch", "clusterrole", role, "--type=merge", "--patch", more], "")?;
    account.must_not(&["create", "serviceaccount", "x", &format!("--namespace={app}")], "")?;
    ensure!(!account.can("impersonate", "users", app)?, "it may be somebody else");
    ensure!(!account.can("create", "serviceaccounts/token", app)?, "it may make tokens");
    Ok(())
}

//! A cluster that does not do what it is asked: what is told, what goes on, and what comes right by itself.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use paas_tests::{
    App, ControlPlane, HollowNode, Load, Page, Platform, SmallRegistry, Start, User, Wire, cluster, docker, eventually,
    random_name, says, scenarios, succeed,
};
use serde_json::{Value, json};

scenarios![a_missing_right, an_api_server_that_is_away, a_machine_that_is_lost, a_registry_that_is_away,];

/// How long the API server is away: longer than a client waits for an answer by itself.
const AWAY: Duration = Duration::from_secs(35);
/// No condition takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
/// What a role may leave out single rights of; a rule cannot say "all but".
const CORE: [&str; 17] = [
    "configmaps",
    "endpoints",
    "events",
    "limitranges",
    "namespaces",
    "nodes",
    "persistentvolumeclaims",
    "pods",
    "pods/attach",
    "pods/exec",
    "pods/log",
    "pods/status",
    "resourcequotas",
    "secrets",
    "serviceaccounts",
    "services",
    "services/status",
];
const APPS: [&str; 4] = ["deployments", "deployments/scale", "deployments/status", "replicasets"];
const OTHER_GROUPS: [&str; 6] =
    ["autoscaling", "discovery.k8s.io", "metrics.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"];

fn through(kubeconfig: &tempfile::NamedTempFile) -> Start {
    let path = kubeconfig.path().display().to_string();
    Start { hold: true, environment: vec![("PAAS_KUBECONFIG".to_owned(), path)], ..Start::default() }
}

async fn serves(app: &App<'_>, version: &str) -> anyhow::Result<()> {
    let page = app.get("/version").await?;
    ensure!(page == Page { status: 200, text: version.to_owned() }, "{version:?} does not serve: {page:?}");
    Ok(())
}

async fn unharmed(load: Load) -> anyhow::Result<()> {
    let outcome = load.stop().await;
    ensure!(outcome.failures.is_empty(), "of {}:\n{}", outcome.served, outcome.failures.join("\n"));
    ensure!(outcome.served > 0, "nobody visited");
    Ok(())
}

/// Somebody of the cluster with a role of their own, which goes with them.
struct Account {
    name: String,
}

impl Account {
    fn new() -> anyhow::Result<Self> {
        let account = Self { name: random_name("paas-test") };
        account.may_all_but(&[])?;
        let Self { name } = &account;
        cluster::apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        }))?;
        Ok(account)
    }

    /// The administrator, who plays that user.
    fn kubeconfig(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        cluster::kubeconfig_with(|_, user| user["as"] = self.name.clone().into())
    }

    /// Gives all rights except these, each as verb and resource.
    fn may_all_but(&self, missing: &[(&str, &str)]) -> anyhow::Result<()> {
        let of = |group: &'static str, resources: &'static [&'static str]| {
            resources.iter().map(move |resource| {
                let lacks = |verb: &&str| !missing.contains(&(*verb, *resource));
                let verbs: Vec<&str> = VERBS.into_iter().filter(lacks).collect();
                json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
            })
        };
        let others = json!({ "apiGroups": OTHER_GROUPS, "resources": ["*"], "verbs": ["*"] });
        let rules: Vec<Value> = of("", &CORE).chain(of("apps", &APPS)).chain([others]).collect();
        cluster::apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": self.name },
            "rules": rules,
        }))
    }

    /// Waits until the cluster heeds what was said.
    async fn can(&self, verb: &str, resource: &str, wanted: bool) -> anyhow::Result<()> {
        eventually("the cluster heeds the role", LIMIT, async || {
            // It says `no` by its exit code, too.
            let said = cluster::kubectl(&["auth", "can-i", verb, resource, "-A", "--as", &self.name]).is_ok();
            Ok((said == wanted).then_some(()))
        })
        .await
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for kind in ["clusterrolebinding", "clusterrole"] {
            let _ = cluster::kubectl(&["delete", kind, &self.name, "--wait=false"]);
        }
    }
}

async fn a_missing_right() -> anyhow::Result<()> {
    let account = Account::new()?;
    account.can("create", "secrets", true).await?;
    let kubeconfig = account.kubeconfig()?;
    let platform = Platform::start(&through(&kubeconfig))?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    let namespace = cluster::namespace_of(&app.name)?;
    let rollouts = [("create", "secrets"), ("patch", "deployments")];
    for (verb, resource) in rollouts {
        account.may_all_but(&[(verb, resource)])?;
        account.can(verb, resource, false).await?;
        let push = app.push_sample("never")?;
        ensure!(!push.is_success(), "without {verb} {resource}:\n{}", push.text);
        let what = format!("cannot {verb} resource \"{resource}\"");
        says(&push.text, &[&app.name, &what, "has to give the platform's role that right", "then try again"])?;
        serves(&app, "first").await?;
        account.may_all_but(&[])?;
        account.can(verb, resource, true).await?;
        // Nothing of it is left, not even what could be made.
        eventually("only the release that serves has anything", LIMIT, async || {
            let kinds = "deployments,secrets,pods";
            let left = cluster::kubectl(&["get", kinds, "--namespace", &namespace, "--output", "name"])?;
            let ours =
                |line: &&str| line.contains("/cmd-v") && !line.contains("/cmd-v2-") && !line.ends_with("/cmd-v2");
            Ok((left.contains("/cmd-v2") && !left.lines().any(|line| ours(&line))).then_some(()))
        })
        .await?;
    }
    app.deploy_sample("second")?;
    serves(&app, "second").await
}

async fn an_api_server_that_is_away() -> anyhow::Result<()> {
    let server = cluster::server()?;
    let host = server.host_str().context("a server without a host")?.to_owned();
    let port = server.port_or_known_default().context("a server without a port")?;
    let wire = Wire::to(format!("{host}:{port}")).await?;
    let kubeconfig = cluster::kubeconfig_with(|cluster, _| {
        cluster["server"] = format!("https://{}", wire.address).into();
        if cluster["tls-server-name"].is_null() {
            cluster["tls-server-name"] = host.into();
        }
    })?;
    let platform = Platform::start(&through(&kubeconfig))?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    let load = Load::start(&platform.addresses, &format!("{}.localhost", app.name))?;
    // In the middle of a rollout: the release is recorded, and nothing of it runs yet.
    let (gate, reached) =
        (platform.hold().join("deployment.starting"), platform.hold().join("deployment.starting.reached"));
    std::fs::write(&gate, "")?;
    app.write_sample("second")?;
    app.repository.commit("second")?;
    let push = app.repository.start_push(&user, &["deis", "main"])?;
    eventually("the rollout begins", LIMIT, async || Ok(reached.exists().then_some(()))).await?;
    wire.cut();
    std::fs::remove_file(&gate)?;
    tokio::time::sleep(AWAY).await;
    serves(&app, "first").await?;
    // A new change is refused at once, plainly, and changes nothing.
    let other = app.paas(&["config:set", "A=1"])?;
    ensure!(!other.status.success(), "{other:?}");
    wire.mend();
    let push = push.finish()?;
    ensure!(push.is_success(), "the rollout did not go on:\n{}", push.text);
    serves(&app, "second").await?;
    let log = succeed(&app.paas(&["logs"])?)?;
    ensure!(!log.contains("ERROR"), "something was told as failed:\n{log}");
    let releases = succeed(&app.paas(&["releases"])?)?;
    ensure!(releases.lines().filter(|line| line.starts_with('v')).count() == 3, "{releases}");
    eventually("only the new release runs", LIMIT, async || {
        Ok((cluster::processes_of(&app.name)?.len() == 2).then_some(()))
    })
    .await?;
    unharmed(load).await
}

/// The machines that visitors of an app come to, in many visits.
async fn visited(app: &App<'_>) -> anyhow::Result<BTreeSet<String>> {
    let mut machines = BTreeSet::new();
    for _ in 0..10 {
        let page = app.get("/").await?;
        ensure!(page.status == 200, "{page:?}");
        machines.insert(page.text);
    }
    Ok(machines)
}

async fn a_machine_that_is_lost() -> anyhow::Result<()> {
    // A cluster that misses a machine sooner than by itself, after 40 seconds.
    let soon = [("KCM_ARGS", "--node-monitor-grace-period=10s --node-monitor-period=1s")];
    let Some(plane) = ControlPlane::start("a machine that is lost", &soon)? else { return Ok(()) };
    let client = plane.client().await?;
    let lost = HollowNode::start(client.clone(), "alpha", true).await?;
    let _stays = HollowNode::start(client.clone(), "beta", true).await?;
    let start = Start {
        environment: vec![("PAAS_KUBECONFIG".to_owned(), plane.kubeconfig().display().to_string())],
        ..Start::default()
    };
    let platform = Platform::start(&start)?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    let both = BTreeSet::from(["alpha".to_owned(), "beta".to_owned()]);
    eventually("both machines are visited", LIMIT, async || Ok((visited(&app).await? == both).then_some(()))).await?;
    drop(lost);
    // Its process is told of, gets no visitors any more, and another one is started on the other machine.
    let log = eventually("it is told", LIMIT, async || {
        let log = succeed(&app.paas(&["logs"])?)?;
        Ok(log.contains("is not ready: its machine alpha does not answer").then_some(log))
    })
    .await?;
    ensure!(log.matches("does not answer").count() == 1, "it is told once:\n{log}");
    let mut database = platform.database().await?;
    for _ in 0..1200 {
        let routed: i64 = sqlx::query_scalar("SELECT count(*) FROM instances WHERE routed AND state = 'up'")
            .fetch_one(&mut database)
            .await?;
        let pods: Api<Pod> = Api::all(client.clone());
        let stays = pods.list(&ListParams::default().fields("spec.nodeName=beta")).await?.items.len();
        if routed == 2 && stays == 2 && visited(&app).await? == BTreeSet::from(["beta".to_owned()]) {
            // It comes back, and what it still had of the app goes.
            let _back = HollowNode::start(client.clone(), "alpha", true).await?;
            succeed(&app.paas(&["destroy", "-a", &app.name, &format!("--confirm={}", app.name)])?)?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the process of the lost machine was not replaced:\n{}", succeed(&app.paas(&["logs"])?)?)
}

async fn a_registry_that_is_away() -> anyhow::Result<()> {
    let registry = SmallRegistry::start().await?;
    let wire = Wire::to(registry.address()).await?;
    let start = Start { arguments: vec!["--registry".to_owned(), wire.address.to_string()], ..Start::default() };
    let platform = Platform::start(&start)?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    both_serve(&app).await?;
    wire.cut();
    // Its node has the image.
    drain_one(&app).await?;
    both_serve(&app).await?;
    // Its node has not.
    let namespace = cluster::namespace_of(&app.name)?;
    let images = "jsonpath={.items[0].spec.containers[0].image}";
    let image = cluster::kubectl(&["get", "pods", "--namespace", &namespace, "--output", images])?;
    if docker::run(&["rmi", "--force", image.trim()]).is_ok_and(|output| output.status.success()) {
        drain_one(&app).await?;
        let log = eventually("it is told", LIMIT, async || {
            let log = succeed(&app.paas(&["logs"])?)?;
            Ok(log.contains("is not ready: its image cannot be fetched").then_some(log))
        })
        .await?;
        ensure!(log.matches("its image cannot be fetched").count() == 1, "it is told once:\n{log}");
        serves(&app, "first").await?;
        wire.mend();
        both_serve(&app).await?;
    } else {
        cluster::tell_not_run(
            "a registry away for a machine without the image: this machine's Docker is none of the cluster",
        );
    }
    serves(&app, "first").await
}

/// Takes one of an app's pods away, and waits until it is gone.
async fn drain_one(app: &App<'_>) -> anyhow::Result<()> {
    let namespace = cluster::namespace_of(&app.name)?;
    let pods = cluster::kubectl(&["get", "pods", "--namespace", &namespace, "--output", "name"])?;
    let pod = pods.lines().next().context("no pod")?.to_owned();
    cluster::kubectl(&["delete", "--namespace", &namespace, "--wait=false", &pod])?;
    eventually("the pod is gone", LIMIT, async || {
        let left = cluster::kubectl(&["get", "pods", "--namespace", &namespace, "--output", "name"])?;
        Ok((!left.lines().any(|line| line == pod)).then_some(()))
    })
    .await
}

/// Waits until both pods are ready, and visitors are sent to exactly them.
async fn both_serve(app: &App<'_>) -> anyhow::Result<()> {
    let namespace = cluster::namespace_of(&app.name)?;
    let mut database = app.user.platform.database().await?;
    let ready = "{range .items[*]}{.status.podIP} {.status.conditions[?(@.type=='Ready')].status}{'\\n'}{end}";
    for _ in 0..1200 {
        let told =
            cluster::kubectl(&["get", "pods", "--namespace", &namespace, "--output", &format!("jsonpath={ready}")])?;
        let mut pods: Vec<&str> = told.lines().filter_map(|line| line.strip_suffix(" True")).collect();
        let mut routed: Vec<String> =
            sqlx::query_scalar("SELECT split_part(address, ':', 1) FROM instances WHERE routed")
                .fetch_all(&mut database)
                .await?;
        pods.sort_unstable();
        routed.sort_unstable();
        if told.lines().count() == 2 && pods.len() == 2 && routed == pods {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("both processes of {} were not ready within two minutes", app.name)
}

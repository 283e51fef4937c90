use insta::assert_json_snapshot;
use uuid::Uuid;

use super::*;
use crate::domain::{
    limits::{CpuLimit, MemoryLimit},
    tags::Tags,
};

fn app() -> AppKey {
    AppKey { id: Uuid::from_u128(7), name: "hello".parse().unwrap() }
}

fn template() -> Template {
    Template {
        image: "registry.example.test/hello@sha256:00".to_owned(),
        command: Command::Shell { shell: "/bin/bash".to_owned(), line: "exec server --port $PORT --pid $$".to_owned() },
        environment: [("PORT".to_owned(), "5000".into()), ("GREETING".to_owned(), "hi $(whoami)".into())].into(),
        port: Some(5000),
        grace: Duration::from_secs(30),
        tags: Tags::new(),
        limits: Limits::default(),
        hooks: Hooks::default(),
        checks: Checks::default(),
        credentials: None,
    }
}

fn group(template: Template) -> Group {
    let instances = ["hello-web-v7-aaaaa", "hello-web-v7-bbbbb"].map(|name| name.parse().unwrap()).into();
    let release = ReleaseVersion::new(7).unwrap();
    Group { app: app(), process_type: ProcessType::web(), release, instances, template }
}

/// Shows an object that is made for the app.
fn shown<T: serde::Serialize>(make: impl FnOnce(Owner<'_>) -> T) -> serde_json::Value {
    let app = app();
    let owner = Owner { installation: "4f9a", app: &app, namespace: "paas-hello" };
    serde_json::to_value(make(owner)).unwrap()
}

#[test]
fn what_every_app_has() {
    assert_json_snapshot!("namespace", shown(|owner| owner.namespace()));
    assert_json_snapshot!("network_policy", shown(|owner| owner.network_policy()));
    assert_json_snapshot!("disruption_budget", shown(|owner| owner.disruption_budget(&ProcessType::web())));
    let account = Account { namespace: "paas-system".to_owned(), name: "paas-controller".to_owned() };
    assert_json_snapshot!("role_binding", shown(|owner| owner.role_binding("paas-apps", &account)));
}

#[test]
fn secrets_hold_what_they_are_for() {
    let text = |secret: Secret| {
        let data = secret.data.unwrap_or_default();
        let entry = |(key, value): (String, ByteString)| (key, String::from_utf8(value.0).unwrap());
        let data: BTreeMap<String, String> = data.into_iter().map(entry).collect();
        json!({ "metadata": secret.metadata, "type": secret.type_, "immutable": secret.immutable, "data": data })
    };
    let credentials =
        |host: &str| Credentials { host: host.to_owned(), username: "ann".into(), password: "pass".into() };
    assert_json_snapshot!("environment", shown(|owner| text(owner.environment("web-v7-environment", &template()))));
    assert_json_snapshot!("pull_secret_of_nobody", shown(|owner| text(owner.pull_secret(None))));
    let hub = credentials("docker.io");
    assert_json_snapshot!("pull_secret_of_the_hub", shown(|owner| text(owner.pull_secret(Some(&hub)))));
}

#[test]
fn a_plain_process() {
    assert_json_snapshot!("deployment", shown(|owner| owner.deployment(&group(template()))));
}

#[test]
fn a_process_with_everything() {
    let check = |trial| Check {
        trial,
        initial_delay: Duration::from_secs(5),
        timeout: Duration::from_millis(1500),
        period: Duration::from_millis(250),
        successes: 1,
        failures: 4,
    };
    let page = Trial::Page {
        port: 5000,
        path: "/ready?full=yes".to_owned(),
        host: Some("hello.example.test".to_owned()),
        headers: vec![("X-Probe".to_owned(), "yes".to_owned())],
        tls: true,
    };
    let words = |text: &str| Some(text.split(' ').map(str::to_owned).collect());
    let memory: MemoryLimit = "256M/1G".parse().unwrap();
    let cpu: CpuLimit = "2500m/2".parse().unwrap();
    let template = Template {
        command: Command::Exec(vec!["/server".to_owned(), "$(PORT)".to_owned()]),
        tags: [("example.test/zone".parse().unwrap(), "a".parse().unwrap())].into(),
        limits: Limits { memory: memory.get(), cpu: cpu.get() },
        hooks: Hooks { after_start: words("/warm up"), before_stop: words("/say goodbye") },
        checks: Checks { readiness: Some(check(page)), liveness: Some(check(Trial::Exec(vec!["/well".to_owned()]))) },
        ..template()
    };
    assert_json_snapshot!("deployment_with_everything", shown(|owner| owner.deployment(&group(template))));
}

#[test]
fn amounts_are_spelt_as_clusters_spell_them() {
    for (bytes, text) in
        [(0, "0"), (1000, "1000"), (1024, "1Ki"), (1536, "1536"), (256 << 20, "256Mi"), (3 << 30, "3Gi")]
    {
        assert_eq!(bytes_text(bytes), text);
    }
    for (millis, text) in [(250, "250m"), (1000, "1"), (1500, "1500m"), (2000, "2")] {
        assert_eq!(millis_text(millis), text);
    }
}

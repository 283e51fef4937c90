//! What the chart renders: kept as text, checked by Helm, and against the kinds that the cluster serves.

use std::fs;

use anyhow::{Context as _, ensure};
use paas_tests::{scenarios, succeed};

use crate::helm::{call, chart, cluster, is_installed, render, root};

scenarios!(
    is_clean_to_helm,
    renders_what_was_looked_at,
    is_of_the_kinds_that_the_cluster_serves,
    takes_every_image_from_one_place,
    runs_nothing_as_root_unless_told_to
);

/// Ways to install it.
const WAYS: [(&str, &[&str]); 6] = [
    ("default", &[]),
    (
        "external",
        &[
            "--set=postgres.internal=false,postgres.external.existingSecret=db,postgres.external.key=uri",
            "--set=registry.internal=false,registry.external.address=registry.example.com/apps,registry.external.pullSecret=pull",
            "--set=builder.engine.type=remote,builder.engine.remote.address=tcp://engine:2375",
            "--set=keys.existingSecret=keys,keys.existingHostKeys=hosts,router.defaultCertificate=tls",
            "--set=image.registry=registry.example.com/mirror,image.pullSecrets[0].name=pull",
            "--set=domain=apps.example.com,git.host=git.example.com,git.port=22",
            "--set=kubernetes.clusterWideRole=true",
        ],
    ),
    (
        "small",
        &[
            "--set=controller.replicas=1,router.replicas=1,networkPolicies.enabled=false,podDisruptionBudgets.enabled=false",
            "--set=builder.engine.type=socket,builder.persistence.enabled=false,registry.persistence.enabled=false",
            "--set=postgres.persistence.enabled=false,builder.engine.persistence.enabled=false,keys.keep=false",
            "--set=volumePermissions.enabled=true,router.service.type=NodePort,router.service.httpNodePort=30080",
        ],
    ),
    (
        "ingress",
        &[
            "--set=routing=ingress,ingressClass=public,ingress.tlsSecret=api,domain=apps.example.com",
            "--set-string=ingress.annotations.nginx\\.ingress\\.kubernetes\\.io/proxy-read-timeout=1300",
            "--set=networkPolicies.ingressNamespaceSelector.name=ingress",
        ],
    ),
    ("none", &["--set=routing=none"]),
    (
        "everything",
        &[
            "--set=controller.env.PAAS_LOG=debug,builder.env.PAAS_LOG=debug,router.env.PAAS_LOG=debug",
            "--set=controller.trustedProxies[0]=10.0.0.0/8,controller.podAnnotations.a=b,controller.podLabels.c=d",
            "--set=router.nodeSelector.disk=fast,router.tolerations[0].operator=Exists,router.priorityClassName=high",
            "--set=builder.engine.flags[0]=--registry-mirror=https://mirror.example.com,volumePermissions.enabled=true",
            "--set=postgres.settings.max_connections=200,postgres.persistence.storageClass=fast",
            "--set=networkPolicies.monitoringNamespaceSelector.name=monitoring,router.service.annotations.e=f",
            "--set=router.service.loadBalancerSourceRanges[0]=10.0.0.0/8,builder.service.nodePort=30022",
            "--set=apps.quota.pods=20,apps.quota.limits\\.memory=4Gi",
            "--set=apps.limitRange[0].type=Container,apps.limitRange[0].default.memory=512Mi",
        ],
    ),
];

/// The rendering without what is drawn at random.
fn stable(text: &str) -> String {
    let drawn =
        ["seal.key:", "builder.key:", "router.token:", "password:", "url:", "ssh_host_ed25519_key:", "checksum/"];
    let line = |line: &str| match line.split_once(": ") {
        Some((name, _)) if drawn.iter().any(|drawn| line.trim_start().starts_with(drawn)) => format!("{name}: …\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

async fn is_clean_to_helm() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    let chart = chart();
    for (_, arguments) in WAYS {
        let all = [&["lint", "--strict", chart.to_str().context("path")?], arguments].concat();
        succeed(&call("helm", &all, b"")?)?;
    }
    Ok(())
}

async fn renders_what_was_looked_at() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    for (name, arguments) in WAYS {
        let text = succeed(&render(&[&["--kube-version=1.33"], arguments].concat())?)?;
        insta::assert_snapshot!(name, stable(&text));
    }
    Ok(())
}

async fn is_of_the_kinds_that_the_cluster_serves() -> anyhow::Result<()> {
    if !is_installed("helm")? || !is_installed("kubeconform")? {
        return Ok(());
    }
    let Some(cluster) = cluster()? else { return Ok(()) };
    let described = cluster.kubectl(&["get", "--raw", "/openapi/v2"])?;
    let version: serde_json::Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/version"])?)?;
    let version = version["gitVersion"].as_str().context("a cluster without a version")?.to_owned();
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("path")?;
    let python = std::process::Command::new("python3")
        .arg(root().join("tests/kubernetes/schemas"))
        .arg(path)
        .stdin({
            let file = folder.path().join("openapi");
            fs::write(&file, described)?;
            fs::File::open(file)?
        })
        .output()?;
    succeed(&python)?;
    let schemas = format!("{path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json");
    let conform =
        |text: &str| call("kubeconform", &["-strict", "-summary", "-schema-location", &schemas, "-"], text.as_bytes());
    let told = format!("--kube-version={version}");
    for (name, arguments) in WAYS {
        let text = succeed(&render(&[&[told.as_str()], arguments].concat())?)?;
        let said = succeed(&conform(&text)?).with_context(|| name.to_owned())?;
        ensure!(said.contains("Skipped: 0"), "{name}: {said}");
        // That it looks at all.
        let wrong = text.replace("terminationGracePeriodSeconds", "terminationGracePeriod");
        ensure!(!conform(&wrong)?.status.success(), "{name}: a field that there is not was taken");
    }
    Ok(())
}

async fn takes_every_image_from_one_place() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    for (name, arguments) in WAYS {
        let text = succeed(&render(&[arguments, &["--set=image.registry=mirror.example.com/x/"]].concat())?)?;
        let images: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("image: ")).collect();
        ensure!(images.len() > 3, "{name}: {images:?}");
        for image in images {
            ensure!(image.starts_with("mirror.example.com/x/paas/"), "{name}: {image}");
        }
    }
    Ok(())
}

async fn runs_nothing_as_root_unless_told_to() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    for (name, arguments) in WAYS {
        let plain = ["--set=volumePermissions.enabled=false", "--set=builder.engine.type=socket"];
        let text = succeed(&render(&[arguments, &plain].concat())?)?;
        let count = |what: &str| text.lines().filter(|line| line.trim() == what).count();
        let containers = text.lines().filter(|line| line.trim_start().starts_with("image: ")).count();
        ensure!(count("allowPrivilegeEscalation: false") == containers, "{name}: one container may gain rights");
        ensure!(count("readOnlyRootFilesystem: true") == containers, "{name}: one container may change its image");
        ensure!(count("drop: [ALL]") == containers, "{name}: one container has capabilities");
        let pods = text.lines().filter(|line| line.trim() == "runAsNonRoot: true").count();
        let kinds = ["kind: Deployment", "kind: StatefulSet", "kind: DaemonSet"].map(count).iter().sum::<usize>();
        ensure!(pods == kinds, "{name}: {pods} of {kinds} pods say that they are not root");
        ensure!(!text.contains("privileged: true") && count("runAsUser: 0") == 0, "{name}: something is privileged");
    }
    Ok(())
}

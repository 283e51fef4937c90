//! The objects that an app is made of, as they are applied. Nothing here talks to the cluster.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvFromSource, ExecAction, HTTPGetAction, HTTPHeader, Lifecycle,
            LifecycleHandler, LocalObjectReference, Namespace, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ResourceRequirements, SeccompProfile, Secret, SecretEnvSource, SecurityContext, TCPSocketAction,
            Toleration, TopologySpreadConstraint,
        },
        networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use paas_api::{ProcessType, ReleaseVersion};
use serde_json::json;

use super::labels::{self, APP, INSTANCES, PORT, PROCESS_TYPE};
use crate::{
    domain::{
        healthcheck::{Check, Checks, Trial},
        instance::InstanceName,
        lifecycle::Hooks,
        limits::Limits,
        registry::Credentials,
    },
    scheduler::{AppKey, Command, Group, Template},
};

/// The Secret of what is shown to registries: the same for every pod of an app, as newer kubelets demand.
pub(super) const PULL_SECRET: &str = "registry";
/// The container of a process.
pub(super) const CONTAINER: &str = "app";
/// What common images can do without, of the capabilities that engines grant.
const DROPPED_CAPABILITIES: [&str; 6] = ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT"];
/// Trials in a row after which a process that accepted connections gets no visitors any more.
const REFUSED_CONNECTIONS: i32 = 3;
/// Seconds that a process stays with a machine that the cluster does not hear of, before it is started on another one.
const MACHINE_PATIENCE: i64 = 30;

/// The names of everything of an app in one installation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) installation: &'a str,
    pub(super) app: &'a AppKey,
    pub(super) namespace: &'a str,
}

impl Owner<'_> {
    pub(super) fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_owned()),
            labels: Some(labels::of_app(self.installation, self.app)),
            ..ObjectMeta::default()
        }
    }

    /// The app's namespace.
    pub(super) fn namespace(&self) -> Namespace {
        let metadata = ObjectMeta { namespace: None, ..self.metadata(self.namespace) };
        Namespace { metadata, ..Namespace::default() }
    }

    /// Keeps other apps out: whoever is not of an app (routers, ingress controllers, monitoring) may come in, and the app's
    /// own processes may.
    pub(super) fn network_policy(&self) -> NetworkPolicy {
        let foreign =
            LabelSelectorRequirement { key: APP.to_owned(), operator: "DoesNotExist".to_owned(), values: None };
        let peers = vec![
            NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() },
            NetworkPolicyPeer {
                namespace_selector: Some(LabelSelector {
                    match_expressions: Some(vec![foreign]),
                    ..LabelSelector::default()
                }),
                ..NetworkPolicyPeer::default()
            },
        ];
        NetworkPolicy {
            metadata: self.metadata("app"),
            spec: Some(NetworkPolicySpec {
                pod_selector: Some(LabelSelector::default()),
                policy_types: Some(vec!["Ingress".to_owned()]),
                ingress: Some(vec![NetworkPolicyIngressRule { from: Some(peers), ports: None }]),
                egress: None,
            }),
        }
    }

    /// What is shown to the registry of the app's image; with nothing to show, a Secret that shows nothing.
    pub(super) fn pull_secret(&self, credentials: Option<&Credentials>) -> Secret {
        let shown = |credentials: &Credentials| {
            let (username, password) = (credentials.username.expose(), credentials.password.expose());
            // The name that Docker's own files know the Hub by.
            let host = match credentials.host.as_str() {
                "docker.io" => "https://index.docker.io/v1/",
                host => host,
            };
            json!({ host: { "username": username, "password": password } })
        };
        let config = json!({ "auths": credentials.map_or_else(|| json!({}), shown) });
        Secret {
            metadata: self.metadata(PULL_SECRET),
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            data: Some([(".dockerconfigjson".to_owned(), ByteString(config.to_string().into_bytes()))].into()),
            ..Secret::default()
        }
    }

    /// Gives the platform its rights in the app's namespace: those of a `ClusterRole` that the installation has.
    pub(super) fn role_binding(&self, role: &str, account: &Account) -> RoleBinding {
        RoleBinding {
            metadata: self.metadata("paas-controller"),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: role.to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: account.name.clone(),
                namespace: Some(account.namespace.clone()),
                api_group: None,
            }]),
        }
    }

    /// The environment of a group's processes. Nobody can change it in place, not even by hand: a release never changes.
    pub(super) fn environment(&self, name: &str, template: &Template) -> Secret {
        let entry =
            |(key, value): (&String, &paas_api::Secret)| (key.clone(), ByteString(value.expose().as_bytes().to_vec()));
        Secret {
            metadata: self.metadata(name),
            data: Some(template.environment.iter().map(entry).collect()),
            immutable: Some(true),
            ..Secret::default()
        }
    }

    /// Of the processes of a type, a cluster that empties a machine takes away one at a time.
    pub(super) fn disruption_budget(&self, process_type: &ProcessType) -> PodDisruptionBudget {
        PodDisruptionBudget {
            metadata: self.metadata(process_type.as_str()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(LabelSelector {
                    match_labels: Some([(PROCESS_TYPE.to_owned(), process_type.to_string())].into()),
                    ..LabelSelector::default()
                }),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }
    }

    /// A group: as many pods as it names instances.
    pub(super) fn deployment(&self, group: &Group) -> Deployment {
        let name = labels::deployment_name(&group.process_type, group.release);
        let selector = labels::of_group(&group.process_type, group.release);
        let of_pod: BTreeMap<String, String> =
            labels::of_app(self.installation, self.app).into_iter().chain(selector.clone()).collect();
        let port = group.template.port.map(|port| (PORT.to_owned(), port.to_string()));
        let spec = PodSpec {
            topology_spread_constraints: Some(vec![TopologySpreadConstraint {
                max_skew: 1,
                topology_key: "kubernetes.io/hostname".to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                label_selector: Some(match_labels(&selector)),
                ..TopologySpreadConstraint::default()
            }]),
            ..pod(&group.template, &environment_name(&group.process_type, group.release))
        };
        let metadata = self.metadata(&name);
        let of_deployment = metadata.labels.clone().unwrap_or_default().into_iter().chain(selector.clone()).collect();
        Deployment {
            metadata: ObjectMeta {
                labels: Some(of_deployment),
                annotations: Some([(INSTANCES.to_owned(), names(&group.instances))].into()),
                ..metadata
            },
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(group.instances.len()).ok(),
                revision_history_limit: Some(1),
                selector: match_labels(&selector),
                // When a pod's description is put right after somebody else changed it.
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".to_owned()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(IntOrString::Int(1)),
                        max_unavailable: Some(IntOrString::Int(0)),
                    }),
                }),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(of_pod),
                        annotations: Some(port.into_iter().collect()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(spec),
                },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }
}

/// Who the platform is to the cluster.
#[derive(Debug, Clone)]
pub struct Account {
    /// Namespace of the service account.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

fn names(instances: &[InstanceName]) -> String {
    instances.iter().map(InstanceName::as_str).collect::<Vec<_>>().join(" ")
}

fn match_labels(labels: &BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() }
}

/// The name of the Secret of a group's environment.
pub(super) fn environment_name(process_type: &ProcessType, release: ReleaseVersion) -> String {
    format!("{process_type}-{release}-environment")
}

/// A pod of one process with that environment; what restarts it, and on what terminal it runs, is up to the caller.
pub(super) fn pod(template: &Template, environment: &str) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(template.image.clone()),
            command: command(&template.command),
            env_from: Some(vec![EnvFromSource {
                secret_ref: Some(SecretEnvSource { name: environment.to_owned(), optional: None }),
                ..EnvFromSource::default()
            }]),
            ports: template.port.map(|port| {
                let container_port = i32::from(port);
                vec![ContainerPort { container_port, protocol: Some("TCP".to_owned()), ..ContainerPort::default() }]
            }),
            lifecycle: lifecycle(&template.hooks),
            readiness_probe: readiness(&template.checks, template.port),
            liveness_probe: template.checks.liveness.as_ref().map(probe),
            resources: Some(resources(template.limits)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    add: None,
                    drop: Some(DROPPED_CAPABILITIES.map(str::to_owned).to_vec()),
                }),
                privileged: Some(false),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        enable_service_links: Some(false),
        image_pull_secrets: Some(vec![LocalObjectReference { name: PULL_SECRET.to_owned() }]),
        node_selector: (!template.tags.is_empty())
            .then(|| template.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        // A process that is number 1 of its container ignores SIGTERM unless it handles it, and must bury orphans: few
        // programs do either, shells do neither. The pause process does both where the namespace is shared.
        share_process_namespace: Some(true),
        termination_grace_period_seconds: i64::try_from(template.grace.as_secs()).ok(),
        tolerations: Some(["not-ready", "unreachable"].map(away).into()),
        ..PodSpec::default()
    }
}

/// How long a process stays with a machine that is away; by itself a cluster would wait for five minutes.
fn away(how: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{how}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(MACHINE_PATIENCE),
        value: None,
    }
}

/// The command, so that the cluster takes nothing in it for one of its own `$(VARIABLES)`.
fn command(command: &Command) -> Option<Vec<String>> {
    let words = match command {
        Command::Image => return None,
        Command::Shell { shell, line } => vec![shell.clone(), "-c".to_owned(), line.clone()],
        Command::Exec(words) => words.clone(),
    };
    Some(words.into_iter().map(|word| word.replace('$', "$$")).collect())
}

fn lifecycle(hooks: &Hooks) -> Option<Lifecycle> {
    if hooks.is_empty() {
        return None;
    }
    let handler = |command: &Vec<String>| LifecycleHandler {
        exec: Some(ExecAction { command: Some(command.clone()) }),
        ..LifecycleHandler::default()
    };
    Some(Lifecycle {
        post_start: hooks.after_start.as_ref().map(handler),
        pre_stop: hooks.before_stop.as_ref().map(handler),
        stop_signal: None,
    })
}

fn readiness(checks: &Checks, port: Option<u16>) -> Option<Probe> {
    if let Some(check) = &checks.readiness {
        return Some(probe(check));
    }
    let port = IntOrString::Int(i32::from(port?));
    Some(Probe {
        tcp_socket: Some(TCPSocketAction { port, host: None }),
        period_seconds: Some(1),
        timeout_seconds: Some(1),
        success_threshold: Some(1),
        failure_threshold: Some(REFUSED_CONNECTIONS),
        ..Probe::default()
    })
}

/// Kubernetes counts in whole seconds.
fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).unwrap_or(i32::MAX)
}

fn probe(check: &Check) -> Probe {
    let count = |count: u32| Some(i32::try_from(count.max(1)).unwrap_or(i32::MAX));
    let mut probe = Probe {
        initial_delay_seconds: Some(seconds(check.initial_delay)),
        timeout_seconds: Some(seconds(check.timeout).max(1)),
        period_seconds: Some(seconds(check.period).max(1)),
        success_threshold: count(check.successes),
        failure_threshold: count(check.failures),
        ..Probe::default()
    };
    match &check.trial {
        Trial::Exec(command) => probe.exec = Some(ExecAction { command: Some(command.clone()) }),
        Trial::Connection { port } => {
            probe.tcp_socket = Some(TCPSocketAction { port: IntOrString::Int(i32::from(*port)), host: None });
        }
        Trial::Page { port, path, host, headers, tls } => {
            let header = |name: &str, value: &str| HTTPHeader { name: name.to_owned(), value: value.to_owned() };
            let host = host.as_deref().map(|host| header("Host", host));
            let headers: Vec<HTTPHeader> =
                host.into_iter().chain(headers.iter().map(|(name, value)| header(name, value))).collect();
            probe.http_get = Some(HTTPGetAction {
                port: IntOrString::Int(i32::from(*port)),
                path: Some(path.clone()),
                scheme: Some(if *tls { "HTTPS" } else { "HTTP" }.to_owned()),
                http_headers: (!headers.is_empty()).then_some(headers),
                host: None,
            });
        }
    }
    probe
}

fn resources(limits: Limits) -> ResourceRequirements {
    let of = |memory: Option<u64>, cpu: Option<u64>| {
        let memory = memory.map(|bytes| ("memory".to_owned(), Quantity(bytes_text(bytes))));
        let cpu = cpu.map(|millis| ("cpu".to_owned(), Quantity(millis_text(millis))));
        let both: BTreeMap<String, Quantity> = memory.into_iter().chain(cpu).collect();
        (!both.is_empty()).then_some(both)
    };
    // A promise beyond the limit is the limit: Docker takes it so, Kubernetes would refuse it.
    let within =
        |request: Option<u64>, limit: Option<u64>| request.map(|request| limit.map_or(request, |l| request.min(l)));
    ResourceRequirements {
        limits: of(limits.memory.limit, limits.cpu.limit),
        requests: of(within(limits.memory.request, limits.memory.limit), within(limits.cpu.request, limits.cpu.limit)),
        claims: None,
    }
}

/// An amount of memory in the cluster's own spelling: it spells `1024` as `1Ki`, and applying must change nothing.
fn bytes_text(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let mut amount = bytes;
    let mut unit = 0;
    while amount > 0 && amount.is_multiple_of(1024) && unit + 1 < units.len() {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount}{}", units.get(unit).copied().unwrap_or_default())
}

/// Thousandths in the cluster's own spelling.
pub(super) fn millis_text(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;

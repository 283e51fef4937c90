//! Making, starting and stopping the containers of instances.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use bollard::{
    Docker,
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig,
        RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
        RenameContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::{
    Shared,
    attach::{self, Streams},
    client::{explain, if_present, is_absent, refusal},
    hooks, image,
    labels::{APP, Container, INSTALLATION, Nameplate, container_name, filter, stopping_name},
    readiness,
};
use crate::{
    domain::{healthcheck::Checks, instance::InstanceName, lifecycle::Hooks, limits::Limits},
    scheduler::{Command, Group, SchedulerError, Template, TerminalSize},
};

/// So many processes are started at a time: engines set up networks one after the other anyway.
const STARTS_AT_A_TIME: usize = 6;
/// How often another address is tried when something else has taken the chosen one.
const ADDRESSES_TO_TRY: usize = 8;
/// Processes and threads that an instance may have.
const PROCESS_LIMIT: i64 = 1024;
/// Weight of one CPU that was asked for, and the least weight that engines take.
const CPU_SHARES: u64 = 1024;
const LEAST_SHARES: i64 = 2;
/// The time in microseconds in which a process may use its quota, and the least quota that engines take.
const CPU_PERIOD: u64 = 100_000;
const LEAST_QUOTA: i64 = 1000;
/// What common images can do without, of the capabilities that engines grant.
const DROPPED_CAPABILITIES: [&str; 6] = ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT"];

/// Containers of one app, or of the whole installation.
pub(super) async fn list(
    docker: &Docker,
    installation: &str,
    app: Option<Uuid>,
) -> Result<Vec<Container>, SchedulerError> {
    let app = app.map(|id| id.to_string());
    let mut labels = vec![(INSTALLATION, installation)];
    labels.extend(app.as_deref().map(|id| (APP, id)));
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filter(&labels)).build();
    let containers = docker.list_containers(Some(options)).await.map_err(explain)?;
    Ok(containers.iter().filter_map(|container| Container::read(container, installation)).collect())
}

/// Makes a group's instances exactly those that it names.
pub(super) async fn apply(shared: &Arc<Shared>, group: &Group) -> Result<(), SchedulerError> {
    let docker = shared.client.engine().await?;
    let existing = list(&docker, &shared.installation, Some(group.app.id)).await?;
    let taken: HashSet<Ipv4Addr> = existing.iter().filter_map(|container| container.address).collect();
    let mut alive: HashMap<&InstanceName, &Container> = HashMap::new();
    for container in &existing {
        let of_group = container.process_type == group.process_type && container.release == group.release;
        if !of_group || container.one_off.is_some() {
            continue;
        }
        if container.stopping || !group.instances.contains(&container.instance) {
            retire(shared, &docker, container).await?;
        } else {
            alive.insert(&container.instance, container);
        }
    }
    let mut starts = Vec::new();
    for name in &group.instances {
        if alive.get(name).is_none_or(|found| found.is_at_rest()) {
            starts.push(start_instance(shared, &docker, group, name, &taken));
        }
    }
    let results: Vec<_> = stream::iter(starts).buffer_unordered(STARTS_AT_A_TIME).collect().await;
    results.into_iter().collect()
}

async fn start_instance(
    shared: &Arc<Shared>,
    docker: &Docker,
    group: &Group,
    instance: &InstanceName,
    taken: &HashSet<Ipv4Addr>,
) -> Result<(), SchedulerError> {
    let order = Order {
        app: &group.app,
        instance,
        process_type: &group.process_type,
        release: group.release,
        template: &group.template,
        occasion: None,
    };
    let made = make(shared, docker, &order, taken).await?;
    readiness::watch(shared, made.id);
    Ok(())
}

/// What is to be made.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) app: &'a crate::scheduler::AppKey,
    pub(super) instance: &'a InstanceName,
    pub(super) process_type: &'a paas_api::ProcessType,
    pub(super) release: paas_api::ReleaseVersion,
    pub(super) template: &'a Template,
    /// Of a one-off.
    pub(super) occasion: Option<Occasion>,
}

/// What is particular about a one-off.
#[derive(Clone, Copy)]
pub(super) struct Occasion {
    /// It may live for so long.
    pub(super) limit: std::time::Duration,
    /// Nobody takes part in it.
    pub(super) detached: bool,
    /// The terminal that it runs on.
    pub(super) terminal: Option<TerminalSize>,
    /// Whether it reads what is sent to it.
    pub(super) input: bool,
}

/// A container that runs.
pub(super) struct Made {
    /// Its id or name.
    pub(super) id: String,
    /// The streams of a one-off that somebody takes part in.
    pub(super) streams: Option<Streams>,
}

/// Makes a container and starts it. Whatever was in the way is tried around: a missing image is fetched, a taken address
/// replaced, a network that went away made anew. A container that cannot be started is removed.
pub(super) async fn make(
    shared: &Arc<Shared>,
    docker: &Docker,
    order: &Order<'_>,
    taken: &HashSet<Ipv4Addr>,
) -> Result<Made, SchedulerError> {
    let mut taken = taken.clone();
    let mut last = None;
    for _ in 0..ADDRESSES_TO_TRY {
        let (id, address) = create(shared, docker, order, &taken).await?;
        let streams = match order.occasion.filter(|occasion| !occasion.detached) {
            Some(occasion) => Some(open_streams(shared, docker, &id, occasion).await?),
            None => None,
        };
        let Err(error) = docker.start_container(&id, None).await else {
            return Ok(Made { id, streams });
        };
        let obstacle = Obstacle::of(&error);
        if obstacle != Obstacle::Engine {
            discard(docker, &id).await?;
        }
        match obstacle {
            Obstacle::Address => taken.extend(address),
            Obstacle::Network => shared.networks.forget(order.app.id),
            Obstacle::Gone => {}
            Obstacle::Process | Obstacle::Engine => return Err(explain(error)),
        }
        last = Some(error);
    }
    Err(last.map_or_else(|| SchedulerError::Unavailable("nothing was tried".to_owned()), explain))
}

async fn open_streams(
    shared: &Shared,
    docker: &Docker,
    id: &str,
    occasion: Occasion,
) -> Result<Streams, SchedulerError> {
    let opened = attach::open(&shared.client, id, occasion.input, occasion.terminal.is_some()).await;
    if opened.is_err() {
        discard(docker, id).await?;
    }
    opened
}

/// Why a container does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Something else has the address.
    Address,
    /// The app's network went away.
    Network,
    /// The container went away.
    Gone,
    /// The process cannot be made.
    Process,
    /// The engine is in trouble: the container stays, for a later attempt.
    Engine,
}

impl Obstacle {
    fn of(error: &bollard::errors::Error) -> Self {
        match refusal(error) {
            Some((_, text)) if text.contains("Address already in use") => Self::Address,
            Some((404, text)) if text.contains("network") => Self::Network,
            Some((404 | 409, _)) => Self::Gone,
            Some(_) => Self::Process,
            None => Self::Engine,
        }
    }
}

/// Makes a container, or finds the one of that name. The address of a found one is not known.
async fn create(
    shared: &Arc<Shared>,
    docker: &Docker,
    order: &Order<'_>,
    taken: &HashSet<Ipv4Addr>,
) -> Result<(String, Option<Ipv4Addr>), SchedulerError> {
    let network = shared.networks.ensure(docker, order.app).await?;
    let address = network.choose(taken)?;
    let name = container_name(&shared.installation, order.instance);
    let mut fetched = false;
    loop {
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = describe(shared, order, &network.id, address);
        match docker.create_container(Some(options), body).await {
            Ok(made) => return Ok((made.id, Some(address))),
            Err(error) if matches!(refusal(&error), Some((409, _))) => return Ok((name, None)),
            Err(error) if is_absent(&error) && !fetched => {
                image::fetch(docker, &order.template.image, order.template.credentials.as_ref()).await?;
            }
            Err(error) => return Err(explain(error)),
        }
        fetched = true;
    }
}

fn describe(shared: &Shared, order: &Order<'_>, network: &str, address: Ipv4Addr) -> ContainerCreateBody {
    let template = order.template;
    let (entrypoint, cmd) = match &template.command {
        Command::Image => (None, None),
        Command::Shell { shell, line } => (Some(vec![shell.clone(), "-c".to_owned()]), Some(vec![line.clone()])),
        Command::Exec(arguments) => (Some(arguments.clone()), None),
    };
    let (no_checks, no_hooks) = (Checks::default(), Hooks::default());
    let nameplate = Nameplate {
        app: order.app,
        instance: order.instance,
        process_type: order.process_type,
        release: order.release,
        port: template.port,
        address,
        grace: template.grace,
        checks: if order.occasion.is_some() { &no_checks } else { &template.checks },
        hooks: if order.occasion.is_some() { &no_hooks } else { &template.hooks },
        one_off: order.occasion.map(|occasion| occasion.limit),
        detached: order.occasion.is_some_and(|occasion| occasion.detached),
    };
    let attended = order.occasion.filter(|occasion| !occasion.detached);
    let input = attended.is_some_and(|occasion| occasion.input);
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    ContainerCreateBody {
        image: Some(template.image.clone()),
        entrypoint,
        cmd,
        env: Some(template.environment.iter().map(|(key, value)| format!("{key}={}", value.expose())).collect()),
        labels: Some(nameplate.labels(&shared.installation)),
        stop_timeout: i64::try_from(template.grace.as_secs()).ok(),
        attach_stdin: Some(input),
        attach_stdout: Some(attended.is_some()),
        attach_stderr: Some(attended.is_some()),
        open_stdin: Some(input),
        // The end of what is sent is the end of its input.
        stdin_once: Some(input),
        tty: Some(attended.is_some_and(|occasion| occasion.terminal.is_some())),
        host_config: Some(confinement(network, order.occasion, template.limits)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    }
}

/// What a process of an app may do and use.
fn confinement(network: &str, occasion: Option<Occasion>, limits: Limits) -> HostConfig {
    // Instances outlive the platform and come back after a reboot; the engine backs off when they end again and again.
    let restart = if occasion.is_some() { RestartPolicyNameEnum::NO } else { RestartPolicyNameEnum::UNLESS_STOPPED };
    // What somebody reads as it comes need not be kept.
    let (log, log_options) = match occasion {
        Some(Occasion { detached: false, .. }) => ("none", Vec::new()),
        _ => ("local", vec![("max-size", "5m"), ("max-file", "4")]),
    };
    let terminal = occasion.and_then(|occasion| occasion.terminal);
    let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    HostConfig {
        memory: limits.memory.limit.map(signed),
        // Without it the engine grants as much swap again, and the limit would be twice what was asked for.
        memory_swap: limits.memory.limit.map(signed),
        memory_reservation: limits.memory.request.map(signed),
        cpu_shares: limits.cpu.request.map(|millis| signed(millis.saturating_mul(CPU_SHARES) / 1000).max(LEAST_SHARES)),
        // A quota and not `NanoCpus`, which is refused when it is more than the machine has.
        cpu_period: limits.cpu.limit.map(|_| signed(CPU_PERIOD)),
        cpu_quota: limits.cpu.limit.map(|millis| signed(millis.saturating_mul(CPU_PERIOD) / 1000).max(LEAST_QUOTA)),
        network_mode: Some(network.to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(restart), maximum_retry_count: None }),
        // A process that is number 1 of its container ignores SIGTERM unless it handles it, and must bury orphans: few
        // programs do either, shells do neither. The engine's init does both.
        init: Some(true),
        pids_limit: Some(PROCESS_LIMIT),
        privileged: Some(false),
        console_size: terminal.map(|size| vec![usize::from(size.rows), usize::from(size.columns)]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        cap_drop: Some(DROPPED_CAPABILITIES.map(str::to_owned).to_vec()),
        log_config: Some(HostConfigLogConfig {
            typ: Some(log.to_owned()),
            config: Some(log_options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        }),
        ..HostConfig::default()
    }
}

/// Marks a container as unwanted, for every controller to see, and lets it stop in the background. A controller that is
/// killed meanwhile leaves a container that says so, and whoever sees it next goes on.
pub(super) async fn retire(shared: &Arc<Shared>, docker: &Docker, container: &Container) -> Result<(), SchedulerError> {
    if !container.stopping {
        let name = stopping_name(&shared.installation, &container.id);
        match docker.rename_container(&container.id, RenameContainerOptionsBuilder::new().name(&name).build()).await {
            Err(error) if is_absent(&error) => return Ok(()),
            // Another controller has just done it.
            Err(error) if matches!(refusal(&error), Some((400 | 409, _))) => {}
            other => other.map_err(explain)?,
        }
    }
    if !shared.begin_stop(&container.id) {
        return Ok(());
    }
    let (shared, docker, container) = (Arc::clone(shared), docker.clone(), container.clone());
    tokio::spawn(async move {
        if let Err(error) = stop(&docker, &container).await {
            tracing::warn!(process.instance = %container.instance, %error, "an instance could not be stopped yet");
        }
        shared.end_stop(&container.id);
        shared.tell(container.app);
    });
    Ok(())
}

/// Stops a container, gently within its grace period, and removes it.
pub(super) async fn stop(docker: &Docker, container: &Container) -> Result<(), SchedulerError> {
    if container.one_off.is_none() {
        // The engine itself counts the grace period and kills at its end, whether we live or not.
        let patience = container.grace + std::time::Duration::from_mins(1);
        let hook = container.hooks.before_stop.as_deref().filter(|_| !container.is_at_rest());
        let left = hooks::before_stop(docker, &container.id, hook, container.grace).await;
        let seconds = i32::try_from(left.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        if_present(docker.clone().with_timeout(patience).stop_container(&container.id, Some(options)).await)?;
    }
    discard(docker, &container.id).await
}

/// Kills and removes a container at once, and is content when somebody else does.
pub(super) async fn discard(docker: &Docker, id: &str) -> Result<(), SchedulerError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        Err(error) if matches!(refusal(&error), Some((409, _))) => Ok(()),
        other => if_present(other).map(|_| ()),
    }
}

/// Brings back what the engine does not start by itself; what cannot come back is removed, so that it can be made anew.
pub(super) async fn revive(shared: &Arc<Shared>, docker: &Docker, container: &Container) {
    let Err(error) = docker.start_container(&container.id, None).await else { return };
    if Obstacle::of(&error) == Obstacle::Engine {
        return;
    }
    tracing::warn!(process.instance = %container.instance, %error, "an instance cannot start again and is made anew");
    if let Err(error) = discard(docker, &container.id).await {
        tracing::warn!(process.instance = %container.instance, %error, "an instance could not be removed");
    }
    shared.tell(container.app);
}

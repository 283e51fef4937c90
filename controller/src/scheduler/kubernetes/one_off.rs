//! One-off processes: pods of their own, started once.
//!
//! A pod starts when its kubelet likes, and nobody can listen before; so that nothing of what an attended process writes is
//! lost, its pod only holds the place: a shell that waits. The command itself is started in it once the streams are open,
//! by a shell that tells its number first and then becomes the command: so signals find it. Where the image has no shell
//! the command is the pod's own process; then what it writes is read from its log, both streams as one (on a terminal: from
//! the terminal, without what was written before the streams were open), and a signal can only ask it to end, unless it has
//! a terminal whose keys mean the signal.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::{AsyncReadExt as _, Stream, StreamExt as _, pin_mut, stream::BoxStream};
use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, PostParams},
};
use paas_api::ProcessType;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Shared,
    client::{bounded, explain, if_present, status},
    image,
    labels::{self, INSTANCE, ONE_OFF},
    namespaces,
    objects::{self, CONTAINER, Owner},
    pods,
    remote::{self, Input, Remote, Said, Wish},
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{
        Attached, Channel, Command, ObservedOneOff, OneOff, OneOffEvent, OneOffInput, SchedulerError, Signal,
        TerminalSize,
    },
};

/// One that is so much older than its limit has lost its controller.
const OVERDUE: Duration = Duration::from_mins(1);
/// Longest wait for the pod to run, beside what fetching its image takes.
const START_LIMIT: Duration = Duration::from_mins(5);
/// How long a new namespace may go without the account that pods need.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
/// Pieces of input that wait for the process; whoever sends more waits.
const PIECES_IN_FLIGHT: usize = 16;
/// The process type of every one-off.
const TYPE: &str = "run";
/// Exit code of what was killed.
const KILLED: i32 = 137;
/// Most digits of a process's number, with the end of their line.
const LONGEST_NUMBER: usize = 16;

/// Holds the place: nothing is ever sent to it. Should its input end all the same it stops itself.
const HOLD: &str = "read -r _; while :; do kill -STOP $$; done";
/// Tells its number and becomes the command.
const BECOME: &str = "echo $$; exec \"$@\"";

/// How a process is started in its pod.
enum Way {
    /// By this shell, once somebody listens.
    Shell(String),
    /// As the pod's own process.
    Pod,
}

impl Way {
    fn of(one_off: &OneOff) -> Self {
        match &one_off.template.command {
            Command::Shell { shell, .. } => Self::Shell(shell.clone()),
            Command::Image | Command::Exec(_) => Self::Pod,
        }
    }
}

/// Runs a one-off process that nobody takes part in.
pub(super) async fn run_detached(shared: &Shared, one_off: &OneOff) -> Result<(), SchedulerError> {
    make(shared, one_off, None).await.map(drop)
}

/// Runs a one-off process that somebody takes part in.
pub(super) async fn run(shared: &Arc<Shared>, one_off: OneOff) -> Result<Attached, SchedulerError> {
    let way = Way::of(&one_off);
    let pod = make(shared, &one_off, Some(&way)).await?;
    let place = Place {
        shared: Arc::clone(shared),
        app: one_off.app.id,
        namespace: pod.namespace().unwrap_or_default(),
        pod: pod.name_any(),
        present: true,
    };
    match way {
        Way::Shell(shell) => run_in(place, one_off, &shell).await,
        Way::Pod => listen(place, one_off).await,
    }
}

/// Makes the pod. `way`: of an attended one.
async fn make(shared: &Shared, one_off: &OneOff, way: Option<&Way>) -> Result<Pod, SchedulerError> {
    let template = &one_off.template;
    image::demand(shared, &template.image, template.credentials.as_ref()).await?;
    let namespace = shared.settings.namespace(&one_off.app);
    let owner = Owner { installation: &shared.installation, app: &one_off.app, namespace: &namespace };
    namespaces::ensure_common(shared, &owner, template.credentials.as_ref()).await?;
    let name = one_off.name.as_str();
    let labels: BTreeMap<String, String> = labels::of_app(&shared.installation, &one_off.app)
        .into_iter()
        .chain(labels::of_group(&process_type()?, one_off.release))
        .chain([(ONE_OFF.to_owned(), if way.is_some() { "attended" } else { "detached" }.to_owned())])
        .collect();
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some([(INSTANCE.to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(describe(one_off, way)),
        ..Pod::default()
    };
    let pod = create(shared, &namespace, &pod).await?;
    // The Secret goes with the pod, whatever happens; the kubelet waits for it.
    let mut environment = owner.environment(name, template);
    environment.metadata.labels = Some(labels);
    environment.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &namespace);
    if let Err(error) = bounded(secrets.create(&PostParams::default(), &environment)).await {
        delete(shared, &namespace, &pod.name_any()).await?;
        return Err(explain(error));
    }
    shared.pods.put(pod.clone());
    Ok(pod)
}

fn process_type() -> Result<ProcessType, SchedulerError> {
    TYPE.parse().map_err(|_| SchedulerError::Refused("no such type".to_owned()))
}

fn describe(one_off: &OneOff, way: Option<&Way>) -> PodSpec {
    let mut spec = objects::pod(&one_off.template, one_off.name.as_str());
    let limit = if way.is_some() { one_off.limit.saturating_add(OVERDUE + START_LIMIT) } else { one_off.limit };
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = i64::try_from(limit.as_secs().max(1)).ok();
    // One that is ended is killed.
    spec.termination_grace_period_seconds = Some(1);
    for container in &mut spec.containers {
        container.readiness_probe = None;
        container.liveness_probe = None;
        container.lifecycle = None;
        match way {
            Some(Way::Shell(shell)) => {
                let hold = HOLD.replace('$', "$$");
                container.command = Some(vec![shell.clone(), "-c".to_owned(), hold]);
                container.stdin = Some(true);
            }
            Some(Way::Pod) => {
                container.stdin = Some(one_off.input);
                container.stdin_once = Some(one_off.input);
                container.tty = Some(one_off.terminal.is_some());
            }
            None => {}
        }
    }
    spec
}

/// Makes a pod, in a namespace that may be so new that it lacks the account that pods need.
async fn create(shared: &Shared, namespace: &str, pod: &Pod) -> Result<Pod, SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let end = Instant::now() + ACCOUNT_LIMIT;
    loop {
        match bounded(api.create(&PostParams::default(), pod)).await {
            Err(error) if is_without_account(&error) && Instant::now() < end => sleep(PAUSE).await,
            created => return created.map_err(explain),
        }
    }
}

fn is_without_account(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 403 && status.message.contains("serviceaccount"))
}

async fn delete(shared: &Shared, namespace: &str, pod: &str) -> Result<(), SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    if_present(bounded(api.delete(pod, &at_once)).await).map(drop)
}

/// The pod of an attended one-off, which must not stay whatever happens.
struct Place {
    shared: Arc<Shared>,
    app: Uuid,
    namespace: String,
    pod: String,
    present: bool,
}

impl Place {
    fn wish<'a>(&'a self, command: Option<&'a [&'a str]>) -> Wish<'a> {
        Wish { namespace: &self.namespace, pod: &self.pod, command, input: false, output: true, terminal: false }
    }

    /// The pod as it was told of last.
    async fn look(&self) -> Option<Arc<Pod>> {
        let pods = self.shared.pods.of_app(self.app).await.ok()?;
        pods.into_iter().find(|pod| pod.name_any() == self.pod)
    }

    /// Waits until the pod tells what is asked for.
    async fn until<T>(&self, mut told: impl FnMut(Option<&Pod>) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        loop {
            if let Some(told) = told(self.look().await.as_deref()) {
                return told;
            }
            // However many changes were missed: it is looked at again.
            drop(timeout(LOOK_EVERY, changes.recv()).await);
        }
    }

    /// Waits until its container runs, or has run.
    async fn started(&self) -> Result<(), SchedulerError> {
        let mut trouble = None;
        let started = self.until(|pod| {
            let Some(pod) = pod else { return Some(Err("somebody has removed it".to_owned())) };
            let state = pods::process(pod).and_then(|process| process.state.as_ref());
            if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
                return Some(Ok(()));
            }
            trouble = pods::state(pod).trouble.or_else(|| trouble.take());
            if let Some(text) = trouble.as_ref().filter(|_| is_hopeless(pod)) {
                return Some(Err(text.clone()));
            }
            pods::has_ended(pod).then(|| Err("the cluster has ended it".to_owned()))
        });
        match timeout(START_LIMIT, started).await {
            Ok(started) => started.map_err(SchedulerError::Unavailable),
            Err(_) => {
                let why = trouble.unwrap_or_else(|| "the cluster does not say why".to_owned());
                let minutes = START_LIMIT.as_secs() / 60;
                Err(SchedulerError::Unavailable(format!("its pod did not start within {minutes} minutes: {why}")))
            }
        }
    }

    /// How its process ended; none when it is not known any more.
    async fn ended(&self) -> Option<i32> {
        self.until(|pod| match pod {
            Some(pod) => exit_of(pod).map(Some),
            None => Some(None),
        })
        .await
    }

    async fn remove(&mut self) {
        // Should it fail, or be cut off, the drop or the sweep does it.
        if self.present && delete(&self.shared, &self.namespace, &self.pod).await.is_ok() {
            self.present = false;
            self.forget().await;
        }
    }

    async fn forget(&self) {
        if let Some(pod) = self.look().await {
            self.shared.pods.forget(&pod);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.present, tokio::runtime::Handle::try_current()) else { return };
        self.present = false;
        let place = Self {
            shared: Arc::clone(&self.shared),
            app: self.app,
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            present: false,
        };
        runtime.spawn(async move {
            match delete(&place.shared, &place.namespace, &place.pod).await {
                Ok(()) => place.forget().await,
                Err(error) => tracing::warn!(%error, "a one-off process could not be removed yet"),
            }
        });
    }
}

/// Whether the kubelet has tried again and again to make the container, and will not succeed.
fn is_hopeless(pod: &Pod) -> bool {
    let waiting = pods::process(pod).and_then(|process| process.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    matches!(waiting, Some("ImagePullBackOff" | "InvalidImageName" | "CreateContainerError" | "RunContainerError"))
}

/// How a pod's process ended, if it has.
fn exit_of(pod: &Pod) -> Option<i32> {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    let process = pods::process(pod);
    let code = process.and_then(|process| process.state.as_ref()?.terminated.as_ref()).map(|ended| ended.exit_code);
    match (reason, code) {
        (Some("DeadlineExceeded"), _) => Some(KILLED),
        (_, Some(code)) => Some(code),
        _ => pods::has_ended(pod).then_some(KILLED),
    }
}

/// Runs the command in the pod that holds the place for it.
async fn run_in(mut place: Place, one_off: OneOff, shell: &str) -> Result<Attached, SchedulerError> {
    let Command::Shell { line, .. } = &one_off.template.command else {
        return Err(SchedulerError::Refused("it has no shell".to_owned()));
    };
    place.started().await?;
    let command = [shell, "-c", BECOME, "paas", shell, "-c", line.as_str()];
    let wish = Wish { input: one_off.input, terminal: one_off.terminal.is_some(), ..place.wish(Some(&command)) };
    let remote = remote::open(&place.shared.client, &wish).await?;
    let (number, numbers) = tokio::sync::watch::channel(None);
    let (input, orders) = mpsc::channel(PIECES_IN_FLIGHT);
    let speaker = Speaker {
        shared: Arc::clone(&place.shared),
        namespace: place.namespace.clone(),
        pod: place.pod.clone(),
        target: Target::Number { shell: shell.to_owned(), numbers },
        input: remote.input(),
        terminal: one_off.terminal.is_some(),
    };
    let speaking = AbortOnDropHandle::new(tokio::spawn(speaker.obey(one_off.terminal, orders)));
    let end = Instant::now() + one_off.limit;
    let events = stream! {
        let _speaking = speaking;
        let said = remote.said();
        pin_mut!(said);
        let mut head = Some(BytesMut::new());
        let mut status = None;
        let mut in_time = true;
        loop {
            tokio::select! {
                piece = said.next() => match piece {
                    Some(Ok(Said::Output(channel, piece))) => {
                        let piece = match &mut head {
                            Some(seen) if channel == Channel::Output => {
                                seen.extend_from_slice(&piece);
                                let Some((own, rest)) = part(seen) else { continue };
                                number.send_replace(Some(own));
                                head = None;
                                rest
                            }
                            _ => piece,
                        };
                        if !piece.is_empty() {
                            yield OneOffEvent::Output(channel, piece);
                        }
                    }
                    Some(Ok(Said::Ended(ended))) => {
                        status = Some(ended);
                        break;
                    }
                    Some(Err(_)) | None => break,
                },
                () = sleep_until(end) => {
                    in_time = false;
                    break;
                }
            }
        }
        let code = match &status {
            _ if !in_time => Some(KILLED),
            Some(status) => match remote::exit_code(status) {
                Some(code) => Some(code),
                None => killed_with_its_pod(&place).await,
            },
            None => killed_with_its_pod(&place).await,
        };
        place.remove().await;
        if let Some(code) = code {
            yield OneOffEvent::Exited(code);
        }
    };
    Ok(Attached { events: events.boxed(), input })
}

/// How a process ended whose streams broke: with its pod, or nobody knows.
async fn killed_with_its_pod(place: &Place) -> Option<i32> {
    timeout(OVERDUE / 12, place.ended()).await.ok().flatten()
}

/// Parts a process's number from what it writes itself; none as long as it is not whole. Should it not be a number (the
/// shell itself has failed) all of it is output.
fn part(seen: &mut BytesMut) -> Option<(u32, Bytes)> {
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return (seen.len() > LONGEST_NUMBER).then(|| (0, seen.split().freeze()));
    };
    let line = seen.get(..end).and_then(|line| str::from_utf8(line).ok());
    match line.and_then(|line| line.trim_end().parse().ok()) {
        Some(number) => {
            let mut rest = seen.split();
            Some((number, rest.split_off(end + 1).freeze()))
        }
        None => Some((0, seen.split().freeze())),
    }
}

/// Listens to a command that is the pod's own process.
async fn listen(mut place: Place, one_off: OneOff) -> Result<Attached, SchedulerError> {
    place.started().await?;
    let terminal = one_off.terminal.is_some();
    let wish = Wish { input: one_off.input, output: terminal, terminal, ..place.wish(None) };
    let ran = place.look().await.is_some_and(|pod| exit_of(&pod).is_none());
    let remote = if ran && (one_off.input || terminal) {
        // It may have ended a moment ago.
        remote::open(&place.shared.client, &wish).await.ok()
    } else {
        None
    };
    let (input, orders) = mpsc::channel(PIECES_IN_FLIGHT);
    let speaking = remote.as_ref().map(|remote| {
        let speaker = Speaker {
            shared: Arc::clone(&place.shared),
            namespace: place.namespace.clone(),
            pod: place.pod.clone(),
            target: Target::Pod,
            input: remote.input(),
            terminal,
        };
        AbortOnDropHandle::new(tokio::spawn(speaker.obey(one_off.terminal, orders)))
    });
    let end = Instant::now() + one_off.limit;
    let events = stream! {
        let _speaking = speaking;
        let (output, _held) = match remote {
            Some(remote) if terminal => (shown(remote).boxed(), None),
            remote => (logged(&place), remote),
        };
        let mut output = output;
        let code = loop {
            tokio::select! {
                piece = output.next() => match piece {
                    Some((channel, piece)) => yield OneOffEvent::Output(channel, piece),
                    None => break place.ended().await,
                },
                () = sleep_until(end) => {
                    place.remove().await;
                    break Some(KILLED);
                }
            }
        };
        place.remove().await;
        if let Some(code) = code {
            yield OneOffEvent::Exited(code);
        }
    };
    Ok(Attached { events: events.boxed(), input })
}

fn shown(remote: Remote) -> impl Stream<Item = (Channel, Bytes)> + Send + 'static {
    remote.said().filter_map(|said| async {
        match said {
            Ok(Said::Output(channel, piece)) => Some((channel, piece)),
            _ => None,
        }
    })
}

/// All that a pod writes, as its log tells it, to the end.
fn logged(place: &Place) -> BoxStream<'static, (Channel, Bytes)> {
    const PIECE: usize = 32 * 1024;
    let api: Api<Pod> = Api::namespaced(place.shared.client.clone(), &place.namespace);
    let pod = place.pod.clone();
    let pieces = stream! {
        let parameters = LogParams { container: Some(CONTAINER.to_owned()), follow: true, ..LogParams::default() };
        let Ok(mut reader) = bounded(api.log_stream(&pod, &parameters)).await else { return };
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            yield (Channel::Output, Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default()));
        }
    };
    pieces.boxed()
}

/// What carries orders to a one-off.
struct Speaker {
    shared: Arc<Shared>,
    namespace: String,
    pod: String,
    target: Target,
    input: Input,
    terminal: bool,
}

/// Whom signals are for.
enum Target {
    /// A process of that number, once it is known, by this shell.
    Number { shell: String, numbers: tokio::sync::watch::Receiver<Option<u32>> },
    /// The pod's own process.
    Pod,
}

impl Speaker {
    /// Carries out what is sent, one after the other, until nobody can send any more.
    async fn obey(mut self, terminal: Option<TerminalSize>, mut orders: mpsc::Receiver<OneOffInput>) {
        if let Some(size) = terminal {
            self.input.resize(size).await;
        }
        while let Some(order) = orders.recv().await {
            match order {
                OneOffInput::Bytes(bytes) => self.input.send(&bytes).await,
                OneOffInput::End => self.input.end().await,
                OneOffInput::Resize(size) => self.input.resize(size).await,
                OneOffInput::Signal(signal) => self.signal(signal).await,
            }
        }
    }

    async fn signal(&mut self, signal: Signal) {
        let sent = match &mut self.target {
            Target::Number { shell, numbers } => {
                let number = match numbers.wait_for(Option::is_some).await {
                    Ok(number) => number.filter(|number| *number > 1),
                    Err(_) => return,
                };
                let Some(number) = number else { return };
                let name = match signal {
                    Signal::Interrupt => "INT",
                    Signal::Terminate => "TERM",
                    Signal::Quit => "QUIT",
                    Signal::HangUp => "HUP",
                };
                let line = format!("kill -{name} {number}");
                let command = [shell.as_str(), "-c", line.as_str()];
                let wish = Wish {
                    namespace: &self.namespace,
                    pod: &self.pod,
                    command: Some(&command),
                    input: false,
                    output: true,
                    terminal: false,
                };
                remote::run(&self.shared.client, &wish).await.map(drop)
            }
            Target::Pod => match signal {
                Signal::Interrupt if self.terminal => return self.input.send(b"\x03").await,
                Signal::Quit if self.terminal => return self.input.send(b"\x1c").await,
                _ => {
                    let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.namespace);
                    if_present(bounded(api.delete(&self.pod, &DeleteParams::default())).await).map(drop)
                }
            },
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a one-off process had ended before it got a signal");
        }
    }
}

/// Every one-off of the installation, as the cluster has it now: what another controller has ended is not told of any more.
pub(super) async fn list(shared: &Shared) -> Result<Vec<ObservedOneOff>, SchedulerError> {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let ours = ListParams::default().labels(&format!("{},{ONE_OFF}", labels::selector(&shared.installation)));
    let pods = bounded(api.list(&ours)).await.map_err(explain)?.items;
    let shown = |pod: &Pod| {
        let app = labels::app(&pod.metadata)?;
        Some(ObservedOneOff { app, name: labels::instance(pod)?, exit: exit_of(pod) })
    };
    let found = pods.iter().filter_map(shown).collect();
    sweep(shared, &pods).await;
    Ok(found)
}

/// Kills a one-off and removes it.
pub(super) async fn end(shared: &Shared, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
    for pod in shared.pods.of_app(app).await? {
        if labels::is_one_off(&pod) && labels::instance(&pod).as_ref() == Some(name) {
            delete(shared, &pod.namespace().unwrap_or_default(), &pod.name_any()).await?;
            shared.pods.forget(&pod);
        }
    }
    Ok(())
}

/// Removes attended one-offs that a killed controller has left behind: the cluster has ended them by their deadline, which
/// is later than any controller would have.
async fn sweep(shared: &Shared, pods: &[Pod]) {
    for pod in pods {
        let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
        let attended = pod.labels().get(ONE_OFF).is_some_and(|kind| kind == "attended");
        if attended && reason == Some("DeadlineExceeded") {
            match delete(shared, &pod.namespace().unwrap_or_default(), &pod.name_any()).await {
                Ok(()) => shared.pods.forget(pod),
                Err(error) => tracing::warn!(%error, "a one-off process could not be removed yet"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_number_first() {
        let mut seen = BytesMut::new();
        for (more, expected) in
            [("4", None), ("2\r", None), ("\nhello\nworld", Some((42, Bytes::from_static(b"hello\nworld"))))]
        {
            seen.extend_from_slice(more.as_bytes());
            assert_eq!(part(&mut seen), expected);
        }
        let mut failed = BytesMut::from("/bin/sh: not found\n");
        assert_eq!(part(&mut failed), Some((0, Bytes::from_static(b"/bin/sh: not found\n"))));
        let mut endless = BytesMut::from("x".repeat(20).as_str());
        assert_eq!(part(&mut endless).map(|(number, rest)| (number, rest.len())), Some((0, 20)));
    }
}

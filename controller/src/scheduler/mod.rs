//! The scheduler contract: what the reconciler may ask of whatever runs the processes.
//!
//! The trait is small and declarative. A [`Group`] says which instances of one process type of one release shall exist;
//! [`Scheduler::apply`] makes it so, [`Scheduler::observe`] tells what there is. A scheduler keeps no truth of its own:
//! everything it knows about an instance it reads back from the engine, so it can be killed at any instant. It touches
//! only what bears the platform's label and this installation's id.
//!
//! `tests/scheduler/` is the list of behaviours that every scheduler passes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use paas_api::{AppName, ProcessType, ReleaseVersion, Secret};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::{
    healthcheck::Checks,
    instance::InstanceName,
    lifecycle::Hooks,
    limits::Limits,
    registry::Credentials,
    tags::{Labels, Tags},
};

mod connect;
pub mod docker;
pub mod entrance;
pub mod fake;
mod follow;
pub mod kubernetes;
mod newest;
mod reference;

pub use self::connect::{Kind, Settings, connect};
use self::entrance::{Entrance, Told};

/// An app, as schedulers know it: the id is what counts, the name makes things readable for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppKey {
    /// Stable id.
    pub id: Uuid,
    /// Name, for labels and container names.
    pub name: AppName,
}

/// The instances of one process type of one release, exactly as they shall be.
#[derive(Debug, Clone)]
pub struct Group {
    /// Whose they are.
    pub app: AppKey,
    /// `web`, `worker`, …
    pub process_type: ProcessType,
    /// Release that they run.
    pub release: ReleaseVersion,
    /// Every instance that shall exist. One that is missing is started; one of this group that exists and is not named
    /// here is stopped: SIGTERM, the grace period, SIGKILL.
    pub instances: Vec<InstanceName>,
    /// What each of them is.
    pub template: Template,
}

/// What an instance is made of.
#[derive(Debug, Clone)]
pub struct Template {
    /// Image, pinned by digest.
    pub image: String,
    /// What runs in it.
    pub command: Command,
    /// The whole environment (contract §3.7).
    pub environment: BTreeMap<String, Secret>,
    /// Port that a routable process listens on: it is ready once it accepts a connection there. Without a port a
    /// process is ready once it has outlived [`STABILITY_WINDOW`].
    pub port: Option<u16>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Labels that its machine shall have.
    pub tags: Tags,
    /// What it may use of its machine.
    pub limits: Limits,
    /// Commands that run in it after each start and before it is stopped.
    pub hooks: Hooks,
    /// Whether it is ready is up to its readiness check, if it has one; what fails its liveness check is started again.
    pub checks: Checks,
    /// What is shown to the image's registry, should the image have to be fetched.
    pub credentials: Option<Credentials>,
}

/// How long a process without a port must live to count as ready.
pub const STABILITY_WINDOW: Duration = Duration::from_secs(1);

/// What runs in an image (contract §3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The image's own entrypoint and command.
    Image,
    /// A command line of a Procfile, run by the image's own shell as `<shell> -c <line>`.
    Shell {
        /// Path of the shell in the image, `/bin/bash` or `/bin/sh`.
        shell: String,
        /// The whole line.
        line: String,
    },
    /// An argument vector, for images without a shell.
    Exec(Vec<String>),
}

/// One instance that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub name: InstanceName,
    /// Its process type.
    pub process_type: ProcessType,
    /// Its release.
    pub release: ReleaseVersion,
    /// Where it stands.
    pub phase: Phase,
    /// `address:port` that visitors can be sent to, of an instance with a port that has an address.
    pub address: Option<std::net::SocketAddr>,
    /// Last start of its process.
    pub started: Option<DateTime<Utc>>,
    /// How often its process has ended by itself.
    pub exits: u32,
    /// How it ended last.
    pub last_exit: Option<Exit>,
    /// What its readiness check found wrong at its last trial, or what came of its hook, when that is why it is not ready.
    pub trouble: Option<String>,
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Made, or running and not ready yet, or between two restarts.
    Starting,
    /// Running and ready.
    Ready,
    /// Being stopped because nobody wants it.
    Stopping,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal when killed.
    pub code: i32,
    /// Killed for want of memory.
    pub out_of_memory: bool,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image by digest, or by local id where it has none.
    pub reference: String,
    /// The lowest TCP port it exposes.
    pub exposed_port: Option<u16>,
    /// The shell it holds: `/bin/bash`, else `/bin/sh`.
    pub shell: Option<String>,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only this instance.
    pub instance: Option<InstanceName>,
    /// At most so many of the newest lines in all.
    pub lines: usize,
    /// Go on with new lines, of instances that start later too, until the reader goes away.
    pub follow: bool,
}

/// One line of an instance's output.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// When.
    pub moment: DateTime<Utc>,
    /// Which instance.
    pub instance: InstanceName,
    /// Its process type.
    pub process_type: ProcessType,
    /// Its release.
    pub release: ReleaseVersion,
    /// The line without its end, at most 16 KiB.
    pub text: String,
}

/// Moments of instances' lines.
pub type Ends = HashMap<InstanceName, DateTime<Utc>>;

/// A one-off process.
#[derive(Debug, Clone)]
pub struct OneOff {
    /// Whose it is.
    pub app: AppKey,
    /// Its name.
    pub name: InstanceName,
    /// Release whose image and environment it uses.
    pub release: ReleaseVersion,
    /// What it is.
    pub template: Template,
    /// It is killed after so long.
    pub limit: Duration,
    /// The size of the terminal that it runs on; none: it runs on none, and its two streams are told apart.
    pub terminal: Option<TerminalSize>,
    /// Whether it reads what is sent to it; else its input is at its end from the start.
    pub input: bool,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// Where a piece of output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output, or the terminal.
    Output,
    /// Standard error.
    Errors,
}

/// A piece of what a one-off process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOffEvent {
    /// Output, each stream in its order.
    Output(Channel, Bytes),
    /// It ended with this code; the last event. Without it the engine went away meanwhile.
    Exited(i32),
}

/// What is sent to a one-off process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOffInput {
    /// Bytes for its standard input.
    Bytes(Bytes),
    /// Its standard input has ended.
    End,
    /// Its terminal has another size.
    Resize(TerminalSize),
    /// A signal for it.
    Signal(Signal),
}

/// A signal that may be sent to a one-off process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// As Ctrl-C sends it.
    Interrupt,
    /// A request to end.
    Terminate,
    /// As Ctrl-\ sends it.
    Quit,
    /// Its terminal is gone.
    HangUp,
}

/// A one-off process that somebody takes part in.
pub struct Attached {
    /// What it does; dropping it kills the process.
    pub events: BoxStream<'static, OneOffEvent>,
    /// What is sent to it. Dropping it sends nothing: the end of the input is [`OneOffInput::End`].
    pub input: mpsc::Sender<OneOffInput>,
}

/// A one-off process that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedOneOff {
    /// Whose it is.
    pub app: Uuid,
    /// Its name.
    pub name: InstanceName,
    /// How it ended; none while it runs.
    pub exit: Option<i32>,
}

/// Why the scheduler did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// It will not work however often it is tried: the text tells the app's owner why.
    #[error("{0}")]
    Refused(String),
    /// The engine is away or in trouble; trying again later may help.
    #[error("the engine that runs the processes is in trouble: {0}")]
    Unavailable(String),
}

/// Something that happened to a process, and that nobody sees who looks later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Whose it is.
    pub app: Uuid,
    /// Its name.
    pub instance: InstanceName,
    /// Why the scheduler has started it again.
    pub reason: String,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time over the last moments, in thousandths of one processor.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory: u64,
}

/// How an engine that scales by load itself shall scale a process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// How many processes the platform wants now.
    pub count: u32,
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// What each of them shall use, in thousandths of one processor.
    pub cpu_millis: u64,
}

/// Whatever runs processes: Docker, a fake, a cluster.
#[async_trait]
pub trait Scheduler: Send + Sync + 'static {
    /// Makes a group's instances exactly those that it names. Returns once the engine has taken the order, not when the
    /// instances are ready, and does not wait for grace periods. Doing it again changes nothing.
    async fn apply(&self, group: &Group) -> Result<(), SchedulerError>;

    /// Every instance of an app that exists, those being stopped too.
    async fn observe(&self, app: Uuid) -> Result<Vec<Observed>, SchedulerError>;

    /// Groups that are not what was applied any more, because somebody else has had a hand in them: they are to be applied
    /// again. An engine whose processes cannot be changed by others has none.
    async fn amiss(&self, app: Uuid) -> Result<Vec<(ProcessType, ReleaseVersion)>, SchedulerError> {
        let _ = app;
        Ok(Vec::new())
    }

    /// Makes it so that an app is found that way by its own processes and, where the engine brings visitors, by them. Doing
    /// it again changes nothing and puts right what others have changed. An engine whose processes are found by the routing
    /// table alone has nothing to do.
    async fn publish(&self, entrance: &Entrance) -> Result<Told, SchedulerError> {
        let _ = entrance;
        Ok(Told::default())
    }

    /// Every app of this installation of which anything exists: what the ledger does not know among them is an orphan.
    async fn apps(&self) -> Result<Vec<Uuid>, SchedulerError>;

    /// Stops everything of an app and removes it with its network; returns once all of it is gone.
    async fn remove(&self, app: Uuid) -> Result<(), SchedulerError>;

    /// The app's output, oldest first.
    async fn logs(&self, app: Uuid, query: LogQuery) -> Result<BoxStream<'static, LogLine>, SchedulerError>;

    /// What the instances and the detached one-offs of every app write, as it comes, each line once and each process's in
    /// order; of those named, what they wrote after that moment, of others all that is still to be had. It goes on through
    /// absences of the engine.
    async fn output(&self, after: Ends) -> Result<BoxStream<'static, (Uuid, LogLine)>, SchedulerError>;

    /// Runs a one-off process that somebody takes part in. It is no instance: it is never observed, and what it writes is
    /// not in the app's log. When it has ended nothing is left of it.
    async fn run(&self, one_off: OneOff) -> Result<Attached, SchedulerError>;

    /// Runs a one-off process that nobody takes part in. It is never observed; what it writes is in the app's log. It stays
    /// when it has ended, until [`Scheduler::end_one_off`].
    async fn run_detached(&self, one_off: OneOff) -> Result<(), SchedulerError>;

    /// Every one-off process of this installation, those that have ended and are still there too.
    async fn one_offs(&self) -> Result<Vec<ObservedOneOff>, SchedulerError>;

    /// Kills a one-off process and removes it. Doing it again changes nothing.
    async fn end_one_off(&self, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError>;

    /// Finds an image, pulling it when it is not at hand, and pins it. An image that is at hand because others may have
    /// it is not found by those to whom its registry refuses it.
    async fn resolve(&self, image: &str, credentials: Option<&Credentials>) -> Result<Image, SchedulerError>;

    /// The labels of each machine that processes can run on.
    async fn machines(&self) -> Result<Vec<Labels>, SchedulerError>;

    /// Whether the engine answers.
    async fn check(&self) -> Result<(), SchedulerError>;

    /// Apps of which an instance started, got ready, ended or went away. It may miss some: the reconciler's timer makes
    /// up for that.
    fn changes(&self) -> BoxStream<'static, Uuid>;

    /// Processes that the scheduler starts again although they have not ended, because a check or a hook of theirs failed.
    fn incidents(&self) -> BoxStream<'static, Incident>;

    /// What the app's running instances use by the engine's own figures; it may take a second or two. One that comes or
    /// goes meanwhile may be missing.
    async fn usage(&self, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError>;

    /// Has the engine's own autoscalers watch over these process types of the app, and over no others, and tells what number
    /// of processes they want of each: it is the platform that scales. `None` of an engine without autoscalers: there the
    /// platform decides by [`Scheduler::usage`]. Doing it again changes nothing.
    async fn autoscale(
        &self,
        app: &AppKey,
        types: &BTreeMap<ProcessType, Scaled>,
    ) -> Result<Option<BTreeMap<ProcessType, u32>>, SchedulerError> {
        let _ = (app, types);
        Ok(None)
    }

    /// Apps that autoscalers of the engine watch over, as far as is known.
    fn autoscaled(&self) -> Vec<Uuid> {
        Vec::new()
    }
}

//! Starts services, starts again what dies, stops all in order.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    io::BufReader,
    process::Child,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    logs::{Logs, Tail},
    service::{Ready, Service},
};
use crate::error::Error;

/// How long a service may take until it serves.
const START: Duration = Duration::from_mins(1);
/// How often a service may end before it ever served.
const TRIES: u32 = 3;
/// First wait before a service is started again; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A service that ran for so long starts with the first wait again.
const HEALTHY: Duration = Duration::from_mins(1);
/// How long a killed service may take to end, and an ended one to close its output.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How often one asks a starting service whether it serves.
const ASK: Duration = Duration::from_millis(20);

/// How far a service has come.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready,
    Ended { times: u32, why: String },
}

/// What the user wants of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Stop,
    Kill,
}

/// All services of the platform.
pub(crate) struct Supervisor {
    paas: PathBuf,
    run: PathBuf,
    logs: Logs,
    kept: Vec<Kept>,
}

/// A service that is kept running.
struct Kept {
    name: &'static str,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// One without services. `paas` is this executable, `run` the folder for process ids.
    pub(crate) fn new(paas: PathBuf, run: PathBuf, logs: Logs) -> Self {
        Self { paas, run, logs, kept: Vec::new() }
    }

    /// This executable, through which children are started.
    pub(crate) fn paas(&self) -> &Path {
        &self.paas
    }

    /// Starts a service, waits until it serves, and keeps it running from then on.
    pub(crate) async fn start(&mut self, service: Service) -> Result<(), Error> {
        let name = service.name;
        let state = watch::Sender::new(State::Starting);
        let mut changes = state.subscribe();
        let wish = watch::Sender::new(Wish::Run);
        let tail = Tail::default();
        let keeper = Keeper {
            service,
            paas: self.paas.clone(),
            run: self.run.clone(),
            logs: self.logs.clone(),
            tail: tail.clone(),
            state,
            wish: wish.subscribe(),
        };
        self.kept.push(Kept { name, wish, task: tokio::spawn(keeper.keep()) });
        let settled = changes.wait_for(|state| match state {
            State::Starting => false,
            State::Ready => true,
            State::Ended { times, .. } => *times >= TRIES,
        });
        let why = match timeout(START, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Ended { why, .. } => why.clone(),
                State::Starting | State::Ready => return Ok(()),
            },
            Ok(Err(_)) => "nobody keeps it running".to_owned(),
            Err(_) => format!("it does not answer after {} s", START.as_secs()),
        };
        let mut message = format!("the {name} does not start: {why}");
        for line in tail.lines() {
            message.push_str("\n  ");
            message.push_str(&line);
        }
        Err(Error::new(message))
    }

    /// Kills all services at once when it is called, also while they are being stopped.
    pub(crate) fn killer(&self) -> impl Fn() + use<> {
        let wishes: Vec<_> = self.kept.iter().map(|kept| kept.wish.clone()).collect();
        move || {
            for wish in &wishes {
                wish.send_replace(Wish::Kill);
            }
        }
    }

    /// Stops the services one after the other in the order of `names`.
    pub(crate) async fn stop(mut self, names: &[&str]) {
        self.kept.sort_by_key(|kept| names.iter().position(|name| *name == kept.name));
        for kept in self.kept {
            kept.wish.send_if_modified(|wish| {
                let running = *wish == Wish::Run;
                if running {
                    *wish = Wish::Stop;
                }
                running
            });
            // A keeper that panicked has nothing left to stop.
            let _ = kept.task.await;
        }
    }
}

/// Keeps one service running.
struct Keeper {
    service: Service,
    paas: PathBuf,
    run: PathBuf,
    logs: Logs,
    tail: Tail,
    state: watch::Sender<State>,
    wish: watch::Receiver<Wish>,
}

impl Keeper {
    async fn keep(mut self) {
        let name = self.service.name;
        let mut wait = FIRST_WAIT;
        let mut times = 0;
        loop {
            let began = Instant::now();
            let why = match self.service.spawn(&self.paas, &self.run) {
                Ok(child) => match self.follow(child, times > 0).await {
                    Some(why) => why,
                    None => return,
                },
                Err(error) => format!("it cannot be run: {error}"),
            };
            if began.elapsed() >= HEALTHY {
                wait = FIRST_WAIT;
            }
            times += 1;
            let last = self.tail.lines().pop().map(|line| format!(" (its last line: {line})")).unwrap_or_default();
            self.logs.say(&format!("the {name} is down: {why}{last}; starting it again in {} s", wait.as_secs_f64()));
            self.state.send_replace(State::Ended { times, why });
            tokio::select! {
                () = sleep(wait) => {}
                () = until(&mut self.wish, |wish| wish != Wish::Run) => return,
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Follows a started service to its end and tells why it ended, or `None` when it was to.
    async fn follow(&mut self, mut child: Child, again: bool) -> Option<String> {
        self.tail.clear();
        let outputs = self.show(&mut child);
        let pid = child.id()?;
        let ended = tokio::select! {
            status = child.wait() => Some(status),
            () = until(&mut self.wish, |wish| wish != Wish::Run) => None,
            () = tell_when_ready(&self.service.ready, pid, &self.state, again.then_some((&self.logs, self.service.name))) => None,
        };
        if ended.is_none() {
            self.end(&mut child, pid).await;
        }
        for mut output in outputs {
            // Somebody else may hold the pipe: a grandchild.
            if timeout(AFTERWARDS, &mut output).await.is_err() {
                output.abort();
            }
        }
        match ended? {
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(format!("it cannot be waited for: {error}")),
        }
    }

    fn show(&self, child: &mut Child) -> Vec<JoinHandle<()>> {
        let (logs, name, tail) = (self.logs.clone(), self.service.name, self.tail.clone());
        let out = child.stdout.take().map(BufReader::new);
        let err = child.stderr.take().map(BufReader::new);
        let mut tasks = Vec::new();
        if let Some(out) = out {
            let (logs, tail) = (logs.clone(), tail.clone());
            tasks.push(tokio::spawn(async move { logs.follow(name, out, &tail).await }));
        }
        if let Some(err) = err {
            tasks.push(tokio::spawn(async move { logs.follow(name, err, &tail).await }));
        }
        tasks
    }

    /// Ends the service: gently within its grace, then by force.
    async fn end(&mut self, child: &mut Child, pid: u32) {
        let Ok(pid) = i32::try_from(pid).map(Pid::from_raw) else { return };
        let name = self.service.name;
        if *self.wish.borrow() == Wish::Stop {
            let _ = kill(pid, self.service.gently);
            tokio::select! {
                _ = child.wait() => return,
                () = until(&mut self.wish, |wish| wish == Wish::Kill) => {}
                () = sleep(self.service.grace) => {
                    self.logs.say(&format!("the {name} did not stop in {} s; killing it", self.service.grace.as_secs()));
                }
            }
        }
        let _ = killpg(pid, self.service.now);
        if timeout(AFTERWARDS, child.wait()).await.is_err() {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = child.wait().await;
        }
    }
}

/// Records that the service serves as soon as it does, then stays pending.
async fn tell_when_ready(ready: &Ready, pid: u32, state: &watch::Sender<State>, again: Option<(&Logs, &str)>) {
    while !ready.check(pid).await {
        sleep(ASK).await;
    }
    state.send_replace(State::Ready);
    if let Some((logs, name)) = again {
        logs.say(&format!("the {name} serves again"));
    }
    std::future::pending::<()>().await;
}

/// Waits for a wish; when nobody is left to wish, that is one to stop.
async fn until(wish: &mut watch::Receiver<Wish>, is: impl Fn(Wish) -> bool) {
    let _ = wish.wait_for(|wish| is(*wish)).await;
}

//! The life of one fake process, from its first start until it is stopped.

use std::{future::pending, sync::Arc, time::Duration};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::{Engine, Instance};
use crate::{
    domain::instance::InstanceName,
    scheduler::{Exit, Incident, LogLine, Phase},
};

/// As engines do: twice as long after each end.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);
/// Lines that an instance keeps.
const LINES_KEPT: usize = 1000;

/// Lives until it is told to stop, then goes away.
pub(super) async fn live(engine: Arc<Engine>, name: InstanceName, stop: CancellationToken) {
    let ended_well = tokio::select! {
        () = rise_and_fall(&engine, &name) => true,
        () = stop.cancelled() => false,
    };
    if !ended_well {
        let hook = |instance: &Instance| spoken(instance.hooks.before_stop.as_deref()).into_iter().collect();
        print(&engine, &name, hook);
        let patience = engine.state().instances.get(&name).filter(|of| of.script.stubborn).map(|of| of.grace);
        tokio::time::sleep(patience.unwrap_or_default()).await;
    }
    engine.remove(&name);
}

/// Starts again and again; returns only when the instance is gone.
async fn rise_and_fall(engine: &Engine, name: &InstanceName) {
    let mut back_off = FIRST_BACK_OFF;
    loop {
        let Some(Course { ready_after, exit, restarted_after }) = start(engine, name) else { return };
        let ready = async {
            match ready_after {
                Some(delay) => tokio::time::sleep(delay).await,
                None => pending().await,
            }
        };
        let end = async {
            match exit {
                Some((code, delay)) => {
                    tokio::time::sleep(delay).await;
                    code
                }
                None => pending().await,
            }
        };
        tokio::pin!(end);
        let restart = async {
            match restarted_after {
                Some(delay) => tokio::time::sleep(delay).await,
                None => pending().await,
            }
        };
        tokio::pin!(restart);
        let early_end = tokio::select! {
            biased;
            code = &mut end => Some(code),
            () = ready => None,
        };
        let code = if let Some(code) = early_end {
            code
        } else {
            engine.change(name, |instance| {
                if instance.phase == Phase::Starting {
                    instance.phase = Phase::Ready;
                }
            });
            tokio::select! {
                code = &mut end => code,
                () = &mut restart => {
                    tell_of_restart(engine, name);
                    engine.change(name, |instance| {
                        if instance.phase == Phase::Ready {
                            instance.phase = Phase::Starting;
                        }
                    });
                    continue;
                }
            }
        };
        engine.change(name, |instance| {
            if instance.phase == Phase::Ready {
                instance.phase = Phase::Starting;
            }
            instance.exits += 1;
            instance.last_exit = Some(Exit { code, out_of_memory: instance.script.is_starved() });
        });
        tokio::time::sleep(back_off).await;
        back_off = (back_off * 2).min(LONGEST_BACK_OFF);
    }
}

fn tell_of_restart(engine: &Engine, name: &InstanceName) {
    let state = engine.state();
    let Some(instance) = state.instances.get(name) else { return };
    let Some(check) = &instance.checks.liveness else { return };
    let reason = format!("its liveness probe failed: {} failed", check.trial);
    // Without a listener there is nobody to tell.
    drop(engine.incidents.send(Incident { app: instance.app, instance: name.clone(), reason }));
}

/// What becomes of a process, each so long after its start.
struct Course {
    ready_after: Option<Duration>,
    exit: Option<(i32, Duration)>,
    restarted_after: Option<Duration>,
}

fn start(engine: &Engine, name: &InstanceName) -> Option<Course> {
    let mut course = None;
    print(engine, name, |instance| {
        let hook = spoken(instance.hooks.after_start.as_deref());
        instance.script.print.iter().cloned().chain(hook).collect()
    });
    engine.change(name, |instance| {
        instance.started = Some(Utc::now());
        course = Some(Course {
            ready_after: instance.script.ready_after(instance.address.is_some(), &instance.checks),
            exit: instance.script.exit,
            restarted_after: instance.script.restarted_after(&instance.checks),
        });
    });
    course
}

/// What a hook says that does nothing but `echo` something.
fn spoken(hook: Option<&[String]>) -> Option<String> {
    let words = hook?.last()?.strip_prefix("echo ")?;
    Some(words.split(" >").next().unwrap_or(words).to_owned())
}

/// Has an instance print lines.
fn print(engine: &Engine, name: &InstanceName, texts: impl FnOnce(&Instance) -> Vec<String>) {
    let mut printed = Vec::new();
    engine.change(name, |instance| {
        for text in texts(instance) {
            let line = LogLine {
                moment: Utc::now(),
                instance: name.clone(),
                process_type: instance.process_type.clone(),
                release: instance.release,
                text,
            };
            printed.push((instance.app, line.clone()));
            instance.log.push(line);
        }
        let excess = instance.log.len().saturating_sub(LINES_KEPT);
        instance.log.drain(..excess);
    });
    for line in printed {
        drop(engine.lines.send(line));
    }
}

//! Fake one-off processes.

use std::sync::Arc;

use async_stream::stream;
use bytes::Bytes;
use chrono::Utc;
use futures_util::StreamExt as _;
use paas_api::ProcessType;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Engine,
    script::{Answers, Script},
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{Attached, Channel, LogLine, OneOff, OneOffEvent, OneOffInput, Signal, TerminalSize},
};

/// Exit code of what was killed.
const KILLED: i32 = 128 + 9;

/// A one-off that exists.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) app: Uuid,
    pub(super) exit: Option<i32>,
    stop: CancellationToken,
}

impl Engine {
    fn begin_one_off(&self, one_off: &OneOff) -> CancellationToken {
        let stop = CancellationToken::new();
        let process = Process { app: one_off.app.id, exit: None, stop: stop.clone() };
        self.state().one_offs.insert(one_off.name.clone(), process);
        drop(self.changes.send(one_off.app.id));
        stop
    }

    pub(super) fn end_one_off(&self, app: Uuid, name: &InstanceName) {
        let mut state = self.state();
        if state.one_offs.get(name).is_some_and(|process| process.app == app)
            && let Some(process) = state.one_offs.remove(name)
        {
            process.stop.cancel();
            drop(state);
            drop(self.changes.send(app));
        }
    }
}

/// Removes an attended one-off, whichever way it ends.
struct Removal(Arc<Engine>, Uuid, InstanceName);

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.end_one_off(self.1, &self.2);
    }
}

fn size_line(size: TerminalSize) -> Bytes {
    format!("{} {}\r\n", size.rows, size.columns).into()
}

/// A one-off that somebody takes part in.
pub(super) fn attend(engine: &Arc<Engine>, one_off: &OneOff, mut script: Script) -> Attached {
    let stop = engine.begin_one_off(one_off);
    let removal = Removal(Arc::clone(engine), one_off.app.id, one_off.name.clone());
    let (input, mut orders) = mpsc::channel(16);
    let (limit, terminal) = (one_off.limit, one_off.terminal);
    if !one_off.input && script.answers == Some(Answers::Input) {
        (script.hang, script.answers) = (false, None);
    }
    if matches!(script.answers, Some(Answers::Input | Answers::Size)) {
        script.print.clear();
    }
    let answers = script.answers;
    let events = stream! {
        let removal = removal;
        let said = |text: Bytes| OneOffEvent::Output(Channel::Output, text);
        for line in &script.print {
            yield said(Bytes::from(format!("{line}\n")));
        }
        if let Some(size) = terminal.filter(|_| answers == Some(Answers::Size)) {
            yield said(size_line(size));
        }
        let (code, after) = if script.hang { (KILLED, limit) } else { script.exit.unwrap_or_default() };
        let end = tokio::time::sleep(after);
        tokio::pin!(end);
        let mut open = true;
        let code = loop {
            tokio::select! {
                () = &mut end => break code,
                () = stop.cancelled() => break KILLED,
                order = orders.recv(), if open => match order {
                    None => open = false,
                    Some(OneOffInput::Bytes(bytes)) if answers == Some(Answers::Input) => yield said(bytes),
                    Some(OneOffInput::End) if answers == Some(Answers::Input) => break 0,
                    Some(OneOffInput::Resize(size)) if answers == Some(Answers::Size) => yield said(size_line(size)),
                    Some(OneOffInput::Signal(Signal::Interrupt)) if answers == Some(Answers::Interrupt) => {
                        yield said(Bytes::from_static(b"caught\n"));
                        break 7;
                    }
                    Some(OneOffInput::Signal(Signal::Interrupt)) => break 128 + 2,
                    Some(_) => {}
                },
            }
        };
        drop(removal);
        yield OneOffEvent::Exited(code);
    };
    Attached { events: events.boxed(), input }
}

/// A one-off that nobody takes part in.
pub(super) fn detach(engine: &Arc<Engine>, one_off: &OneOff, script: Script) {
    let stop = engine.begin_one_off(one_off);
    let (engine, one_off) = (Arc::clone(engine), one_off.clone());
    tokio::spawn(async move {
        let Ok(process_type) = "run".parse::<ProcessType>() else { return };
        for text in script.print {
            let line = LogLine {
                moment: Utc::now(),
                instance: one_off.name.clone(),
                process_type: process_type.clone(),
                release: one_off.release,
                text,
            };
            engine.state().printed.push((one_off.app.id, line.clone()));
            drop(engine.lines.send((one_off.app.id, line)));
        }
        let (code, after) = if script.hang { (KILLED, one_off.limit) } else { script.exit.unwrap_or_default() };
        tokio::select! {
            () = tokio::time::sleep(after) => {}
            () = stop.cancelled() => return,
        }
        if let Some(process) = engine.state().one_offs.get_mut(&one_off.name) {
            process.exit = Some(code);
        }
        drop(engine.changes.send(one_off.app.id));
    });
}

//! What is sent to one-off processes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared,
    client::{bounded, if_present},
    place::Place,
    remote::{self, Input, Remote, Wish},
};
use crate::scheduler::{OneOffInput, Signal, TerminalSize};

/// What carries orders to a one-off.
pub(super) struct Speaker {
    shared: Arc<Shared>,
    namespace: String,
    pod: String,
    target: Target,
    input: Input,
    terminal: bool,
}

/// Whom signals are for.
pub(super) enum Target {
    /// A process of that number, once it is known, by this shell.
    Number { shell: String, numbers: watch::Receiver<Option<u32>> },
    /// The pod's own process.
    Pod,
}

impl Speaker {
    /// Has orders carried out, as long as the handle is there.
    pub(super) fn start(
        place: &Place,
        remote: &Remote,
        target: Target,
        terminal: Option<TerminalSize>,
        orders: mpsc::Receiver<OneOffInput>,
    ) -> AbortOnDropHandle<()> {
        let speaker = Self {
            shared: Arc::clone(&place.shared),
            namespace: place.namespace.clone(),
            pod: place.pod.clone(),
            target,
            input: remote.input(),
            terminal: terminal.is_some(),
        };
        AbortOnDropHandle::new(tokio::spawn(speaker.obey(terminal, orders)))
    }

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

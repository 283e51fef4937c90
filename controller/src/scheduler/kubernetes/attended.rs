//! One-off processes that somebody takes part in, from their first word to their end.

use std::time::Duration;

use async_stream::stream;
use bytes::{Bytes, BytesMut};
use futures_util::{AsyncReadExt as _, Stream, StreamExt as _, pin_mut, stream::BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    client::bounded,
    objects::CONTAINER,
    place::{KILLED, Place, exit_of},
    remote::{self, Remote, Said, Wish},
    speaker::{Speaker, Target},
};
use crate::scheduler::{Attached, Channel, Command, OneOff, OneOffEvent, SchedulerError};

/// How long the cluster may take to tell that a pod has ended whose streams broke.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(10);
/// Pieces of input that wait for the process; whoever sends more waits.
const PIECES_IN_FLIGHT: usize = 16;
/// Most digits of a process's number, with the end of their line.
const LONGEST_NUMBER: usize = 16;
/// Tells its number and becomes the command.
const BECOME: &str = "echo $$; exec \"$@\"";

/// Runs the command in the pod that holds the place for it.
pub(super) async fn run_in(mut place: Place, one_off: OneOff, shell: &str) -> Result<Attached, SchedulerError> {
    let Command::Shell { line, .. } = &one_off.template.command else {
        return Err(SchedulerError::Refused("it has no shell".to_owned()));
    };
    place.started().await?;
    let command = [shell, "-c", BECOME, "paas", shell, "-c", line.as_str()];
    let wish = Wish { input: one_off.input, terminal: one_off.terminal.is_some(), ..place.wish(Some(&command)) };
    let remote = remote::open(&place.shared.client, &wish).await?;
    let (number, numbers) = watch::channel(None);
    let (input, orders) = mpsc::channel(PIECES_IN_FLIGHT);
    let target = Target::Number { shell: shell.to_owned(), numbers };
    let speaking = Speaker::start(&place, &remote, target, one_off.terminal, orders);
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
    timeout(LAST_WORD_LIMIT, place.ended()).await.ok().flatten()
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
pub(super) async fn listen(mut place: Place, one_off: OneOff) -> Result<Attached, SchedulerError> {
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
    let speaking = remote.as_ref().map(|remote| Speaker::start(&place, remote, Target::Pod, one_off.terminal, orders));
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

//! Upgraded connections (websockets and the like): bytes both ways until both sides have ended.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::activity::Phase;
use super::upstream::Exchange;
use super::visitor::Visitor;
use super::worker::Worker;
use crate::target::Standing;

/// Joins the two connections as soon as both have switched. The target stays counted as busy
/// until the end, and so does the visitor.
pub(super) fn start(
    worker: &Rc<Worker>,
    visitor: &Rc<Visitor>,
    of_visitor: OnUpgrade,
    of_target: OnUpgrade,
    exchange: Exchange,
) {
    let visitor = Rc::clone(visitor);
    let silence_limit = exchange.silence_limit();
    worker.tasks.spawn_local(async move {
        let (of_visitor, of_target) = match tokio::try_join!(of_visitor, of_target) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "a connection was not upgraded");
                return;
            }
        };
        let (lease, activity) = exchange.into_upgraded();
        activity.enter(Phase::Busy);
        let mut of_visitor = TokioIo::new(of_visitor);
        let mut of_target = TokioIo::new(of_target);
        let mut standing = lease.target().standing();
        tokio::select! {
            copied = copy_bidirectional(&mut of_visitor, &mut of_target) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "an upgraded connection broke");
                }
            }
            () = activity.overdue(silence_limit, |_| Some(silence_limit)) => {}
            _ = standing.wait_for(|standing| *standing == Standing::Cut) => {}
        }
        drop(visitor);
    });
}

//! A bell between two tasks of one thread: a connection asks it at every step, so asking costs
//! next to nothing, and its guard rings it once, if ever.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::JoinHandle;

/// What a guard rings. Clones are the same bell.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm(Rc<Bell>);

#[derive(Debug, Default)]
struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Alarm {
    pub(super) fn ring(&self) {
        self.0.rung.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn has_rung(&self) -> bool {
        self.0.rung.get()
    }

    /// Ends when the bell is rung. For one task only.
    pub(super) fn rung(&self) -> impl Future<Output = ()> + use<> {
        let bell = Rc::clone(&self.0);
        poll_fn(move |context| {
            if bell.rung.get() {
                return Poll::Ready(());
            }
            let mut waker = bell.waker.borrow_mut();
            match &*waker {
                Some(known) if known.will_wake(context.waker()) => {}
                _ => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }
}

/// A task that watches a connection and ends with it.
#[derive(Debug)]
pub(super) struct Guard(JoinHandle<()>);

impl Guard {
    pub(super) fn spawn(watching: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(watching))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

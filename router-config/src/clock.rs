//! Milliseconds on a clock that only goes forward: a moment that fits into an atomic.
//!
//! The coarse clock of the kernel: a few milliseconds wide, and asked several times a request.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Now. Never 0, so that 0 can stand for "never".
pub(crate) fn millis() -> u64 {
    // This clock exists on every Linux; without it no limit would ever be over.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |now| in_millis(now.into())).saturating_add(1)
}

/// A duration in whole milliseconds.
pub(crate) fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

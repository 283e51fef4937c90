//! Milliseconds since the process started: a moment that fits into an atomic.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now. Never 0, so that 0 can stand for "never".
pub(crate) fn millis() -> u64 {
    in_millis(START.elapsed()).saturating_add(1)
}

/// A duration in whole milliseconds.
pub(crate) fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

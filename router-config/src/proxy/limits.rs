//! The limits that keep one visitor or one app from taking the router from the others.

use std::time::Duration;

/// Every limit of the proxy.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A request's head must be complete this long after its first byte, and a new connection
    /// must have sent one.
    pub header: Duration,
    /// A kept-alive connection without a request is closed after this.
    pub idle: Duration,
    /// A target must take a connection within this.
    pub connect: Duration,
    /// A target, or an upgraded connection, may be silent for this long.
    pub response: Duration,
    /// Largest head of a request or a response, in bytes.
    pub header_bytes: usize,
    /// Visitors' connections open at once, over all threads; more wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(15),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(1300),
            header_bytes: 64 * 1024,
            connections: 10_000,
        }
    }
}

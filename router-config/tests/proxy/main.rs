//! The proxy from outside: real sockets, real backends on free ports.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod frames;
mod harness;
mod hostile;
mod hosts;
mod many;
mod program;
mod publisher;
mod retry;
mod rules;
mod secure;
mod streaming;
mod switch;
mod upgrade;
mod vouched;

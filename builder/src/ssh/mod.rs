//! The SSH server: who comes in, and which two commands they may run.

mod command;
mod guard;
mod keys;
mod server;
mod session;

pub(crate) use server::Server;

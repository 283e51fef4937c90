//! The rules, pure: no I/O, no SQL, no engine, no HTTP.

pub mod instance;

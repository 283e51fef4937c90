//! The rules, pure: no I/O, no SQL, no engine, no HTTP.

pub mod app;
pub mod autoscale;
pub mod build;
pub mod certificate;
pub mod config;
pub mod deploy_hook;
pub mod deployment;
pub mod formation;
pub mod healthcheck;
pub mod hostname;
pub mod instance;
pub mod lifecycle;
pub mod limits;
pub mod network;
pub mod plan;
pub mod registry;
pub mod release;
pub mod routing;
pub mod service;
pub mod settings;
pub mod tags;
pub mod user;

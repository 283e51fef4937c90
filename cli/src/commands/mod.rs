//! The commands, a file for each group of them.

mod apps;
mod auth;
mod autoscale;
mod builds;
mod cancel;
mod certs;
mod completions;
mod config;
mod config_diff;
mod config_edit;
mod config_file;
mod doctor;
mod domains;
mod git;
mod health_report;
mod healthchecks;
pub(crate) mod help;
mod keys;
mod labels;
mod limits;
mod logs;
mod maintenance;
mod manual;
mod maps;
mod perms;
mod ps;
mod registry;
mod release_diff;
mod releases;
mod routing;
mod run;
mod runs;
mod services;
mod tags;
mod timeouts;
mod tls;
mod tokens;
mod topics;
mod transfer;
pub(crate) mod up;
mod users;
mod version;
mod whitelist;

use clap::Subcommand;

use crate::{context::Context, error::Error};

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Apps(apps::Command),
    #[command(flatten)]
    Auth(auth::Command),
    #[command(flatten)]
    Autoscale(autoscale::Command),
    #[command(flatten)]
    Builds(builds::Command),
    #[command(flatten)]
    Certs(certs::Command),
    #[command(flatten)]
    Config(config::Command),
    #[command(flatten)]
    Domains(domains::Command),
    #[command(flatten)]
    Git(git::Command),
    #[command(flatten)]
    Healthchecks(healthchecks::Command),
    #[command(flatten)]
    Keys(keys::Command),
    #[command(flatten)]
    Labels(labels::Command),
    #[command(flatten)]
    Limits(limits::Command),
    #[command(flatten)]
    Maintenance(maintenance::Command),
    #[command(flatten)]
    Perms(perms::Command),
    #[command(flatten)]
    Ps(ps::Command),
    #[command(flatten)]
    Registry(registry::Command),
    #[command(flatten)]
    Releases(releases::Command),
    #[command(flatten)]
    Routing(routing::Command),
    #[command(flatten)]
    Runs(runs::Command),
    #[command(flatten)]
    Services(services::Command),
    #[command(flatten)]
    Tags(tags::Command),
    #[command(flatten)]
    Timeouts(timeouts::Command),
    #[command(flatten)]
    Tls(tls::Command),
    #[command(flatten)]
    Tokens(tokens::Command),
    #[command(flatten)]
    Users(users::Command),
    #[command(flatten)]
    Whitelist(whitelist::Command),
    Up(up::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Manual(manual::Arguments),
    Version(version::Arguments),
    Shortcuts(help::Shortcuts),
    Help(help::Arguments),
    #[command(name = "up:child", hide = true)]
    UpChild(up::ChildArguments),
}

impl Command {
    /// Does what was asked for.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Apps(command) => command.run(context).await,
            Self::Auth(command) => command.run(context).await,
            Self::Autoscale(command) => command.run(context).await,
            Self::Builds(command) => command.run(context).await,
            Self::Certs(command) => command.run(context).await,
            Self::Config(command) => command.run(context).await,
            Self::Domains(command) => command.run(context).await,
            Self::Git(command) => command.run(context).await,
            Self::Healthchecks(command) => command.run(context).await,
            Self::Keys(command) => command.run(context).await,
            Self::Labels(command) => command.run(context).await,
            Self::Limits(command) => command.run(context).await,
            Self::Maintenance(command) => command.run(context).await,
            Self::Perms(command) => command.run(context).await,
            Self::Ps(command) => command.run(context).await,
            Self::Registry(command) => command.run(context).await,
            Self::Releases(command) => command.run(context).await,
            Self::Routing(command) => command.run(context).await,
            Self::Runs(command) => command.run(context).await,
            Self::Services(command) => command.run(context).await,
            Self::Tags(command) => command.run(context).await,
            Self::Timeouts(command) => command.run(context).await,
            Self::Tls(command) => command.run(context).await,
            Self::Tokens(command) => command.run(context).await,
            Self::Users(command) => command.run(context).await,
            Self::Whitelist(command) => command.run(context).await,
            Self::Up(arguments) => up::run(arguments, context).await,
            Self::Doctor(arguments) => doctor::run(&arguments, context).await,
            Self::Completions(arguments) => completions::run(&arguments),
            Self::Manual(arguments) => manual::run(&arguments, context),
            Self::Version(arguments) => version::run(&arguments, context).await,
            Self::Shortcuts(_) => help::shortcuts(context),
            Self::Help(arguments) => help::run(&arguments),
            Self::UpChild(arguments) => up::child(&arguments),
        }
    }
}

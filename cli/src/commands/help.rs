//! `help` and `shortcuts`: what there is to type.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Args, Command};

use crate::{arguments, commands::topics, context::Context, error::Error, printer::print};

/// Show help, for all commands, a group or one command
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas help\n  paas help config\n  paas help config:set\n  paas help topics\n  \
                        paas help topics routing")]
pub(crate) struct Arguments {
    /// A command or a group of them; or 'topics', and one of these
    command: Vec<String>,
}

/// List the short names of commands
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas shortcuts")]
pub(crate) struct Shortcuts {}

pub(crate) fn run(asked: &Arguments) -> Result<(), Error> {
    let name = asked.command.join(":");
    match asked.command.as_slice() {
        [topics] if topics == "topics" => return print(&topics::list()),
        [topics, topic] if topics == "topics" => {
            let text = topics::text(topic).ok_or_else(|| {
                Error::usage(format!("there is no topic '{topic}'")).hint("'paas help topics' lists them")
            })?;
            return print(text);
        }
        _ => {}
    }
    let mut root = arguments::command();
    if name.is_empty() {
        return print(&overview(&root));
    }
    if arguments::is_group(&name) {
        return print(&group_help(&root, &name));
    }
    // Both a command's help and the lack of such a command come as what the parser calls an error.
    match root.try_get_matches_from_mut(["paas", &name, "--help"]) {
        Ok(_) => Ok(()),
        Err(told) => Err(told.into()),
    }
}

pub(crate) fn shortcuts(context: &Context) -> Result<(), Error> {
    let root = arguments::command();
    let mut all = BTreeMap::new();
    for command in root.get_subcommands() {
        all.extend(command.get_visible_aliases().map(|alias| (alias, command.get_name())));
    }
    let printer = context.printer;
    printer.either(&all, || {
        all.iter().try_for_each(|(short, long)| printer.line(format!("{short} -> {long}")))?;
        printer.line("")
    })
}

/// All commands, group by group.
pub(crate) fn overview(root: &Command) -> String {
    let mut text = format!(
        "{}\n\nUsage: paas <command> [<args>...]\n",
        root.get_about().map(ToString::to_string).unwrap_or_default()
    );
    let mut last = "";
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let group = command.get_name().split_once(':').map_or("", |(group, _)| group);
        if group != last || text.ends_with("...]\n") {
            text.push('\n');
        }
        last = group;
        text.push_str(&line(command));
    }
    text.push_str(
        "\nA group's name alone lists: 'paas config' is 'paas config:list'; 'paas config set' is 'paas config:set'.\n\
         A program called paas-<command> on your PATH is a command too.\n\n\
         Options everywhere:\n  \
         -c, --config <PROFILE>    profile to use: a name, or the path of a .json file [env: PAAS_PROFILE]\n      \
         --json                print JSON instead of tables and lists\n  \
         -h, --help                help for a command\n\n\
         Use 'paas help [command]' to learn more about a command, 'paas help topics' about what one does with them.\n",
    );
    text
}

/// The commands of one group, by name or, as in `sharing:add`, by a short name.
fn group_help(root: &Command, group: &str) -> String {
    let mut text = format!("Valid commands for {group}:\n\n");
    let is_of_group = |name: &str| name.split_once(':').is_some_and(|(of, _)| of == group);
    for command in root.get_subcommands() {
        if is_of_group(command.get_name()) || command.get_visible_aliases().any(is_of_group) {
            text.push_str(&line(command));
        }
    }
    text.push_str("\nUse 'paas help [command]' to learn more about a command.\n");
    text
}

fn line(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("  {:<20}{about}", command.get_name());
    if let Some(short) = command.get_visible_aliases().next() {
        // Writing to a String cannot fail.
        let _ = write!(text, " (short: {short})");
    }
    text.push('\n');
    text
}

//! The command line: global options, and the spaced form of a command turned into its colon form.

use std::ffi::{OsStr, OsString};

use clap::Parser;

use crate::commands::Command;

/// Deploy, configure and run apps with `git push`.
#[derive(Debug, Parser)]
#[command(name = "paas", version, disable_help_subcommand = true, infer_long_args = true, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Profile to use: a name, or the path of a .json file
    #[arg(short = 'c', long = "config", global = true, env = "PAAS_PROFILE", hide_env_values = true)]
    pub(crate) profile: Option<String>,
    /// Print JSON instead of tables and lists
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Groups of commands, each with what its bare name means; `None` prints the group's help.
const GROUPS: [(&str, Option<&str>); 9] = [
    ("apps", Some("list")),
    ("auth", None),
    ("builds", Some("list")),
    ("config", Some("list")),
    ("domains", Some("list")),
    ("git", None),
    ("keys", Some("list")),
    ("ps", Some("list")),
    ("releases", Some("list")),
];

/// `config set A=1` becomes `config:set A=1`, a bare `config` becomes `config:list`; the rest stays as it is.
pub(crate) fn colon_form(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = arguments.collect();
    let Some(at) = command_index(&all) else { return all };
    let Some((group, default)) = all.get(at).and_then(|word| GROUPS.iter().find(|(name, _)| word == name)).copied()
    else {
        return all;
    };
    match all.get(at + 1).and_then(|word| word.to_str()) {
        Some(word) if !word.starts_with('-') => {
            let joined = format!("{group}:{word}");
            all.splice(at..=at + 1, [joined.into()]);
        }
        _ => {
            if let Some(default) = default {
                all.splice(at..=at, [format!("{group}:{default}").into()]);
            }
        }
    }
    all
}

/// Where the command stands: the first word that is neither an option nor the value of one.
fn command_index(arguments: &[OsString]) -> Option<usize> {
    let mut words = arguments.iter().enumerate().skip(1);
    while let Some((index, word)) = words.next() {
        if word == OsStr::new("-c") || word == OsStr::new("--config") {
            words.next();
        } else if !word.to_string_lossy().starts_with('-') {
            return Some(index);
        }
    }
    None
}

//! The command line: global options, and the spaced form of a command turned into its colon form.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};

use crate::{
    commands::{Command, help},
    error::Error,
    plugin,
};

/// Deploy, configure and run apps with `git push`.
#[derive(Debug, Parser)]
#[command(name = "paas", version, disable_help_subcommand = true, infer_long_args = true, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Profile to use: a name, or the path of a .json file
    #[arg(
        short = 'c',
        long = "config",
        global = true,
        help_heading = "Options everywhere",
        env = "PAAS_PROFILE",
        hide_env_values = true
    )]
    pub(crate) profile: Option<String>,
    /// Print JSON instead of tables and lists
    #[arg(long, global = true, help_heading = "Options everywhere")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line's grammar, with an overview of the commands as its help.
pub(crate) fn command() -> clap::Command {
    let command = Arguments::command();
    let overview = help::overview(&command);
    command.override_help(overview)
}

/// Reads the command line. Comes back only if it is for this program and not for another one on the PATH.
pub(crate) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Error> {
    let words = colon_form(arguments);
    let matches = command().try_get_matches_from(&words).map_err(|error| {
        let unknown = error.kind() == ErrorKind::InvalidSubcommand;
        unknown.then(|| plugin::run(&words)).flatten().unwrap_or_else(|| error.into())
    })?;
    Ok(Arguments::from_arg_matches(&matches)?)
}

/// Whether it is the name of a group of commands.
pub(crate) fn is_group(name: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == name)
}

/// Groups of commands, each with what its bare name means; `None` prints the group's help.
const GROUPS: [(&str, Option<&str>); 27] = [
    ("apps", Some("list")),
    ("auth", None),
    ("autoscale", Some("list")),
    ("builds", Some("list")),
    ("certs", Some("list")),
    ("config", Some("list")),
    ("domains", Some("list")),
    ("git", None),
    ("healthchecks", Some("list")),
    ("keys", Some("list")),
    ("labels", Some("list")),
    ("limits", Some("list")),
    ("maintenance", Some("info")),
    ("perms", Some("list")),
    ("ps", Some("list")),
    ("registry", Some("list")),
    ("releases", Some("list")),
    ("routing", Some("info")),
    ("runs", Some("list")),
    ("services", Some("list")),
    ("sharing", Some("list")),
    ("tags", Some("list")),
    ("timeouts", Some("list")),
    ("tls", Some("info")),
    ("tokens", Some("list")),
    ("users", Some("list")),
    ("whitelist", Some("list")),
];

/// `config set A=1` becomes `config:set A=1`, a bare `config` becomes `config:list`, and `config --help` becomes
/// `help config`; the rest stays as it is.
fn colon_form(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = arguments.collect();
    let Some(at) = command_index(&all) else {
        if all.len() == 1 {
            all.push("help".into());
        }
        return all;
    };
    let Some((group, default)) = all.get(at).and_then(|word| GROUPS.iter().find(|(name, _)| word == name)).copied()
    else {
        return all;
    };
    let next = all.get(at + 1).and_then(|word| word.to_str());
    match (next, default) {
        (Some("-h" | "--help"), _) => {
            all.splice(at..=at + 1, ["help".into(), group.into()]);
        }
        (Some(word), _) if !word.starts_with('-') => {
            let joined = format!("{group}:{word}");
            match all.get(at + 2).and_then(|word| word.to_str()).filter(|_| joined == "tls:auto") {
                Some(third) => all.splice(at..=at + 2, [format!("{joined}:{third}").into()]),
                None => all.splice(at..=at + 1, [joined.into()]),
            };
        }
        (_, Some(default)) => {
            all.splice(at..=at, [format!("{group}:{default}").into()]);
        }
        (_, None) => {
            all.splice(at..=at, ["help".into(), group.into()]);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn colon(words: &str) -> String {
        let words = std::iter::once("paas").chain(words.split_whitespace()).map(OsString::from);
        let out: Vec<String> = colon_form(words).into_iter().skip(1).map(|word| word.into_string().unwrap()).collect();
        out.join(" ")
    }

    #[test]
    fn the_spaced_form_is_the_colon_form() {
        for (typed, meant) in [
            ("config set A=1", "config:set A=1"),
            ("config:set A=1", "config:set A=1"),
            ("config", "config:list"),
            ("config -a hello", "config:list -a hello"),
            ("-c staging --json config set A=1", "-c staging --json config:set A=1"),
            ("--config=staging apps", "--config=staging apps:list"),
            ("config --help", "help config"),
            ("auth", "help auth"),
            ("git remote", "git:remote"),
            ("tls auto enable -a hello", "tls:auto:enable -a hello"),
            ("tls auto", "tls:auto"),
            ("ps wrong", "ps:wrong"),
            ("sharing add bob", "sharing:add bob"),
            ("sharing", "sharing:list"),
            ("create config", "create config"),
            ("run config set", "run config set"),
            ("help config set", "help config set"),
            ("", "help"),
            ("--help", "--help"),
        ] {
            assert_eq!(colon(typed), meant);
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }
}

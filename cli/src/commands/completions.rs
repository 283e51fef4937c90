//! `completions`: what a shell needs to complete commands and options.

use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::{Shell, generate};

use crate::{error::Error, printer::print};

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas completions bash > ~/.local/share/bash-completion/completions/paas\n  \
                        paas completions zsh > ~/.zfunc/_paas\n  \
                        paas completions fish > ~/.config/fish/completions/paas.fish")]
pub(crate) struct Arguments {
    /// Shell to complete in
    shell: SupportedShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SupportedShell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let shell = match arguments.shell {
        SupportedShell::Bash => Shell::Bash,
        SupportedShell::Zsh => Shell::Zsh,
        SupportedShell::Fish => Shell::Fish,
    };
    let whole = crate::arguments::Arguments::command();
    let mut command = Command::new("paas")
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut script = Vec::new();
    generate(shell, &mut command, "paas", &mut script);
    let script = String::from_utf8_lossy(&script);
    print(&match arguments.shell {
        // Bash would take the colon of a command for the end of a word.
        SupportedShell::Bash => format!("COMP_WORDBREAKS=${{COMP_WORDBREAKS//:/}}\n{script}"),
        SupportedShell::Zsh => with_colons_escaped(&script, &command),
        SupportedShell::Fish => script.into_owned(),
    })
}

/// Zsh takes the first colon of `name:description` for the end of the name.
fn with_colons_escaped(script: &str, command: &Command) -> String {
    command.get_subcommands().fold(script.to_owned(), |script, command| {
        let name = command.get_name();
        script.replace(&format!("'{name}:"), &format!("'{}:", name.replace(':', "\\:")))
    })
}

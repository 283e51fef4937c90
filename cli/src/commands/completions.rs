//! `completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory as _, ValueEnum};
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
    let mut script = Vec::new();
    generate(shell, &mut crate::arguments::Arguments::command(), "paas", &mut script);
    print(&String::from_utf8_lossy(&script))
}

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
        SupportedShell::Bash => format!("COMP_WORDBREAKS=${{COMP_WORDBREAKS//:/}}\n{}", with_apps_in_bash(&script)),
        SupportedShell::Zsh => with_apps_in_zsh(&with_colons_escaped(&script, &command)),
        SupportedShell::Fish => with_apps_in_fish(&script),
    })
}

/// Prints the names of the user's apps. They are names, and nothing that a shell expands, for `paas` takes no others from a
/// controller.
const APPS: &str = "paas apps:list 2>/dev/null | sed 1d";

/// The generated script completes the names of files after `--app`.
fn with_apps_in_bash(script: &str) -> String {
    let mut lines = vec![format!("_paas_apps() {{ {APPS}; }}")];
    let mut after_app = false;
    for line in script.lines() {
        lines.push(if after_app { line.replace("-f \"", "-W \"$(_paas_apps)\" -- \"") } else { line.to_owned() });
        after_app = matches!(line.trim(), "--app)" | "-a)");
    }
    lines.push(String::new());
    lines.join("\n")
}

fn with_apps_in_zsh(script: &str) -> String {
    let apps = format!("_paas_apps() {{ compadd -- ${{(f)\"$({APPS})\"}} }}\n\n_paas() {{");
    script.replace(":APP:_default'", ":APP:_paas_apps'").replacen("_paas() {", &apps, 1)
}

fn with_apps_in_fish(script: &str) -> String {
    let mut lines = vec![format!("function __fish_paas_apps\n    {APPS}\nend\n")];
    lines.extend(script.lines().map(|line| match line.strip_suffix(" -r") {
        Some(app) if app.contains(" -s a -l app ") => format!("{app} -x -a \"(__fish_paas_apps)\""),
        _ => line.to_owned(),
    }));
    lines.push(String::new());
    lines.join("\n")
}

/// Zsh takes the first colon of `name:description` for the end of the name.
fn with_colons_escaped(script: &str, command: &Command) -> String {
    command.get_subcommands().fold(script.to_owned(), |script, command| {
        let name = command.get_name();
        script.replace(&format!("'{name}:"), &format!("'{}:", name.replace(':', "\\:")))
    })
}

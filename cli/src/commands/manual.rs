//! `manual`: a manual page for every command.

use std::{fs, path::PathBuf};

use clap::{Args, Command};

use crate::{arguments, context::Context, error::Error};

/// Write a manual page for every command, for 'man'
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas manual ~/.local/share/man/man1\n  man paas-config-set")]
pub(crate) struct Arguments {
    /// Folder for the pages; it is made when it is not there
    folder: PathBuf,
}

pub(crate) fn run(asked: &Arguments, context: &Context) -> Result<(), Error> {
    let folder = &asked.folder;
    let failed = |error: std::io::Error| Error::new(format!("cannot write the pages to {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    let root = arguments::command();
    let mut count = 1;
    write(&root, "paas", folder.join("paas.1")).map_err(failed)?;
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("paas-{}", command.get_name().replace(':', "-"));
        let page = command.clone().bin_name(format!("paas {}", command.get_name()));
        write(&page, &name, folder.join(format!("{name}.1"))).map_err(failed)?;
        count += 1;
    }
    context.printer.line(format!("{count} pages are in {}", folder.display()))
}

fn write(command: &Command, title: &str, path: PathBuf) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(title.to_uppercase()).section("1").render(&mut page)?;
    fs::write(path, page)
}

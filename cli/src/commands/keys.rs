//! `keys:*`: the SSH keys that may push.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use paas_api::{
    Page,
    client::segment,
    keys::{CreateKey, Key, PublicKey},
};

use crate::{
    context::Context,
    error::Error,
    printer::{Printer, heading},
    profile, prompt,
    session::LimitOption,
};

/// A public key is smaller than this.
const LARGEST_KEY: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "keys:list")]
    List(List),
    #[command(name = "keys:add")]
    Add(Add),
    #[command(name = "keys:remove")]
    Remove(Remove),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Add(arguments) => add(arguments, context).await,
            Self::Remove(arguments) => remove(&arguments, context).await,
        }
    }
}

/// List your SSH keys
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas keys\n  paas keys:list --json")]
pub(crate) struct List {
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let keys: Page<Key> = session.get(&format!("/v2/keys/{}", arguments.limit.query(&session))).await?;
    let printer = context.printer;
    printer.either(&keys.results, || {
        printer.line(heading(&format!("{} Keys", session.profile.username), &keys))?;
        let width = keys.results.iter().map(|key| key.id.chars().count()).max().unwrap_or_default();
        keys.results.iter().try_for_each(|key| printer.line(format!("{:width$} {}", key.id, shortened(&key.public))))
    })
}

/// The first 16 and the last 10 characters.
fn shortened(public: &str) -> String {
    let count = public.chars().count();
    if count <= 26 {
        return public.to_owned();
    }
    let start: String = public.chars().take(16).collect();
    let end: String = public.chars().skip(count - 10).collect();
    format!("{start}...{end}")
}

/// Add an SSH key, so that it may push
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas keys:add ~/.ssh/id_ed25519.pub\n  paas keys:add laptop ~/.ssh/id_ed25519.pub\n\n\
                        Without a file, lists ~/.ssh/*.pub and asks."
)]
pub(crate) struct Add {
    /// File with the public half; or a name for the key, when a file follows
    #[arg(value_name = "NAME|FILE")]
    name_or_file: Option<String>,
    /// File with the public half
    file: Option<PathBuf>,
}

async fn add(arguments: Add, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let (name, path) = match (arguments.name_or_file, arguments.file) {
        (name, Some(file)) => (name, file),
        (Some(file), None) => (None, file.into()),
        (None, None) => (None, chosen(context.printer)?),
    };
    let key = read_key(&path)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let id = name.unwrap_or_else(|| name_of(&key, &file_name));
    let body = CreateKey { id, public: key.to_string() };
    let upload = session.post::<Key>("/v2/keys/", &body);
    let what = format!("Uploading {file_name} to paas... ");
    let shown = path.display();
    let key = context.printer.waiting(&what, upload).await.map_err(|error| {
        let text = error.to_string();
        if text.contains("already in use") {
            error.hint("a key is one user's; see with 'paas keys' whether it is yours already")
        } else if text.contains("with this id already exists") {
            error.hint(format!(
                "'paas keys' shows whether it is this one; under another name: paas keys:add NAME {shown}"
            ))
        } else {
            error
        }
    })?;
    context.printer.either(&key, || context.printer.line("done"))
}

/// The comment, else the file's name up to its first dot.
fn name_of(key: &PublicKey, file_name: &str) -> String {
    match key.comment() {
        "" => file_name.split('.').next().unwrap_or(file_name).to_owned(),
        comment => comment.to_owned(),
    }
}

/// Reads a public key, and refuses a private one before anything of it is sent.
fn read_key(path: &Path) -> Result<PublicKey, Error> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LARGEST_KEY).read_to_string(&mut text)).map_err(|error| {
        Error::new(format!("cannot read the key file {shown}: {error}"))
            .hint("'ssh-keygen -t ed25519' makes a key; its public half is ~/.ssh/id_ed25519.pub")
    })?;
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::new(format!("{shown} is a private key, which stays on this machine"))
            .hint(format!("add its public half: paas keys:add {shown}.pub")));
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    PublicKey::parse(first).map_err(|error| {
        Error::new(format!("{shown} is not a public SSH key: {error}"))
            .hint("such a file holds one line, like: ssh-ed25519 AAAA… ann@laptop")
    })
}

/// Asks which of the user's public keys to use.
fn chosen(printer: Printer) -> Result<PathBuf, Error> {
    if !prompt::can_ask() {
        return Err(Error::usage("no key file is given, and there is no terminal to ask on")
            .hint("give the file with the public key: paas keys:add ~/.ssh/id_ed25519.pub"));
    }
    let folder = profile::home()?.join(".ssh");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|it| it == "pub"))
                .collect()
        })
        .unwrap_or_default();
    files.sort();
    if files.is_empty() {
        return Err(Error::new(format!("there is no public key in {}", folder.display()))
            .hint("'ssh-keygen -t ed25519' makes one"));
    }
    printer.line("Found the following SSH public keys:")?;
    for (index, file) in files.iter().enumerate() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let comment = read_key(file).map(|key| key.comment().to_owned()).unwrap_or_default();
        printer.line(format!("{}) {name} {comment}", index + 1))?;
    }
    printer.line("0) Enter path to pubfile (or use keys:add <key_path>)")?;
    printer.ask("Which would you like to use with paas? ")?;
    let answer = prompt::read_line()?;
    match answer.trim().parse::<usize>() {
        Ok(0) => {
            printer.ask("Enter the path to the pubkey file: ")?;
            Ok(PathBuf::from(prompt::read_line()?))
        }
        Ok(number) if number <= files.len() => Ok(files.swap_remove(number - 1)),
        _ => Err(Error::new(format!("'{answer}' is none of the numbers from 0 to {}", files.len()))),
    }
}

/// Remove an SSH key; what is pushed with it ends too
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas keys:remove ann@laptop")]
pub(crate) struct Remove {
    /// Name of the key, as 'paas keys' shows it
    key: String,
}

async fn remove(arguments: &Remove, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let path = format!("/v2/keys/{}", segment(&arguments.key));
    context.printer.waiting(&format!("Removing {} SSH Key... ", arguments.key), session.delete(&path)).await?;
    context.printer.line("done")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGr5P45bUsR/3lxJJDHSnSJB/i3ozVarCwS/R94eLfG7";

    #[test]
    fn a_key_is_named_by_its_comment_or_its_file() {
        assert_eq!(name_of(&PublicKey::parse(&format!("{KEY} ann@laptop")).unwrap(), "id.pub"), "ann@laptop");
        assert_eq!(name_of(&PublicKey::parse(KEY).unwrap(), "id.old.pub"), "id");
    }

    #[test]
    fn a_key_is_shown_by_its_ends() {
        assert_eq!(shortened(&format!("{KEY} ann@laptop")), "ssh-ed25519 AAAA...ann@laptop");
        assert_eq!(shortened("short"), "short");
    }
}

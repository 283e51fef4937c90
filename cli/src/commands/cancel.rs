//! `auth:cancel`: the end of an account.

use clap::Args;
use paas_api::{
    Secret, Username,
    auth::Cancel,
    client::{Client, Credentials},
};
use serde_json::json;

use crate::{
    commands::{auth::new_token, perms::hint_no_user},
    context::Context,
    error::Error,
    printer::{Printer, aside},
    profile, prompt,
    refusal::explain,
    session::Session,
};

/// Cancel an account: your own, or as an administrator another user's
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas auth:cancel\n  paas auth:cancel --username bob --yes   (administrators)\n\n\
                        Your own account wants your password once more. Who owns apps destroys them first, or gives them away \
                        with 'paas apps:transfer'.")]
pub(crate) struct Arguments {
    /// Another user, whose password is not needed; administrators only
    #[arg(long)]
    username: Option<Username>,
    /// Password of the account; `-` reads a line from standard input; asked for when absent and the account is yours
    #[arg(long)]
    password: Option<Secret>,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let controller = &session.profile.controller;
    let printer = context.printer;
    let (mine, name) = match &arguments.username {
        Some(username) => (username.as_str() == session.profile.username, username.as_str()),
        None => (true, session.profile.username.as_str()),
    };
    let password = if mine || arguments.password.is_some() {
        printer.line("Please log in again in order to cancel this account")?;
        Some(prompt::password(arguments.password, "password: ", "--password")?)
    } else {
        None
    };
    if !arguments.yes && !confirmed(name, controller, printer)? {
        return aside("Account not changed");
    }
    let (client, body) = match password {
        Some(password) => (as_that_user(&session, name, password).await?, Cancel::default()),
        None => (session.client().clone(), Cancel { username: Some(name.to_owned()) }),
    };
    client.delete_with("/v2/auth/cancel/", &body).await.map_err(|error| {
        let told = explain(&error, controller);
        let told = if told.to_string().contains("still has applications") {
            told.hint("'paas apps' lists them; 'paas apps:transfer' gives one away, 'paas destroy' ends one")
        } else {
            told
        };
        match &arguments.username {
            Some(username) => hint_no_user(told, username),
            None => told,
        }
    })?;
    if mine {
        profile::remove(&context.profile_path()?)?;
    }
    printer.either(&json!({"cancelled": name}), || printer.line("Account cancelled"))
}

fn confirmed(name: &str, controller: &str, printer: Printer) -> Result<bool, Error> {
    if printer.is_json() {
        return Err(Error::usage("nothing can be asked while JSON is printed").hint("give --yes"));
    }
    printer.ask(&format!("cancel account {name} at {controller}? (y/N): "))?;
    Ok(prompt::read_line()?.trim().eq_ignore_ascii_case("y"))
}

/// A client that has shown to be that user.
async fn as_that_user(session: &Session, name: &str, password: Secret) -> Result<Client, Error> {
    let controller = &session.profile.controller;
    let nobody = session.client().with(Credentials::Anonymous);
    let token = new_token(&nobody, controller, name, password).await?;
    Ok(nobody.with(Credentials::Token(token)))
}

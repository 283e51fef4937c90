//! `auth:*`: users, sessions and tokens.

use clap::{ArgAction, Args, Subcommand};
use paas_api::{
    Secret,
    auth::{self, ChangePassword, Login, Register, Token, User},
    client::Client,
};
use reqwest::StatusCode;
use serde_json::json;
use url::Url;

use crate::{
    commands::cancel,
    context::Context,
    error::Error,
    profile::{self, Profile},
    prompt,
    refusal::explain,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "auth:register", visible_alias = "register")]
    Register(SignUp),
    #[command(name = "auth:login", visible_alias = "login")]
    Login(LogIn),
    #[command(name = "auth:logout", visible_alias = "logout")]
    Logout(LogOut),
    #[command(name = "auth:passwd", visible_alias = "passwd")]
    Passwd(Passwd),
    #[command(name = "auth:whoami", visible_alias = "whoami")]
    Whoami(WhoAmI),
    #[command(name = "auth:cancel")]
    Cancel(cancel::Arguments),
    #[command(name = "auth:regenerate")]
    Regenerate(Regenerate),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Register(arguments) => register(arguments, context).await,
            Self::Login(arguments) => login(arguments, context).await,
            Self::Logout(_) => logout(context),
            Self::Passwd(arguments) => passwd(arguments, context).await,
            Self::Whoami(arguments) => whoami(&arguments, context).await,
            Self::Cancel(arguments) => cancel::run(arguments, context).await,
            Self::Regenerate(arguments) => regenerate(arguments, context).await,
        }
    }
}

/// Which controller, and who is there.
#[derive(Debug, Args)]
struct Account {
    #[arg(help = "Address of the controller, such as http://paas.localhost:8080")]
    controller: String,
    /// Name of the user; asked for when absent
    #[arg(long)]
    username: Option<String>,
    /// Password; `-` reads a line from standard input; asked for when absent
    #[arg(long)]
    password: Option<Secret>,
    /// Whether to check the controller's TLS certificate
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    ssl_verify: bool,
}

/// Register a new user at a controller
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas register http://paas.localhost:8080\n  \
                        paas register http://paas.localhost:8080 --username ann --password - < password-file\n\n\
                        The first user becomes administrator; later, administrators register the others.")]
pub(crate) struct SignUp {
    #[command(flatten)]
    account: Account,
    /// Address for mail
    #[arg(long)]
    email: Option<String>,
    /// One-time token that the controller printed at its first start, for the first user from another machine
    #[arg(long, value_name = "TOKEN")]
    setup_token: Option<Secret>,
    /// Whether to log in as the new user
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    login: bool,
}

async fn register(arguments: SignUp, context: &Context) -> Result<(), Error> {
    let account = arguments.account;
    let controller = profile::controller_url(&account.controller)?;
    // An administrator's own session, if it is with this controller, lets them register others.
    let token = profile::load(&context.profile_path()?)
        .ok()
        .filter(|profile| profile.controller == profile::shown(&controller))
        .map(|profile| profile.token);
    let client = connect(context, &controller, account.ssl_verify).await?;
    let username = prompt::given_or_asked(account.username, "username: ", "--username", context.printer)?;
    let password = prompt::new_password(account.password, "password: ", "--password")?;
    let body = Register {
        username: username.clone(),
        password: password.clone(),
        email: arguments.email,
        setup_token: arguments.setup_token,
    };
    let registering = match token {
        Some(token) => context.client(controller.clone(), Some(token), account.ssl_verify)?,
        None => client.clone(),
    };
    let user: User = registering.post("/v2/auth/register/", &body).await.map_err(|error| {
        let told = explain(&error, &profile::shown(&controller)).after("Registration failed: ");
        if error.status() != Some(StatusCode::FORBIDDEN) {
            return told;
        }
        if error.to_string().contains("set-up token") {
            return told
                .hint("give the token as --setup-token; the controller prints it until there is an administrator");
        }
        told.hint("only an administrator registers others: log in as one first")
    })?;
    context.printer.line(format!("Registered {}", user.username))?;
    if arguments.login {
        return start_session(context, &client, &controller, account.ssl_verify, username, password).await;
    }
    context.printer.either(&user, || Ok(()))
}

/// Log in to a controller
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas login http://paas.localhost:8080\n  \
                        paas login https://paas.example.com --username ann --password - < password-file\n  \
                        paas login https://staging.example.com -c staging")]
pub(crate) struct LogIn {
    #[command(flatten)]
    account: Account,
}

async fn login(arguments: LogIn, context: &Context) -> Result<(), Error> {
    let account = arguments.account;
    let controller = profile::controller_url(&account.controller)?;
    let client = connect(context, &controller, account.ssl_verify).await?;
    let username = prompt::given_or_asked(account.username, "username: ", "--username", context.printer)?;
    let password = prompt::password(account.password, "password: ", "--password")?;
    start_session(context, &client, &controller, account.ssl_verify, username, password).await
}

/// A client of what has shown itself to be a controller.
async fn connect(context: &Context, controller: &Url, verify: bool) -> Result<Client, Error> {
    let address = profile::shown(controller);
    let client = context.client(controller.clone(), None, verify)?;
    let (status, version) = client.probe("/v2/").await.map_err(|error| explain(&error, &address))?;
    if status == StatusCode::UNAUTHORIZED && version.is_some_and(|version| version.contains('.')) {
        return Ok(client);
    }
    Err(Error::new(format!("{address} does not appear to be a valid Deis controller"))
        .hint(format!("asked without a token it must answer 401, and it answered {status}"))
        .hint("check the address and that the platform is running"))
}

async fn start_session(
    context: &Context,
    client: &Client,
    controller: &Url,
    verify: bool,
    username: String,
    password: Secret,
) -> Result<(), Error> {
    let token = new_token(client, &profile::shown(controller), &username, password).await?;
    let path = context.profile_path()?;
    profile::save(&path, &Profile::new(username.clone(), controller, verify, token))?;
    let printer = context.printer;
    let session = json!({"username": username, "controller": profile::shown(controller), "profile": path});
    printer.either(&session, || {
        printer.line(format!("Logged in as {username}"))?;
        printer.line(format!("Configuration file written to {}", path.display()))
    })
}

/// The token that a user gets for a password; the client is nobody's.
pub(crate) async fn new_token(
    client: &Client,
    controller: &str,
    username: &str,
    password: Secret,
) -> Result<Secret, Error> {
    let body = Login { username: username.to_owned(), password };
    let token: Token = client.post("/v2/auth/login/", &body).await.map_err(|error| match error.status() {
        // Nobody is logged in yet, so there is no token to be wrong.
        Some(StatusCode::UNAUTHORIZED) => Error::new("Unable to log in with provided credentials."),
        _ => explain(&error, controller),
    })?;
    Ok(token.token)
}

/// Forget the session on this machine
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas logout\n  paas logout -c staging")]
pub(crate) struct LogOut {}

fn logout(context: &Context) -> Result<(), Error> {
    profile::remove(&context.profile_path()?)?;
    context.printer.line("Logged out")
}

/// Change a password
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas passwd\n  paas passwd --username bob   (administrators)")]
pub(crate) struct Passwd {
    /// Current password; `-` reads a line from standard input; asked for when absent
    #[arg(long)]
    password: Option<Secret>,
    /// New password; `-` reads a line from standard input; asked for when absent
    #[arg(long)]
    new_password: Option<Secret>,
    /// Another user, whose current password is not needed; administrators only
    #[arg(long)]
    username: Option<String>,
}

async fn passwd(arguments: Passwd, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let password = match (&arguments.username, arguments.password) {
        (Some(_), None) => None,
        (_, given) => Some(prompt::password(given, "current password: ", "--password")?),
    };
    let new_password = prompt::new_password(arguments.new_password, "new password: ", "--new-password")?;
    let body = ChangePassword { username: arguments.username, password, new_password };
    session.client().post_for_nothing("/v2/auth/passwd/", &body).await.map_err(|error| {
        // 401 is also the answer to a wrong current password.
        let wrong =
            matches!(&error, paas_api::client::ClientError::Refused { raw, .. } if raw.contains("does not match"));
        let told = if wrong {
            Error::new("Current password does not match")
        } else {
            explain(&error, &session.profile.controller)
        };
        told.after("Password change failed: ")
    })?;
    context.printer.line("Password change succeeded.")
}

/// Show who is logged in, and where
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas whoami\n  paas whoami --all")]
pub(crate) struct WhoAmI {
    /// Show all that is known about the user
    #[arg(long)]
    all: bool,
}

async fn whoami(arguments: &WhoAmI, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let user: User = session.get("/v2/auth/whoami/").await?;
    let printer = context.printer;
    let controller = &session.profile.controller;
    printer.either(&json!({"user": user, "controller": controller}), || {
        if !arguments.all {
            return printer.line(format!("You are {} at {controller}", user.username));
        }
        let last_login = user.last_login.map(|moment| moment.to_string()).unwrap_or_default();
        printer.line("ID: 0")?;
        printer.line(format!("Username: {}", user.username))?;
        printer.line(format!("Email: {}", user.email))?;
        printer.line(format!("First Name: {}", user.first_name))?;
        printer.line(format!("Last Name: {}", user.last_name))?;
        printer.line(format!("Last Login: {last_login}"))?;
        printer.line(format!("Is Superuser: {}", user.is_superuser))?;
        printer.line(format!("Is Staff: {}", user.is_staff))?;
        printer.line(format!("Is Active: {}", user.is_active))?;
        printer.line(format!("Date Joined: {}", user.date_joined))
    })
}

/// Replace the session's token with a new one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas auth:regenerate\n  paas auth:regenerate --username bob   (administrators)")]
pub(crate) struct Regenerate {
    /// Another user; administrators only
    #[arg(short, long, conflicts_with = "all")]
    username: Option<String>,
    /// Everybody, yourself too; administrators only
    #[arg(long)]
    all: bool,
}

async fn regenerate(arguments: Regenerate, context: &Context) -> Result<(), Error> {
    let mut session = context.session()?;
    let path = "/v2/auth/tokens/";
    let other = arguments.username.as_ref().filter(|username| **username != session.profile.username);
    match (other, arguments.all) {
        (Some(username), _) => {
            let of = auth::Regenerate { username: Some(username.clone()), all: None };
            session.post_for_nothing(path, &of).await?;
        }
        (None, true) => {
            session.post_for_nothing(path, &auth::Regenerate { username: None, all: Some(true) }).await?;
        }
        (None, false) => {
            let token: Token = session.post(path, &json!({})).await?;
            session.profile.token = token.token;
            profile::save(&context.profile_path()?, &session.profile)?;
        }
    }
    context.printer.line("Token Regenerated")?;
    if arguments.all {
        context.printer.line("Your own session has ended too: log in again.")?;
    }
    Ok(())
}

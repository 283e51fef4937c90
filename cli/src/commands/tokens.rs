//! `tokens:*`: what programs prove themselves with in your name.

use clap::{Args, Subcommand};
use paas_api::{
    Page,
    auth::{CreateToken, CreatedToken, TokenName, TokenShown},
    client::segment,
};

use crate::{context::Context, error::Error, printer::heading, session::LimitOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "tokens:list")]
    List(List),
    #[command(name = "tokens:create")]
    Create(Create),
    #[command(name = "tokens:remove")]
    Remove(Remove),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Create(arguments) => create(&arguments, context).await,
            Self::Remove(arguments) => remove(&arguments, context).await,
        }
    }
}

/// List your tokens and when each was last used
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tokens\n  paas tokens:list --json\n\n\
                        A login makes a token without a name. The one marked with * is the one in use here.")]
pub(crate) struct List {
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let tokens: Page<TokenShown> = session.get(&format!("/v2/tokens{}", arguments.limit.query(&session))).await?;
    let printer = context.printer;
    printer.either(&tokens.results, || {
        printer.line(heading(&format!("{} Tokens (*=in use here)", session.profile.username), &tokens))?;
        let width = tokens.results.iter().map(|token| shown(token).chars().count()).max().unwrap_or_default();
        tokens.results.iter().try_for_each(|token| {
            let used = token.last_used.map_or_else(|| "never used".to_owned(), |moment| format!("last used {moment}"));
            printer.line(format!("{:width$}  made {}  {used}", shown(token), token.created))
        })
    })
}

/// How a token is called: its name, or the id by which one that a login made can be removed.
fn shown(token: &TokenShown) -> String {
    let mark = if token.current { "*" } else { "" };
    if token.name.is_empty() { format!("{mark}login {}", token.id) } else { format!("{mark}{}", token.name) }
}

/// Make a token for a program; it is shown this once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tokens:create ci\n  paas tokens:create ci --json\n\n\
                        The program sends it as the header 'Authorization: token <token>', and may do what you may.")]
pub(crate) struct Create {
    /// Name of the token, such as the program's
    name: TokenName,
}

async fn create(arguments: &Create, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let body = CreateToken { name: arguments.name.clone() };
    let making = session.post::<CreatedToken>("/v2/tokens", &body);
    let made = context.printer.waiting(&format!("Creating token {}... ", arguments.name), making).await?;
    context.printer.either(&made, || {
        context.printer.line("done; keep it safe, it is not shown again")?;
        context.printer.line(made.token.expose())
    })
}

/// Remove a token; what is open with it ends at once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tokens:remove ci\n  paas tokens:remove 0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a")]
pub(crate) struct Remove {
    /// Name of the token, or its id, as 'paas tokens' shows them
    token: String,
}

async fn remove(arguments: &Remove, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let path = format!("/v2/tokens/{}", segment(&arguments.token));
    context.printer.waiting(&format!("Removing token {}... ", arguments.token), session.delete(&path)).await?;
    context.printer.line("done")
}

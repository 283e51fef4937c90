//! Who may do what: extractors whose type proves the right. A handler that takes none of them is open to everybody.

use std::time::Duration;

use axum::{
    RequestPartsExt as _,
    extract::{FromRequestParts, RawPathParams},
};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use paas_api::{AppName, BUILDER_AUTH_HEADER, Secret};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    Api,
    error::{Answer, ApiError, FORBIDDEN, NO_CREDENTIALS},
    headers::RequestNote,
};
use crate::{
    db::{apps, tokens, users},
    deploy::signals::Signal,
    domain::{app::App, user::User},
};

/// What a route asks of its caller. The extractor in the handler is what enforces it; this is what the tests compare it
/// with, and what a wrong method is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Anonymous,
    /// A valid token.
    User,
    /// A right to the app in the path.
    App,
    /// The app's owner or an administrator.
    AppOwner,
    /// An administrator.
    Admin,
    /// The builder's key.
    Builder,
    /// The routers' token.
    Router,
}

impl Level {
    /// Checks the part of the level that needs no app.
    pub(super) async fn check(self, parts: &mut Parts, api: &Api) -> Answer<()> {
        match self {
            Self::Anonymous => Ok(()),
            Self::User | Self::App | Self::AppOwner => Authenticated::from_request_parts(parts, api).await.map(drop),
            Self::Admin => Admin::from_request_parts(parts, api).await.map(drop),
            Self::Builder => Builder::from_request_parts(parts, api).await.map(drop),
            Self::Router => Router::from_request_parts(parts, api).await.map(drop),
        }
    }
}

/// A user with a valid token.
#[derive(Debug)]
pub(crate) struct Authenticated(pub(crate) User);

/// A user, and the token that proved it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The user.
    pub(crate) user: User,
    /// The token.
    pub(crate) token: TokenHash,
}

/// A user where one is welcome but not needed: a bad token counts as none.
#[derive(Debug)]
pub(crate) struct Maybe(pub(crate) Option<User>);

/// An administrator.
#[derive(Debug)]
pub(crate) struct Admin(());

/// A user who may use the app in the path: its owner, a collaborator, or an administrator.
#[derive(Debug)]
pub(crate) struct AppAccess {
    /// The user.
    pub(crate) user: User,
    /// The app.
    pub(crate) app: App,
    /// The token that the user came with.
    pub(crate) token: TokenHash,
}

/// A user who may do anything to the app in the path: its owner or an administrator.
#[derive(Debug)]
pub(crate) struct AppOwner {
    /// The user.
    pub(crate) user: User,
    /// The app.
    pub(crate) app: App,
}

/// The builder.
#[derive(Debug)]
pub(crate) struct Builder(());

/// A router.
#[derive(Debug)]
pub(crate) struct Router(());

/// The hash by which the database knows a token.
pub(crate) type TokenHash = [u8; 32];

/// The hash of a token.
pub(crate) fn token_hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// The credentials that follow a scheme in `Authorization`, when that is the scheme.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<Result<&'a str, &'static str>> {
    let value = headers.get(AUTHORIZATION)?;
    let Ok(text) = value.to_str() else {
        return Some(Err("Invalid token header. Token string should not contain invalid characters."));
    };
    let mut words = text.split_whitespace();
    if !words.next()?.eq_ignore_ascii_case(scheme) {
        return None;
    }
    Some(match (words.next(), words.next()) {
        (None, _) => Err("Invalid token header. No credentials provided."),
        (Some(_), Some(_)) => Err("Invalid token header. Token string should not contain spaces."),
        (Some(token), None) => Ok(token),
    })
}

fn same(given: &str, wanted: &Secret) -> bool {
    given.as_bytes().ct_eq(wanted.expose().as_bytes()).into()
}

async fn authenticate(parts: &Parts, api: &Api) -> Answer<(User, TokenHash)> {
    let token = credentials(&parts.headers, "token").ok_or(ApiError::Unauthenticated(NO_CREDENTIALS))?;
    let hash = token_hash(token.map_err(ApiError::Unauthenticated)?);
    let mut connection = api.pool().acquire().await?;
    let user =
        users::lookup_by_token(&mut connection, &hash).await?.ok_or(ApiError::Unauthenticated("Invalid token."))?;
    tokens::touch(&mut connection, &hash).await?;
    if let Some(note) = parts.extensions.get::<RequestNote>() {
        note.user(&user.username);
    }
    Ok((user, hash))
}

impl FromRequestParts<Api> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        Ok(Self(authenticate(parts, api).await?.0))
    }
}

impl FromRequestParts<Api> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let (user, token) = authenticate(parts, api).await?;
        Ok(Self { user, token })
    }
}

impl FromRequestParts<Api> for Maybe {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        match Authenticated::from_request_parts(parts, api).await {
            Ok(Authenticated(user)) => Ok(Self(Some(user))),
            Err(ApiError::Unauthenticated(_)) => Ok(Self(None)),
            Err(other) => Err(other),
        }
    }
}

impl FromRequestParts<Api> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let Authenticated(user) = Authenticated::from_request_parts(parts, api).await?;
        if user.is_superuser { Ok(Self(())) } else { Err(ApiError::Forbidden(FORBIDDEN)) }
    }
}

impl FromRequestParts<Api> for AppAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let named = app_in_path(parts).await?;
        let (user, token) = authenticate(parts, api).await?;
        let mut connection = api.pool().acquire().await?;
        let app = match named {
            Some(name) => apps::lookup(&mut connection, &name).await?,
            None => None,
        };
        let app = app.ok_or(ApiError::NotFound("App"))?;
        if apps::may_use(&mut connection, &app, &user).await? {
            Ok(Self { user, app, token })
        } else {
            Err(ApiError::Forbidden(FORBIDDEN))
        }
    }
}

impl FromRequestParts<Api> for AppOwner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let AppAccess { user, app, .. } = AppAccess::from_request_parts(parts, api).await?;
        if is_master(&user, &app) { Ok(Self { user, app }) } else { Err(ApiError::Forbidden(FORBIDDEN)) }
    }
}

/// How long a lost right may go unheard of, when the signal of it was lost too.
const CHECK: Duration = Duration::from_secs(10);

/// Waits until a token may no longer use an app: it or its user was removed, or the user's right to the app.
pub(crate) async fn revoked(api: Api, token: TokenHash, app: App) {
    let mut hearing = api.platform().signals.hear();
    loop {
        // While the database is away nobody can say; the next look will.
        if let Ok(false) = still_may_use(&api, &token, &app).await {
            return;
        }
        hearing.wait_for(CHECK, |signal| signal == Signal::Access).await;
    }
}

/// Whether a token is still one of a user who may use an app.
async fn still_may_use(api: &Api, token: &TokenHash, app: &App) -> Answer<bool> {
    let mut connection = api.pool().acquire().await?;
    let Some(user) = users::lookup_by_token(&mut connection, token).await? else { return Ok(false) };
    let Some(app) = apps::lookup_by_id(&mut connection, app.id).await? else { return Ok(false) };
    Ok(apps::may_use(&mut connection, &app, &user).await?)
}

/// Whether a user may do anything to an app.
pub(crate) fn is_master(user: &User, app: &App) -> bool {
    user.is_superuser || user.id == app.owner_id
}

/// The app's name in the path: `None` when no app can have it, an unrouted path when it is not even made of the right
/// letters (contract §1.0.1).
async fn app_in_path(parts: &mut Parts) -> Answer<Option<AppName>> {
    let params: RawPathParams = parts.extract().await.map_err(|_| ApiError::Unrouted)?;
    let text = params.iter().find(|(key, _)| *key == "app").map(|(_, value)| value).ok_or(ApiError::Unrouted)?;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.bytes().all(legal) { Ok(text.parse().ok()) } else { Err(ApiError::Unrouted) }
}

impl FromRequestParts<Api> for Builder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let given = parts.headers.get(BUILDER_AUTH_HEADER).and_then(|value| value.to_str().ok());
        if given.is_some_and(|given| same(given, &api.rules().builder_key)) {
            if let Some(note) = parts.extensions.get::<RequestNote>() {
                note.caller("builder");
            }
            return Ok(Self(()));
        }
        // A user's token is no key; without one, nobody asked.
        Authenticated::from_request_parts(parts, api).await?;
        Err(ApiError::Forbidden(FORBIDDEN))
    }
}

impl FromRequestParts<Api> for Router {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Answer<Self> {
        let given = credentials(&parts.headers, "bearer").ok_or(ApiError::Unauthenticated(NO_CREDENTIALS))?;
        let given = given.map_err(ApiError::Unauthenticated)?;
        if !same(given, &api.rules().router_token) {
            return Err(ApiError::Unauthenticated("Invalid token."));
        }
        if let Some(note) = parts.extensions.get::<RequestNote>() {
            note.caller("router");
        }
        Ok(Self(()))
    }
}

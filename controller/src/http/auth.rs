//! Users: registration, login, passwords and tokens (contract §1.2).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, request::Parts};
use paas_api::{Secret, Username, auth};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use sqlx::PgConnection;
use subtle::ConstantTimeEq as _;

use super::{
    Api,
    access::{Authenticated, Level, Maybe, token_hash},
    body::Fields,
    client,
    describe::{anything, nothing, object, one},
    error::{Answer, ApiError, FORBIDDEN},
    passwords,
    router::Routes,
};
use crate::{
    db::{self, tokens, users},
    domain::user::User,
    settings::Registration,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .post(Level::Anonymous, "/v2/auth/register", register)
        .says("Makes a user; the first one is the administrator")
        .takes(one::<auth::Register>)
        .gives(201, one::<auth::User>)
        .refuses(&[403])
        .post(Level::Anonymous, "/v2/auth/login", log_in)
        .says("Makes a token of the user with that password")
        .takes(one::<auth::Login>)
        .gives(200, one::<auth::Token>)
        .get(Level::User, "/v2/auth/whoami", who_am_i)
        .says("The user whose token it is")
        .gives(200, one::<auth::User>)
        .post(Level::User, "/v2/auth/passwd", change_password)
        .says("Sets a password, one's own or as an administrator another's")
        .takes(one::<auth::ChangePassword>)
        .gives(200, object)
        .refuses(&[403, 404])
        .delete(Level::User, "/v2/auth/cancel", cancel)
        .says("Removes a user, oneself or as an administrator another")
        .may_take(one::<auth::Cancel>)
        .gives(204, nothing)
        .refuses(&[403, 404, 409])
        .post(Level::User, "/v2/auth/tokens", regenerate)
        .says("Replaces all tokens of a user by a new one; with `all`, removes everybody's")
        .may_take(one::<auth::Regenerate>)
        .gives(200, anything)
        .refuses(&[403, 404])
}

/// A user as the API shows one.
pub(super) fn show(user: User) -> auth::User {
    auth::User {
        email: user.email,
        username: user.username.into(),
        first_name: user.first_name,
        last_name: user.last_name,
        is_superuser: user.is_superuser,
        is_staff: user.is_superuser,
        groups: Vec::new(),
        user_permissions: Vec::new(),
        last_login: user.last_login.map(Into::into),
        date_joined: user.date_joined.into(),
        is_active: true,
    }
}

/// The user of that name.
pub(super) async fn get(connection: &mut PgConnection, username: &str) -> Answer<User> {
    // No user can have a name with a NUL, and the database would not even look for it.
    let legal = username.parse::<Username>().is_ok();
    let found = if legal { users::lookup(connection, username).await? } else { None };
    found.ok_or(ApiError::NotFound("User"))
}

const FIRST_ONE: &str = "The first user becomes the administrator, and must register on the controller's own machine, \
                         or with the set-up token that the controller printed at its start.";
const NAME_TAKEN: &str = "A user with that username already exists.";

/// Who wants to register, as far as it matters for whether they may.
struct Applicant {
    is_administrator: bool,
    is_local: bool,
    setup_token: Option<Secret>,
}

/// Whether an applicant may register, and whether as an administrator.
async fn admit(connection: &mut PgConnection, api: &Api, applicant: &Applicant) -> Answer<bool> {
    let registration = api.rules().registration;
    if registration == Registration::Disabled {
        return Err(ApiError::Forbidden("Registration is disabled"));
    }
    if users::count_administrators(connection).await? == 0 {
        let wanted = api.rules().setup_token.expose().as_bytes();
        let told = applicant.setup_token.as_ref().is_some_and(|given| given.expose().as_bytes().ct_eq(wanted).into());
        return if told || applicant.is_local { Ok(true) } else { Err(ApiError::Forbidden(FIRST_ONE)) };
    }
    if registration == Registration::Enabled || applicant.is_administrator {
        Ok(false)
    } else {
        Err(ApiError::Forbidden(FORBIDDEN))
    }
}

async fn register(
    Maybe(caller): Maybe,
    State(api): State<Api>,
    client: Client,
    mut fields: Fields,
) -> Answer<(StatusCode, Json<auth::User>)> {
    let username = fields.parsed::<Username>("username");
    let password: Secret = fields.required("password", passwords::LONGEST).into();
    let email = fields.optional("email", 254).unwrap_or_default();
    if !email.is_empty() && !is_email(&email) {
        fields.refuse("email", "Enter a valid email address.");
    }
    let first_name = fields.optional("first_name", 30).unwrap_or_default();
    let last_name = fields.optional("last_name", 150).unwrap_or_default();
    let setup_token = fields.optional("setup_token", 100).map(Secret::from);

    let is_administrator = caller.is_some_and(|caller| caller.is_superuser);
    let applicant = Applicant { is_administrator, is_local: client.is_local, setup_token };
    let mut connection = api.pool().acquire().await?;
    admit(&mut connection, &api, &applicant).await?;
    if let Some(username) = &username
        && users::lookup(&mut connection, username.as_str()).await?.is_some()
    {
        fields.refuse("username", NAME_TAKEN);
    }
    drop(connection);
    fields.check()?;
    let username = username.ok_or_else(|| ApiError::field("username", "This field is required."))?;
    let password_hash = api.passwords().hash(password).await?;

    // Of two first ones at once, one becomes the administrator: it is decided again, under a lock.
    let mut transaction = api.pool().begin().await?;
    users::lock_administrators(&mut transaction).await?;
    let is_superuser = admit(&mut transaction, &api, &applicant).await?;
    let user = users::NewUser {
        username: &username,
        password_hash: &password_hash,
        email: &email,
        first_name: &first_name,
        last_name: &last_name,
        is_superuser,
    };
    let user = users::insert(&mut transaction, user).await.map_err(|error| match db::unique_violation(&error) {
        Some(_) => ApiError::field("username", NAME_TAKEN),
        None => error.into(),
    })?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(show(user))))
}

/// What is known of the client from the network.
struct Client {
    is_local: bool,
}

impl axum::extract::FromRequestParts<Api> for Client {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Self::Rejection> {
        Ok(Self { is_local: client::is_local(parts, &api.rules().trusted_proxies) })
    }
}

/// Whether a text could be an address: one `@`, something before it, a domain or `localhost` after it.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    !local.is_empty()
        && local.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"@,;<>()[]\\\"".contains(c))
        && (domain == "localhost" || (domain.contains('.') && domain.split('.').all(label)))
}

const BAD_LOGIN: &str = "Unable to log in with provided credentials.";

async fn log_in(State(api): State<Api>, mut fields: Fields) -> Answer<Json<auth::Token>> {
    let username = fields.required("username", 150);
    let password: Secret = fields.required("password", passwords::LONGEST).into();
    fields.check()?;
    // The connection goes back before the password is worked on.
    let hash = users::password_hash(&mut *api.pool().acquire().await?, &username).await?;
    let refused = || ApiError::field("non_field_errors", BAD_LOGIN);
    if !api.passwords().verify(password, hash.clone()).await? {
        return Err(refused());
    }
    let mut transaction = api.pool().begin().await?;
    let user = users::log_in(&mut transaction, &username, &hash.unwrap_or_default()).await?.ok_or_else(refused)?;
    let token = new_token(&mut transaction, user).await?;
    transaction.commit().await?;
    Ok(Json(auth::Token { token }))
}

/// Draws a token: forty hexadecimal digits, of which the database gets the hash.
pub(super) fn draw_token() -> Answer<Secret> {
    let mut random = [0; 20];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| ApiError::Internal(anyhow::anyhow!("the system's random numbers are not available")))?;
    Ok(hex::encode(random).into())
}

/// Makes a token of a user, without a name.
async fn new_token(connection: &mut PgConnection, user: uuid::Uuid) -> Answer<Secret> {
    let token = draw_token()?;
    tokens::insert(connection, user, &token_hash(token.expose())).await?;
    Ok(token)
}

async fn who_am_i(Authenticated(user): Authenticated) -> Json<auth::User> {
    Json(show(user))
}

async fn change_password(
    Authenticated(caller): Authenticated,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<Json<Value>> {
    let username = fields.optional("username", 150).filter(|username| !username.is_empty());
    let new_password = fields.optional("new_password", passwords::LONGEST).filter(|password| !password.is_empty());
    let password = fields.optional("password", passwords::LONGEST).filter(|password| !password.is_empty());
    fields.check()?;
    let new_password: Secret = new_password.ok_or_else(|| required("new_password"))?.into();
    let other = username.filter(|username| *username != caller.username.as_str());
    if other.is_some() && !caller.is_superuser {
        return Err(ApiError::Forbidden(FORBIDDEN));
    }
    if !caller.is_superuser {
        let password = password.ok_or_else(|| required("password"))?;
        let hash = users::password_hash(&mut *api.pool().acquire().await?, caller.username.as_str()).await?;
        if !api.passwords().verify(password.into(), hash).await? {
            return Err(ApiError::Unauthenticated("Current password does not match"));
        }
    }
    let user = match other {
        Some(other) => get(&mut *api.pool().acquire().await?, &other).await?,
        None => caller,
    };
    let hash = api.passwords().hash(new_password).await?;
    users::set_password(&mut *api.pool().acquire().await?, user.id, &hash).await?;
    Ok(Json(json!({"status": "password set"})))
}

fn required(field: &str) -> ApiError {
    ApiError::Refused(format!("{field} is a required field"))
}

async fn cancel(
    Authenticated(caller): Authenticated,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<StatusCode> {
    let username = fields.optional("username", 150).filter(|username| !username.is_empty());
    fields.check()?;
    let other = username.filter(|username| *username != caller.username.as_str());
    if other.is_some() && !caller.is_superuser {
        return Err(ApiError::Forbidden(FORBIDDEN));
    }
    let mut transaction = api.pool().begin().await?;
    users::lock_administrators(&mut transaction).await?;
    let user = match other {
        Some(other) => get(&mut transaction, &other).await?,
        None => caller,
    };
    let name = user.username;
    if users::owns_apps(&mut transaction, user.id).await? {
        return Err(ApiError::Conflict(format!(
            "{name} still has applications assigned. Delete or transfer ownership"
        )));
    }
    let is_last = user.is_superuser && users::count_administrators(&mut transaction).await? == 1;
    if is_last && users::count(&mut transaction).await? > 1 {
        return Err(ApiError::Conflict(format!("{name} is the last administrator. Make another one first")));
    }
    users::delete(&mut transaction, user.id).await.map_err(|error| {
        if db::is_foreign_key_violation(&error) {
            ApiError::Conflict(format!("{name} still owns builds, releases, domains or apps that are being destroyed"))
        } else {
            error.into()
        }
    })?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new token in the place of all that a user has; or no token for anybody, so that all log in again.
async fn regenerate(
    Authenticated(caller): Authenticated,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<Response> {
    let everybody = fields.has("all");
    let username = fields.optional("username", 150);
    fields.check()?;
    if (everybody || username.is_some()) && !caller.is_superuser {
        return Err(ApiError::Forbidden(FORBIDDEN));
    }
    let mut transaction = api.pool().begin().await?;
    let answer = if everybody {
        tokens::delete_all(&mut transaction).await?;
        Json("").into_response()
    } else {
        let user = match username {
            Some(username) => get(&mut transaction, &username).await?,
            None => caller,
        };
        tokens::delete_of(&mut transaction, user.id).await?;
        let token = new_token(&mut transaction, user.id).await?;
        Json(auth::Token { token }).into_response()
    };
    transaction.commit().await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::is_email;

    #[test]
    fn addresses_are_told_from_other_text() {
        for good in ["ann@example.test", "a.b+c@sub.example.test", "ann@localhost", "ünal@exämple.test"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "ann",
            "@example.test",
            "ann@",
            "ann@example",
            "a@b@example.test",
            "a b@example.test",
            "ann@-x.test",
            "ann@x..test",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}

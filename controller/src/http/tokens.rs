//! A user's tokens: made by name, listed, removed (beyond the contract, which knows one token a user). Each is shown once.

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use paas_api::{
    Page,
    auth::{CreateToken, CreatedToken, TokenName, TokenShown},
};

use super::{
    Api,
    access::{Level, Session, token_hash},
    auth::draw_token,
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    page::Paging,
    router::Routes,
};
use crate::db::{self, tokens};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::User, "/v2/tokens", list)
        .says("The caller's tokens, without what they are")
        .lists::<TokenShown>()
        .post(Level::User, "/v2/tokens", create)
        .says("Makes a token with a name, and shows it this once")
        .takes(one::<CreateToken>)
        .gives(201, one::<CreatedToken>)
        .refuses(&[409])
        .delete(Level::User, "/v2/tokens/{id}", delete)
        .says("Removes a token of the caller's, by name or id; what is open with it ends")
        .gives(204, nothing)
}

async fn list(session: Session, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<TokenShown>>> {
    let found = tokens::list(&mut *api.pool().acquire().await?, session.user.id, paging.slice()).await?;
    Ok(Json(paging.page(found, |token| TokenShown {
        id: token.id,
        name: token.name,
        created: token.created.into(),
        last_used: token.last_used.map(Into::into),
        current: token.hash == session.token,
    })))
}

async fn create(
    session: Session,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<(StatusCode, Json<CreatedToken>)> {
    let name = fields.parsed::<TokenName>("name");
    fields.check()?;
    let name = name.ok_or_else(|| ApiError::field("name", "This field is required."))?;
    let token = draw_token()?;
    let mut transaction = api.pool().begin().await?;
    if tokens::count_named(&mut transaction, session.user.id).await? >= tokens::MOST_NAMED {
        let text = format!("{} has {} named tokens; remove one first", session.user.username, tokens::MOST_NAMED);
        return Err(ApiError::Conflict(text));
    }
    let hash = token_hash(token.expose());
    let made =
        tokens::insert_named(&mut transaction, session.user.id, name.as_str(), &hash).await.map_err(|error| {
            match db::unique_violation(&error) {
                Some(_) => ApiError::field("name", "A token with this name already exists."),
                None => error.into(),
            }
        })?;
    transaction.commit().await?;
    let created = CreatedToken { id: made.id, name: made.name, created: made.created.into(), token };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Removes a token by its name or its id; what is open with it ends.
async fn delete(session: Session, State(api): State<Api>, Path(id): Path<String>) -> Answer<StatusCode> {
    if !id.contains('\0') && tokens::delete(&mut *api.pool().acquire().await?, session.user.id, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound("Token"))
    }
}

//! SSH keys (contract §1.3, §2.3). A caller sees their own and nobody else's.

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use paas_api::{
    Page,
    keys::{CreateKey, Key, PublicKey},
};

use super::{
    Api,
    access::{Authenticated, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    page::Paging,
    router::Routes,
};
use crate::db::{self, keys};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::User, "/v2/keys", list)
        .says("The caller's keys, by name")
        .lists::<Key>()
        .post(Level::User, "/v2/keys", create)
        .says("Adds a key, with which the caller can push")
        .takes(one::<CreateKey>)
        .gives(201, one::<Key>)
        .get(Level::User, "/v2/keys/{id}", show_one)
        .says("One of the caller's keys")
        .gives(200, one::<Key>)
        .delete(Level::User, "/v2/keys/{id}", delete)
        .says("Removes a key of the caller's")
        .gives(204, nothing)
}

/// Longest text of a key: RSA with 16384 bits takes 2800 characters.
const LONGEST: usize = 8192;

fn show(key: keys::Key) -> Key {
    Key {
        uuid: key.uuid,
        owner: key.owner,
        created: key.created.into(),
        updated: key.updated.into(),
        id: key.name,
        public: key.public,
        fingerprint: key.fingerprint_md5,
        fingerprint_sha256: key.fingerprint_sha256,
    }
}

async fn list(Authenticated(user): Authenticated, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Key>>> {
    let found = keys::list(&mut *api.pool().acquire().await?, user.id, paging.slice()).await?;
    Ok(Json(paging.page(found, show)))
}

async fn create(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<(StatusCode, Json<Key>)> {
    let id = fields.required("id", 128);
    if id == "." || id == ".." {
        // No URL could name it again.
        fields.refuse("id", "This is not a name for a key.");
    }
    let public = fields.required("public", LONGEST);
    let key = PublicKey::parse(&public);
    if let (Err(error), false) = (&key, public.is_empty()) {
        fields.refuse("public", error.to_string());
    }
    fields.check()?;
    let key = key.map_err(|error| ApiError::field("public", error.to_string()))?;
    let mut connection = api.pool().acquire().await?;
    keys::insert(&mut connection, user.id, &id, public.trim(), &key).await.map_err(
        |error| match db::unique_violation(&error) {
            Some("keys_name_key") => ApiError::field("id", "SSH Key with this id already exists."),
            Some(_) => ApiError::field("public", "Public Key is already in use"),
            None => error.into(),
        },
    )?;
    let key = keys::lookup(&mut connection, user.id, &id).await?.ok_or(NONE)?;
    Ok((StatusCode::CREATED, Json(show(key))))
}

const NONE: ApiError = ApiError::NotFound("Key");

async fn show_one(Authenticated(user): Authenticated, State(api): State<Api>, id: KeyId) -> Answer<Json<Key>> {
    let key = keys::lookup(&mut *api.pool().acquire().await?, user.id, &id.0).await?.ok_or(NONE)?;
    Ok(Json(show(key)))
}

async fn delete(Authenticated(user): Authenticated, State(api): State<Api>, id: KeyId) -> Answer<StatusCode> {
    if keys::delete(&mut *api.pool().acquire().await?, user.id, &id.0).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(NONE)
    }
}

/// The key in the path; one that no key can have is not found.
struct KeyId(String);

impl axum::extract::FromRequestParts<Api> for KeyId {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut http::request::Parts, api: &Api) -> Answer<Self> {
        let Path(id) = Path::<String>::from_request_parts(parts, api).await.map_err(|_| ApiError::Unrouted)?;
        if id.contains('\0') { Err(NONE) } else { Ok(Self(id)) }
    }
}

//! Apps, their scale, and one-off processes (contract §1.4, §2.8).

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use http::StatusCode;
use paas_api::{
    AppName, Page, ProcessType,
    apps::{App as Shown, CreateApp, Ran, Run, Transfer},
};
use serde_json::Value;

use super::{
    Api,
    access::{AppAccess, AppOwner, Authenticated, Level, is_master},
    auth::get,
    body::Fields,
    describe::{by_name, nothing, one},
    error::{Answer, ApiError, FORBIDDEN},
    follow::{self, Recorded, Wish},
    page::Paging,
    router::Routes,
    settings::until_served,
};
use crate::{
    db::{apps, builds, releases},
    deploy::{
        intent,
        one_off::{self, Order},
        wait,
    },
    domain::{app::App, deployment::Kind},
    scheduler::OneOffEvent,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::User, "/v2/apps", list)
        .says("The apps that the caller may use, by name")
        .lists::<Shown>()
        .post(Level::User, "/v2/apps", create)
        .says("Makes an app of the caller's, with a name of its own when none is given")
        .may_take(one::<CreateApp>)
        .gives(201, one::<Shown>)
        .get(Level::App, "/v2/apps/{app}", show_one)
        .says("One app")
        .gives(200, one::<Shown>)
        .post(Level::App, "/v2/apps/{app}", transfer)
        .says("Gives the app to another user")
        .may_take(one::<Transfer>)
        .gives(200, nothing)
        .delete(Level::AppOwner, "/v2/apps/{app}", destroy)
        .says("Destroys the app and all that is of it")
        .gives(204, nothing)
        .patient()
        .post(Level::App, "/v2/apps/{app}/scale", scale)
        .says("Sets how many processes of each type run")
        .takes(by_name::<u32>)
        .gives(204, nothing)
        .deploys()
        .post(Level::App, "/v2/apps/{app}/run", run)
        .says("Runs a command in a process of its own until it ends")
        .takes(one::<Run>)
        .gives(200, one::<Ran>)
        .refuses(&[409])
        .patient()
}

/// How long the client that destroys an app waits for the end of its processes.
const DESTRUCTION: Duration = Duration::from_mins(1);
/// A one-off process that is only waited for is ended after so long (contract §1.4).
const LONGEST_RUN: Duration = Duration::from_mins(20);
/// Most output of a one-off process that is kept for its answer.
const MOST_OUTPUT: usize = 4 << 20;

fn show(api: &Api, app: App, procfiles: &mut builds::Procfiles) -> Shown {
    let procfile = procfiles.remove(&app.id).filter(|procfile| !procfile.is_empty());
    let procfile_structure = match procfile {
        Some(procfile) => procfile.into_iter().map(|(process_type, line)| (process_type, Value::from(line))).collect(),
        None => app.formation.iter().map(|(process_type, count)| (process_type.clone(), Value::from(*count))).collect(),
    };
    Shown {
        uuid: app.id,
        owner: app.owner.into(),
        structure: app.formation,
        procfile_structure,
        created: app.created.into(),
        updated: app.updated.into(),
        url: Some(follow::address(api, &app.name)),
        git_url: Some(format!("{}/{}.git", api.options().git_url, app.name)),
        id: app.name,
    }
}

async fn list(Authenticated(user): Authenticated, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Shown>>> {
    let mut connection = api.pool().acquire().await?;
    let found = apps::list(&mut connection, &user, paging.slice()).await?;
    let ids: Vec<_> = found.rows.iter().map(|app| app.id).collect();
    let mut procfiles = builds::procfiles(&mut connection, &ids).await?;
    Ok(Json(paging.page(found, |app| show(&api, app, &mut procfiles))))
}

async fn create(Authenticated(user): Authenticated, State(api): State<Api>, mut fields: Fields) -> Answer<Response> {
    let name = match fields.take("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => match text.parse::<AppName>() {
            Ok(name) => Some(name),
            Err(error) => return Err(ApiError::field("id", error.to_string())),
        },
        Some(_) => return Err(ApiError::field("id", "Not a valid string.")),
    };
    let platform = api.platform().clone();
    let (app, version) = follow::record(async move { intent::create_app(&platform, &user, name).await }).await?;
    until_served(&api, version).await?;
    Ok((StatusCode::CREATED, Json(show(&api, app, &mut BTreeMap::new()))).into_response())
}

async fn show_one(access: AppAccess, State(api): State<Api>) -> Answer<Json<Shown>> {
    let mut procfiles = builds::procfiles(&mut *api.pool().acquire().await?, &[access.app.id]).await?;
    Ok(Json(show(&api, access.app, &mut procfiles)))
}

async fn transfer(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<StatusCode> {
    let owner = fields.optional("owner", 150);
    fields.check()?;
    let Some(owner) = owner else { return Ok(StatusCode::OK) };
    if !is_master(&access.user, &access.app) {
        return Err(ApiError::Forbidden(FORBIDDEN));
    }
    let mut transaction = api.pool().begin().await?;
    let owner = get(&mut transaction, &owner).await?;
    apps::transfer(&mut transaction, access.app.id, owner.id).await?;
    transaction.commit().await?;
    Ok(StatusCode::OK)
}

async fn destroy(owner: AppOwner, State(api): State<Api>, wish: Wish) -> Answer<StatusCode> {
    let AppOwner { user, app } = owner;
    let (platform, id, name) = (api.platform().clone(), app.id, app.name.clone());
    let version = follow::record(async move { intent::destroy_app(&platform, &user, &app).await }).await?;
    if wish == Wish::AtOnce {
        return Ok(StatusCode::NO_CONTENT);
    }
    if wait::gone(api.platform(), id, DESTRUCTION).await? {
        // Of an app without processes nothing waits for the routers.
        until_served(&api, version).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::Unavailable(format!(
        "Could not remove everything of {name} within {} seconds; the platform goes on with it",
        DESTRUCTION.as_secs()
    )))
}

async fn scale(access: AppAccess, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let counts = counts(fields.take_all())?;
    let (platform, user, app) = (api.platform().clone(), access.user, access.app.clone());
    let deployment = follow::record(async move { intent::scale(&platform, &user, &app, counts).await }).await?;
    let release = releases::latest_good(&mut *api.pool().acquire().await?, access.app.id).await?.version;
    let recorded = Recorded { app: access.app, release, kind: Kind::Scale, deployment };
    recorded.answer(&api, wish, || async { Ok(StatusCode::NO_CONTENT.into_response()) }).await
}

/// The wanted counts, or what is wrong with them in the words of the original (§2.8).
fn counts(fields: serde_json::Map<String, Value>) -> Answer<BTreeMap<ProcessType, u32>> {
    let mut counts = BTreeMap::new();
    for (name, value) in fields {
        let text = match &value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let number: i64 = text.parse().map_err(|_| {
            let shown: String = text.chars().take(100).collect();
            ApiError::Refused(format!("Invalid scaling format: invalid literal for int() with base 10: '{shown}'"))
        })?;
        let count = u32::try_from(number.min(i64::from(u32::MAX))).map_err(|_| {
            ApiError::Refused(
                "Invalid scaling format: [ErrorDetail(string='Must be greater than or equal to zero', code='invalid')]"
                    .to_owned(),
            )
        })?;
        let shown: String = name.chars().take(100).collect();
        let unknown = |_| ApiError::NothingThere(format!("Container type {shown} does not exist in application"));
        counts.insert(name.parse::<ProcessType>().map_err(unknown)?, count);
    }
    Ok(counts)
}

async fn run(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<Json<Ran>> {
    let command = fields.optional("command", 128 << 10).filter(|command| !command.is_empty());
    fields.check()?;
    let command = command.ok_or_else(|| ApiError::Refused("command is a required field".to_owned()))?;
    let order = Order::plain(command, LONGEST_RUN);
    let mut session = one_off::attach(api.platform(), &access.user, &access.app, order).await?;
    let mut output = Vec::new();
    let mut exit_code = None;
    while let Some(event) = session.events.next().await {
        match event {
            OneOffEvent::Output(_, bytes) => {
                output.extend_from_slice(&bytes);
                if output.len() > 2 * MOST_OUTPUT {
                    output.drain(..output.len() - MOST_OUTPUT);
                }
            }
            OneOffEvent::Exited(code) => exit_code = Some(code),
        }
    }
    session.close(exit_code).await;
    output.drain(..output.len().saturating_sub(MOST_OUTPUT));
    let exit_code = exit_code.ok_or_else(|| {
        ApiError::Unavailable(format!("{}-run (run): the process was lost before it ended", access.app.name))
    })?;
    Ok(Json(Ran { exit_code, output: String::from_utf8_lossy(&output).into_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        let fields = serde_json::from_str(json).unwrap();
        counts(fields).unwrap_err().parts().1.message()
    }

    #[test]
    fn counts_are_numbers_or_texts_of_numbers() {
        let fields = serde_json::from_str(r#"{"web":3,"worker":"0"}"#).unwrap();
        let counts: Vec<(String, u32)> =
            counts(fields).unwrap().into_iter().map(|(name, count)| (name.to_string(), count)).collect();
        assert_eq!(counts, [("web".to_owned(), 3), ("worker".to_owned(), 0)]);
    }

    #[test]
    fn what_is_no_count_is_refused_in_the_words_of_the_original() {
        let literal = "Invalid scaling format: invalid literal for int() with base 10: 'x'";
        assert_eq!(refusal(r#"{"web":"x"}"#), literal);
        for json in [r#"{"web":-1}"#, r#"{"web":"-5"}"#] {
            assert!(refusal(json).contains("Must be greater than or equal to zero"), "{json}");
        }
        for json in [r#"{"web":1.5}"#, r#"{"web":null}"#, r#"{"web":[]}"#, r#"{"web":99999999999999999999}"#] {
            assert!(refusal(json).contains("invalid literal"), "{json}");
        }
        assert_eq!(refusal(r#"{"Web_1":1}"#), "Container type Web_1 does not exist in application");
    }
}

//! Builds (contract §1.5).

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{
    AppName, CommitSha, Page, ProcessType,
    builds::{Build as Shown, CreateBuild, Procfile},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::one,
    error::{Answer, ApiError},
    follow::{self, Recorded, Wish},
    page::Paging,
    router::Routes,
};
use crate::{
    db::{builds, releases},
    deploy::intent::{self, Change, IntentError, NewBuild},
    domain::{app::App, build::Build, deployment::Kind, user::User},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/builds", list)
        .says("The app's builds, newest first")
        .lists::<Shown>()
        .post(Level::App, "/v2/apps/{app}/builds", create)
        .says("Makes a build of an image: a release")
        .takes(one::<CreateBuild>)
        .gives(201, one::<Shown>)
        .deploys()
        .get(Level::App, "/v2/apps/{app}/builds/{uuid}", show_one)
        .says("One build")
        .gives(200, one::<Shown>)
}

const NONE: ApiError = ApiError::NotFound("Build");

fn show(app: &AppName, build: Build) -> Shown {
    Shown {
        owner: build.owner.into(),
        app: app.clone(),
        image: build.image,
        sha: build.sha,
        procfile: build.procfile,
        dockerfile: build.dockerfile,
        created: build.created.into(),
        updated: build.created.into(),
        uuid: build.id,
    }
}

async fn list(access: AppAccess, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Shown>>> {
    let found = builds::list(&mut *api.pool().acquire().await?, access.app.id, paging.slice()).await?;
    Ok(Json(paging.page(found, |build| show(&access.app.name, build))))
}

async fn show_one(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, uuid)): Path<(String, String)>,
) -> Answer<Json<Shown>> {
    let uuid: Uuid = uuid.parse().map_err(|_| NONE)?;
    let build = builds::lookup(&mut *api.pool().acquire().await?, access.app.id, uuid).await?.ok_or(NONE)?;
    Ok(Json(show(&access.app.name, build)))
}

async fn create(access: AppAccess, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let new = read(&mut fields)?;
    let change = record(&api, access.user, access.app.clone(), new).await?;
    let recorded = Recorded {
        app: access.app.clone(),
        release: change.release,
        kind: Kind::Release,
        deployment: change.deployment,
    };
    let done = || async {
        let build = build_of(&api, &access.app, change).await?;
        Ok((StatusCode::CREATED, Json(show(&access.app.name, build))).into_response())
    };
    recorded.answer(&api, wish, done).await
}

async fn build_of(api: &Api, app: &App, change: Change) -> Answer<Build> {
    let mut connection = api.pool().acquire().await?;
    let (release, _) =
        releases::lookup(&mut connection, app.id, change.release).await?.ok_or(ApiError::NotFound("Release"))?;
    builds::lookup(&mut connection, app.id, release.build.ok_or(NONE)?).await?.ok_or(NONE)
}

/// Records a build. That another deployment is under way is a 400 here (contract §3.3).
pub(super) async fn record(api: &Api, actor: User, app: App, new: NewBuild) -> Answer<Change> {
    let platform = api.platform().clone();
    follow::record(async move {
        intent::build(&platform, &actor, &app, new).await.map_err(|error| match error {
            IntentError::InProgress(_) => IntentError::Refused(error.to_string()),
            other => other,
        })
    })
    .await
}

/// The build that a body describes.
pub(super) fn read(fields: &mut Fields) -> Answer<NewBuild> {
    let image = fields.required("image", 512);
    if !image.is_empty() && !is_image(&image) {
        fields.refuse("image", "The given image is not a name like registry/repository:tag");
    }
    let procfile = procfile(fields);
    let sha = fields.optional("sha", 40).filter(|sha| !sha.is_empty());
    let sha =
        sha.and_then(|sha| sha.parse::<CommitSha>().map_err(|error| fields.refuse("sha", error.to_string())).ok());
    let dockerfile = fields.optional("dockerfile", 256 << 10).unwrap_or_default();
    fields.check()?;
    if let Some(component) = reserved(&image) {
        return Err(ApiError::Refused(format!(
            "Repository name {component} is not allowed, as it is reserved by Deis"
        )));
    }
    Ok(NewBuild { image, procfile, sha, dockerfile, push: None })
}

fn procfile(fields: &mut Fields) -> Procfile {
    let mut procfile = Procfile::new();
    let entries = match fields.take("procfile") {
        None | Some(Value::Null) => return procfile,
        Some(Value::Object(entries)) => entries,
        Some(_) => {
            fields.refuse("procfile", "Expected an object of process types and commands.");
            return procfile;
        }
    };
    for (name, line) in entries {
        match (name.parse::<ProcessType>(), line) {
            (Err(error), _) => fields.refuse("procfile", error.to_string()),
            (Ok(_), Value::String(line)) if line.contains('\0') => {
                fields.refuse("procfile", "Null characters are not allowed.");
            }
            (Ok(name), Value::String(line)) if !line.trim().is_empty() => drop(procfile.insert(name, line)),
            (Ok(_), _) => fields.refuse("procfile", "Command can't be empty for process type"),
        }
    }
    procfile
}

/// Whether a text has the letters of an image's name; what it names is for the engine to say.
fn is_image(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte))
        && !text.contains("//")
        && !text.contains("..")
}

/// The platform's own images, which no app may use (contract §1.5).
fn reserved(image: &str) -> Option<String> {
    const COMPONENTS: [&str; 11] = [
        "builder",
        "controller",
        "database",
        "dockerbuilder",
        "etcd",
        "minio",
        "registry",
        "router",
        "slugbuilder",
        "slugrunner",
        "workflow",
    ];
    let repository = image.split(['@', ':']).next().unwrap_or_default();
    let mut parts = repository.rsplit('/');
    let (name, owner) = (parts.next()?, parts.next()?);
    (owner == "deis" && (COMPONENTS.contains(&name) || name == "workflow-manager")).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_names_and_nothing_else() {
        for good in ["busybox", "example/web:1.2", "127.0.0.1:5000/app@sha256:00ff", "a.b-c_d/e"] {
            assert!(is_image(good), "{good}");
        }
        for bad in
            ["", "-v", "--privileged", "/etc/passwd", "a b", "a;b", "$(id)", "a\nb", "../x", "a//b", "é", "a\u{202e}b"]
        {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn the_platforms_own_images_are_refused() {
        assert_eq!(reserved("deis/builder:v2").as_deref(), Some("deis/builder"));
        assert_eq!(reserved("quay.io/deis/workflow-manager").as_deref(), Some("deis/workflow-manager"));
        assert_eq!(reserved("example/builder"), None);
        assert_eq!(reserved("deis/example-go"), None);
    }
}

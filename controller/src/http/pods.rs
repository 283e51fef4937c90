//! Running processes, by the contract's name for them, and their restart (contract §1.8).

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
};
use paas_api::{
    ProcessType,
    pods::{Pod, Pods, Usage},
};
use serde::Deserialize;

use super::{
    Api,
    access::{AppAccess, Level},
    describe::{each, one},
    error::Answer,
    follow::{self, Recorded, Wish},
    router::Routes,
};
use crate::{
    db::{
        instances::{self, Record, State as Standing},
        releases,
    },
    deploy::intent::{self, Selection},
    domain::{app::App, deployment::Kind, instance::InstanceName},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/pods", all)
        .says("The app's processes, newest first")
        .asks(&["usage"])
        .gives(200, one::<Pods>)
        .get(Level::App, "/v2/apps/{app}/pods/{type}", of_type)
        .says("Those of a type")
        .asks(&["usage"])
        .gives(200, one::<Pods>)
        .get(Level::App, "/v2/apps/{app}/pods/{type}/{name}", named)
        .says("The one of that name")
        .asks(&["usage"])
        .gives(200, one::<Pods>)
        .post(Level::App, "/v2/apps/{app}/pods/restart", restart_all)
        .says("Replaces all processes")
        .gives(200, each::<Pod>)
        .deploys()
        .post(Level::App, "/v2/apps/{app}/pods/{type}/restart", restart_type)
        .says("Replaces those of a type")
        .gives(200, each::<Pod>)
        .deploys()
        .post(Level::App, "/v2/apps/{app}/pods/{type}/{name}/restart", restart_one)
        .says("Replaces the one of that name")
        .gives(200, each::<Pod>)
        .deploys()
}

/// What is asked for: everything, a type, or a process of a type.
struct Wanted {
    process_type: Option<String>,
    name: Option<String>,
}

impl Wanted {
    fn everything() -> Self {
        Self { process_type: None, name: None }
    }

    fn of_type(process_type: String) -> Self {
        Self { process_type: Some(process_type), name: None }
    }

    /// Names are taken with and without the app in front.
    fn named(app: &App, process_type: String, name: String) -> Self {
        let name = if name.matches('-').count() == 2 { format!("{}-{name}", app.name) } else { name };
        Self { process_type: Some(process_type), name: Some(name) }
    }

    fn covers(&self, instance: &Record) -> bool {
        self.process_type.as_ref().is_none_or(|wanted| wanted == instance.process_type.as_str())
            && self.name.as_ref().is_none_or(|wanted| wanted == instance.name.as_str())
    }
}

/// Processes of the newest good release, those started last first. What is on its way out is not shown.
async fn list(api: &Api, app: &App, wanted: &Wanted) -> Answer<Vec<Pod>> {
    let mut connection = api.pool().acquire().await?;
    let release = releases::latest_good(&mut connection, app.id).await?.version;
    let mut found = instances::list(&mut connection, app.id).await?;
    found.retain(|instance| instance.version == release && !instance.replace && wanted.covers(instance));
    found.sort_by_key(|instance| Reverse(instance.started.unwrap_or(instance.created)));
    Ok(found.into_iter().filter_map(show).collect())
}

fn show(instance: Record) -> Option<Pod> {
    let state = match instance.state {
        Standing::Starting => "starting",
        Standing::Up => "up",
        // The word that clients know for a process that ends again and again.
        Standing::Crashed => "CrashLoopBackOff",
        Standing::Draining | Standing::Stopping => return None,
    };
    Some(Pod {
        name: instance.name.to_string(),
        state: state.to_owned(),
        release: instance.version.to_string(),
        process_type: instance.process_type,
        started: instance.started.unwrap_or(instance.created).into(),
        restarts: Some(instance.restarts).filter(|restarts| *restarts > 0),
        usage: None,
    })
}

#[derive(Deserialize)]
struct Asked {
    /// What the processes use is shown too; beyond the contract.
    usage: Option<String>,
}

async fn answer(api: &Api, app: &App, wanted: Wanted, asked: &Asked) -> Answer<Json<Pods>> {
    let mut results = list(api, app, &wanted).await?;
    if asked.usage.as_deref().is_some_and(|usage| usage == "true" || usage == "1") {
        let usage = api.platform().scheduler.usage(app.id).await?;
        for pod in &mut results {
            let name = pod.name.parse().ok();
            let used = name.and_then(|name: InstanceName| usage.get(&name));
            pod.usage = used.map(|used| Usage { cpu_millis: used.cpu_millis, memory: used.memory });
        }
    }
    Ok(Json(Pods { count: results.len(), results }))
}

async fn all(access: AppAccess, State(api): State<Api>, Query(asked): Query<Asked>) -> Answer<Json<Pods>> {
    answer(&api, &access.app, Wanted::everything(), &asked).await
}

async fn of_type(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, of)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Pods>> {
    answer(&api, &access.app, Wanted::of_type(of), &asked).await
}

async fn named(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, of, name)): Path<(String, String, String)>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Pods>> {
    let wanted = Wanted::named(&access.app, of, name);
    answer(&api, &access.app, wanted, &asked).await
}

async fn restart_all(access: AppAccess, State(api): State<Api>, wish: Wish) -> Answer<Response> {
    restart(access, api, wish, Wanted::everything()).await
}

async fn restart_type(
    access: AppAccess,
    State(api): State<Api>,
    wish: Wish,
    Path((_, of)): Path<(String, String)>,
) -> Answer<Response> {
    restart(access, api, wish, Wanted::of_type(of)).await
}

async fn restart_one(
    access: AppAccess,
    State(api): State<Api>,
    wish: Wish,
    Path((_, of, name)): Path<(String, String, String)>,
) -> Answer<Response> {
    let wanted = Wanted::named(&access.app, of, name);
    restart(access, api, wish, wanted).await
}

async fn restart(access: AppAccess, api: Api, wish: Wish, wanted: Wanted) -> Answer<Response> {
    let AppAccess { user, app, .. } = access;
    let selection = match (&wanted.name, &wanted.process_type) {
        (Some(name), _) => Selection::Instance(name.clone()),
        (None, Some(process_type)) => match process_type.parse::<ProcessType>() {
            Ok(process_type) => Selection::Type(process_type),
            // No process can have such a type.
            Err(_) => return Ok(Json([(); 0]).into_response()),
        },
        (None, None) => Selection::All,
    };
    let (platform, of) = (api.platform().clone(), app.clone());
    let deployment = follow::record(async move { intent::restart(&platform, &user, &of, &selection).await }).await?;
    // An instance is replaced by one of another name: after a restart its type is shown.
    let shown = Wanted { process_type: wanted.process_type, name: None };
    if deployment.is_none() {
        return Ok(Json([(); 0]).into_response());
    }
    let release = releases::latest_good(&mut *api.pool().acquire().await?, app.id).await?.version;
    let recorded = Recorded { app: app.clone(), release, kind: Kind::Restart, deployment };
    let done = || async { Ok(Json(list(&api, &app, &shown).await?).into_response()) };
    recorded.answer(&api, wish, done).await
}

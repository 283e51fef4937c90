//! A push, top to bottom: which ref deploys, its files, its image, its release.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use paas_api::{
    BranchName, ConfigKey,
    client::ClientError,
    config::Config,
    hooks::{Access, BuildHook, Building, BuildingHook, ConfigHook, Deployed, GOES_ON},
};
use uuid::Uuid;

use crate::{
    detect::{Kind, detect},
    git::{CommitId, HookEnd, Received, Repository, Update},
    image::{
        ImageName,
        dockerfile::{self, Dockerfile},
    },
    platform::Platform,
    procfile,
    progress::{self, Laps, Progress},
    refusal::{Refusal, chain, controller_away},
    registry,
    source::{Ignore, Limits, Root, Source, SourceError},
};

/// With this variable set, to whatever, a build gets the app's config as build arguments (contract §5.8).
const BUILD_ARGUMENTS: &str = "DEIS_DOCKER_BUILD_ARGS_ENABLED";
/// Pause before the controller is asked again what became of a push.
const REASK_PAUSE: Duration = Duration::from_millis(500);
/// Refs that get a notice each; a mirror push may have thousands.
const MOST_NOTICES: usize = 10;
/// Refs that deploy when the app does not name one.
const DEPLOY_BRANCHES: [&str; 2] = ["main", "master"];

/// What was pushed, by whom, to what.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) platform: Arc<Platform>,
    pub(crate) access: Access,
    pub(crate) repository: Repository,
    pub(crate) received: Received,
    pub(crate) started: Instant,
}

/// Runs the push and tells git's hook what becomes of it; `accepted` knows it before git does.
pub(crate) async fn decide(push: Push, mut hook: HookEnd, accepted: &AtomicBool) {
    let (progress, screen) = progress::screen();
    let working = async move {
        let result = run(&push, &progress).await;
        if let Err(refusal) = &result {
            for line in refusal.lines(&push.access.app) {
                progress.line(line).await;
            }
        }
        log(&push, &result);
        result.is_ok()
    };
    let accept = {
        let mut showing = std::pin::pin!(screen.show(&mut hook));
        let accept = tokio::select! {
            accept = working => accept,
            ended = &mut showing => {
                // Git is gone, so the refs cannot change: the rest of the work is dropped.
                tracing::warn!(?ended, "a push was ended: its git is gone");
                return;
            }
        };
        showing.await.is_ok() && accept
    };
    accepted.store(accept, Ordering::Release);
    if let Err(error) = hook.verdict(accept).await {
        tracing::warn!(%error, accept, "a push's git is gone; it does not know the verdict");
    }
}

fn log(push: &Push, result: &Result<(), Refusal>) {
    let (app, user) = (&push.access.app, &push.access.username);
    let took_ms = u64::try_from(push.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(()) => tracing::info!(app.name = %app, user.name = %user, took_ms, "push accepted"),
        Err(Refusal::Platform(reason) | Refusal::Unknown(reason)) => {
            tracing::error!(app.name = %app, user.name = %user, took_ms, reason = ?reason, "push refused: the platform failed");
        }
        // The reason may hold what the build printed: that is the pusher's, not the log's.
        Err(Refusal::Push(_) | Refusal::Build(_) | Refusal::Start(_)) => {
            tracing::info!(app.name = %app, user.name = %user, took_ms, "push refused");
        }
    }
}

async fn run(push: &Push, progress: &Progress) -> Result<(), Refusal> {
    push.platform.hold.reach("push.received").await;
    let plan = plan(&push.received.updates, push.access.deploy_branch.as_ref())?;
    for notice in &plan.notices {
        progress.line(notice).await;
    }
    match plan.deploy {
        Some((branch, commit)) => deploy(push, &branch, commit, progress).await,
        None => Ok(()),
    }
}

async fn deploy(push: &Push, branch: &str, commit: CommitId, progress: &Progress) -> Result<(), Refusal> {
    let Push { platform, access, .. } = push;
    let mut laps = Laps::since(push.started);
    laps.lap("receive");
    progress.line("Starting build... but first, coffee!").await;
    let source = Source {
        git: platform.git.clone(),
        repository: push.repository.path().to_owned(),
        quarantine: push.received.quarantine.clone(),
        commit,
        limits: Limits { files: platform.settings.max_source_files, bytes: platform.settings.max_source_bytes },
    };
    let (root, arguments) = tokio::join!(source.root(), build_arguments(push));
    let root = root.map_err(unreadable)?;
    let procfile = types(&root)?;
    let image = ImageName::new(&platform.settings.registry, access.uuid, &source.commit);
    let arguments = arguments?;
    let building = Box::pin(async {
        build(push, &source, &root, &arguments, &image, progress).await?;
        laps.lap("build");
        platform.hold.reach("push.built").await;
        progress.line("Pushing to registry").await;
        let digest = {
            let _right = match &platform.store {
                Some(store) => Some(store.pushing().await),
                None => None,
            };
            registry::push(&platform.engine, &image, &platform.settings).await?
        };
        laps.lap("push");
        platform.hold.reach("push.pushed").await;
        progress.line("Build complete.").await;
        Ok(digest)
    });
    let digest = unless_cancelled(push, building).await?;

    progress.line("Launching App...").await;
    let deployed = release(push, &source.commit, digest, procfile, progress).await?;
    laps.lap("release");
    platform.hold.reach("push.released").await;
    if let Err(error) = push.repository.set_head(branch) {
        tracing::warn!(error = chain(&error), app.name = %access.app, "clones will not check out the deployed branch");
    }
    farewell(push, &deployed, &laps, progress).await;
    let platform = Arc::clone(platform);
    tokio::spawn(async move { platform.engine.remove_superseded(&image).await });
    Ok(())
}

async fn build(
    push: &Push,
    source: &Source,
    root: &Root,
    arguments: &BTreeMap<ConfigKey, String>,
    image: &ImageName,
    progress: &Progress,
) -> Result<(), Refusal> {
    let platform = &push.platform;
    let Kind::Dockerfile(text) = detect(root, &source.commit)?;
    let dockerfile = Dockerfile::prepare(&text, arguments)?;
    for notice in &dockerfile.notices {
        progress.line(notice).await;
    }
    let ignore = root.dockerignore.as_deref().map_or_else(|| Ok(Ignore::default()), Ignore::parse);
    let ignore = ignore.map_err(|reason| Refusal::Build(format!("the .dockerignore is malformed: {reason}")))?;
    if platform.builds.available_permits() == 0 {
        progress.line("Waiting for another app's build to end...").await;
    }
    let _permit = platform.builds.acquire().await.map_err(|_| Refusal::Platform("the builder stops".into()))?;
    let limits = dockerfile::Limits {
        time: platform.settings.build_limit(),
        output: platform.settings.max_build_output,
        memory: platform.settings.build_memory,
        network: platform.settings.build_network,
    };
    let streamed = dockerfile::build(&platform.engine, source, ignore, dockerfile, image, limits, progress).await?;
    if !streamed.submodules.is_empty() {
        let names = streamed.submodules.join(", ");
        progress.line(format!("Submodules are not fetched; these folders were empty in the build: {names}")).await;
    }
    Ok(())
}

/// Does the work, and drops it when somebody cancels the build.
async fn unless_cancelled<T>(push: &Push, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let (access, controller) = (&push.access, &push.platform.controller);
    let hook = BuildingHook {
        receive_user: access.username.clone(),
        receive_repo: access.app.clone(),
        push: Uuid::new_v4(),
        over: false,
    };
    let cancelled = async {
        loop {
            match controller.post::<_, Building>("/v2/hooks/building", &hook).await {
                Ok(Building { cancelled_by: Some(by) }) => return by,
                Ok(Building { cancelled_by: None }) => {}
                // Who cannot be asked cancels nothing; the build goes on.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    };
    let result = tokio::select! {
        result = work => result,
        by = cancelled => Err(Refusal::Build(format!("{by} cancelled it"))),
    };
    let over = BuildingHook { over: true, ..hook };
    let controller = controller.clone();
    tokio::spawn(async move {
        if let Err(error) = controller.post::<_, Building>("/v2/hooks/building", &over).await {
            tracing::debug!(error = chain(&error), "the controller does not know yet that a build is over");
        }
    });
    result
}

/// Creates the build at the controller, and follows the rollout of its release.
async fn release(
    push: &Push,
    commit: &CommitId,
    image: String,
    procfile: BTreeMap<String, String>,
    progress: &Progress,
) -> Result<Deployed, Refusal> {
    let access = &push.access;
    let sha = commit.short().parse().map_err(|error| Refusal::Platform(format!("the commit has no id: {error}")))?;
    let hook = BuildHook {
        receive_user: access.username.clone(),
        receive_repo: access.app.clone(),
        image,
        sha,
        procfile,
        dockerfile: "true".into(),
        push: Some(Uuid::new_v4()),
    };
    told(push, &hook, progress).await.map_err(|error| match &error {
        error if is_lost(error) => Refusal::Unknown(chain(error)),
        ClientError::Refused { status, .. } if status.is_client_error() => Refusal::Start(error.to_string()),
        ClientError::Refused { .. } => controller_away(&error),
        ClientError::Unreachable { source, .. } if source.is_connect() => controller_away(&error),
        ClientError::NotAsked { .. } | ClientError::Unreachable { .. } | ClientError::Unexpected { .. } => {
            Refusal::Unknown(chain(&error))
        }
    })
}

/// Tells the controller of a build until it says what became of that. A controller that is lost on the way, or stopped, may
/// have recorded the release, and its successor knows: asked again, it answers for the same push.
async fn told(push: &Push, hook: &BuildHook, progress: &Progress) -> Result<Deployed, ClientError> {
    let limit = Duration::from_secs(push.platform.settings.reask_seconds);
    let mut lost: Option<(Instant, ClientError)> = None;
    loop {
        let asking = push.platform.controller.post_and_follow("/v2/hooks/build", hook, |line| progress.try_line(line));
        let error = match asking.await {
            Ok(deployed) => return Ok(deployed),
            Err(error) => error,
        };
        let (since, first) = match lost.take() {
            // It may be away because it is being replaced.
            Some(lost) if is_away(&error) || is_lost(&error) => lost,
            None if is_lost(&error) => {
                tracing::warn!(error = chain(&error), app.name = %push.access.app, "the controller was lost; asking again");
                progress.line("The controller was lost. Asking it again what became of this push...").await;
                (Instant::now(), error)
            }
            _ => return Err(error),
        };
        if since.elapsed() >= limit {
            return Err(first);
        }
        tokio::time::sleep(REASK_PAUSE).await;
        lost = Some((since, first));
    }
}

/// Whether nobody knows what the controller did.
fn is_lost(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { raw, .. } => raw.contains(GOES_ON),
        ClientError::Unreachable { source, .. } => !source.is_connect(),
        ClientError::Unexpected { .. } => true,
        ClientError::NotAsked { .. } => false,
    }
}

/// Whether the controller, or its database, is not there now.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } => status.is_server_error(),
        ClientError::Unreachable { source, .. } => source.is_connect(),
        ClientError::Unexpected { .. } | ClientError::NotAsked { .. } => false,
    }
}

/// The last lines (contract §5.4), the app's address, and where the time went.
async fn farewell(push: &Push, deployed: &Deployed, laps: &Laps, progress: &Progress) {
    let app = &push.access.app;
    let version = deployed.release.version;
    progress.line(format!("Done, {app}:{version} deployed to Workflow")).await;
    progress.line("").await;
    progress.line("Use 'deis open' to view this application in your browser").await;
    progress.line("").await;
    progress.line("To learn more, use 'deis help' or visit https://deis.com/").await;
    progress.line("").await;
    if let Some(url) = &deployed.url {
        progress.line(url).await;
        progress.line("").await;
    }
    for line in laps.table() {
        progress.line(line).await;
    }
}

async fn build_arguments(push: &Push) -> Result<BTreeMap<ConfigKey, String>, Refusal> {
    let hook = ConfigHook { receive_user: push.access.username.clone(), receive_repo: push.access.app.clone() };
    let config: Config =
        push.platform.controller.post("/v2/hooks/config", &hook).await.map_err(|error| match error.status() {
            Some(status) if status.is_client_error() => Refusal::Push(format!("{}: {error}", push.access.app)),
            _ => controller_away(&error),
        })?;
    if !config.values.contains_key(BUILD_ARGUMENTS) {
        return Ok(BTreeMap::new());
    }
    Ok(config.values.into_iter().filter_map(|(key, value)| Some((key.parse().ok()?, value))).collect())
}

fn types(root: &Root) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(procfile) = &root.procfile else { return Ok(BTreeMap::new()) };
    procfile::parse(procfile).map_err(|reason| Refusal::Build(format!("the Procfile is malformed: {reason}")))
}

fn unreadable(error: SourceError) -> Refusal {
    match error {
        SourceError::TooLarge(reason) | SourceError::Unusable(reason) => Refusal::Build(reason),
        error => Refusal::Platform(chain(&error)),
    }
}

/// What a push does beside storing commits.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    deploy: Option<(String, CommitId)>,
    notices: Vec<String>,
}

/// Which ref deploys, and what the pusher should know about the others.
fn plan(updates: &[Update], deploy_branch: Option<&BranchName>) -> Result<Plan, Refusal> {
    let deploys = |branch: &str| {
        deploy_branch.map_or_else(|| DEPLOY_BRANCHES.contains(&branch), |wanted| wanted.as_str() == branch)
    };
    let wanted = deploy_branch.map_or_else(|| DEPLOY_BRANCHES.join(" or "), ToString::to_string);
    let mut plan = Plan { deploy: None, notices: Vec::new() };
    for update in updates {
        let shown = &update.reference;
        let branch = update.reference.strip_prefix("refs/heads/").filter(|branch| deploys(branch));
        match (branch, &update.new) {
            (Some(branch), Some(commit)) => {
                if plan.deploy.is_some() {
                    let reason = format!(
                        "a push deploys one branch at a time, and this one changes both {}",
                        DEPLOY_BRANCHES.join(" and ")
                    );
                    return Err(Refusal::Push(reason));
                }
                plan.deploy = Some((branch.to_owned(), commit.clone()));
            }
            (Some(branch), None) => {
                plan.notices.push(format!("{branch} is deleted here; the app keeps running its last release."));
            }
            (None, Some(_)) => plan.notices.push(format!("{shown} is stored, not deployed: only {wanted} deploys.")),
            (None, None) => plan.notices.push(format!("{shown} is deleted here.")),
        }
    }
    if plan.notices.len() > MOST_NOTICES {
        let more = plan.notices.len() - MOST_NOTICES;
        plan.notices.truncate(MOST_NOTICES);
        plan.notices.push(format!("… and {more} more refs that do not deploy."));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(reference: &str, new: Option<&str>) -> Update {
        Update { new: new.map(|digit| digit.repeat(40).parse().unwrap()), reference: reference.into() }
    }

    #[test]
    fn only_the_deploy_branch_deploys() {
        let branch: BranchName = "production".parse().unwrap();
        for (reference, wanted, deploys) in [
            ("refs/heads/main", None, Some("main")),
            ("refs/heads/master", None, Some("master")),
            ("refs/heads/topic", None, None),
            ("refs/tags/main", None, None),
            ("refs/heads/topic/main", None, None),
            ("refs/main", None, None),
            ("refs/heads/production", Some(&branch), Some("production")),
            ("refs/heads/main", Some(&branch), None),
        ] {
            let plan = plan(&[update(reference, Some("a"))], wanted).unwrap();
            assert_eq!(plan.deploy.map(|(branch, _)| branch).as_deref(), deploys, "{reference}");
            assert_eq!(plan.notices.is_empty(), deploys.is_some(), "{reference}");
        }
    }

    #[test]
    fn a_deleted_branch_deploys_nothing() {
        let plan = plan(&[update("refs/heads/main", None), update("refs/heads/x", None)], None).unwrap();
        assert_eq!(plan.deploy, None);
        assert_eq!(plan.notices.len(), 2);
    }

    #[test]
    fn two_deploying_branches_are_refused_and_one_beside_others_is_not() {
        let [main, master, tag] =
            ["refs/heads/main", "refs/heads/master", "refs/tags/v1"].map(|name| update(name, Some("a")));
        assert!(matches!(plan(&[main.clone(), master], None), Err(Refusal::Push(_))));
        assert!(plan(&[tag, main], None).unwrap().deploy.is_some());
    }

    #[test]
    fn many_refs_make_few_notices() {
        let updates: Vec<Update> = (0..5000).map(|n| update(&format!("refs/tags/v{n}"), Some("a"))).collect();
        assert_eq!(plan(&updates, None).unwrap().notices.len(), 11);
    }
}

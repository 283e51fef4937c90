//! From intent to running processes: real Postgres, the real reconciler, a scheduler in memory.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use paas_api::{ProcessType, ReleaseVersion, Secret, hold::Hold};
use paas_controller::{
    db,
    deploy::{
        Options, Platform,
        intent::{self, Change, IntentError, NewBuild, Selection},
        reconciler,
        signals::Signals,
        wait::{self, Outcome},
    },
    domain::{app::App, autoscale::Pace, config::Changes, user::User},
    journal::Journal,
    scheduler::{Scheduler as _, fake::FakeScheduler},
    seal::Seal,
    settings::DeployHooks,
};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A controller, its user and one app.
struct World {
    platform: Platform,
    scheduler: Arc<FakeScheduler>,
    controllers: Vec<JoinHandle<()>>,
    user: User,
    app: App,
    _data: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.controllers.iter().for_each(JoinHandle::abort);
    }
}

async fn world(pool: PgPool) -> World {
    // A controller's own: the harness's pools share a few connections among all tests.
    let pool = db::pool((*pool.connect_options()).clone());
    let data = tempfile::tempdir().unwrap();
    let scheduler = Arc::new(FakeScheduler::default());
    let platform = Platform {
        journal: Journal::open(data.path(), 1 << 20).unwrap(),
        signals: Signals::listen(pool.clone()),
        pool,
        scheduler: scheduler.clone(),
        seal: Arc::new(Seal::load(data.path()).unwrap()),
        options: Arc::new(Options {
            domain: "localhost".into(),
            public_port: 8080,
            git_url: "ssh://git@localhost:2222".into(),
            advertised: "127.0.0.1:8000".parse().unwrap(),
            reserved_names: vec!["paas".into()],
            change_wait: Duration::from_secs(60),
            drain_limit: Duration::from_secs(5),
            autoscale: Pace { period: Duration::from_secs(1), steady: Duration::from_secs(5) },
            authority: None,
            deploy_hooks: DeployHooks::default(),
            registry: "127.0.0.1:5000".into(),
            registry_auth_file: None,
        }),
        hold: Hold::default(),
    };
    let id =
        sqlx::query_scalar::<_, Uuid>("INSERT INTO users (username, password_hash) VALUES ('ann', '') RETURNING id")
            .fetch_one(&platform.pool)
            .await
            .unwrap();
    let user = User {
        id,
        username: "ann".parse().unwrap(),
        email: String::new(),
        first_name: String::new(),
        last_name: String::new(),
        is_superuser: false,
        last_login: None,
        date_joined: chrono::Utc::now(),
    };
    let (app, _) = intent::create_app(&platform, &user, Some("hello".parse().unwrap())).await.unwrap();
    let controllers = vec![tokio::spawn(reconciler::run(platform.clone()))];
    World { platform, scheduler, controllers, user, app, _data: data }
}

fn web(count: u32) -> BTreeMap<ProcessType, u32> {
    BTreeMap::from([(ProcessType::web(), count)])
}

impl World {
    async fn build(&self) -> Result<Change, IntentError> {
        let build = NewBuild {
            image: "registry/app:v1".to_owned(),
            procfile: BTreeMap::from([(ProcessType::web(), "serve".to_owned())]),
            sha: None,
            dockerfile: "true".into(),
            push: None,
        };
        intent::build(&self.platform, &self.user, &self.app, build).await
    }

    async fn set(&self, of: &[(&str, Option<&str>)]) -> Result<Change, IntentError> {
        let values = of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(Secret::from))).collect();
        intent::config(&self.platform, &self.user, &self.app, Changes { values, ..Changes::default() }).await
    }

    async fn outcome(&self, deployment: Option<Uuid>) -> Outcome {
        let settled = wait::settled(&self.platform, deployment.expect("a deployment"));
        tokio::time::timeout(Duration::from_secs(90), settled).await.expect("the deployment never ends")
    }

    async fn deploy(&self) -> ReleaseVersion {
        let change = self.build().await.unwrap();
        assert_eq!(self.outcome(change.deployment).await, Outcome::Succeeded);
        change.release
    }

    /// Release and name of what visitors reach.
    async fn routed(&self) -> Vec<(i32, String)> {
        sqlx::query_as::<_, (i32, String)>("SELECT version, name FROM instances WHERE routed ORDER BY name")
            .fetch_all(&self.platform.pool)
            .await
            .unwrap()
    }

    async fn releases(&self) -> Vec<i32> {
        self.routed().await.into_iter().map(|(version, _)| version).collect()
    }

    /// How many instances the scheduler has.
    async fn running(&self) -> usize {
        self.scheduler.observe(self.app.id).await.unwrap().len()
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !look().await {
        assert!(Instant::now() < deadline, "it did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[sqlx::test]
async fn a_build_becomes_a_release_that_visitors_reach(pool: PgPool) {
    let world = world(pool).await;
    let change = world.build().await.unwrap();
    assert_eq!(change.release.to_string(), "v2");
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    assert_eq!(world.releases().await, [2]);
}

#[sqlx::test]
async fn a_config_change_replaces_the_instances(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let change = world.set(&[("GREETING", Some("hi"))]).await.unwrap();
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    assert_eq!(world.releases().await, [3]);
    eventually("the old instance is gone", || async { world.running().await == 1 }).await;
}

#[sqlx::test]
async fn a_config_change_before_the_first_build_is_a_release_without_a_deployment(pool: PgPool) {
    let world = world(pool).await;
    let change = world.set(&[("GREETING", Some("hi"))]).await.unwrap();
    assert_eq!((change.release.number(), change.deployment), (2, None));
    assert_eq!(world.deploy().await.number(), 3);
    let (_, config) = intent::current_config(&world.platform, &world.app).await.unwrap();
    assert_eq!(config.values.len(), 1);
}

#[sqlx::test]
async fn a_release_that_crashes_fails_and_the_old_one_serves_on(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let before = world.routed().await;
    let change = world.set(&[("PAAS_FAKE", Some("exit=7,print=out of luck"))]).await.unwrap();
    let Outcome::Failed(reason) = world.outcome(change.deployment).await else { panic!("it should fail") };
    assert!(
        reason.starts_with("There was a problem deploying v3. Rolling back process types to release v2.\n"),
        "{reason}"
    );
    assert!(reason.contains("exit code 7") && reason.contains("out of luck"), "{reason}");
    assert_eq!(world.routed().await, before);
    eventually("the failed instances are gone", || async { world.running().await == 1 }).await;
    // The next change builds on what is good.
    let next = world.set(&[("A", Some("1"))]).await.unwrap();
    assert_eq!(next.release.number(), 4);
    assert_eq!(world.outcome(next.deployment).await, Outcome::Succeeded);
    let (_, config) = intent::current_config(&world.platform, &world.app).await.unwrap();
    assert_eq!(config.values.len(), 1);
}

#[sqlx::test]
async fn a_release_that_never_listens_fails_when_its_time_is_up(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let change = world.set(&[("PAAS_FAKE", Some("never-ready")), ("DEIS_DEPLOY_TIMEOUT", Some("1"))]).await.unwrap();
    let Outcome::Failed(reason) = world.outcome(change.deployment).await else { panic!("it should fail") };
    assert!(reason.contains("was not ready within 1 s") && reason.contains("port 5000"), "{reason}");
    assert_eq!(world.releases().await, [2]);
}

#[sqlx::test]
async fn a_refusal_of_the_scheduler_fails_the_deployment(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let change = world.set(&[("PAAS_FAKE", Some("refused"))]).await.unwrap();
    let outcome = world.outcome(change.deployment).await;
    assert!(matches!(&outcome, Outcome::Failed(reason) if reason.contains("web could not be started")), "{outcome:?}");
    assert_eq!(world.releases().await, [2]);
}

#[sqlx::test]
async fn scaling_makes_no_release_and_a_failed_one_changes_nothing(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let scaled = intent::scale(&world.platform, &world.user, &world.app, web(3)).await.unwrap();
    assert_eq!(world.outcome(scaled).await, Outcome::Succeeded);
    assert_eq!(world.releases().await, [2, 2, 2]);
    let same = intent::scale(&world.platform, &world.user, &world.app, web(3)).await.unwrap();
    assert_eq!(same, None);
    let down = intent::scale(&world.platform, &world.user, &world.app, web(1)).await.unwrap();
    assert_eq!(world.outcome(down).await, Outcome::Succeeded);
    eventually("two are gone", || async { world.running().await == 1 }).await;
    let unknown = BTreeMap::from([("foo".parse().unwrap(), 1)]);
    let refused = intent::scale(&world.platform, &world.user, &world.app, unknown).await.unwrap_err();
    assert_eq!(refused.to_string(), "Container type foo does not exist in application");
}

#[sqlx::test]
async fn a_rollback_runs_the_old_build_and_config_as_a_new_release(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let set = world.set(&[("A", Some("1"))]).await.unwrap();
    assert_eq!(world.outcome(set.deployment).await, Outcome::Succeeded);
    let back = intent::rollback(&world.platform, &world.user, &world.app, Some(2)).await.unwrap();
    assert_eq!(back.release.number(), 4);
    assert_eq!(world.outcome(back.deployment).await, Outcome::Succeeded);
    assert_eq!(world.releases().await, [4]);
    let (_, config) = intent::current_config(&world.platform, &world.app).await.unwrap();
    assert!(config.values.is_empty());
    for (asked, text) in [
        (Some(1), "Cannot roll back to initial release."),
        (Some(-1), "version cannot be below 0"),
        (Some(99), "Release matching query does not exist."),
    ] {
        let refused = intent::rollback(&world.platform, &world.user, &world.app, asked).await.unwrap_err();
        assert_eq!(refused.to_string(), text);
    }
}

#[sqlx::test]
async fn a_rollback_supersedes_what_is_under_way(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let stuck = world.set(&[("PAAS_FAKE", Some("never-ready"))]).await.unwrap();
    let back = intent::rollback(&world.platform, &world.user, &world.app, Some(2)).await.unwrap();
    assert_eq!(world.outcome(stuck.deployment).await, Outcome::Superseded);
    assert_eq!(world.outcome(back.deployment).await, Outcome::Succeeded);
    assert_eq!(world.releases().await, [4]);
    eventually("only the newest runs", || async { world.running().await == 1 }).await;
}

#[sqlx::test]
async fn two_changes_at_once_become_two_releases_one_after_the_other(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let (a, b) = tokio::join!(world.set(&[("A", Some("1"))]), world.set(&[("B", Some("1"))]));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.release, b.release);
    assert_eq!(world.outcome(a.deployment).await, Outcome::Succeeded);
    assert_eq!(world.outcome(b.deployment).await, Outcome::Succeeded);
    let (_, config) = intent::current_config(&world.platform, &world.app).await.unwrap();
    assert_eq!(config.values.len(), 2, "neither change is lost");
}

#[sqlx::test]
async fn a_restart_replaces_what_was_selected(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let scaled = intent::scale(&world.platform, &world.user, &world.app, web(2)).await.unwrap();
    assert_eq!(world.outcome(scaled).await, Outcome::Succeeded);
    let before = world.routed().await;
    let one = Selection::Instance(before[0].1.clone());
    let restarted = intent::restart(&world.platform, &world.user, &world.app, &one).await.unwrap();
    assert_eq!(world.outcome(restarted).await, Outcome::Succeeded);
    let after = world.routed().await;
    assert!(after.len() == 2 && !after.contains(&before[0]) && after.contains(&before[1]));
    let none = Selection::Type("worker".parse().unwrap());
    assert_eq!(intent::restart(&world.platform, &world.user, &world.app, &none).await.unwrap(), None);
}

#[sqlx::test]
async fn two_controllers_share_the_work(pool: PgPool) {
    let mut world = world(pool).await;
    world.controllers.push(tokio::spawn(reconciler::run(world.platform.clone())));
    world.controllers.push(tokio::spawn(reconciler::run(world.platform.clone())));
    world.deploy().await;
    for number in 0..5 {
        let change = world.set(&[("N", Some(&number.to_string()))]).await.unwrap();
        assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    }
    eventually("one instance is left", || async { world.running().await == 1 }).await;
    assert_eq!(world.releases().await, [7]);
}

#[sqlx::test]
async fn a_controller_that_starts_finds_the_work_of_the_one_before(pool: PgPool) {
    let mut world = world(pool).await;
    world.deploy().await;
    world.controllers.drain(..).for_each(|controller| controller.abort());
    let change = world.set(&[("A", Some("1"))]).await.unwrap();
    world.controllers.push(tokio::spawn(reconciler::run(world.platform.clone())));
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
}

#[sqlx::test]
async fn an_engine_that_is_away_refuses_changes_and_keeps_what_serves(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let before = world.routed().await;
    world.scheduler.set_away(true);
    let refused = world.set(&[("A", Some("1"))]).await.unwrap_err();
    assert!(matches!(refused, IntentError::Unavailable(_)), "{refused}");
    assert_eq!(world.routed().await, before);
    world.scheduler.set_away(false);
    let change = world.set(&[("A", Some("1"))]).await.unwrap();
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
}

#[sqlx::test]
async fn a_destroyed_app_leaves_nothing_and_frees_its_name(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    intent::destroy_app(&world.platform, &world.user, &world.app).await.unwrap();
    assert!(wait::gone(&world.platform, world.app.id, Duration::from_secs(60)).await.unwrap());
    assert_eq!(world.running().await, 0);
    for table in ["apps", "releases", "builds", "configs", "deployments", "instances", "domains", "events"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&world.platform.pool).await.unwrap();
        assert_eq!(left, 0, "{table}");
    }
    intent::create_app(&world.platform, &world.user, Some("hello".parse().unwrap())).await.unwrap();
}

#[sqlx::test]
async fn old_instances_stay_until_the_routers_have_let_go(pool: PgPool) {
    let world = world(pool).await;
    world.deploy().await;
    let report = |version: i64, draining: Vec<String>| {
        let pool = world.platform.pool.clone();
        async move {
            let router = db::routing::Router { id: "r1".into(), version, draining };
            db::routing::report(&mut pool.acquire().await.unwrap(), &router).await.unwrap();
        }
    };
    report(1, vec![]).await;
    let address: String =
        sqlx::query_scalar("SELECT address FROM instances WHERE routed").fetch_one(&world.platform.pool).await.unwrap();
    let change = world.set(&[("A", Some("1"))]).await.unwrap();
    let status = || async {
        let sql = "SELECT status FROM deployments WHERE id = $1";
        sqlx::query_scalar::<_, String>(sql).bind(change.deployment).fetch_one(&world.platform.pool).await.unwrap()
    };
    eventually("it waits for the router", || async { status().await == "switching" }).await;
    // The router has the table, but somebody is still with the old instance.
    report(1000, vec![address.clone()]).await;
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    assert_eq!(world.running().await, 2);
    report(1000, vec![]).await;
    eventually("the old instance is gone", || async { world.running().await == 1 }).await;
}

/// A change is recorded in the middle of the reconciler's look: the look shows what was before it or what is after it.
#[sqlx::test]
async fn a_look_never_mixes_what_was_with_what_is(pool: PgPool) {
    let world = world(pool).await;
    let image = NewBuild {
        image: "registry/app:v1".to_owned(),
        procfile: BTreeMap::new(),
        sha: None,
        dockerfile: "true".into(),
        push: None,
    };
    let change = intent::build(&world.platform, &world.user, &world.app, image).await.unwrap();
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    for sql in [
        "CREATE TABLE inserted (process_type text, version integer)",
        "CREATE FUNCTION note_insert() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN INSERT INTO inserted VALUES (NEW.process_type, NEW.version); RETURN NEW; END'",
        "CREATE TRIGGER note BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION note_insert()",
    ] {
        sqlx::query(sql).execute(&world.platform.pool).await.unwrap();
    }
    // The look begins, and stands still where it asks for the instances.
    let mut lock = world.platform.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE instances IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let wake = "SELECT pg_notify('paas_app', $1)";
    sqlx::query(wake).bind(world.app.id.to_string()).execute(&world.platform.pool).await.unwrap();
    eventually("the look stands still", || async {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'instances'::regclass";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.platform.pool).await.unwrap() > 0
    })
    .await;
    // A build that moves the app from `cmd` to `web`.
    let change = world.build().await.unwrap();
    lock.commit().await.unwrap();
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    let inserted = sqlx::query_as::<_, (String, i32)>("SELECT process_type, version FROM inserted")
        .fetch_all(&world.platform.pool)
        .await
        .unwrap();
    assert_eq!(inserted, [("web".to_owned(), 3)], "nothing of the old formation is started in the new release");
}

#[sqlx::test]
async fn a_router_that_could_not_be_heard_is_waited_for(pool: PgPool) {
    // It serves, but what it last said is from before the outage.
    sqlx::query("INSERT INTO routers (id, version, seen) VALUES ('r1', 1, now() - interval '1 minute')")
        .execute(&pool)
        .await
        .unwrap();
    let world = world(pool).await;
    let change = world.build().await.unwrap();
    let status = || async {
        let sql = "SELECT status FROM deployments WHERE id = $1";
        sqlx::query_scalar::<_, String>(sql).bind(change.deployment).fetch_one(&world.platform.pool).await.unwrap()
    };
    eventually("it waits for the router", || async { status().await == "switching" }).await;
    let router = db::routing::Router { id: "r1".into(), version: 1000, draining: vec![] };
    db::routing::report(&mut world.platform.pool.acquire().await.unwrap(), &router).await.unwrap();
    assert_eq!(world.outcome(change.deployment).await, Outcome::Succeeded);
    assert!(world.platform.signals.listening_for() < Duration::from_secs(15), "it waited until it gave the router up");
}

#[sqlx::test]
async fn names_are_taken_once_and_reserved_ones_never(pool: PgPool) {
    let world = world(pool).await;
    let taken = intent::create_app(&world.platform, &world.user, Some("hello".parse().unwrap())).await.unwrap_err();
    assert!(matches!(taken, IntentError::Field("id", text) if text == "Application with this id already exists."));
    let reserved = intent::create_app(&world.platform, &world.user, Some("paas".parse().unwrap())).await.unwrap_err();
    assert!(matches!(reserved, IntentError::Field("id", text) if text == "paas is a reserved name."));
    let (drawn, _) = intent::create_app(&world.platform, &world.user, None).await.unwrap();
    assert_eq!(drawn.name.as_str().len(), 15);
}

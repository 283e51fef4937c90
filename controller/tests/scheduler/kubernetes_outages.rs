//! A cluster that is away for a while, forgets, or is not asked at all.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use paas_controller::scheduler::{Ends, Scheduler as _, SchedulerError, kubernetes::KubernetesScheduler};

use crate::{
    bench::{Bench, HANG, SERVE, WORK, group, ready, until},
    gateway::{Gateway, is_watch},
};

/// Looks of a controller at an app at which nothing happens: more than it takes in many minutes.
const IDLE_LOOKS: usize = 100;

/// A bench, and a controller that comes to the cluster through a gateway. `None` without a cluster, which is told.
async fn through_gateway() -> Option<(Bench, Gateway, Arc<KubernetesScheduler>)> {
    let bench = Bench::kubernetes().await?;
    let cluster = bench.cluster.as_ref().expect("it is one of a cluster");
    let gateway = Gateway::to(&cluster.kubeconfig).await;
    let path: &Path = gateway.kubeconfig.path();
    let scheduler = cluster.controller_by(path, &bench.installation).await;
    Some((bench, gateway, scheduler))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_while_nothing_changes() {
    let Some((bench, gateway, scheduler)) = through_gateway().await else { return };
    let web = bench.group(2, bench.web(&SERVE));
    let work = group(&bench.app, "work", 2, 1, bench.worker(&WORK));
    let one_off = bench.one_off(&HANG);
    let mut output = scheduler.output(Ends::new()).await.unwrap();
    for group in [&web, &work] {
        scheduler.apply(group).await.unwrap();
        ready(&*scheduler, group).await;
    }
    scheduler.run_detached(one_off.clone()).await.unwrap();
    // Once it is heard, everything is listened to that can be.
    tokio::time::timeout(crate::bench::DEADLINE, output.next()).await.expect("it writes").expect("it goes on");
    // Everything that a controller does from time to time, whether or not something happens.
    let look = async || {
        assert_eq!(scheduler.apps().await.unwrap(), [bench.app.id]);
        assert_eq!(scheduler.observe(bench.app.id).await.unwrap().len(), 3);
        assert_eq!(scheduler.amiss(bench.app.id).await.unwrap(), []);
        assert_eq!(scheduler.one_offs().await.unwrap()[0].name, one_off.name);
    };
    // What the start has left to do is done when a whole round of looks finds nothing to ask.
    until("nothing is left to be asked", || async {
        gateway.asked();
        for _ in 0..IDLE_LOOKS {
            look().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A watch ends after some minutes and is begun again.
        gateway.asked().iter().all(|asked| is_watch(asked)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_waited_for_and_seen_again() {
    let Some((bench, gateway, scheduler)) = through_gateway().await else { return };
    let web = bench.group(2, bench.web(&SERVE));
    scheduler.apply(&web).await.unwrap();
    let before = ready(&*scheduler, &web).await;
    gateway.cut();
    // What was told last is still known; what would have to be asked is told as something that passes.
    assert_eq!(ready(&*scheduler, &web).await, before);
    let next = group(&bench.app, "web", 3, 1, bench.web(&SERVE));
    let refused = scheduler.apply(&next).await;
    let Err(SchedulerError::Unavailable(text)) = refused else { panic!("{refused:?}") };
    assert!(text.starts_with("the cluster does not answer: "), "{text}");
    // Meanwhile somebody else goes on.
    bench.second.apply(&group(&bench.app, "web", 2, 0, bench.web(&SERVE))).await.unwrap();
    gateway.give_back();
    scheduler.apply(&next).await.unwrap();
    ready(&*scheduler, &next).await;
    for name in &web.instances {
        until("the old one is gone", || async {
            let seen = scheduler.observe(bench.app.id).await.unwrap();
            seen.iter().all(|one| one.name != *name).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_place_is_gone_begins_again() {
    let Some((bench, gateway, scheduler)) = through_gateway().await else { return };
    let web = bench.group(1, bench.web(&SERVE));
    scheduler.apply(&web).await.unwrap();
    ready(&*scheduler, &web).await;
    gateway.forget_places();
    gateway.cut();
    // What happens now, nobody tells.
    bench.second.apply(&group(&bench.app, "web", 2, 0, bench.web(&SERVE))).await.unwrap();
    for name in &web.instances {
        bench.gone(name).await;
    }
    let next = group(&bench.app, "web", 3, 1, bench.web(&SERVE));
    bench.run(&next).await;
    gateway.give_back();
    // Pods, deployments, namespaces, policies and events.
    until("every watch has lost its place", || async { (gateway.forgotten() >= 5).then_some(()) }).await;
    let same = || async {
        let seen = scheduler.observe(bench.app.id).await.unwrap();
        let names: Vec<_> = seen.into_iter().map(|one| one.name).collect();
        (names == next.instances).then_some(())
    };
    until("it sees what is there", same).await;
    ready(&*scheduler, &next).await;
}

//! How long a process takes from the order to its first answer, beside a bare container of the engine's default network.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder},
};
use futures_util::StreamExt as _;
use paas_controller::{domain::instance::InstanceName, scheduler::Phase};
use tokio::net::TcpStream;

use crate::bench::{Bench, DEADLINE, PORT, SERVE, release};

const ROUNDS: usize = 15;

/// Create, start, learn the address, connect until it answers: what anybody must do.
async fn bare(docker: &Docker, image: &str) -> Duration {
    let began = Instant::now();
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
        cmd: Some(vec!["exec httpd -f -p 8080 -h /bin".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    docker.start_container(&id, None).await.unwrap();
    let networks = docker.inspect_container(&id, None).await.unwrap().network_settings.unwrap().networks.unwrap();
    let address = networks.values().find_map(|endpoint| endpoint.ip_address.clone()).unwrap();
    let target: SocketAddr = format!("{address}:{PORT}").parse().unwrap();
    while TcpStream::connect(target).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    docker.remove_container(&id, Some(RemoveContainerOptionsBuilder::new().force(true).build())).await.unwrap();
    took
}

/// From `apply` until a change is told and the instance is observed ready.
async fn ours(bench: &Bench) -> Duration {
    let mut changes = bench.scheduler.changes();
    let mut group = bench.group(1, bench.web(&SERVE));
    group.instances = vec![InstanceName::draw(&bench.app.name, &group.process_type, release(2))];
    let began = Instant::now();
    bench.scheduler.apply(&group).await.unwrap();
    while bench.observe().await[&group.instances[0]].phase != Phase::Ready {
        tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap();
    }
    let took = began.elapsed();
    group.instances.clear();
    bench.scheduler.apply(&group).await.unwrap();
    crate::bench::until("it is gone", || async { bench.names().await.is_empty().then_some(()) }).await;
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, so it wants a quiet machine; the benchmark runs it"]
async fn an_instance_is_ready_about_as_fast_as_a_bare_container() {
    let bench = Bench::docker();
    let docker = Docker::connect_with_local_defaults().unwrap().negotiate_version().await.unwrap();
    ours(&bench).await;
    bare(&docker, &bench.image()).await;
    let (mut theirs, mut mine) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(bare(&docker, &bench.image()).await);
        mine.push(ours(&bench).await);
    }
    let (theirs, mine) = (median(theirs), median(mine));
    let ratio = mine.as_secs_f64() / theirs.as_secs_f64();
    println!("bare container {theirs:.1?}, instance {mine:.1?}: {ratio:.2} x (median of {ROUNDS}, interleaved)");
    assert!(ratio < 1.5, "{ratio:.2} x a bare container");
}

//! Visitors come by the cluster's own ways: Ingresses and Services that the platform keeps, and no request fails.
//!
//! The visitors are the cluster's, through an app's Service: what every Ingress controller leads to.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Platform, Start, User, both, cluster, eventually, says, scenarios, succeed};
use serde_json::Value;

scenarios![an_app_is_found_by_ingresses_and_no_request_fails];

/// No condition takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The app's namespace.
fn namespace(app: &App<'_>) -> anyhow::Result<String> {
    let selector = format!("paas.app-name={}", app.name);
    let named = cluster::kubectl(&["get", "namespaces", "--selector", &selector, "--output", "name"])?;
    Ok(named.trim().trim_start_matches("namespace/").to_owned())
}

fn get(namespace: &str, what: &[&str]) -> anyhow::Result<Value> {
    let told = cluster::kubectl(&[&["--namespace", namespace, "get", "--output", "json"], what].concat())?;
    Ok(serde_json::from_str(&told)?)
}

/// The hosts that the app's Ingress leads in.
fn hosts(namespace: &str) -> anyhow::Result<Vec<String>> {
    let ingresses = get(namespace, &["ingresses"])?;
    let rules = ingresses["items"][0]["spec"]["rules"].as_array().cloned().unwrap_or_default();
    Ok(rules.iter().filter_map(|rule| Some(rule["host"].as_str()?.to_owned())).collect())
}

/// Visits again and again, each time by a new connection, until it is told to stop.
async fn visit(url: String, stop: Arc<AtomicBool>, served: Arc<AtomicUsize>, failures: Arc<Mutex<Vec<String>>>) {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(60)).build().unwrap();
    while !stop.load(Ordering::Relaxed) {
        let answer = async {
            let answer = client.get(&url).header("connection", "close").send().await?.error_for_status()?;
            answer.text().await
        };
        match answer.await {
            Ok(_) => drop(served.fetch_add(1, Ordering::Relaxed)),
            Err(error) => failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:?}")),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Changes the app while it is visited, until all that was replaced is gone.
async fn change_while_it_is_visited(app: &App<'_>, namespace: &str) -> anyhow::Result<()> {
    let service = get(namespace, &["service", "cmd"])?;
    let address = service["spec"]["clusterIP"].as_str().context("a Service without address")?.to_owned();
    let url = format!("http://{address}/");
    eventually("the Service leads to the app", LIMIT, || async {
        Ok(reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()).then_some(()))
    })
    .await?;
    let (stop, served, failures) =
        (Arc::default(), Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
    let visitors: Vec<_> = (0..2)
        .map(|_| tokio::spawn(visit(url.clone(), Arc::clone(&stop), Arc::clone(&served), Arc::clone(&failures))))
        .collect();
    app.deploy_sample("second")?;
    let selected = get(namespace, &["service", "cmd"])?["spec"]["selector"]["paas.release"].clone();
    ensure!(selected == "3", "it is still {selected} that serves");
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    succeed(&app.paas(&["ps:restart"])?)?;
    succeed(&app.paas(&["rollback"])?)?;
    succeed(&app.paas(&["ps:scale", "cmd=1"])?)?;
    eventually("one process is left", LIMIT, || async {
        Ok((cluster::processes_of(&app.name)?.len() == 1).then_some(()))
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await?;
    }
    let failures = std::mem::take(&mut *failures.lock().unwrap_or_else(PoisonError::into_inner));
    let served = served.load(Ordering::Relaxed);
    ensure!(failures.is_empty(), "{} of {served} failed: {:#?}", failures.len(), failures.iter().take(5));
    ensure!(served > 100, "they hardly came: {served}");
    Ok(())
}

async fn an_app_is_found_by_ingresses_and_no_request_fails() -> anyhow::Result<()> {
    let environment = [("PAAS_KUBERNETES_ROUTING", "ingress"), ("PAAS_KUBERNETES_LEAVE_SECONDS", "4")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let platform = Platform::start(&Start { environment, ..Start::default() })?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    app.deploy_sample("first")?;
    let namespace = namespace(&app)?;
    let own = format!("{}.localhost", app.name);
    eventually("the app's own host leads in", LIMIT, || async {
        Ok((hosts(&namespace)? == [own.clone()]).then_some(()))
    })
    .await?;
    change_while_it_is_visited(&app, &namespace).await?;

    // Domains come and go.
    succeed(&app.paas(&["domains:add", "shop.example.test"])?)?;
    let shop = "shop.example.test".to_owned();
    eventually("the domain leads in", LIMIT, || async { Ok(hosts(&namespace)?.contains(&shop).then_some(())) }).await?;
    succeed(&app.paas(&["domains:remove", "shop.example.test"])?)?;
    eventually("the domain is gone", LIMIT, || async { Ok((hosts(&namespace)? == [own.clone()]).then_some(())) })
        .await?;
    // What somebody deletes comes back.
    cluster::kubectl(&["--namespace", &namespace, "delete", "ingress,service", "--all"])?;
    eventually("they are back", LIMIT, || async {
        let services = get(&namespace, &["services"])?["items"].as_array().map(Vec::len);
        Ok((hosts(&namespace)? == [own.clone()] && services == Some(1)).then_some(()))
    })
    .await?;
    // Nobody may visit any more.
    succeed(&app.paas(&["routing:disable"])?)?;
    eventually("there is no Ingress", LIMIT, || async { Ok(hosts(&namespace)?.is_empty().then_some(())) }).await?;
    succeed(&app.paas(&["routing:enable"])?)?;
    eventually("there is one again", LIMIT, || async { Ok((!hosts(&namespace)?.is_empty()).then_some(())) }).await?;
    // Authorities cannot ask us, and what Ingresses cannot be told is said once.
    let refused = both(&app.paas(&["tls:auto:enable"])?);
    says(&refused, &["cert-manager.io/cluster-issuer", "certs:add"])?;
    succeed(&app.paas(&["tls:enable"])?)?;
    eventually("the owner is told", LIMIT, || async {
        let told = succeed(&app.paas(&["logs"])?)?;
        Ok(told.contains("the cluster's Ingress controller cannot be told of: the way to TLS").then_some(()))
    })
    .await?;
    // All of it goes with the app.
    succeed(&app.paas(&["destroy", "--confirm", &app.name])?)?;
    let is_gone = || async {
        let listed = cluster::kubectl(&["get", "namespace", &namespace, "--ignore-not-found", "--output", "name"])?;
        Ok(listed.trim().is_empty().then_some(()))
    };
    eventually("the namespace is gone", LIMIT, is_gone).await
}

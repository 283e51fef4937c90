//! How an app is found on a cluster: Services, Ingresses and certificates, as the cluster has them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use paas_controller::scheduler::{
    Group, Scheduler as _,
    entrance::{Door, Entrance, Entry, Told},
};
use paas_router::model::{Certificate, Host, Route};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    bench::{Bench, DEADLINE, SERVE, group, until},
    kubernetes::{cluster, get, kubectl},
};

/// A bench on which visitors come by Ingresses of a class of its own, of ingress-nginx. Nobody serves it.
struct Hall {
    bench: Bench,
    class: String,
}

impl Hall {
    async fn open() -> Option<Self> {
        let mut bench = Bench::kubernetes().await?;
        let class = format!("test-{:016x}", rand::random::<u64>());
        let object = format!(
            r#"{{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {{"name": "{class}"}},
                "spec": {{"controller": "k8s.io/ingress-nginx"}}}}"#
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("class.json");
        std::fs::write(&file, object).unwrap();
        let made = cluster(&bench).kubectl(&["apply", "--filename", file.to_str().unwrap()]);
        assert!(made.ends_with("created"), "{made}");
        bench.scheduler = cluster(&bench).controller_of(&bench.installation, Entry::Ingress, Some(&class)).await;
        bench.second = cluster(&bench).controller_of(&bench.installation, Entry::Ingress, Some(&class)).await;
        Some(Self { bench, class })
    }

    /// Publishes until it has what it waits for: the cluster's watches tell of what others did when they come to it.
    async fn published(&self, what: &str, entrance: &Entrance, is_right: impl Fn(&Hall) -> bool) {
        until(what, || async {
            let told = self.bench.scheduler.publish(entrance).await.unwrap();
            assert_eq!(told.refused, Vec::<String>::new());
            is_right(self).then_some(())
        })
        .await;
    }

    /// The names of the app's objects of a kind, without those that every app has.
    fn names(&self, kind: &str) -> Vec<String> {
        let listed = get(&self.bench, &[kind, "--selector", "paas.part=entrance"]);
        let items = listed["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        get(&self.bench, &[kind, name])
    }

    /// Names of the pods that a Service leads to and that are ready.
    fn behind(&self, service: &str) -> BTreeSet<String> {
        let selector = format!("kubernetes.io/service-name={service}");
        let listed = get(&self.bench, &["endpointslices", "--selector", &selector]);
        let slices = listed["items"].as_array().unwrap().iter();
        let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The pods of a group, by instance.
    fn pods(&self, group: &Group) -> BTreeMap<String, String> {
        let selector = format!("paas.release={}", group.release.number());
        let listed = get(&self.bench, &["pods", "--selector", &selector]);
        let of = |pod: &Value| {
            let instance = pod["metadata"]["annotations"]["paas.instance"].as_str()?.to_owned();
            Some((instance, pod["metadata"]["name"].as_str()?.to_owned()))
        };
        listed["items"].as_array().unwrap().iter().filter_map(of).collect()
    }

    fn entrance(&self, group: &Group) -> Entrance {
        let main = Door { process_type: group.process_type.clone(), release: group.release, paths: None };
        let route = Route { hosts: hosts(&["hello.example.test"]), ..Route::default() };
        Entrance {
            app: self.bench.app.clone(),
            main,
            others: Vec::new(),
            leaving: BTreeSet::new(),
            route: Some(route),
            certificates: Vec::new(),
        }
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        cluster(&self.bench).kubectl(&["delete", "ingressclass", &self.class, "--wait=false"]);
    }
}

fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn certificate(host: &str, chain: &str) -> Certificate {
    Certificate { hosts: hosts(&[host]), chain: chain.to_owned(), key: "private".to_owned().into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_found_as_it_is_told_and_not_otherwise() {
    let Some(hall) = Hall::open().await else { return };
    let bench = &hall.bench;
    let web = bench.group(2, bench.web(&SERVE));
    bench.run(&web).await;
    let mut entrance = hall.entrance(&web);
    entrance.certificates = vec![certificate("hello.example.test", "first")];
    entrance.others = vec![Door {
        process_type: "api".parse().unwrap(),
        release: web.release,
        paths: Some("/api,/v[0-9]".parse().unwrap()),
    }];
    let told = bench.scheduler.publish(&entrance).await.unwrap();
    assert!(told.refused.is_empty() && told.left_out.len() == 1 && told.left_out[0].contains("/v[0-9]"), "{told:?}");
    assert_eq!(hall.names("services"), ["api", "web"]);
    assert_eq!(hall.names("secrets"), ["web-tls-0"]);
    let ingress = hall.object("ingress", "web");
    assert_eq!(ingress["spec"]["ingressClassName"], hall.class);
    assert_eq!(ingress["spec"]["tls"][0]["secretName"], "web-tls-0");
    assert_eq!(ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/force-ssl-redirect"], "false");
    let paths = ingress["spec"]["rules"][0]["http"]["paths"].as_array().unwrap();
    assert_eq!(paths.iter().map(|path| path["path"].as_str().unwrap()).collect::<Vec<_>>(), ["/api", "/"]);
    assert_eq!(hall.object("service", "web")["spec"]["ports"][0]["targetPort"], 8080);
    until("the Service leads to the pods", || async { (hall.behind("web").len() == 2).then_some(()) }).await;

    // Telling it again writes nothing, whoever tells it.
    let versions = || {
        let listed = get(bench, &["services,ingresses,secrets"]);
        let of = |item: &Value| ["name", "resourceVersion"].map(|part| item["metadata"][part].to_string());
        listed["items"].as_array().unwrap().iter().map(of).collect::<BTreeSet<_>>()
    };
    let before = versions();
    bench.scheduler.publish(&entrance).await.unwrap();
    bench.second.publish(&entrance).await.unwrap();
    assert_eq!(versions(), before);

    // What others change is put right, what they add stays.
    let mut changes = bench.scheduler.changes();
    kubectl(bench, &["patch", "service", "web", "--patch", r#"{"spec":{"selector":{"more":"narrow"}}}"#]);
    kubectl(bench, &["delete", "ingress", "web"]);
    kubectl(bench, &["delete", "service", "api"]);
    kubectl(bench, &["label", "service", "web", "team=blue"]);
    timeout(DEADLINE, changes.next()).await.expect("it is told of").expect("they go on");
    hall.published("it is as it was", &entrance, |hall| {
        hall.names("ingresses") == ["web"]
            && hall.names("services") == ["api", "web"]
            && hall.object("service", "web")["spec"]["selector"].get("more").is_none()
    })
    .await;
    assert_eq!(hall.object("service", "web")["metadata"]["labels"]["team"], "blue");
    kubectl(bench, &["annotate", "--overwrite", "ingress", "web", "nginx.ingress.kubernetes.io/proxy-body-size=1"]);
    kubectl(bench, &["annotate", "ingress", "web", "cert-manager.io/cluster-issuer=acme"]);
    let annotation = |hall: &Hall, name: &str| hall.object("ingress", "web")["metadata"]["annotations"][name].clone();
    hall.published("the annotation is as it was", &entrance, |hall| {
        annotation(hall, "nginx.ingress.kubernetes.io/proxy-body-size") == "0"
    })
    .await;
    assert_eq!(annotation(&hall, "cert-manager.io/cluster-issuer"), "acme");

    // Other domains, another certificate, a whitelist that comes and goes.
    let route = entrance.route.as_mut().unwrap();
    route.hosts = hosts(&["hello.example.test", "shop.example.test"]);
    route.whitelist = vec!["10.0.0.0/8".parse().unwrap()];
    entrance.certificates = vec![certificate("hello.example.test", "second"), certificate("shop.example.test", "shop")];
    bench.scheduler.publish(&entrance).await.unwrap();
    assert_eq!(hall.object("ingress", "web")["spec"]["rules"][1]["host"], "shop.example.test");
    assert_eq!(annotation(&hall, "nginx.ingress.kubernetes.io/whitelist-source-range"), "10.0.0.0/8");
    assert_eq!(hall.names("secrets"), ["web-tls-0", "web-tls-1"]);
    assert_eq!(hall.object("secret", "web-tls-0")["data"]["tls.crt"], "c2Vjb25k");
    entrance.route.as_mut().unwrap().whitelist.clear();
    entrance.certificates.clear();
    entrance.others.clear();
    bench.scheduler.publish(&entrance).await.unwrap();
    assert_eq!(annotation(&hall, "nginx.ingress.kubernetes.io/whitelist-source-range"), Value::Null);
    assert_eq!(hall.object("ingress", "web")["spec"]["tls"], Value::Null);
    assert_eq!(hall.names("secrets"), Vec::<String>::new());
    assert_eq!(hall.names("services"), ["web"]);

    // Nobody may visit: found by its own processes alone.
    entrance.route = None;
    bench.scheduler.publish(&entrance).await.unwrap();
    assert_eq!(hall.names("ingresses"), Vec::<String>::new());
    assert_eq!(hall.names("services"), ["web"]);
    assert_eq!(bench.names().await.len(), 2, "its processes are left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_leads_to_the_release_that_serves_and_to_nobody_who_leaves() {
    let Some(hall) = Hall::open().await else { return };
    let bench = &hall.bench;
    let old = bench.group(2, bench.web(&SERVE));
    let new = group(&bench.app, "web", 3, 1, bench.web(&SERVE));
    bench.scheduler.apply(&new).await.unwrap();
    bench.run(&old).await;
    bench.run(&new).await;
    let (before, after) = (hall.pods(&old), hall.pods(&new));
    let behind = |pods: &BTreeMap<String, String>| pods.values().cloned().collect::<BTreeSet<_>>();
    let mut entrance = hall.entrance(&old);
    hall.published("the old release serves", &entrance, |hall| hall.behind("web") == behind(&before)).await;

    // One that is on its way out is out of the Service before it is told to stop, and can come back.
    let [leaves, stays] = [&old.instances[0], &old.instances[1]];
    entrance.leaving = [leaves.clone()].into();
    let left = BTreeSet::from([before[stays.as_str()].clone()]);
    hall.published("one has left", &entrance, |hall| hall.behind("web") == left).await;
    let seen = bench.observe().await;
    assert_eq!(seen.len(), 3, "it runs on: {seen:?}");
    assert_eq!(hall.pods(&old), before, "no other pod has come in its place");
    entrance.leaving.clear();
    hall.published("it is back", &entrance, |hall| hall.behind("web") == behind(&before)).await;

    // The switch, and back.
    entrance.main.release = new.release;
    hall.published("the new release serves", &entrance, |hall| hall.behind("web") == behind(&after)).await;
    entrance.main.release = old.release;
    hall.published("the old one serves again", &entrance, |hall| hall.behind("web") == behind(&before)).await;

    // In maintenance nobody is behind it, and visitors get 503.
    entrance.route.as_mut().unwrap().maintenance = true;
    hall.published("nobody serves", &entrance, |hall| hall.behind("web").is_empty()).await;
    entrance.route.as_mut().unwrap().maintenance = false;
    hall.published("they serve again", &entrance, |hall| hall.behind("web") == behind(&before)).await;
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert_eq!(
        bench.scheduler.publish(&entrance).await.unwrap(),
        Told::default(),
        "of nothing there is nothing to tell"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_has_made_under_that_name_is_not_touched() {
    let Some(hall) = Hall::open().await else { return };
    let bench = &hall.bench;
    let web = bench.group(1, bench.web(&SERVE));
    bench.run(&web).await;
    let rule = "other.example.test/*=other:80";
    kubectl(bench, &["create", "ingress", "web", "--rule", rule]);
    kubectl(bench, &["create", "secret", "generic", "web-tls-0", "--from-literal=a=b"]);
    let foreign = || (hall.object("ingress", "web"), hall.object("secret", "web-tls-0"));
    let before = foreign();
    let mut entrance = hall.entrance(&web);
    entrance.certificates = vec![certificate("hello.example.test", "first")];
    let told = bench.scheduler.publish(&entrance).await.unwrap();
    assert_eq!(told.refused.len(), 2, "{told:?}");
    for (refused, what) in told.refused.iter().zip(["Secret web-tls-0", "Ingress web"]) {
        assert!(refused.contains(what) && refused.contains("not made"), "{refused}");
    }
    assert_eq!(hall.names("services"), ["web"], "the rest is made all the same");
    entrance.route = None;
    entrance.certificates.clear();
    bench.scheduler.publish(&entrance).await.unwrap();
    assert_eq!(foreign(), before);
    // Without it there is no hindrance.
    kubectl(bench, &["delete", "ingress/web", "secret/web-tls-0"]);
    let entrance = Entrance { route: hall.entrance(&web).route, ..entrance };
    assert_eq!(bench.scheduler.publish(&entrance).await.unwrap().refused, Vec::<String>::new());
    assert_eq!(hall.names("ingresses"), ["web"]);

    // Where our own routers bring the visitors there are no Ingresses, and those that were go.
    let routed = cluster(bench).controller(&bench.installation).await;
    until("the Ingress is gone", || async {
        routed.publish(&entrance).await.unwrap();
        hall.names("ingresses").is_empty().then_some(())
    })
    .await;
    assert_eq!(hall.names("services"), ["web"]);
}

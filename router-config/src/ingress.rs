//! The routing model as objects of a Kubernetes cluster: what an Ingress controller there needs to serve a route.
//!
//! One route becomes Services, Ingresses, and Secrets of the certificates that are shown for its hosts. An Ingress itself
//! knows hosts, paths and certificates only; the rest is said in annotations, which every controller has of its own. What
//! cannot be said is left out, and told.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

use crate::model::{Certificate, Host, PathPattern, Route};

/// The port of every Service.
const PORT: u16 = 80;
/// Seconds without a word of its own rules, as the router has them.
const CONNECT_SECONDS: u32 = 5;
const RESPONSE_SECONDS: u32 = 1300;
/// Name of the cookie by which visitors stay with a process.
const COOKIE: &str = "paas_session";

/// Whose annotations are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// ingress-nginx.
    Nginx,
    /// Traefik, with its own kinds of objects installed.
    Traefik,
    /// Another one: no annotations.
    Other,
}

impl Controller {
    /// The one that an `IngressClass` names in `spec.controller`.
    pub fn named(controller: &str) -> Self {
        match controller {
            "k8s.io/ingress-nginx" => Self::Nginx,
            "traefik.io/ingress-controller" => Self::Traefik,
            _ => Self::Other,
        }
    }
}

/// Where a route's objects lie and what they are called.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Namespace of all of them.
    pub namespace: &'a str,
    /// The cluster's default, if none is named.
    pub class: Option<&'a str>,
    /// Whose annotations are understood.
    pub controller: Controller,
    /// Labels of all of them.
    pub labels: &'a BTreeMap<String, String>,
    /// The pods that visitors reach whom no path leads elsewhere. Its name is that of the Ingress, too, and the beginning of
    /// all others.
    pub main: &'a Backend,
    /// The pods that paths lead to.
    pub others: &'a [Backend],
}

/// Pods that are found under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The name: that of their Service.
    pub name: String,
    /// Their labels.
    pub pods: BTreeMap<String, String>,
    /// The port that they listen on.
    pub port: u16,
    /// The paths that lead to them; none: they are only found by their name.
    pub paths: Option<PathPattern>,
}

/// What a route looks like on a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendering {
    /// The objects, each to be applied server-side.
    pub objects: Vec<Value>,
    /// What the route asks for and this controller, or any, cannot be told, in words for the app's owner.
    pub left_out: Vec<String>,
}

/// The Services alone, for a place without Ingresses.
pub fn services(place: &Place<'_>) -> Vec<Value> {
    backends(place).map(|backend| service(place, backend, &Route::default())).collect()
}

/// Renders a route, with those of the certificates that are for its hosts.
pub fn render(place: &Place<'_>, route: &Route, certificates: &[Certificate]) -> Rendering {
    let mut left_out = Vec::new();
    let hosts: Vec<&Host> = route.hosts.iter().filter(|host| is_served(host, &mut left_out)).collect();
    let shown = shown(&hosts, certificates);
    let mut objects: Vec<Value> = backends(place).map(|backend| service(place, backend, route)).collect();
    for (number, (certificate, _)) in shown.iter().enumerate() {
        objects.push(secret(place, number, certificate));
    }
    if !hosts.is_empty() {
        left_out.extend(unsaid_paths(place));
        let tls: Vec<Value> = shown
            .iter()
            .enumerate()
            .map(|(number, (_, hosts))| json!({ "hosts": hosts, "secretName": secret_name(place, number) }))
            .collect();
        match place.controller {
            Controller::Nginx => {
                left_out.extend(unsaid_to_nginx(route));
                objects.push(ingress(place, &place.main.name, &hosts, tls, nginx(route)));
            }
            Controller::Traefik => {
                left_out.extend(unsaid_to_traefik(route));
                traefik(place, route, &hosts, tls, &mut objects);
            }
            Controller::Other if !route.whitelist.is_empty() => {
                left_out.push("the app as a whole: this Ingress controller cannot be told of its whitelist".to_owned());
            }
            Controller::Other => {
                left_out.extend(unsaid(route));
                objects.push(ingress(place, &place.main.name, &hosts, tls, Map::new()));
            }
        }
    }
    Rendering { objects, left_out }
}

fn backends<'a>(place: &Place<'a>) -> impl Iterator<Item = &'a Backend> {
    std::iter::once(place.main).chain(place.others)
}

/// The paths of a list, each with whether an Ingress can bear it: it knows beginnings, and no regular expressions.
fn paths(pattern: &PathPattern) -> impl Iterator<Item = Result<&str, &str>> {
    pattern.as_str().split(',').map(str::trim).map(|part| {
        let path = part.strip_prefix('^').unwrap_or(part);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_~.".contains(c);
        if path.starts_with('/') && !path.contains("//") && path.chars().all(plain) { Ok(path) } else { Err(part) }
    })
}

/// Paths that no Ingress can bear.
fn unsaid_paths(place: &Place<'_>) -> Vec<String> {
    let patterns = place.others.iter().filter_map(|backend| Some((backend, backend.paths.as_ref()?)));
    let unsaid =
        patterns.flat_map(|(backend, pattern)| paths(pattern).filter_map(move |path| Some((backend, path.err()?))));
    unsaid
        .map(|(backend, path)| {
            format!("the path pattern {path} of {}: an Ingress takes beginnings of paths, such as /api", backend.name)
        })
        .collect()
}

/// Whether an Ingress can bear this host.
fn is_served(host: &Host, left_out: &mut Vec<String>) -> bool {
    let name = host.as_str();
    if name.contains('_') {
        left_out.push(format!("the host {name}: an Ingress takes no underscore"));
        return false;
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        left_out.push(format!("the host {name}: an Ingress takes no address"));
        return false;
    }
    if let Some(suffix) = host.wildcard_suffix() {
        left_out.push(format!("hosts with more than one label before {suffix}: an Ingress takes one for {name}"));
    }
    true
}

/// The certificates that are for some of the hosts, and for which.
fn shown<'a>(hosts: &[&'a Host], certificates: &'a [Certificate]) -> Vec<(&'a Certificate, Vec<&'a str>)> {
    let mut left: Vec<&Host> = hosts.to_vec();
    let mut shown = Vec::new();
    for certificate in certificates {
        let (its, others) = left.into_iter().partition::<Vec<_>, _>(|host| certificate.hosts.contains(host));
        left = others;
        if !its.is_empty() {
            shown.push((certificate, its.into_iter().map(Host::as_str).collect()));
        }
    }
    shown
}

fn metadata(place: &Place<'_>, name: &str, annotations: Map<String, Value>) -> Value {
    let mut metadata = json!({ "name": name, "namespace": place.namespace, "labels": place.labels });
    if let Some(metadata) = metadata.as_object_mut().filter(|_| !annotations.is_empty()) {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
    metadata
}

/// A Service. In maintenance nobody is behind it, and every controller answers 503 by itself.
fn service(place: &Place<'_>, backend: &Backend, route: &Route) -> Value {
    let mut annotations = Map::new();
    if place.controller == Controller::Traefik && route.rules.sticky.is_some() {
        annotations.insert("traefik.ingress.kubernetes.io/service.sticky.cookie".to_owned(), "true".into());
        annotations.insert("traefik.ingress.kubernetes.io/service.sticky.cookie.name".to_owned(), COOKIE.into());
        annotations.insert("traefik.ingress.kubernetes.io/service.sticky.cookie.httponly".to_owned(), "true".into());
    }
    let mut selector = backend.pods.clone();
    if route.maintenance {
        selector.insert("paas.maintenance".to_owned(), "nobody".to_owned());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(place, &backend.name, annotations),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{ "name": "http", "protocol": "TCP", "port": PORT, "targetPort": backend.port }],
        },
    })
}

fn secret_name(place: &Place<'_>, number: usize) -> String {
    format!("{}-tls-{number}", place.main.name)
}

/// The Secret of a certificate. It is secret: not to be logged.
fn secret(place: &Place<'_>, number: usize, certificate: &Certificate) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": metadata(place, &secret_name(place, number), Map::new()),
        "data": { "tls.crt": BASE64.encode(&certificate.chain), "tls.key": BASE64.encode(certificate.key.expose()) },
    })
}

fn ingress(place: &Place<'_>, name: &str, hosts: &[&Host], tls: Vec<Value>, annotations: Map<String, Value>) -> Value {
    let to = |backend: &Backend, path: &str| {
        let service = json!({ "name": backend.name, "port": { "number": PORT } });
        json!({ "path": path, "pathType": "Prefix", "backend": { "service": service } })
    };
    let mut all = Vec::new();
    for (backend, pattern) in place.others.iter().filter_map(|backend| Some((backend, backend.paths.as_ref()?))) {
        all.extend(paths(pattern).filter_map(Result::ok).map(|path| to(backend, path)));
    }
    all.push(to(place.main, "/"));
    let rule = |host: &&Host| json!({ "host": host.as_str(), "http": { "paths": all } });
    let mut spec = json!({ "rules": hosts.iter().map(rule).collect::<Vec<_>>() });
    if let Some(spec) = spec.as_object_mut() {
        if let Some(class) = place.class {
            spec.insert("ingressClassName".to_owned(), class.into());
        }
        if !tls.is_empty() {
            spec.insert("tls".to_owned(), tls.into());
        }
    }
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(place, name, annotations),
        "spec": spec,
    })
}

fn networks(route: &Route) -> Vec<String> {
    route.whitelist.iter().map(ToString::to_string).collect()
}

fn nginx(route: &Route) -> Map<String, Value> {
    let rules = &route.rules;
    let mut annotations = Map::new();
    let mut say = |key: &str, value: String| {
        annotations.insert(format!("nginx.ingress.kubernetes.io/{key}"), value.into());
    };
    // Both are on by themselves where there is a certificate.
    say("ssl-redirect", route.https_only.to_string());
    say("force-ssl-redirect", route.https_only.to_string());
    // 0: however large.
    say("proxy-body-size", rules.body_bytes.map_or(0, NonZeroU64::get).to_string());
    say("proxy-request-buffering", "off".to_owned());
    say("proxy-buffering", "off".to_owned());
    say("proxy-connect-timeout", rules.connect_seconds.map_or(CONNECT_SECONDS, NonZeroU32::get).to_string());
    let silence = rules.response_seconds.map_or(RESPONSE_SECONDS, NonZeroU32::get).to_string();
    say("proxy-read-timeout", silence.clone());
    say("proxy-send-timeout", silence);
    say("enable-access-log", rules.access_log.to_string());
    if !route.whitelist.is_empty() {
        say("whitelist-source-range", networks(route).join(","));
    }
    if rules.sticky.is_some() {
        say("affinity", "cookie".to_owned());
        say("affinity-mode", "persistent".to_owned());
        say("session-cookie-name", COOKIE.to_owned());
    }
    annotations
}

/// Traefik serves a host by TLS alone where its Ingress has certificates: there is one Ingress for each way to come.
fn traefik(place: &Place<'_>, route: &Route, hosts: &[&Host], tls: Vec<Value>, objects: &mut Vec<Value>) {
    let mut always = Vec::new();
    let add = |name: &str, spec: Value, objects: &mut Vec<Value>| {
        let name = format!("{}-{name}", place.main.name);
        let reference = format!("{}-{name}@kubernetescrd", place.namespace);
        objects.push(json!({
            "apiVersion": "traefik.io/v1alpha1",
            "kind": "Middleware",
            "metadata": metadata(place, &name, Map::new()),
            "spec": spec,
        }));
        reference
    };
    if !route.whitelist.is_empty() {
        always.push(add("whitelist", json!({ "ipAllowList": { "sourceRange": networks(route) } }), objects));
    }
    if let Some(bytes) = route.rules.body_bytes {
        always.push(add("body", json!({ "buffering": { "maxRequestBodyBytes": bytes.get() } }), objects));
    }
    if let Some(policy) = route.rules.referrer_policy {
        always.push(add("referrer", json!({ "headers": { "referrerPolicy": policy.as_str() } }), objects));
    }
    let mut plain = always.clone();
    if route.https_only {
        let redirect = json!({ "redirectScheme": { "scheme": "https", "permanent": true } });
        plain.insert(0, add("https", redirect, objects));
    }
    let mut secure = always;
    if let Some(hsts) = route.hsts {
        let headers = json!({ "headers": {
            "stsSeconds": hsts.max_age,
            "stsIncludeSubdomains": hsts.include_subdomains,
            "stsPreload": hsts.preload,
        } });
        secure.push(add("hsts", headers, objects));
    }
    let annotations = |entrance: &str, middlewares: &[String]| {
        let mut annotations = Map::new();
        let mut say = |key: &str, value: String| {
            annotations.insert(format!("traefik.ingress.kubernetes.io/router.{key}"), value.into());
        };
        say("entrypoints", entrance.to_owned());
        if entrance == "websecure" {
            say("tls", "true".to_owned());
        }
        if !middlewares.is_empty() {
            say("middlewares", middlewares.join(","));
        }
        annotations
    };
    objects.push(ingress(place, &place.main.name, hosts, Vec::new(), annotations("web", &plain)));
    let name = format!("{}-secure", place.main.name);
    objects.push(ingress(place, &name, hosts, tls, annotations("websecure", &secure)));
}

/// What a route asks for, in words, where it does.
fn asked<const N: usize>(all: [(bool, &str); N]) -> Vec<String> {
    all.into_iter().filter(|(asked, _)| *asked).map(|(_, words)| words.to_owned()).collect()
}

/// What nobody can be told by annotations.
fn unsaid_anywhere(route: &Route) -> Vec<String> {
    asked([
        (route.rules.request_start, "the time of a request's arrival"),
        (route.maintenance && route.rules.maintenance_page.is_some(), "a maintenance page of its own"),
    ])
}

fn unsaid_to_nginx(route: &Route) -> Vec<String> {
    let more = asked([
        (route.hsts.is_some(), "what browsers are to remember (HSTS): ingress-nginx has it for all hosts alike"),
        (route.rules.referrer_policy.is_some(), "the referrer policy"),
        (route.rules.request_ids, "numbers of requests: ingress-nginx has them for all hosts alike"),
    ]);
    more.into_iter().chain(unsaid_anywhere(route)).collect()
}

fn unsaid_to_traefik(route: &Route) -> Vec<String> {
    let rules = &route.rules;
    let more = asked([
        (rules.request_ids, "numbers of requests"),
        (rules.connect_seconds.is_some() || rules.response_seconds.is_some(), "its limits of time"),
        (rules.access_log, "a log of its requests: Traefik has it for all hosts alike"),
    ]);
    more.into_iter().chain(unsaid_anywhere(route)).collect()
}

fn unsaid(route: &Route) -> Vec<String> {
    let rules = &route.rules;
    let more = asked([
        (route.https_only, "the way to TLS for those who come without"),
        (route.hsts.is_some(), "what browsers are to remember (HSTS)"),
        (rules.body_bytes.is_some(), "the limit of bodies"),
        (rules.connect_seconds.is_some() || rules.response_seconds.is_some(), "its limits of time"),
        (rules.sticky.is_some(), "visitors that stay with a process"),
        (rules.referrer_policy.is_some(), "the referrer policy"),
        (rules.request_ids, "numbers of requests"),
        (rules.access_log, "a log of its requests"),
    ]);
    more.into_iter().chain(unsaid_anywhere(route)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hsts, ReferrerPolicy, Rules};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rendered(controller: Controller, route: &Route, certificates: &[Certificate]) -> Rendering {
        rendered_with(controller, route, certificates, &[])
    }

    fn backend(name: &str, paths: Option<&str>) -> Backend {
        let pods = labels(&[("paas.type", name), ("paas.release", "7")]);
        Backend { name: name.to_owned(), pods, port: 5000, paths: paths.map(|paths| paths.parse().unwrap()) }
    }

    fn rendered_with(
        controller: Controller,
        route: &Route,
        certificates: &[Certificate],
        others: &[Backend],
    ) -> Rendering {
        let place = Place {
            namespace: "paas-hello",
            class: Some("public"),
            controller,
            labels: &labels(&[("paas.app", "hello")]),
            main: &backend("web", None),
            others,
        };
        render(&place, route, certificates)
    }

    fn hosts(names: &[&str]) -> Vec<Host> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn certificate(names: &[&str], chain: &str) -> Certificate {
        Certificate { hosts: hosts(names), chain: chain.to_owned(), key: "private".to_owned().into() }
    }

    fn simple() -> Route {
        Route { hosts: hosts(&["hello.example.com"]), ..Route::default() }
    }

    fn demanding() -> Route {
        Route {
            hosts: hosts(&["hello.example.com", "*.shop.example", "my_app.example.com", "192.0.2.1"]),
            https_only: true,
            hsts: Some(Hsts { max_age: 60, include_subdomains: true, preload: false }),
            whitelist: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            rules: Rules {
                body_bytes: 1024.try_into().ok(),
                connect_seconds: 3.try_into().ok(),
                response_seconds: 30.try_into().ok(),
                sticky: Some("hidden".to_owned().into()),
                request_ids: true,
                request_start: true,
                access_log: true,
                referrer_policy: Some(ReferrerPolicy::Origin),
                maintenance_page: None,
            },
            ..Route::default()
        }
    }

    fn snapshot(name: &str, rendering: &Rendering) {
        let both = json!({ "objects": rendering.objects, "left_out": rendering.left_out });
        insta::assert_json_snapshot!(name, both);
        // The key by which the router makes its own cookies is nobody else's.
        assert!(!both.to_string().contains("hidden"));
    }

    #[test]
    fn a_route_becomes_a_service_and_an_ingress() {
        snapshot("simple_nginx", &rendered(Controller::Nginx, &simple(), &[]));
        snapshot("simple_traefik", &rendered(Controller::Traefik, &simple(), &[]));
        snapshot("simple_other", &rendered(Controller::Other, &simple(), &[]));
    }

    #[test]
    fn what_a_route_asks_for_is_said_or_told() {
        let certificates = [
            certificate(&["other.example.com"], "foreign"),
            certificate(&["hello.example.com"], "first"),
            certificate(&["hello.example.com", "*.shop.example"], "second"),
        ];
        snapshot("demanding_nginx", &rendered(Controller::Nginx, &demanding(), &certificates));
        snapshot("demanding_traefik", &rendered(Controller::Traefik, &demanding(), &certificates));
        let open = Route { whitelist: Vec::new(), ..demanding() };
        snapshot("demanding_other", &rendered(Controller::Other, &open, &certificates));
    }

    #[test]
    fn who_may_not_visit_is_not_let_in_where_it_cannot_be_said() {
        let rendering = rendered(Controller::Other, &demanding(), &[]);
        assert!(rendering.objects.iter().all(|object| object["kind"] != "Ingress"));
        assert!(rendering.left_out.iter().any(|words| words.contains("whitelist")), "{:?}", rendering.left_out);
    }

    #[test]
    fn in_maintenance_nobody_is_behind_the_service() {
        let rules = Rules { maintenance_page: Some("soon".to_owned()), ..Rules::default() };
        let route = Route { maintenance: true, rules, ..simple() };
        snapshot("maintenance", &rendered(Controller::Nginx, &route, &[]));
    }

    #[test]
    fn paths_that_an_ingress_can_bear_lead_to_their_service() {
        let others = [backend("api", Some("/api/v1.0, ^/hooks,/v[0-9]+")), backend("admin", None)];
        snapshot("paths", &rendered_with(Controller::Other, &simple(), &[], &others));
    }

    #[test]
    fn without_ingresses_there_are_services_all_the_same() {
        let (main, others) = (backend("web", None), [backend("api", Some("/api"))]);
        let ours = labels(&[("paas.app", "hello")]);
        let controller = Controller::Other;
        let place =
            Place { namespace: "paas-hello", class: None, controller, labels: &ours, main: &main, others: &others };
        insta::assert_json_snapshot!("services", services(&place));
    }

    #[test]
    fn a_route_without_a_host_that_can_be_served_has_no_ingress() {
        let route = Route { hosts: hosts(&["my_app"]), ..Route::default() };
        let rendering = rendered(Controller::Nginx, &route, &[]);
        assert_eq!(rendering.objects.len(), 1);
        assert_eq!(rendering.left_out, ["the host my_app: an Ingress takes no underscore"]);
    }

    #[test]
    fn controllers_are_known_by_their_names() {
        assert_eq!(Controller::named("k8s.io/ingress-nginx"), Controller::Nginx);
        assert_eq!(Controller::named("traefik.io/ingress-controller"), Controller::Traefik);
        assert_eq!(Controller::named("haproxy.org/ingress-controller"), Controller::Other);
    }
}

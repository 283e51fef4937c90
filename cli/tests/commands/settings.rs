//! What visitors meet: domains, maintenance, routing, the whitelist; and labels.

use serde_json::{Value, json};

use crate::world::{World, page, settings};

#[test]
fn domains_come_and_go() {
    let world = World::with_app();
    let domain = json!({
        "owner": "ann", "created": "2024-05-01T10:00:00Z", "updated": "2024-05-01T10:00:00Z", "app": "hello",
        "domain": "*.xn--bcher-kva.example",
    });
    world.server.answer("POST /v2/apps/hello/domains/", 201, &domain);
    world.server.answer("DELETE /v2/apps/hello/domains/%2A.b%C3%BCcher.example", 204, "");
    assert_eq!(
        world.paas(&["domains:add", "*.b\u{fc}cher.example"]).good(),
        "Adding *.b\u{fc}cher.example to hello... done\n"
    );
    assert_eq!(world.server.request("POST /v2/apps/hello/domains/").json(), json!({"domain": "*.b\u{fc}cher.example"}));
    assert_eq!(
        world.paas(&["domains", "remove", "*.b\u{fc}cher.example", "-a", "hello"]).good(),
        "Removing *.b\u{fc}cher.example from hello... done\n"
    );
    let added: Value = serde_json::from_str(&world.paas(&["domains:add", "x.example", "--json"]).good()).unwrap();
    assert_eq!(added, domain);
}

#[test]
fn an_address_is_no_domain() {
    let world = World::with_app();
    let refusal = r#"{"domain":["Hostname does not look valid, could not convert to ACE http://x.test: no"]}"#;
    world.server.answer("POST /v2/apps/hello/domains/", 400, refusal);
    let error = world.paas(&["domains:add", "http://x.test"]).bad(1);
    assert!(error.ends_with("\nhint: a domain is a host name alone, such as www.example.com\n"), "{error}");
}

#[test]
fn a_refused_domain_says_why() {
    let world = World::with_app();
    for (status, body, told) in [
        (
            400,
            r#"{"domain":["Domain is already in use by another application"]}"#,
            "Domain is already in use by another application\nhint: a domain is one app's: that app's owner takes it off with \
             'paas domains:remove'",
        ),
        (400, r#"{"domain":["Hostname does not look valid."]}"#, "Hostname does not look valid."),
        (400, r#"{"domain":["Hostname can't only be a wildcard"]}"#, "Hostname can't only be a wildcard"),
    ] {
        world.server.answer("POST /v2/apps/hello/domains/", status, body);
        assert_eq!(world.paas(&["domains:add", "x"]).bad(1), format!("Error: {told}\n"));
    }
    world.server.answer("DELETE /v2/apps/hello/domains/x", 404, r#""No Domain matches the given query.""#);
    assert_eq!(
        world.paas(&["domains:remove", "x"]).bad(1),
        "Error: \"No Domain matches the given query.\"\nhint: 'paas domains -a hello' lists those of hello\n"
    );
    let asked = world.server.requests().len();
    assert!(world.paas(&["domains:remove", ".."]).bad(1).starts_with("Error: nothing can have the address"));
    assert_eq!(world.server.requests().len(), asked, "the app itself is not asked to go");
}

#[test]
fn maintenance_and_routing_are_switched() {
    let world = World::with_app();
    let path = "/v2/apps/hello/settings/";
    world.server.answer(&format!("POST {path}"), 201, settings(&json!({})));
    for (command, told, body) in [
        (["maintenance:on"], "Enabling maintenance mode for hello... done\n", json!({"maintenance": true})),
        (["maintenance:off"], "Disabling maintenance mode for hello... done\n", json!({"maintenance": false})),
        (["routing:enable"], "Enabling routing for hello... done\n", json!({"routable": true})),
        (["routing:disable"], "Disabling routing for hello... done\n", json!({"routable": false})),
    ] {
        assert_eq!(world.paas(&command).good(), told);
        assert_eq!(world.server.requests().last().unwrap().json(), body);
    }
    for (changes, maintenance, routing) in
        [(json!({}), "off", "enabled"), (json!({"maintenance": true, "routable": false}), "on", "disabled")]
    {
        world.server.answer(&format!("GET {path}"), 200, settings(&changes));
        for command in [&["maintenance"][..], &["maintenance:info"], &["maintenance", "info", "-a", "hello"]] {
            assert_eq!(world.paas(command).good(), format!("Maintenance mode is {maintenance}.\n"));
        }
        for command in [&["routing"][..], &["routing:info"]] {
            assert_eq!(world.paas(command).good(), format!("Routing is {routing}.\n"));
        }
    }
    let told: Value = serde_json::from_str(&world.paas(&["maintenance", "--json"]).good()).unwrap();
    assert_eq!(told, json!({"maintenance": true, "maintenance_page": null}));
    world.server.answer(&format!("POST {path}"), 409, r#"{"detail":"ann changed nothing"}"#);
    assert_eq!(world.paas(&["maintenance", "on"]).bad(1), "Error: ann changed nothing\n");
}

#[test]
fn tls_is_enforced_and_browsers_are_told() {
    let world = World::with_app();
    let path = "/v2/apps/hello/tls/";
    let tls = |changes: Value| {
        let mut tls = json!({
            "uuid": "44aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a", "app": "hello", "owner": "ann",
            "created": "2024-05-01T10:05:00Z", "updated": "2024-05-01T10:05:00Z", "https_enforced": null,
        });
        tls.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        tls
    };
    let hsts = json!({"max_age": 86400, "include_subdomains": true, "preload": true});
    for (answer, lines) in [
        (json!({}), "HTTPS Enforced: not set\n"),
        (json!({"https_enforced": false}), "HTTPS Enforced: false\n"),
        (
            json!({"https_enforced": true, "hsts": hsts, "certs_auto_enabled": true}),
            "HTTPS Enforced: true\nHSTS: 86400 seconds, with subdomains, preload\nAutomatic Certificates: true\n",
        ),
    ] {
        world.server.answer(&format!("GET {path}"), 200, tls(answer));
        for command in [&["tls"][..], &["tls:info"], &["tls", "info", "-a", "hello"]] {
            assert_eq!(world.paas(command).good(), format!("=== hello TLS\n{lines}"));
        }
    }
    world.server.answer(&format!("POST {path}"), 201, tls(json!({})));
    let half_a_year = json!({"max_age": 15_552_000, "include_subdomains": false, "preload": false});
    for (command, told, body) in [
        (&["tls:enable"][..], "Enabling https-only requests for", json!({"https_enforced": true})),
        (
            &["tls:enable", "--hsts"],
            "Enabling https-only requests for",
            json!({"https_enforced": true, "hsts": half_a_year}),
        ),
        (
            &["tls:enable", "--hsts=86400", "--include-subdomains", "--preload"],
            "Enabling https-only requests for",
            json!({"https_enforced": true, "hsts": hsts}),
        ),
        (
            &["tls:enable", "--no-hsts"],
            "Enabling https-only requests for",
            json!({"https_enforced": true, "hsts": null}),
        ),
        (&["tls:disable"], "Disabling https-only requests for", json!({"https_enforced": false})),
        (&["tls:auto:enable"], "Enabling automatic certificates for", json!({"certs_auto_enabled": true})),
        (&["tls", "auto", "disable"], "Disabling automatic certificates for", json!({"certs_auto_enabled": false})),
    ] {
        assert_eq!(world.paas(command).good(), format!("{told} hello... done\n"));
        assert_eq!(world.server.requests().last().unwrap().json(), body);
    }
    world.server.answer(&format!("POST {path}"), 409, r#"{"detail":"ann changed nothing"}"#);
    assert_eq!(world.paas(&["tls:enable"]).bad(1), "Error: ann changed nothing\n");
}

#[test]
fn labels_are_listed_set_and_unset() {
    let world = World::with_app();
    let path = "/v2/apps/hello/settings/";
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({})));
    assert_eq!(world.paas(&["labels"]).good(), "=== hello Label\nNo labels found.\n");
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({"label": {"team": "web", "n": "1"}})));
    assert_eq!(world.paas(&["labels:list"]).good(), "=== hello Label\nn:         1\nteam:      web\n");
    let listed: Value = serde_json::from_str(&world.paas(&["labels", "--json"]).good()).unwrap();
    assert_eq!(listed, json!({"team": "web", "n": "1"}));
    world.server.answer(&format!("POST {path}"), 201, settings(&json!({})));
    assert_eq!(world.paas(&["labels:set", "team=web", "n="]).good(), "Applying labels on hello... done\n");
    assert_eq!(world.server.requests().last().unwrap().json(), json!({"label": {"team": "web", "n": ""}}));
    assert_eq!(world.paas(&["labels", "unset", "team", "n"]).good(), "Removing labels on hello... done\n");
    assert_eq!(world.server.requests().last().unwrap().json(), json!({"label": {"team": null, "n": null}}));
    world.server.answer(&format!("POST {path}"), 422, r#"{"detail":"x does not exist under label"}"#);
    assert_eq!(
        world.paas(&["labels:unset", "x"]).bad(1),
        "Error: Unable to process your request: x does not exist under label\n"
    );
    assert_eq!(
        world.paas(&["labels:set", "team"]).bad(2),
        "Error: 'team' does not match the pattern 'key=value', ex: team=web\n"
    );
}

#[test]
fn a_whitelist_grows_and_shrinks() {
    let world = World::with_app();
    let path = "/v2/apps/hello/whitelist/";
    let both = json!({"addresses": ["10.0.0.0/8", "2001:db8::1"]});
    world.server.answer(&format!("GET {path}"), 200, &both);
    world.server.answer(&format!("POST {path}"), 201, &both);
    world.server.answer(&format!("DELETE {path}"), 204, "");
    for command in [&["whitelist"][..], &["whitelist:list"], &["whitelist", "list", "-a", "hello"]] {
        assert_eq!(world.paas(command).good(), "=== hello Whitelisted Addresses\n10.0.0.0/8\n2001:db8::1\n");
    }
    let listed: Value = serde_json::from_str(&world.paas(&["whitelist", "--json"]).good()).unwrap();
    assert_eq!(listed, both["addresses"]);
    assert_eq!(
        world.paas(&["whitelist:add", "10.0.0.0/8,2001:db8::1"]).good(),
        "Adding 10.0.0.0/8,2001:db8::1 to hello whitelist...\ndone\n"
    );
    assert_eq!(world.server.request(&format!("POST {path}")).json(), both);
    assert_eq!(
        world.paas(&["whitelist:remove", "10.0.0.0/8"]).good(),
        "Removing 10.0.0.0/8 from hello whitelist...\ndone\n"
    );
    assert_eq!(world.server.request(&format!("DELETE {path}")).json(), json!({"addresses": ["10.0.0.0/8"]}));
    for (method, status, body, told) in [
        ("POST", 400, r#"["The address 1.2.3.4.5 is not valid"]"#, "The address 1.2.3.4.5 is not valid"),
        ("POST", 409, r#"{"detail":"ann changed nothing"}"#, "ann changed nothing"),
        (
            "DELETE",
            422,
            r#"{"detail":"addresses {'1.2.3.4.5'} does not exist in whitelist"}"#,
            "Unable to process your request: addresses {'1.2.3.4.5'} does not exist in whitelist",
        ),
    ] {
        world.server.answer(&format!("{method} {path}"), status, body);
        let command = if method == "POST" { "whitelist:add" } else { "whitelist:remove" };
        assert_eq!(world.paas(&[command, "1.2.3.4.5"]).bad(1), format!("Error: {told}\n"));
    }
}

#[test]
fn an_app_that_is_shown_has_its_labels() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/pods/", 200, json!({"results": [], "count": 0}));
    world.server.answer("GET /v2/apps/hello/domains/", 200, page(&[], 0));
    world.server.answer("GET /v2/apps/hello/settings/", 200, settings(&json!({"label": {"team": "web"}})));
    let shown = world.paas(&["info"]).good();
    assert!(
        shown.ends_with("=== hello Domains\nNo domain assigned to hello\n\n=== hello Label\nteam:      web\n"),
        "{shown}"
    );
}

#[test]
fn rules_for_requests_are_set_shown_and_unset() {
    let world = World::with_app();
    let path = "/v2/apps/hello/settings/";
    world.server.answer(&format!("POST {path}"), 201, settings(&json!({})));
    assert_eq!(
        world.paas(&["routing:set", "body-size=10M", "sticky=on"]).good(),
        "Setting routing rules of hello... done\n"
    );
    assert_eq!(
        world.paas(&["routing", "unset", "body-size", "-a", "hello"]).good(),
        "Unsetting routing rules of hello... done\n"
    );
    let sent: Vec<Value> = world.server.requests().iter().map(crate::server::Request::json).collect();
    assert_eq!(
        sent,
        [json!({"routing": {"body_size": "10M", "sticky": "on"}}), json!({"routing": {"body_size": null}})]
    );
    let rules = json!({"body_size": 10 << 20, "response_timeout": 300, "sticky": true, "referrer_policy": "origin"});
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({"routing": rules})));
    assert_eq!(
        world.paas(&["routing"]).good(),
        "Routing is enabled.\nbody-size         10M\nresponse-timeout  300 seconds\nsticky            on\n\
         referrer-policy   origin\n"
    );
    let told: Value = serde_json::from_str(&world.paas(&["routing:info", "--json"]).good()).unwrap();
    assert_eq!(told, json!({"routable": true, "routing": rules}));
    assert!(world.paas(&["routing:set", "sticky"]).bad(2).contains("does not match the pattern 'key=value'"));
}

#[test]
fn a_maintenance_page_is_read_from_a_file() {
    let world = World::with_app();
    let path = "/v2/apps/hello/settings/";
    world.server.answer(&format!("POST {path}"), 201, settings(&json!({})));
    let file = |name: &str, text: &[u8]| std::fs::write(world.folder().join(name), text).unwrap();
    file("sorry.html", "<h1>B\u{fc}cher</h1>".as_bytes());
    file("large.html", &vec![b'x'; (64 << 10) + 1]);
    file("empty.html", b"\n");
    file("binary.html", &[0xff, 0xfe]);
    assert_eq!(
        world.paas(&["maintenance:on", "--page", "sorry.html"]).good(),
        "Enabling maintenance mode for hello... done\n"
    );
    world.paas(&["maintenance:on", "--no-page"]).good();
    let sent: Vec<Value> = world.server.requests().iter().map(crate::server::Request::json).collect();
    assert_eq!(
        sent,
        [
            json!({"maintenance": true, "maintenance_page": "<h1>B\u{fc}cher</h1>"}),
            json!({"maintenance": true, "maintenance_page": null}),
        ]
    );
    for (name, told) in [
        ("large.html", "large.html is larger than the 65536 bytes"),
        ("empty.html", "empty.html is empty"),
        ("binary.html", "cannot read the page binary.html"),
        ("none.html", "cannot read the page none.html"),
    ] {
        assert!(world.paas(&["maintenance:on", "--page", name]).bad(1).contains(told), "{name}");
    }
    assert_eq!(world.server.requests().len(), 2);
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({"maintenance_page": "<h1>x</h1>"})));
    assert_eq!(
        world.paas(&["maintenance"]).good(),
        "Maintenance mode is off.\nVisitors then see a page of hello's own, of 10 bytes.\n"
    );
}

#[test]
fn services_come_and_go() {
    let world = World::with_app();
    let path = "/v2/apps/hello/services/";
    world.server.answer(&format!("POST {path}"), 201, "");
    world.server.answer(&format!("DELETE {path}"), 204, "");
    let service = json!({"procfile_type": "hooks", "path_pattern": "/hooks,/api/v[0-9]+"});
    let add = ["services:add", "--type", "hooks", "--route", "/hooks,/api/v[0-9]+"];
    assert_eq!(world.paas(&add).good(), "Adding hooks (/hooks,/api/v[0-9]+) to hello... done\n");
    assert_eq!(world.server.request(&format!("POST {path}")).json(), service);
    assert_eq!(world.paas(&["services:remove", "hooks"]).good(), "Removing hooks from hello... done\n");
    assert_eq!(world.server.request(&format!("DELETE {path}")).json(), json!({"procfile_type": "hooks"}));
    let api = json!({"procfile_type": "api", "path_pattern": "/api"});
    world.server.answer(&format!("GET {path}"), 200, json!({"services": [service, api]}));
    for list in [&["services"][..], &["services:list", "-a", "hello"]] {
        assert_eq!(world.paas(list).good(), "=== hello Services\nhooks     /hooks,/api/v[0-9]+\napi       /api\n");
    }
    let listed: Value = serde_json::from_str(&world.paas(&["services", "--json"]).good()).unwrap();
    assert_eq!(listed, json!([service, api]));
    world.server.answer(&format!("POST {path}"), 400, r#"["The path pattern ( is not valid"]"#);
    let told = world.paas(&["services:add", "--type=hooks", "--route=("]).bad(1);
    assert_eq!(told, "Error: The path pattern ( is not valid\n");
    world.server.answer(&format!("DELETE {path}"), 404, r#""No Service matches the given query.""#);
    let told = world.paas(&["services:remove", "other"]).bad(1);
    assert!(told.starts_with("Error: \"No Service matches the given query.\"\n"), "{told}");
}

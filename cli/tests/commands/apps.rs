//! Apps and git remotes.

use serde_json::{Value, json};

use crate::world::{World, app, config, page, pod, settings};

fn domain(name: &str) -> Value {
    json!({"owner": "ann", "created": "2024-05-01T10:00:00Z", "updated": "2024-05-01T10:00:00Z", "app": "hello", "domain": name})
}

#[test]
fn creating_an_app_adds_the_remote() {
    let world = World::logged_in();
    world.git(&["init", "--quiet"]);
    world.server.answer("POST /v2/apps/", 201, app("hello"));
    assert_eq!(
        world.paas(&["create", "hello"]).good(),
        "Creating Application... done, created hello\nGit remote deis successfully created for app hello.\n"
    );
    let request = world.server.request("POST /v2/apps/");
    assert_eq!(request.json(), json!({"id": "hello"}));
    assert_eq!(request.headers["authorization"], "token f00d");
    assert_eq!(world.git(&["remote", "get-url", "--push", "deis"]), "ssh://git@localhost:2222/hello.git\n");
}

#[test]
fn an_app_may_be_made_without_a_name_a_remote_or_a_repository() {
    let world = World::logged_in();
    world.server.answer("POST /v2/apps/", 201, app("calmer-jailbird"));
    assert_eq!(
        world.paas(&["apps:create"]).good(),
        "Creating Application... done, created calmer-jailbird\nThis folder is not in a git repository. If you want to add a \
         git remote for this app later, use `paas git:remote -a calmer-jailbird`\n"
    );
    assert_eq!(world.server.request("POST /v2/apps/").json(), json!({}));
    world.git(&["init", "--quiet"]);
    assert_eq!(
        world.paas(&["apps:create", "--no-remote"]).good(),
        "Creating Application... done, created calmer-jailbird\nIf you want to add a git remote for this app later, use \
         `paas git:remote -a calmer-jailbird`\n"
    );
    assert_eq!(world.git(&["remote"]), "");
}

#[test]
fn a_remote_in_the_way_stays() {
    let world = World::logged_in();
    world.git(&["init", "--quiet"]);
    world.git(&["remote", "add", "deis", "ssh://git@localhost:2222/other.git"]);
    world.server.answer("POST /v2/apps/", 201, app("hello"));
    let run = world.paas(&["create", "hello"]);
    assert_eq!(run.stdout, "Creating Application... done, created hello\n");
    assert_eq!(
        run.bad(1),
        "Error: A git remote with the name deis already exists; the app hello was created.\n\
         hint: to overwrite the remote run: paas git:remote --force --remote deis --app hello\n"
    );
    assert_eq!(world.git(&["remote", "get-url", "deis"]), "ssh://git@localhost:2222/other.git\n");
}

#[test]
fn a_buildpack_becomes_config() {
    let world = World::logged_in();
    world.server.answer("POST /v2/apps/", 201, app("hello"));
    world.server.answer("POST /v2/apps/hello/config/", 201, config(&json!({"BUILDPACK_URL": "https://x"})));
    world.paas(&["create", "hello", "--no-remote", "--buildpack", "https://x"]).good();
    assert_eq!(
        world.server.request("POST /v2/apps/hello/config/").json(),
        json!({"values": {"BUILDPACK_URL": "https://x"}})
    );
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let world = World::logged_in();
    world.server.answer("POST /v2/apps/", 400, r#"{"id":["Application with this id already exists."]}"#);
    let run = world.paas(&["create", "hello"]);
    assert_eq!(run.stdout, "Creating Application... \n");
    assert_eq!(
        run.bad(1),
        "Error: Application with this id already exists.\n\
         hint: the name hello is taken; choose another, or see with 'paas apps' whether it is yours\n"
    );
}

#[test]
fn apps_are_listed() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/?limit=100", 200, page(&[app("a"), app("b")], 2));
    for command in [&["apps"][..], &["apps:list"], &["apps", "list"]] {
        assert_eq!(world.paas(command).good(), "=== Apps\na\nb\n");
    }
    world.server.answer("GET /v2/apps/?limit=2", 200, page(&[app("a"), app("b")], 37));
    assert_eq!(world.paas(&["apps", "-l", "2"]).good(), "=== Apps (2 of 37)\na\nb\n");
    let listed: Value = serde_json::from_str(&world.paas(&["--json", "apps"]).good()).unwrap();
    assert_eq!(listed[1]["id"], "b");
}

#[test]
fn an_app_is_shown() {
    let world = World::with_app();
    let pods = json!({"results": [pod("web", "hello-web-2"), pod("web", "hello-web-1")], "count": 2});
    world.server.answer("GET /v2/apps/hello/pods/", 200, &pods);
    world.server.answer("GET /v2/apps/hello/domains/", 200, page(&[domain("hello")], 1));
    world.server.answer("GET /v2/apps/hello/settings/", 200, settings(&json!({})));
    assert_eq!(
        world.paas(&["info"]).good(),
        "=== hello Application\nupdated:  2024-05-01T10:05:00Z\nuuid:     0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a\n\
         created:  2024-05-01T10:00:00Z\nurl:      hello.localhost:8080\nowner:    ann\nid:       hello\n\n\
         === hello Processes\n--- web:\nhello-web-1 up (v2)\nhello-web-2 up (v2)\n\n=== hello Domains\nhello\n\n\
         === hello Label\nNo labels found.\n"
    );
    let shown: Value = serde_json::from_str(&world.paas(&["info", "--json"]).good()).unwrap();
    assert_eq!((&shown["app"]["id"], &shown["processes"][0]["state"]), (&json!("hello"), &json!("up")));
}

#[test]
fn an_old_controllers_app_has_an_address_too() {
    let world = World::with_app();
    let mut old = app("hello");
    old.as_object_mut().unwrap().retain(|key, _| key != "url" && key != "git_url");
    world.server.answer("GET /v2/apps/hello/", 200, old);
    world.server.answer("GET /v2/apps/hello/domains/", 200, page(&[domain("hello")], 1));
    let port = world.server.address.port();
    assert_eq!(world.paas(&["open"]).good(), format!("http://hello.localhost:{port}\n"));
    world.git(&["remote", "remove", "deis"]);
    world.paas(&["git:remote"]).good();
    assert_eq!(world.git(&["remote", "get-url", "deis"]), "ssh://git@paas-builder.localhost:2222/hello.git\n");
}

#[test]
fn without_a_browser_the_address_is_printed() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/domains/", 200, page(&[domain("hello")], 1));
    assert_eq!(world.paas(&["open"]).good(), "http://hello.localhost:8080\n");
}

#[test]
fn only_a_web_address_is_opened() {
    let world = World::with_app();
    let mut evil = app("hello");
    evil["url"] = json!("file:///etc/passwd");
    world.server.answer("GET /v2/apps/hello/", 200, evil);
    world.server.answer("GET /v2/apps/hello/domains/", 200, page(&[], 0));
    assert_eq!(world.paas(&["open"]).bad(1), "Error: the app's address is no web address: file:///etc/passwd\n");
}

#[test]
fn the_folder_names_the_app_when_no_remote_does() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/hello/domains/?limit=100", 200, page(&[domain("hello")], 1));
    assert_eq!(world.paas(&["domains"]).good(), "=== hello Domains\nhello\n");
    let run = world.paas_in(std::path::Path::new("/"), &["domains"], "");
    assert!(
        run.bad(2).starts_with("Error: no app is named, and neither a git remote nor this folder's name tells one\n")
    );
}

#[test]
fn an_unknown_app_is_named_with_where_its_name_came_from() {
    let world = World::with_app();
    let missing = r#""No App matches the given query.""#;
    for name in ["hello", "other"] {
        world.server.answer(&format!("GET /v2/apps/{name}/domains/?limit=100"), 404, missing);
    }
    let list = "hint: 'paas apps' lists your apps, 'paas create' makes one\n";
    assert_eq!(
        world.paas(&["domains", "-a", "other"]).bad(1),
        format!("Error: {missing}\nhint: there is no app other at http://controller\n{list}")
    );
    assert_eq!(
        world.paas(&["domains"]).bad(1),
        format!(
            "Error: {missing}\nhint: there is no app hello at http://controller; the name comes from the git remote deis\n{list}"
        )
    );
    world.git(&["remote", "remove", "deis"]);
    assert_eq!(
        world.paas(&["domains"]).bad(1),
        format!(
            "Error: {missing}\nhint: there is no app hello at http://controller; the name comes from this folder, name another \
             with -a\n{list}"
        )
    );
}

#[test]
fn destroying_wants_the_name() {
    let world = World::with_app();
    world.server.answer("DELETE /v2/apps/hello/", 204, "");
    let warning = " !    WARNING: Potentially Destructive Action\n \
                   !    This command will destroy the application: hello\n \
                   !    To proceed, type \"hello\" or re-run this command with --confirm=hello\n\n> ";
    let wrong = world.paas_in(&world.folder(), &["destroy"], "hallo\n");
    assert_eq!(wrong.stdout, warning);
    assert_eq!(wrong.bad(1), "Error: App hello does not match confirm hallo, aborting.\n");
    assert!(world.server.requests().is_empty());
    let right = world.paas_in(&world.folder(), &["destroy"], "hello\n");
    assert_eq!(right.good(), format!("{warning}Destroying hello...\ndone in 0s\nGit remotes for app hello removed.\n"));
    assert_eq!(world.git(&["remote"]), "");
}

#[test]
fn a_named_app_is_destroyed_without_touching_this_repository() {
    let world = World::with_app();
    world.server.answer("DELETE /v2/apps/hello/", 204, "");
    assert_eq!(world.paas(&["destroy", "-a", "hello", "--confirm=hello"]).good(), "Destroying hello...\ndone in 0s\n");
    assert_eq!(world.git(&["remote"]), "deis\n");
}

#[test]
fn a_remote_is_added_replaced_and_removed() {
    let world = World::with_app();
    assert_eq!(
        world.paas(&["git:remote"]).good(),
        "Remote deis already exists and is correctly configured for app hello.\n"
    );
    assert_eq!(
        world.paas(&["git:remote", "--remote", "staging"]).good(),
        "Git remote staging successfully created for app hello.\n"
    );
    world.git(&["remote", "set-url", "staging", "ssh://git@localhost:2222/other.git"]);
    assert_eq!(
        world.paas(&["git:remote", "--remote", "staging"]).bad(1),
        "Error: Remote staging already exists, please run 'paas git:remote -f' to overwrite\n\
         Existing remote URL: ssh://git@localhost:2222/other.git\nWanted remote URL: ssh://git@localhost:2222/hello.git\n"
    );
    assert_eq!(
        world.paas(&["git:remote", "--remote", "staging", "-f"]).good(),
        "Deleting git remote staging.\nGit remote staging successfully created for app hello.\n"
    );
    assert_eq!(world.paas(&["git:remove"]).good(), "Git remotes for app hello removed.\n");
    assert_eq!(world.git(&["remote"]), "");
    assert_eq!(
        world.paas(&["git:remove"]).bad(1),
        "Error: this folder has no git remote for app hello\nhint: 'git remote -v' lists them\n"
    );
}

#[test]
fn git_gets_no_address_that_runs_programs() {
    let world = World::with_app();
    let mut evil = app("hello");
    evil["git_url"] = json!("ext::sh -c date");
    world.server.answer("GET /v2/apps/hello/", 200, evil);
    assert_eq!(
        world.paas(&["git:remote", "-r", "other"]).bad(1),
        "Error: the controller tells no address to push hello to that git may be given: 'ext::sh -c date'\n"
    );
    assert_eq!(world.git(&["remote"]), "deis\n");
}

#[test]
fn a_remote_needs_a_repository() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/hello/", 200, app("hello"));
    assert_eq!(
        world.paas(&["git", "remote", "-a", "hello"]).bad(1),
        "Error: this folder is not in a git repository\nhint: 'git init' makes one; then run this again\n"
    );
}

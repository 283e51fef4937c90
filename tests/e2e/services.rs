//! Process types that visitors reach by path, with a real visitor.

use std::process::Command;

use anyhow::ensure;
use paas_tests::{App, User, fail, image, says, scenarios, shared, succeed};

scenarios![paths_lead_to_a_process_type_of_their_own];

/// What `curl` gets: status and body.
fn visit(app: &App<'_>, path: &str) -> anyhow::Result<(String, String)> {
    let address = app.user.platform.addresses.http;
    let host = format!("Host: {}.localhost", app.name);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--path-as-is", "--write-out", "\n%{http_code}", "--header", &host])
        .arg(format!("http://{address}{path}"))
        .output()?;
    let text = succeed(&output)?;
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    Ok((status.to_owned(), body.trim().to_owned()))
}

async fn paths_lead_to_a_process_type_of_their_own() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    app.repository
        .write("Dockerfile", &format!("FROM {}\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n", image::base()?))?;
    let procfile = "web: GREETING=web exec /bin/sample-app\nhooks: GREETING=hooks exec /bin/sample-app\n\
                    mute: exec sleep 1000\n";
    app.repository.write("Procfile", procfile)?;
    app.repository.commit("three types")?;
    let push = app.repository.push(&ann, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    succeed(&app.paas(&["scale", "hooks=2", "mute=1"])?)?;
    let greeted = |path: &str| -> anyhow::Result<String> {
        let (status, body) = visit(&app, path)?;
        Ok(format!("{status} {}", body.rsplit(' ').next().unwrap_or_default()))
    };
    ensure!(greeted("/hooks/github")? == "200 web");

    let added = succeed(&app.paas(&["services:add", "--type", "hooks", "--route", "/hooks,/v[0-9]+/hooks$"])?)?;
    ensure!(added == format!("Adding hooks (/hooks,/v[0-9]+/hooks$) to {}... done\n", app.name), "{added}");
    // At once: the answer came when the router knew.
    for (path, told) in [
        ("/", "200 web"),
        ("/hooks", "200 hooks"),
        ("/hooks/github?from=/", "200 hooks"),
        ("/v2/hooks", "200 hooks"),
        ("/v2/hooks/more", "200 web"),
        ("/a/hooks", "200 web"),
        ("/?path=/hooks", "200 web"),
    ] {
        ensure!(greeted(path)? == told, "{path}: {}", greeted(path)?);
    }
    let listed = succeed(&app.paas(&["services"])?)?;
    ensure!(listed == format!("=== {} Services\nhooks     /hooks,/v[0-9]+/hooks$\n", app.name), "{listed}");

    // A type that does not listen is none, and its paths go where they went.
    succeed(&app.paas(&["config:set", "DEIS_DEPLOY_TIMEOUT=30"])?)?;
    let refused = fail(&app.paas(&["services:add", "--type", "mute", "--route", "/mute"])?, 1)?;
    says(&refused, &["mute"])?;
    ensure!(greeted("/mute")? == "200 web");
    // It moves with a release, and is gone with its processes, whatever web does.
    succeed(&app.paas(&["config:set", "A=b"])?)?;
    ensure!(greeted("/hooks")? == "200 hooks");
    succeed(&app.paas(&["scale", "hooks=0"])?)?;
    ensure!(visit(&app, "/hooks")?.0 == "503");
    ensure!(greeted("/")? == "200 web");
    succeed(&app.paas(&["services:remove", "hooks"])?)?;
    ensure!(greeted("/hooks")? == "200 web");
    Ok(())
}

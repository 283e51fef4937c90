//! One secret of each kind, through every command that takes one: none is told in a log, an error, a command line or an
//! environment where it does not belong, and none lies in clear in the database or in a file that others can read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Platform, Start, User, both, fail, image, random_name, says, scenarios, succeed};
use reqwest::Method;
use serde_json::{Value, json};

use crate::isolation::{files_with, in_a_command_line};

scenarios![secrets_of_every_kind_are_found_nowhere];

/// What must be found nowhere, by what it is.
type Secrets = BTreeMap<&'static str, String>;

/// Parts of the platform, whose environments must hold no secret of others.
const PARTS: [&str; 5] = ["controller", "builder", "router", "postgres", "registry"];

async fn secrets_of_every_kind_are_found_nowhere() -> anyhow::Result<()> {
    let hooks = ["canary-hook-key", "canary-hook-token"].map(random_name);
    let [hook_key, hook_token] = &hooks;
    let start = Start {
        environment: vec![
            ("PAAS_DEPLOY_HOOK_SECRET_KEY".to_owned(), hook_key.clone()),
            // Nobody is there: what cannot be delivered is kept, tried again and told of.
            ("PAAS_DEPLOY_HOOK_URLS".to_owned(), format!("http://127.0.0.1:9/{hook_token}")),
            ("PAAS_DEPLOY_HOOK_ALLOW".to_owned(), "127.0.0.0/8".to_owned()),
        ],
        ..Start::default()
    };
    let platform = Platform::start(&start)?;
    let mut secrets = Secrets::from([
        ("deploy hook's key", hook_key.clone()),
        ("deploy hook's token", hook_token.clone()),
        ("config value", random_name("canary-value")),
        ("value from a file", random_name("canary-file")),
        ("build argument", random_name("canary-argument")),
        ("registry's password", random_name("canary-registry")),
        ("first password", random_name("canary-password")),
        ("second password", random_name("canary-password")),
        ("wrong password", random_name("canary-password")),
        ("command", random_name("canary-command")),
    ]);
    for (what, file) in OWN {
        let text = fs::read_to_string(platform.addresses.data.join(file)).with_context(|| file.to_owned())?;
        // Of a private key the last line: the first is the same in all. Of the seal's the digits behind its name.
        let line = text.lines().rfind(|line| !line.starts_with("-----")).unwrap_or_default();
        secrets.insert(what, line.split_whitespace().next_back().unwrap_or_default().to_owned());
    }
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    // Nothing of what the API is told shows in a command line of the platform's, ever.
    // What a one-off process runs is its own command line, and no more the platform's than a Procfile is.
    let watched = secrets.iter().filter(|(what, _)| **what != "command").map(|(_, secret)| secret.clone());
    let watch = Watch::start(watched.collect());
    let told = use_all(&user, &app, &mut secrets).await;
    let seen = watch.end().await?;
    let told = told?;
    ensure!(seen.is_none(), "a command line holds a secret: {seen:?}");

    for (what, secret) in &secrets {
        ensure!(secret.len() >= 20, "{what} is too short to be looked for");
        if let Some(text) = told.iter().find(|text| text.contains(secret)) {
            anyhow::bail!("the {what} is told: {text}");
        }
        ensure!(!platform.log().contains(secret), "the {what} is in the platform's log");
        ensure!(in_a_command_line(secret)?.is_none(), "the {what} is in a command line");
        for part in PARTS {
            // Who started the platform gave the controller these; the database's files are read below.
            if part == "controller" && what.starts_with("deploy hook") {
                continue;
            }
            let environment = fs::read(format!("/proc/{}/environ", platform.pid(part)?))?;
            ensure!(!String::from_utf8_lossy(&environment).contains(secret), "the {what} is in {part}'s environment");
        }
    }
    in_no_dump(&platform, &secrets)?;
    in_no_open_file(&platform, &secrets)
}

/// Looks at all command lines again and again, until it is told to end.
struct Watch {
    ended: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<anyhow::Result<Option<String>>>,
}

impl Watch {
    fn start(secrets: Vec<String>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let looking = tokio::task::spawn_blocking(move || {
            while !told.load(Ordering::Relaxed) {
                for secret in &secrets {
                    if let Some(line) = in_a_command_line(secret)? {
                        return Ok(Some(line));
                    }
                }
            }
            Ok(None)
        });
        Self { ended, looking }
    }

    async fn end(self) -> anyhow::Result<Option<String>> {
        self.ended.store(true, Ordering::Relaxed);
        self.looking.await?
    }
}

/// Gives the platform each secret, in good ways and bad; everything that it said in words.
async fn use_all(user: &User<'_>, app: &App<'_>, secrets: &mut Secrets) -> anyhow::Result<Vec<String>> {
    let secret = |what: &str| secrets.get(what).cloned().context("a known secret");
    let mut told = Vec::new();
    let api = user.api("paas")?;
    let config = format!("/v2/apps/{}/config/", app.name);
    // Variables: taken, refused, from a file; as arguments of a build that works and of one that does not.
    let value = secret("config value")?;
    let values = json!({"values": {"GREETING": value, "TOKEN": secret("build argument")?, "PORT": 5000,
        "DEIS_DOCKER_BUILD_ARGS_ENABLED": "1"}});
    api.post(&config, &values).await?.json(201)?;
    for bad in [
        json!({"values": {"PORT": value}}),
        json!({"values": {"BAD-KEY": value}}),
        json!({"values": {"A": {"b": value}}}),
        json!({"values": value}),
        json!({"memory": {"web": value}}),
        json!({"registry": {"password": {"a": value}}}),
        json!({"healthcheck": {"web/cmd": {"livenessProbe": {"httpGet": {"path": value}}}}}),
        json!({"lifecycle_post_start": {"web": [value]}}),
    ] {
        let answer = api.post(&config, &bad).await?;
        ensure!(answer.status == 400, "{bad}: {answer:?}");
        // What a client sent may be shown to it as what is wrong with it, and to nobody else.
    }
    let truncated = format!("{{\"values\":{{\"A\":\"{value}\"");
    told.push(api.send(Method::POST, &config, Some(truncated)).await?.text);
    let file = app.repository.folder().join("secrets.env");
    fs::write(&file, format!("FROM_FILE={}\n", secret("value from a file")?))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    succeed(&app.paas(&["config:push", "--path", "secrets.env"])?)?;
    fs::remove_file(&file)?;
    let dockerfile =
        |rest: &str| Ok::<_, anyhow::Error>(format!("FROM {}\nARG TOKEN\nEXPOSE 5000\n{rest}", image::base()?));
    app.repository.write("Dockerfile", &dockerfile("RUN test -n \"$TOKEN\"\nCMD [\"/bin/sample-app\"]\n")?)?;
    app.repository.commit("with an argument")?;
    let push = app.repository.push(user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    told.push(push.text);
    app.repository.write("Dockerfile", &dockerfile("RUN test -z \"$TOKEN\"\n")?)?;
    app.repository.commit("a build that fails")?;
    told.push(app.repository.push(user, &["deis", "main"])?.text);
    told.push(fail(&app.paas(&["config:set", "MODE=exit"])?, 1)?);
    // The password of a registry, shown to one that does not know it.
    let registry = json!({"registry": {"username": "ann", "password": secret("registry's password")?}});
    api.post(&config, &registry).await?.json(201)?;
    let absent = format!("{}/nothing:1", user.platform.addresses.registry);
    told.push(fail(&app.paas(&["pull", &absent])?, 1)?);
    // A command line of a one-off process.
    let command = json!({"command": format!("false {}", secret("command")?)});
    told.push(api.post(&format!("/v2/apps/{}/run", app.name), &command).await?.text);
    let certificate = certificate(user, app, &api, &mut told).await?;
    let passwords = passwords(user, &secret, &mut told).await?;
    secrets.extend(certificate);
    secrets.extend(passwords);
    for command in
        ["ps", "info", "releases", "releases:info v2", "logs -n 1000", "builds", "certs", "tokens", "routing"]
    {
        told.push(both(&app.paas(&command.split(' ').collect::<Vec<_>>())?));
    }
    Ok(told)
}

/// A certificate's private key: refused beside a wrong certificate, taken, and served; and the key of sticky visitors.
async fn certificate(
    user: &User<'_>,
    app: &App<'_>,
    api: &paas_tests::Api,
    told: &mut Vec<String>,
) -> anyhow::Result<Secrets> {
    let make = |name: &str| -> anyhow::Result<(String, String)> {
        let key = user.home.join(format!("{name}.key"));
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "30",
            ])
            .args(["-subj", &format!("/CN={}.localhost", app.name), "-keyout"])
            .arg(&key)
            .output()?;
        let certificate = succeed(&output)?;
        Ok((certificate, fs::read_to_string(key)?))
    };
    let ((certificate, key), (_, other)) = (make("one")?, make("two")?);
    let body = |key: &str| json!({"name": app.name, "certificate": certificate, "key": key});
    for wrong in [&other, &key.replace("END", "ENDE"), &key.split_at(100).0.to_owned()] {
        let answer = api.post("/v2/certs/", &body(wrong)).await?;
        ensure!(answer.status == 400, "{answer:?}");
        told.push(answer.text);
    }
    api.post("/v2/certs/", &body(&key)).await?.json(201)?;
    succeed(&app.paas(&["certs:attach", &app.name, &app.name])?)?;
    succeed(&app.paas(&["routing:set", "sticky=on"])?)?;
    let line = |pem: &str| pem.lines().nth(1).map(str::to_owned).context("a line of a key");
    let token = fs::read_to_string(user.platform.addresses.data.join("router.token"))?;
    let client = reqwest::Client::new();
    let table = client.get(format!("http://{}/v2/router/table", user.platform.addresses.controller));
    let table: Value = table.bearer_auth(token.trim()).send().await?.json().await?;
    let rules = table["routes"].as_array().into_iter().flatten().find_map(|route| route["rules"]["sticky"].as_str());
    let sticky = rules.context("a key for visitors that stay")?.to_owned();
    Ok(Secrets::from([("private key", line(&key)?), ("refused private key", line(&other)?), ("sticky key", sticky)]))
}

/// Passwords and tokens: of logins that work and that do not, made, replaced and removed.
async fn passwords(
    user: &User<'_>,
    secret: &impl Fn(&str) -> anyhow::Result<String>,
    told: &mut Vec<String>,
) -> anyhow::Result<Secrets> {
    let (api, nobody) = (user.api("paas")?, user.anonymous_api("paas")?);
    let (first, second, wrong) = (secret("first password")?, secret("second password")?, secret("wrong password")?);
    api.post("/v2/auth/passwd/", &json!({"password": user.password, "new_password": first})).await?.json(200)?;
    api.post("/v2/auth/passwd/", &json!({"password": first, "new_password": second})).await?.json(200)?;
    let login = |password: String| json!({"username": user.name, "password": password});
    for body in [login(first), login(wrong.clone()), json!({"username": wrong, "password": wrong})] {
        let answer = nobody.post("/v2/auth/login/", &body).await?;
        ensure!(answer.status == 400, "{answer:?}");
        told.push(answer.text);
    }
    told.push(api.post("/v2/auth/passwd/", &json!({"password": wrong, "new_password": "x"})).await?.text);
    let text = |answer: &Value| answer["token"].as_str().map(str::to_owned).context("a token");
    let session = text(&nobody.post("/v2/auth/login/", &login(second)).await?.json(200)?)?;
    let named = text(&api.post("/v2/tokens/", &json!({"name": "ci"})).await?.json(201)?)?;
    // One that is not known, almost.
    let almost: String = named.chars().rev().collect();
    let answer = nobody.with_token(&almost).get("/v2/apps/").await?;
    says(&answer.text, &["Invalid token."])?;
    told.push(answer.text);
    Ok(Secrets::from([
        ("profile's token", user.token()?),
        ("session's token", session),
        ("named token", named),
        ("wrong token", almost),
    ]))
}

/// The database as text, in which bytes are hexadecimal.
fn in_no_dump(platform: &Platform, secrets: &Secrets) -> anyhow::Result<()> {
    let url = platform.addresses.database_url.as_deref().context("a private Postgres")?;
    let dump = succeed(&Command::new("pg_dump").arg(url).output().context("pg_dump")?)?;
    ensure!(dump.contains("COPY public.configs"), "no dump: {}", dump.chars().take(500).collect::<String>());
    for (what, secret) in secrets {
        let hexadecimal = secret.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        for form in [secret, &hexadecimal] {
            ensure!(!dump.contains(form.as_str()), "the {what} is in the database");
        }
    }
    Ok(())
}

/// What the platform drew for itself, and where it lies.
const OWN: [(&str, &str); 5] = [
    ("builder's key", "builder.key"),
    ("routers' token", "router.token"),
    ("key of the seal", "controller/seal.key"),
    ("builder's first host key", "builder/host-keys/ssh_host_ed25519_key"),
    ("builder's second host key", "builder/host-keys/ssh_host_ecdsa_key"),
];

/// The last routing table has the keys of certificates.
const TABLES: &str = "router/";

fn in_no_open_file(platform: &Platform, secrets: &Secrets) -> anyhow::Result<()> {
    let data = &platform.addresses.data;
    let mut found = BTreeSet::new();
    for (what, secret) in secrets {
        // An argument is in the history of the image that was built with it: Docker keeps it there.
        for file in files_with(data, secret)? {
            let path = Path::new(&file);
            let name = path.strip_prefix(data)?.to_string_lossy().into_owned();
            if *what == "build argument" && name.starts_with("registry/") {
                continue;
            }
            // Files that hold secrets, and are there for that: nobody else reads them.
            ensure!(name.starts_with(TABLES) || OWN.contains(&(*what, name.as_str())), "the {what} is in {name}");
            let mode = fs::metadata(path)?.permissions().mode();
            ensure!(mode.trailing_zeros() >= 6, "the {what} is in {name}, which others can read: {mode:o}");
            found.insert(*what);
        }
    }
    // Who looks like this does find what is there.
    for (what, _) in OWN {
        ensure!(found.contains(what), "the {what} was not found where it lies");
    }
    ensure!(found.contains("private key"), "no private key was found in a routing table");
    Ok(())
}

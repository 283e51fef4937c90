//! Users with homes of their own, and their apps.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{Platform, Push, Repository, binary, image, random_name, succeed};

/// Somebody with a home folder, a profile and an SSH key.
#[derive(Debug)]
pub struct User<'p> {
    /// Where.
    pub platform: &'p Platform,
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Home folder.
    pub home: PathBuf,
}

impl<'p> User<'p> {
    /// The first user of a platform: its administrator.
    pub(crate) fn register_first(platform: &'p Platform) -> anyhow::Result<Self> {
        let user = Self::at_home(platform, "admin")?;
        user.register(&[])?;
        Ok(user)
    }

    /// A new user, registered by the administrator, with a key.
    pub fn new(platform: &'p Platform) -> anyhow::Result<Self> {
        let user = Self::at_home(platform, &random_name("user"))?;
        let admin = platform.folder().join("home-admin");
        let profile = admin.join(".paas/client.json");
        let own = user.home.join(".paas");
        fs::create_dir_all(&own)?;
        // An administrator registers others by sending the token of the own profile.
        fs::copy(&profile, own.join("client.json")).context("the administrator's profile")?;
        user.register(&[])?;
        user.add_key()?;
        Ok(user)
    }

    fn at_home(platform: &'p Platform, name: &str) -> anyhow::Result<Self> {
        let home = platform.folder().join(format!("home-{name}"));
        fs::create_dir_all(home.join(".ssh"))?;
        let gitconfig = "[user]\n\tname = Test\n\temail = test@example.test\n[init]\n\tdefaultBranch = main\n[protocol]\n\tversion = 2\n";
        fs::write(home.join(".gitconfig"), gitconfig)?;
        Ok(Self { platform, name: name.to_owned(), password: random_name("password"), home })
    }

    fn register(&self, more: &[&str]) -> anyhow::Result<()> {
        let url = &self.platform.addresses.url;
        let mut arguments = vec!["register", url, "--username", &self.name, "--password", &self.password];
        arguments.extend(more);
        succeed(&self.paas(&arguments)?).with_context(|| format!("register {}", self.name))?;
        Ok(())
    }

    /// Makes an ed25519 key and adds it.
    pub fn add_key(&self) -> anyhow::Result<()> {
        let key = self.home.join(".ssh/id_ed25519");
        let comment = format!("{}@tests", self.name);
        let keygen = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
            .arg(&key)
            .output()?;
        succeed(&keygen)?;
        let public = key.with_extension("pub");
        succeed(&self.paas(&["keys:add", public.to_str().context("path")?])?)?;
        Ok(())
    }

    /// Runs `paas` as this user.
    pub fn paas(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.paas_in(&self.home, arguments)
    }

    /// Runs `paas` as this user in a folder.
    pub fn paas_in(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(&binary("paas")?, folder).args(arguments).output()?)
    }

    /// A command with this user's environment and nothing else of ours.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("GIT_SSH_COMMAND", format!("ssh {}", self.ssh_options().join(" ")))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder);
        command
    }

    /// `ssh` to the builder, which runs `request` there.
    pub fn ssh(&self, request: &str) -> Command {
        let address = self.platform.addresses.ssh;
        let mut command = self.command(Path::new("ssh"), &self.home);
        command.args(self.ssh_options()).args(["-p", &address.port().to_string(), &format!("git@{}", address.ip())]);
        command.arg(request);
        command
    }

    fn ssh_options(&self) -> Vec<String> {
        let key = self.home.join(".ssh/id_ed25519").display().to_string();
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned(), key];
        for option in
            ["IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// The token of this user's profile.
    pub fn token(&self) -> anyhow::Result<String> {
        let profile: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(self.home.join(".paas/client.json"))?)?;
        Ok(profile.get("token").and_then(serde_json::Value::as_str).context("no token in the profile")?.to_owned())
    }

    /// Makes an app, with a repository whose remote `deis` is that app.
    pub fn create_app(&self) -> anyhow::Result<App<'_>> {
        self.create_app_named(&random_name("app"))
    }

    /// Makes an app of this name.
    pub fn create_app_named(&self, name: &str) -> anyhow::Result<App<'_>> {
        let name = name.to_owned();
        let repository = Repository::new(&self.home.join(&name), self)?;
        succeed(&self.paas_in(repository.folder(), &["create", &name])?)?;
        Ok(App { user: self, name, repository })
    }
}

/// An app of a user; dropping it destroys it.
#[derive(Debug)]
pub struct App<'u> {
    /// Whose.
    pub user: &'u User<'u>,
    /// Its name.
    pub name: String,
    /// Its repository.
    pub repository: Repository,
}

/// What a visitor got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub text: String,
}

impl App<'_> {
    /// Writes the sample app's files; `version` makes the commit different.
    pub fn write_sample(&self, version: &str) -> anyhow::Result<()> {
        let base = image::base()?;
        self.repository.write("version", version)?;
        let dockerfile = format!("FROM {base}\nCOPY version /version\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n");
        self.repository.write("Dockerfile", &dockerfile)
    }

    /// Commits the sample app and pushes it.
    pub fn push_sample(&self, version: &str) -> anyhow::Result<Push> {
        self.write_sample(version)?;
        self.repository.commit(version)?;
        self.repository.push(self.user, &["deis", "main"])
    }

    /// Pushes the sample app, which must work.
    pub fn deploy_sample(&self, version: &str) -> anyhow::Result<Push> {
        let push = self.push_sample(version)?;
        ensure!(push.is_success(), "the push failed:\n{}", push.text);
        Ok(push)
    }

    /// Runs `paas` in the app's repository.
    pub fn paas(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.user.paas_in(self.repository.folder(), arguments)
    }

    /// Visits a path through the router.
    pub async fn get(&self, path: &str) -> anyhow::Result<Page> {
        self.user.platform.get(&self.name, path).await
    }
}

impl Platform {
    /// Visits a path of an app through the router.
    pub async fn get(&self, app: &str, path: &str) -> anyhow::Result<Page> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).pool_max_idle_per_host(0).build()?;
        let answer = client
            .get(format!("http://{}{path}", self.addresses.http))
            .header("host", format!("{app}.localhost"))
            .send()
            .await?;
        Ok(Page { status: answer.status().as_u16(), text: answer.text().await? })
    }
}

impl Drop for App<'_> {
    fn drop(&mut self) {
        let _ = self.paas(&["destroy", "-a", &self.name, &format!("--confirm={}", self.name)]);
    }
}

//! Helm, kubeconform and kubectl as the scenarios call them, and what is said where they are not to be had.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, ensure};
use paas_tests::{random_name, succeed};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the repository")
}

/// The chart.
pub(crate) fn chart() -> PathBuf {
    root().join("charts/paas")
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::home_dir().unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let more = [home.join("go/bin"), cache.join("paas-kubernetes/bin")];
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Whether a program is there. Where it is not, what needs it cannot run; on the machine that decides what is merged, that
/// is a failure.
pub(crate) fn is_installed(name: &str) -> anyhow::Result<bool> {
    let there = program(name).is_some();
    let hint = "tests/setup kubernetes installs it where Go is present";
    ensure!(there || std::env::var_os("CI").is_none(), "{name} is not installed, and this is CI: {hint}");
    if !there {
        say(&format!("NOT RUN: {name} is not installed, so this of the chart is not tested ({hint})"));
    }
    Ok(there)
}

/// The cluster for tests, if there is one and everything is there that it takes to use it.
pub(crate) fn cluster() -> anyhow::Result<Option<Cluster>> {
    let Some(kubeconfig) = std::env::var_os("PAAS_TEST_KUBECONFIG").filter(|path| !path.is_empty()) else {
        say("NOT RUN: PAAS_TEST_KUBECONFIG names no cluster, so nothing is tested of what the chart does on one");
        return Ok(None);
    };
    let there = is_installed("helm")? && is_installed("kubectl")?;
    Ok(there.then(|| Cluster { kubeconfig: kubeconfig.into(), namespaces: Vec::new(), objects: Vec::new() }))
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests has to know")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs a program with these arguments.
pub(crate) fn call(name: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
    let mut command = Command::new(program(name).with_context(|| format!("{name} is not installed"))?);
    command.args(arguments);
    feed(command, input)
}

fn feed(mut command: Command, input: &[u8]) -> anyhow::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    std::thread::scope(|scope| {
        // It may be done before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        Ok(child.wait_with_output()?)
    })
}

/// What the chart renders with these arguments.
pub(crate) fn render(arguments: &[&str]) -> anyhow::Result<Output> {
    let chart = chart();
    let chart = chart.to_str().context("a path that is no text")?;
    call("helm", &[&["template", "paas", chart, "--namespace", "paas-system"], arguments].concat(), b"")
}

/// A cluster; what was made in it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// File that leads to it.
    pub(crate) kubeconfig: PathBuf,
    namespaces: Vec<String>,
    /// Objects outside namespaces, as `kind/name`.
    objects: Vec<String>,
}

impl Cluster {
    /// Calls a program of the cluster's.
    pub(crate) fn call(&self, name: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<Output> {
        let mut command = Command::new(program(name).with_context(|| format!("{name} is not installed"))?);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        feed(command, input)
    }

    /// What kubectl says, if it succeeds.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.call("kubectl", arguments, b"")?;
        succeed(&output).with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Makes what a text describes.
    pub(crate) fn apply(&self, namespace: &str, text: &str) -> anyhow::Result<()> {
        let output = self.call("kubectl", &["apply", "--namespace", namespace, "--filename", "-"], text.as_bytes())?;
        succeed(&output).map(drop)
    }

    /// Makes a namespace of a random name.
    pub(crate) fn namespace(&mut self, prefix: &str) -> anyhow::Result<String> {
        let name = random_name(prefix);
        self.kubectl(&["create", "namespace", &name])?;
        self.namespaces.push(name.clone());
        Ok(name)
    }

    /// Remembers an object outside namespaces that is to go at the end.
    pub(crate) fn remember(&mut self, object: String) {
        self.objects.push(object);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let gone = |kind: &str, names: &[String]| {
            if !names.is_empty() {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let options = [
                    if kind.is_empty() { &[][..] } else { &[kind][..] },
                    &names,
                    &["--ignore-not-found", "--wait=false"],
                ];
                let _ = self.call("kubectl", &[&["delete"], &*options.concat()].concat(), b"");
            }
        };
        gone("", &self.objects);
        gone("namespace", &self.namespaces);
    }
}

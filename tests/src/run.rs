//! Running scenarios: like `cargo test`, with a platform that they share and that is taken down at the end.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Platform, Start, image};

/// One test.
pub struct Scenario {
    /// `module::function`, modules from below the crate.
    pub name: String,
    /// What it does.
    pub run: fn() -> BoxFuture<'static, anyhow::Result<()>>,
    /// Too long for every day: only `--ignored` runs it.
    pub long: bool,
}

impl Scenario {
    /// The same, only for those who ask for it.
    #[must_use]
    pub fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

/// Scenarios of a module, named after their functions.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn scenarios() -> Vec<$crate::Scenario> {
            vec![$($crate::Scenario {
                name: format!("{}::{}", module_path!().split_once("::").unwrap_or_default().1, stringify!($name)),
                run: || Box::pin($name()),
                long: false,
            }),+]
        }
    };
}

/// What failed and why; told once more at the end, where a reader of a long log looks first.
static FAILED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

static SHARED: Mutex<Option<Arc<Platform>>> = Mutex::new(None);

/// The platform that scenarios share; it starts with the first one that asks.
pub fn shared() -> anyhow::Result<Arc<Platform>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(platform) = &*shared {
        return Ok(Arc::clone(platform));
    }
    let platform = Arc::new(Platform::start(&Start::default())?);
    *shared = Some(Arc::clone(&platform));
    Ok(platform)
}

/// Runs what the command line asks for, then takes down what was shared.
pub fn run_all(scenarios: Vec<Scenario>) -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    // As other tests of cargo's do; the harness knows its own flag only.
    let threads = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    arguments.test_threads = arguments.test_threads.or_else(threads);
    let trials = scenarios
        .into_iter()
        .map(|scenario| {
            let long = scenario.long;
            Trial::test(scenario.name.clone(), move || run(&scenario)).with_ignored_flag(long)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let failed = conclusion.has_failed();
    if let Some(platform) = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        if failed {
            platform.tell_log();
        }
        match Arc::try_unwrap(platform) {
            Ok(platform) => drop(platform),
            Err(platform) => platform.take_down(),
        }
    }
    image::remove();
    tell_failures();
    conclusion.exit_code()
}

fn run(scenario: &Scenario) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on((scenario.run)()).map_err(|error| format!("{error:#}"));
    if let Err(why) = &outcome {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).push((scenario.name.clone(), why.clone()));
    }
    outcome.map_err(Failed::from)
}

#[allow(clippy::print_stderr, reason = "for whoever reads a failed run")]
fn tell_failures() {
    for (name, why) in &*FAILED.lock().unwrap_or_else(PoisonError::into_inner) {
        eprintln!("---- failed: {name} ----\n{why}");
    }
}

//! `ps:*`: the app's processes.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use clap::{Args, Subcommand};
use paas_api::{
    AppName, ProcessType,
    client::segment,
    pods::{Pod, Pods},
};

use crate::{
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "ps:list")]
    List(List),
    #[command(name = "ps:scale", visible_alias = "scale")]
    Scale(Scale),
    #[command(name = "ps:restart")]
    Restart(Restart),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Scale(arguments) => scale(arguments, context).await,
            Self::Restart(arguments) => restart(arguments, context).await,
        }
    }
}

/// List an app's running processes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas ps\n  paas ps:list --usage\n  paas ps:list -a hello --json")]
pub(crate) struct List {
    /// Show what each uses of processor and memory
    #[arg(short, long)]
    usage: bool,
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let path = if arguments.usage { "pods/?usage=true" } else { "pods/" };
    show(&app, context.printer, path).await
}

async fn show_processes(app: &App, printer: Printer) -> Result<(), Error> {
    show(app, printer, "pods/").await
}

async fn show(app: &App, printer: Printer, path: &str) -> Result<(), Error> {
    let pods: Pods = app.get(path).await?;
    printer.either(&pods.results, || print_processes(printer, &app.name, &pods.results))
}

/// The processes by type, each type's by name.
pub(crate) fn print_processes(printer: Printer, app: &AppName, pods: &[Pod]) -> Result<(), Error> {
    printer.line(format!("=== {app} Processes"))?;
    let mut types: BTreeMap<&ProcessType, BTreeMap<&str, &Pod>> = BTreeMap::new();
    for pod in pods {
        types.entry(&pod.process_type).or_default().insert(&pod.name, pod);
    }
    for (process_type, pods) in types {
        printer.line(format!("--- {process_type}:"))?;
        for (name, pod) in pods {
            printer.line(format!("{name} {} ({}){}", pod.state, pod.release, more(pod)))?;
        }
    }
    Ok(())
}

/// What else is known of a process.
fn more(pod: &Pod) -> String {
    let mut more = String::new();
    if let Some(used) = &pod.usage {
        // Writing to a String cannot fail.
        let _ = write!(more, " cpu {}%, memory {}", used.cpu_millis.div_ceil(10), amount(used.memory));
    }
    if let Some(restarts) = pod.restarts {
        let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
        let _ = write!(more, ", started again {times}");
    }
    more
}

/// Bytes, as people read them.
fn amount(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10);
    let (unit, name) =
        [(1 << 30, "GB"), (1 << 20, "MB")].into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1 << 10, "KB"));
    let tenths = tenths / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Run another number of processes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas ps:scale web=3\n  paas scale web=3 worker=0 -a hello")]
pub(crate) struct Scale {
    /// Process types, each with how many to run
    #[arg(required = true, value_name = "TYPE=NUM")]
    targets: Vec<String>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

fn target(text: &str) -> Result<(ProcessType, u32), Error> {
    let pattern = || Error::usage(format!("'{text}' does not match the pattern 'type=num', ex: web=2"));
    let (process_type, number) = text.split_once('=').ok_or_else(pattern)?;
    if number.is_empty() || !number.chars().all(|digit| digit.is_ascii_digit()) {
        return Err(pattern());
    }
    Ok((process_type.parse().map_err(|_| pattern())?, number.parse().map_err(|_| pattern())?))
}

async fn scale(arguments: Scale, context: &Context) -> Result<(), Error> {
    let targets =
        arguments.targets.iter().map(|text| target(text)).collect::<Result<BTreeMap<ProcessType, u32>, Error>>()?;
    let app = context.app(&arguments.app)?.detached(&arguments.detach);
    let printer = context.printer;
    let started = Instant::now();
    let what = format!("Scaling processes... but first, {}!\n", context.drink);
    printer.waiting(&what, app.post_for_nothing("scale/", &targets)).await?;
    finish(&app, printer, started, &arguments.detach).await
}

/// Restart an app's processes, one after the other, so that it keeps answering
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas ps:restart\n  paas ps:restart web -a hello\n  \
                        paas ps:restart hello-web-1234567890-ab1cd")]
pub(crate) struct Restart {
    /// A process type, or one process by its name as 'paas ps' shows it; all when absent
    #[arg(value_name = "TYPE|NAME")]
    which: Option<String>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn restart(arguments: Restart, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?.detached(&arguments.detach);
    let printer = context.printer;
    let started = Instant::now();
    let path = match &arguments.which {
        None => "pods/restart/".to_owned(),
        Some(which) => restart_path(&app.get::<Pods>("pods/").await?.results, which),
    };
    let what = format!("Restarting processes... but first, {}!\n", context.drink);
    let restarted: Vec<Pod> = printer.waiting(&what, app.post(&path, &serde_json::json!({}))).await?;
    if restarted.is_empty() {
        return printer.either(&restarted, || printer.line("Could not find any processes to restart"));
    }
    finish(&app, printer, started, &arguments.detach).await
}

/// Where to restart one process, if that is one's name, or else all of a type.
fn restart_path(pods: &[Pod], which: &str) -> String {
    match pods.iter().find(|pod| pod.name == which) {
        Some(pod) => format!("pods/{}/{}/restart/", segment(pod.process_type.as_str()), segment(which)),
        None => format!("pods/{}/restart/", segment(which)),
    }
}

async fn finish(app: &App, printer: Printer, started: Instant, detach: &DetachOption) -> Result<(), Error> {
    if detach.detach {
        printer.line(format!("recorded; 'paas ps -a {}' shows how far it is", app.name))?;
    } else {
        printer.line(format!("done in {}s", started.elapsed().as_secs()))?;
    }
    show_processes(app, printer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_type_and_a_number() {
        let (process_type, number) = target("web-2=30").unwrap();
        assert_eq!((process_type.as_str(), number), ("web-2", 30));
        for bad in ["web", "web=", "web=-1", "web=+1", "web=x", "Web=1", "=1", "web=1=2", "web=99999999999"] {
            let text = target(bad).unwrap_err().to_string();
            assert_eq!(text, format!("'{bad}' does not match the pattern 'type=num', ex: web=2"));
        }
    }

    #[test]
    fn memory_is_readable() {
        for (bytes, text) in [(0, "0.0 KB"), (1536, "1.5 KB"), (7 << 20, "7.0 MB"), (5 << 29, "2.5 GB")] {
            assert_eq!(amount(bytes), text);
        }
    }

    #[test]
    fn a_process_is_restarted_by_its_name() {
        let pods = serde_json::from_str::<Vec<Pod>>(
            r#"[{"name":"hello-web-1","state":"up","release":"v2","type":"web","started":"2024-05-01T10:05:00Z"}]"#,
        )
        .unwrap();
        assert_eq!(restart_path(&pods, "hello-web-1"), "pods/web/hello-web-1/restart/");
        assert_eq!(restart_path(&pods, "web"), "pods/web/restart/");
        assert_eq!(restart_path(&pods, "../x"), "pods/..%2Fx/restart/");
    }
}

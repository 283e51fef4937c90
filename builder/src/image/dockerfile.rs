//! Builds of a Dockerfile, with `BuildKit` or the classic builder.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use bollard::{
    errors::Error,
    models::{BuildInfo, BuildInfoAux},
    query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion},
};
use futures_util::{Stream, StreamExt as _};
use paas_api::ConfigKey;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::{Engine, ImageName, trace::Trace};
use crate::{
    progress::{Lines, Progress},
    refusal::{Refusal, chain},
    settings::BuildNetwork,
    source::{Ignore, Source, SourceError, Streamed},
};

/// What an engine says when a step fails for its own reasons.
const ENGINE_TROUBLE: [&str; 8] = [
    "no space left on device",
    "context canceled",
    "graceful_stop",
    "error reading from server",
    "code = Unavailable",
    "failed to create endpoint",
    "failed to set up container networking",
    "failed to mount",
];

/// Limits of one build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) output: u64,
    /// Bytes, where the builder can limit them.
    pub(crate) memory: i32,
    pub(crate) network: BuildNetwork,
}

/// A Dockerfile that is ready to be built.
#[derive(Debug)]
pub(crate) struct Dockerfile {
    text: Vec<u8>,
    arguments: HashMap<String, String>,
    /// What the pusher should know.
    pub(crate) notices: Vec<String>,
}

impl Dockerfile {
    /// Takes a `# syntax=` line out, which would make the engine fetch and run a foreign builder, and adds `arguments` as
    /// the contract says (§5.8): an `ARG` line each, at the end.
    ///
    /// # Errors
    /// When the file cannot be a Dockerfile.
    pub(crate) fn prepare(text: &[u8], arguments: &BTreeMap<ConfigKey, String>) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(text).map_err(|_| Refusal::Build("the Dockerfile is not UTF-8 text".into()))?;
        let mut out = String::with_capacity(text.len() + 64);
        let mut notices = Vec::new();
        let mut at_head = true;
        for line in text.trim_start_matches('\u{feff}').split_inclusive('\n') {
            let bare = line.trim();
            if at_head && !bare.is_empty() && !bare.starts_with('#') {
                at_head = false;
                if bare.starts_with(['{', '/']) {
                    return Err(Refusal::Build("the Dockerfile does not start with an instruction".into()));
                }
            }
            if at_head && is_syntax_line(bare) {
                notices.push(format!(
                    "`{bare}` is left out: this platform builds with the engine's own Dockerfile syntax."
                ));
                out.push('\n');
            } else {
                out.push_str(line);
            }
        }
        if at_head {
            return Err(Refusal::Build("the Dockerfile holds no instruction".into()));
        }
        let mut named = HashMap::new();
        for (key, value) in
            arguments.iter().filter(|(key, _)| !key.as_str().to_ascii_uppercase().starts_with("BUILDKIT_"))
        {
            out.extend(["\nARG ", key.as_str()]);
            named.insert(key.as_str().to_owned(), value.clone());
        }
        Ok(Self { text: out.into_bytes(), arguments: named, notices })
    }
}

/// `# syntax = …`, as `BuildKit` reads it.
fn is_syntax_line(line: &str) -> bool {
    let directive = line.trim_start_matches('#').trim_start();
    directive.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("syntax"))
}

/// Builds `image` from a commit; what it prints goes to `progress`.
pub(crate) async fn build(
    engine: &Engine,
    source: &Source,
    ignore: Ignore,
    dockerfile: Dockerfile,
    image: &ImageName,
    limits: Limits,
    progress: &Progress,
) -> Result<Streamed, Refusal> {
    let docker = engine.connect().await?;
    let buildkit = engine.has_buildkit(&docker);
    let options = options(&dockerfile.arguments, image, limits, buildkit);
    let mask = Mask::of(&dockerfile.arguments);
    let (chunks, walking) = source.stream(ignore, dockerfile.text);
    let body = bollard::body_try_stream(ReceiverStream::new(chunks));
    let built = {
        let steps = std::pin::pin!(docker.build_image(options, None, Some(body)));
        let following = follow(steps, limits.output, &mask, progress);
        match timeout(limits.time, following).await {
            Ok(built) => built,
            Err(_) => Err(Refusal::Build(format!("it took longer than {} seconds", limits.time.as_secs()))),
        }
        // The stream ends here, and with it the connection: that is what stops a step that still runs.
    };
    let walked = walking.await.unwrap_or_else(|error| Err(SourceError::Read(io::Error::other(error))));
    match (built, walked) {
        (_, Err(SourceError::TooLarge(reason) | SourceError::Unusable(reason))) => Err(Refusal::Build(reason)),
        (_, Err(error @ (SourceError::Git(_) | SourceError::Read(_)))) => Err(Refusal::Platform(chain(&error))),
        (Err(Refusal::Build(reason)), _) => Err(Refusal::Build(mask.hide(&reason))),
        (Err(refusal), _) => Err(refusal),
        (Ok(()), walked) => Ok(walked.unwrap_or_default()),
    }
}

fn options(
    arguments: &HashMap<String, String>,
    image: &ImageName,
    limits: Limits,
    buildkit: bool,
) -> BuildImageOptions {
    let options = BuildImageOptionsBuilder::default()
        .dockerfile("Dockerfile")
        .t(&image.to_string())
        .buildargs(arguments)
        .networkmode(limits.network.as_str())
        .rm(true)
        .forcerm(true);
    if buildkit {
        options.version(BuilderVersion::BuilderBuildKit).session(&format!("{:032x}", rand::random::<u128>())).build()
    } else {
        // As much swap as memory means none on top of it.
        options.memory(limits.memory).memswap(limits.memory).build()
    }
}

/// Shows what a build prints, until it has an image or has failed.
async fn follow(
    mut steps: impl Stream<Item = Result<BuildInfo, Error>> + Unpin,
    most_output: u64,
    mask: &Mask,
    progress: &Progress,
) -> Result<(), Refusal> {
    let (mut lines, mut trace) = (Lines::default(), Trace::default());
    let (mut output, mut has_image) = (0_u64, false);
    while let Some(step) = steps.next().await {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                show(lines.finish().into_iter().chain(trace.finish()).collect(), mask, progress).await;
                return Err(refusal(&error));
            }
        };
        let shown = match (step.stream, step.aux) {
            (Some(text), _) => {
                output += text.len() as u64;
                lines.push(text.as_bytes())
            }
            (None, Some(BuildInfoAux::BuildKit(report))) => {
                output += report.logs.iter().map(|log| log.msg.len() as u64).sum::<u64>();
                trace.render(report)
            }
            (None, Some(BuildInfoAux::Default(_))) => {
                has_image = true;
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        show(shown, mask, progress).await;
        if output > most_output {
            return Err(Refusal::Build(format!("it printed more than {most_output} bytes")));
        }
    }
    show(lines.finish().into_iter().chain(trace.finish()).collect(), mask, progress).await;
    if has_image { Ok(()) } else { Err(Refusal::Platform("the Docker engine ended the build without an image".into())) }
}

async fn show(lines: Vec<String>, mask: &Mask, progress: &Progress) {
    for line in lines {
        progress.line(mask.hide(&line)).await;
    }
}

/// Hides what an app's config says in what a build prints: engines write arguments out in the names of their steps, and
/// pushers keep such texts.
#[derive(Default)]
struct Mask(Vec<(String, String)>);

/// A shorter value is a word like others, such as a number or `true`.
const SHORTEST_SECRET: usize = 8;

impl Mask {
    fn of(arguments: &HashMap<String, String>) -> Self {
        let secrets = arguments.iter().filter(|(_, value)| value.len() >= SHORTEST_SECRET);
        let mut secrets: Vec<_> = secrets.map(|(name, value)| (value.clone(), format!("${name}"))).collect();
        // One may be in another.
        secrets.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self(secrets)
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (value, name)| text.replace(value, name))
    }
}

/// Whether a failed build is the Dockerfile's fault or the engine's.
fn refusal(error: &Error) -> Refusal {
    match error {
        Error::DockerStreamError { error } if is_engine_trouble(error) => {
            Refusal::Platform(format!("the Docker engine failed: {error}"))
        }
        Error::DockerStreamError { error } => Refusal::Build(error.trim().to_owned()),
        Error::DockerResponseServerError { status_code, message }
            if *status_code < 500 || is_dockerfile_trouble(message) =>
        {
            Refusal::Build(message.trim().to_owned())
        }
        error => Refusal::Platform(format!("the Docker engine failed: {}", chain(error))),
    }
}

fn is_engine_trouble(error: &str) -> bool {
    // Before the last bracket stands the step's command, which may say anything.
    let reason = error.rsplit_once("]: ").map_or(error, |(_, reason)| reason);
    let of_the_step = reason.contains("exit code") || reason.contains("non-zero code");
    !of_the_step && ENGINE_TROUBLE.iter().any(|sign| reason.contains(sign))
}

/// Engines answer 500 to a Dockerfile that they cannot read.
fn is_dockerfile_trouble(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("dockerfile") || message.contains("parse error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_config_says_is_hidden() {
        let arguments =
            [("A", "hunter2-hunter2"), ("B", "hunter2-"), ("C", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let mask = Mask::of(&arguments.into());
        assert_eq!(mask.hide("[1/2] RUN x hunter2-hunter2 hunter2- hunter2 1"), "[1/2] RUN x $A $B hunter2 1");
    }

    fn prepared(text: &str) -> String {
        String::from_utf8(Dockerfile::prepare(text.as_bytes(), &BTreeMap::new()).unwrap().text).unwrap()
    }

    #[test]
    fn a_foreign_builder_is_never_asked_for() {
        for head in [
            "# syntax=evil/x",
            "#syntax = evil/x",
            "#  SYNTAX=evil/x",
            "\u{feff}# syntax=evil/x",
            "# escape=\\\n# syntax=evil/x",
        ] {
            let text = prepared(&format!("{head}\nFROM scratch\n"));
            assert!(!text.contains("evil"), "{head:?} became {text:?}");
            assert!(text.ends_with("FROM scratch\n"));
        }
        let text = "# a comment about syntax\nFROM scratch\nRUN x \\\n# syntax=kept\n y\n";
        assert_eq!(prepared(text), text);
    }

    #[test]
    fn what_cannot_be_a_dockerfile_is_refused() {
        for text in ["", "\n\n# only a comment\n", "{\"syntax\":\"evil\"}", "// syntax=evil\nFROM x"] {
            assert!(
                matches!(Dockerfile::prepare(text.as_bytes(), &BTreeMap::new()), Err(Refusal::Build(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn arguments_come_last_and_none_of_them_steers_the_builder() {
        let arguments = BTreeMap::from([
            ("B".parse().unwrap(), "2".to_owned()),
            ("BUILDKIT_SYNTAX".parse().unwrap(), "evil/x".to_owned()),
            ("buildkit_syntax".parse().unwrap(), "evil/x".to_owned()),
        ]);
        let dockerfile = Dockerfile::prepare(b"FROM scratch", &arguments).unwrap();
        assert_eq!(dockerfile.text, b"FROM scratch\nARG B");
        assert_eq!(dockerfile.arguments, HashMap::from([("B".to_owned(), "2".to_owned())]));
    }

    #[test]
    fn a_full_disk_is_the_platforms_fault_and_a_failing_step_is_not() {
        let stream = |text: &str| refusal(&Error::DockerStreamError { error: text.into() });
        assert!(matches!(stream("The command '/bin/sh -c false' returned a non-zero code: 1"), Refusal::Build(_)));
        assert!(matches!(stream("write /x: no space left on device"), Refusal::Platform(_)));
        assert!(matches!(stream("executor failed running [no space left on device]: exit code: 7"), Refusal::Build(_)));
        let bridge =
            "executor failed running [/bin/sh -c x]: failed to create endpoint e on network bridge: no such interface";
        assert!(matches!(stream(bridge), Refusal::Platform(_)));
        let named = "executor failed running [/bin/sh -c echo failed to mount]: exit code: 1";
        assert!(matches!(stream(named), Refusal::Build(_)));
        let server = |status_code, message: &str| {
            refusal(&Error::DockerResponseServerError { status_code, message: message.into() })
        };
        assert!(matches!(server(400, "bad"), Refusal::Build(_)));
        assert!(matches!(server(500, "dockerfile parse error line 1: unknown instruction: X"), Refusal::Build(_)));
        assert!(matches!(server(500, "something else"), Refusal::Platform(_)));
    }
}

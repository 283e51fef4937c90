//! `BuildKit`'s trace as lines for a person: each step once, what it prints below it.

use std::collections::HashMap;

use bollard::moby::buildkit::v1::StatusResponse;

use crate::progress::Lines;

/// What a step prints is set off from its name.
const INDENT: &str = "       ";

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    steps: HashMap<String, Step>,
    /// The step whose lines are being shown.
    current: String,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    shown: bool,
    lines: Lines,
}

impl Step {
    /// Whether it is of the Dockerfile; others move files about or export the image.
    fn is_the_apps(&self) -> bool {
        self.name.starts_with('[') && !self.name.starts_with("[internal]")
    }
}

impl Trace {
    /// The lines that a report adds.
    pub(super) fn render(&mut self, report: StatusResponse) -> Vec<String> {
        let mut out = Vec::new();
        for vertex in report.vertexes {
            let step = self.steps.entry(vertex.digest.clone()).or_default();
            step.name = vertex.name;
            if !step.shown && (vertex.started.is_some() || vertex.cached) && step.is_the_apps() {
                step.shown = true;
                let cached = if vertex.cached { "  (cached)" } else { "" };
                out.push(format!("{}{cached}", step.name));
                self.current.clone_from(&vertex.digest);
            }
        }
        for log in report.logs {
            let step = self.steps.entry(log.vertex.clone()).or_default();
            let lines = step.lines.push(&log.msg);
            if lines.is_empty() || !step.is_the_apps() {
                continue;
            }
            // Steps run at once: say whose lines these are.
            if self.current != log.vertex {
                out.push(format!("{}  (goes on)", step.name));
                self.current = log.vertex;
            }
            out.extend(lines.into_iter().map(|line| format!("{INDENT}{line}")));
        }
        out
    }

    /// Lines without an end, when all is over.
    pub(super) fn finish(&mut self) -> Vec<String> {
        self.steps.values_mut().filter_map(|step| step.lines.finish()).map(|line| format!("{INDENT}{line}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use bollard::moby::buildkit::v1::{Vertex, VertexLog};

    use super::*;

    fn vertex(digest: &str, name: &str, started: bool, cached: bool) -> Vertex {
        let started = started.then(Default::default);
        Vertex { digest: digest.into(), name: name.into(), started, cached, ..Vertex::default() }
    }

    fn log(vertex: &str, text: &str) -> VertexLog {
        VertexLog { vertex: vertex.into(), msg: text.into(), ..VertexLog::default() }
    }

    #[test]
    fn each_step_is_named_once_and_owns_its_lines() {
        let mut trace = Trace::default();
        let report = |vertexes: Vec<Vertex>, logs: Vec<VertexLog>| StatusResponse {
            vertexes,
            logs,
            ..StatusResponse::default()
        };
        let lines = trace.render(report(
            vec![
                vertex("i", "[internal] load build definition", true, false),
                vertex("j", "copy /context /", true, false),
                vertex("a", "[1/3] COPY . /", true, true),
                vertex("b", "[2/3] RUN make", false, false),
            ],
            vec![log("i", "hidden\n")],
        ));
        assert_eq!(lines, ["[1/3] COPY . /  (cached)"]);
        let lines = trace.render(report(vec![vertex("b", "[2/3] RUN make", true, false)], vec![log("b", "one\ntw")]));
        assert_eq!(lines, ["[2/3] RUN make", "       one"]);
        let lines =
            trace.render(report(vec![vertex("c", "[3/3] RUN x", true, false)], vec![log("c", "x\n"), log("b", "o\n")]));
        assert_eq!(lines, ["[3/3] RUN x", "       x", "[2/3] RUN make  (goes on)", "       two"]);
        trace.render(report(vec![], vec![log("b", "end")]));
        assert_eq!(trace.finish(), ["       end"]);
    }
}

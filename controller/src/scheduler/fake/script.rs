//! What a fake process does, as told by its environment or the name of its image.

use std::time::Duration;

use crate::{
    domain::healthcheck::Checks,
    scheduler::{Command, STABILITY_WINDOW, Template},
};

/// The variable that holds the words, parted by commas.
pub const VARIABLE: &str = "PAAS_FAKE";

/// The doings of a fake process. Words, of the variable or of the last part of the image's name:
///
/// | Word | Meaning |
/// |---|---|
/// | `slow`, `slow=<ms>` | ready only after so long, half a second |
/// | `never-ready` | never listens, fails its readiness check |
/// | `sick-after=<ms>` | fails its liveness check for good so long after its start |
/// | `exit`, `exit=<code>` | ends right after its start, with code 1 |
/// | `exit-after=<ms>` | ends after so long |
/// | `stubborn` | ignores SIGTERM |
/// | `hang` | a one-off that does not end |
/// | `cat` | a one-off that prints what is sent to it, until that ends |
/// | `size` | a one-off that prints the size of its terminal whenever that changes |
/// | `catch` | a one-off that prints `caught` and ends with code 7 when it is interrupted |
/// | `memory=<bytes>` | takes so much memory, and is killed right after its start when that is more than its limit |
/// | `load=<percent>` | all processes of its type together use so much of a processor |
/// | `print=<text>` | prints a line at its start; may be given more than once |
/// | `refused` | cannot be started |
/// | `missing` | its image cannot be found |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) slow: Duration,
    pub(super) never_ready: bool,
    pub(super) exit: Option<(i32, Duration)>,
    pub(super) sick_after: Option<Duration>,
    pub(super) stubborn: bool,
    pub(super) hang: bool,
    pub(super) answers: Option<Answers>,
    pub(super) memory: u64,
    pub(super) load: u64,
    pub(super) memory_limit: Option<u64>,
    pub(super) print: Vec<String>,
    pub(super) trouble: Option<Trouble>,
}

/// What a one-off answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// What is sent to it.
    Input,
    /// Another size of its terminal.
    Size,
    /// An interrupt.
    Interrupt,
}

/// Why a process does not even start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The process cannot be made.
    Refused,
    /// There is no such image.
    Missing,
}

impl Script {
    /// The script of a template.
    pub(super) fn of(template: &Template) -> Self {
        let mut script = Self::of_image(&template.image);
        if let Some(words) = template.environment.get(VARIABLE) {
            for word in words.expose().split(',') {
                script.read(word);
            }
        }
        script.memory_limit = template.limits.memory.limit;
        if script.is_starved() {
            script.exit = Some((128 + 9, Duration::ZERO));
        }
        if script.print.is_empty() {
            script.print.push(match &template.command {
                Command::Image => "started".to_owned(),
                Command::Shell { line, .. } => line.clone(),
                Command::Exec(arguments) => arguments.join(" "),
            });
        }
        script
    }

    /// The script that an image's name tells.
    pub(super) fn of_image(image: &str) -> Self {
        let mut script = Self::default();
        let name = image.rsplit('/').next().unwrap_or(image);
        script.read(name.split([':', '@']).next().unwrap_or(name));
        script
    }

    fn read(&mut self, word: &str) {
        let (word, value) = word.split_once('=').map_or((word, None), |(word, value)| (word, Some(value)));
        let milliseconds = |default| Duration::from_millis(value.and_then(|text| text.parse().ok()).unwrap_or(default));
        match word.trim() {
            "slow" => self.slow = milliseconds(500),
            "never-ready" => self.never_ready = true,
            "exit" => {
                let after = self.exit.map_or(Duration::ZERO, |(_, after)| after);
                self.exit = Some((value.and_then(|text| text.parse().ok()).unwrap_or(1), after));
            }
            "exit-after" => self.exit = Some((self.exit.map_or(1, |(code, _)| code), milliseconds(0))),
            "sick-after" => self.sick_after = Some(milliseconds(0)),
            "stubborn" => self.stubborn = true,
            "hang" => self.hang = true,
            "cat" => (self.hang, self.answers) = (true, Some(Answers::Input)),
            "size" => (self.hang, self.answers) = (true, Some(Answers::Size)),
            "catch" => (self.hang, self.answers) = (true, Some(Answers::Interrupt)),
            "load" => self.load = value.and_then(|text| text.parse().ok()).unwrap_or(0),
            "memory" => self.memory = value.and_then(|text| text.parse().ok()).unwrap_or(0),
            "print" => self.print.push(value.unwrap_or_default().to_owned()),
            "refused" => self.trouble = Some(Trouble::Refused),
            "missing" => self.trouble = Some(Trouble::Missing),
            _ => {}
        }
    }

    /// Whether it is killed for want of memory.
    pub(super) fn is_starved(&self) -> bool {
        self.memory_limit.is_some_and(|limit| self.memory > limit)
    }

    /// How long after its start a process is started again because it fails its liveness check.
    pub(super) fn restarted_after(&self, checks: &Checks) -> Option<Duration> {
        let check = checks.liveness.as_ref()?;
        let trials = check.period.saturating_mul(check.failures.saturating_sub(1));
        Some(self.sick_after?.max(check.initial_delay).saturating_add(trials))
    }

    /// How long after its start a process is ready.
    pub(super) fn ready_after(&self, has_port: bool, checks: &Checks) -> Option<Duration> {
        if let Some(check) = &checks.readiness {
            return (!self.never_ready).then(|| self.slow.max(check.initial_delay));
        }
        match has_port {
            true if self.never_ready => None,
            true => Some(self.slow),
            false => Some(STABILITY_WINDOW),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{healthcheck::Checks, lifecycle::Hooks, limits::Limits};

    fn template(image: &str, words: &str) -> Template {
        Template {
            image: image.to_owned(),
            command: Command::Image,
            environment: [(VARIABLE.to_owned(), words.into())].into(),
            port: None,
            grace: Duration::ZERO,
            tags: crate::domain::tags::Tags::new(),
            limits: Limits::default(),
            hooks: Hooks::default(),
            checks: Checks::default(),
            credentials: None,
        }
    }

    #[test]
    fn words_come_from_the_variable_and_from_the_image() {
        let script = Script::of(&template("fake/stubborn:v1@sha256:00", "exit=3,exit-after=20,print=a,print=b"));
        assert!(script.stubborn);
        assert_eq!(script.exit, Some((3, Duration::from_millis(20))));
        assert_eq!(script.print, ["a", "b"]);
        assert_eq!(Script::of_image("127.0.0.1:5000/missing").trouble, Some(Trouble::Missing));
        assert_eq!(Script::of(&template("hello", "")).print, ["started"]);
    }
}

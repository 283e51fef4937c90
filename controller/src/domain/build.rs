//! A build: an image and how its processes are started (contract §1.5, §3.6).

use chrono::{DateTime, Utc};
use paas_api::{ProcessType, Username, builds::Procfile};
use uuid::Uuid;

use crate::scheduler::Command;

/// What a build came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildKind {
    /// A Dockerfile in a push.
    Dockerfile,
    /// A slug of a push.
    Buildpack,
    /// An image that somebody named.
    Image,
}

/// A build of the ledger.
#[derive(Debug, Clone)]
pub struct Build {
    /// Its id.
    pub id: Uuid,
    /// Name of who made it.
    pub owner: Username,
    /// The image as it was given.
    pub image: String,
    /// The image by digest: what runs.
    pub reference: String,
    /// The lowest port that the image exposes.
    pub exposed_port: Option<u16>,
    /// The shell that the image holds.
    pub shell: Option<String>,
    /// Commit, or empty.
    pub sha: String,
    /// Process types, or empty.
    pub procfile: Procfile,
    /// Non-empty for a Dockerfile build.
    pub dockerfile: String,
    /// Creation.
    pub created: DateTime<Utc>,
}

impl Build {
    /// What it came from.
    pub fn kind(&self) -> BuildKind {
        kind_of(&self.dockerfile, &self.sha)
    }

    /// What runs as a process of this type (contract §3.6). An image without a shell gets the line split into words as a
    /// shell would split them.
    pub fn command(&self, process_type: &ProcessType) -> Command {
        let Some(line) = self.procfile.get(process_type) else { return Command::Image };
        match &self.shell {
            Some(shell) => Command::Shell { shell: shell.clone(), line: line.clone() },
            None => Command::Exec(split(line)),
        }
    }

    /// A command line as program and arguments, run by the image's shell if it has one.
    pub fn words(&self, line: &str) -> Vec<String> {
        match &self.shell {
            Some(shell) => vec![shell.clone(), "-c".to_owned(), line.to_owned()],
            None => split(line),
        }
    }
}

fn split(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| vec![line.to_owned()])
}

/// What a build with these fields came from.
pub fn kind_of(dockerfile: &str, sha: &str) -> BuildKind {
    if !dockerfile.is_empty() {
        BuildKind::Dockerfile
    } else if sha.is_empty() {
        BuildKind::Image
    } else {
        BuildKind::Buildpack
    }
}

/// Whether an image's name may be used by an app: the platform's own repositories are named after the app whose they are,
/// and a bare id would name anybody's image.
pub fn may_use_image(image: &str, app: Uuid) -> bool {
    let is_hexadecimal = |text: &str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if image.starts_with("sha256:") || is_hexadecimal(image) {
        return false;
    }
    let repository = image.split('@').next().unwrap_or_default();
    repository
        .split('/')
        .filter_map(|part| part.split(':').next().unwrap_or_default().parse::<Uuid>().ok())
        .all(|owner| owner == app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_uses_its_own_images_and_the_worlds() {
        let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
        for good in ["debian:bookworm", "example.test:5000/web/app:1.2", &format!("127.0.0.1:5000/{own}@sha256:00")] {
            assert!(may_use_image(good, own), "{good}");
        }
        for bad in [
            &format!("127.0.0.1:5000/{other}@sha256:00"),
            &format!("127.0.0.1:5000/{other}:git-1a2b3c4d"),
            &format!("{other}"),
            "sha256:0123456789abcdef",
            "0123456789ab",
        ] {
            assert!(!may_use_image(bad, own), "{bad}");
        }
    }
}

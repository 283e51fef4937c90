//! Which kind of build a commit's root asks for.

use crate::{git::CommitId, refusal::Refusal, source::Root};

/// A kind of build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text of the Dockerfile.
    Dockerfile(Vec<u8>),
}

/// The kind of build, or why there is none.
pub(crate) fn detect(root: &Root, commit: &CommitId) -> Result<Kind, Refusal> {
    if let Some(dockerfile) = &root.dockerfile {
        return Ok(Kind::Dockerfile(dockerfile.clone()));
    }
    let sha = commit.short();
    let what = if root.is_empty {
        format!("the commit {sha} has no files")
    } else if root.procfile.is_some() {
        format!(
            "no Dockerfile at the root of {sha}; the Procfile says how to run the app, a Dockerfile must say how to build it"
        )
    } else {
        format!("no Dockerfile at the root of {sha}")
    };
    Err(Refusal::Build(format!("{what}. This platform builds Dockerfiles: add one, commit it, and push again")))
}

//! Large files, streamed by `git cat-file`: libgit2 can only load a packed object whole.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use git2::Oid;

use crate::git::Git;

/// A running `git cat-file --batch`, ended when dropped.
pub(super) struct LargeFiles {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl LargeFiles {
    pub(super) fn start(git: &Git, repository: &Path, quarantine: &Path) -> io::Result<Self> {
        let mut command = git.command("cat-file");
        command.arg("--batch").env("GIT_DIR", repository);
        if !quarantine.as_os_str().is_empty() {
            command.env("GIT_OBJECT_DIRECTORY", quarantine);
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", repository.join("objects"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let pipe = || io::Error::other("git has no pipe");
        let stdin = child.stdin.take().ok_or_else(pipe)?;
        let stdout = BufReader::with_capacity(64 << 10, child.stdout.take().ok_or_else(pipe)?);
        Ok(Self { child, stdin, stdout })
    }

    /// Gives the file's bytes to `read`, which must take all of them.
    pub(super) fn read(
        &mut self,
        oid: Oid,
        size: u64,
        read: impl FnOnce(&mut dyn Read) -> io::Result<()>,
    ) -> io::Result<()> {
        writeln!(self.stdin, "{oid}")?;
        self.stdin.flush()?;
        let mut head = String::new();
        (&mut self.stdout).take(256).read_line(&mut head)?;
        if head.trim_end() != format!("{oid} blob {size}") {
            return Err(io::Error::other("git cat-file answered something else"));
        }
        read(&mut (&mut self.stdout).take(size))?;
        let mut end = [0];
        self.stdout.read_exact(&mut end)
    }
}

impl Drop for LargeFiles {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

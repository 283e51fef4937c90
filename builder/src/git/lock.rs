//! One push at a time per app: a lock of the kernel's on a file beside the repository.
//!
//! The kernel frees it when the process that holds it ends, however it ends. The file itself stays as long as the
//! app does: removing it would let two processes lock two files of one name.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The lock of one repository, held until dropped.
#[derive(Debug)]
pub(crate) struct PushLock {
    _file: File,
}

impl PushLock {
    /// `None` while another push holds it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_never_hold_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.lock");
        let first = PushLock::take(&path).unwrap();
        assert!(first.is_some());
        assert!(PushLock::take(&path).unwrap().is_none());
        drop(first);
        assert!(PushLock::take(&path).unwrap().is_some());
    }
}

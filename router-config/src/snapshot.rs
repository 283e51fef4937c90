//! The last good table on disk: visitors are served from it before and without the publisher.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::model::Table;

/// A file that holds one table, whole or not at all.
#[derive(Debug, Clone)]
pub struct Snapshot {
    path: PathBuf,
}

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system said no.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it answered.
        #[source]
        source: io::Error,
    },
    /// The file is no table.
    #[error("{path} holds no table")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stops to be one.
        #[source]
        source: serde_json::Error,
    },
}

impl Snapshot {
    /// The snapshot in this data folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join("table.json") }
    }

    /// The table, or `None` when none was kept yet.
    pub fn load(&self) -> Result<Option<Table>, SnapshotError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.file_error("open", error)),
        };
        serde_json::from_reader(BufReader::new(file))
            .map(Some)
            .map_err(|source| SnapshotError::Damaged { path: self.path.clone(), source })
    }

    /// Keeps this table in place of the last one. A crash at any moment leaves one of the two.
    pub fn save(&self, table: &Table) -> Result<(), SnapshotError> {
        let fresh = self.path.with_extension("json.new");
        self.write(&fresh, table).map_err(|error| self.file_error("write", error))
    }

    fn write(&self, fresh: &Path, table: &Table) -> io::Result<()> {
        // A leftover of a crash may have other permissions: start from no file.
        match fs::remove_file(fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
        let mut writer = BufWriter::new(file);
        serde_json::to_writer(&mut writer, table)?;
        writer.flush()?;
        writer.get_ref().sync_all()?;
        fs::rename(fresh, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn file_error(&self, verb: &'static str, source: io::Error) -> SnapshotError {
        SnapshotError::File { verb, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::Route;

    fn table(version: u64) -> Table {
        Table {
            version,
            routes: vec![Route { hosts: vec!["a.b".parse().unwrap()], ..Route::default() }.into()],
            ..Table::default()
        }
    }

    #[test]
    fn what_was_saved_last_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::in_folder(folder.path());
        assert!(snapshot.load().unwrap().is_none());
        snapshot.save(&table(1)).unwrap();
        snapshot.save(&table(2)).unwrap();
        assert_eq!(snapshot.load().unwrap(), Some(table(2)));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["table.json"]);
    }

    #[test]
    fn only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::in_folder(folder.path());
        fs::write(folder.path().join("table.json.new"), "leftover").unwrap();
        snapshot.save(&table(1)).unwrap();
        let mode = fs::metadata(folder.path().join("table.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_told_and_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::in_folder(folder.path());
        for text in ["", "{\"version\":", "{\"version\":1,\"routes\":[{\"hosts\":[\"A\"]}]}"] {
            fs::write(folder.path().join("table.json"), text).unwrap();
            assert!(matches!(snapshot.load(), Err(SnapshotError::Damaged { .. })));
        }
        snapshot.save(&table(3)).unwrap();
        assert_eq!(snapshot.load().unwrap(), Some(table(3)));
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::in_folder(&folder.path().join("none"));
        assert!(matches!(snapshot.save(&table(1)), Err(SnapshotError::File { .. })));
    }
}

//! Files of an app's lines, `<number>.log`: the highest number is written to, and the lowest goes first.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::line;
use crate::scheduler::LogLine;

/// Into so many files an app's share is parted.
const SEGMENTS: u64 = 8;
/// A longer line was not written by us.
const LONGEST: u64 = 64 << 10;

/// Makes a folder that only we may look into: apps write secrets into their logs.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The segments in a folder, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(numbers(folder)?.into_iter().map(|number| path(folder, number)).collect())
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.log"))
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Adds whole lines to the newest segment, or to a new one; the oldest go when there are too many.
pub(super) fn append(folder: &Path, limit: u64, lines: &[u8]) -> io::Result<()> {
    make_folder(folder)?;
    let room = (limit / SEGMENTS).max(1);
    let mut numbers = numbers(folder)?;
    let mut newest = numbers.last().copied().unwrap_or(0);
    let size = fs::metadata(path(folder, newest)).map_or(0, |metadata| metadata.len());
    let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    if numbers.is_empty() || (size > 0 && size.saturating_add(more) > room) {
        newest += 1;
        numbers.push(newest);
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path(folder, newest))?;
    if is_torn(&mut file)? {
        file.write_all(b"\n")?;
    }
    file.write_all(lines)?;
    let excess = numbers.len().saturating_sub(usize::try_from(SEGMENTS).unwrap_or(usize::MAX));
    for number in numbers.into_iter().take(excess) {
        fs::remove_file(path(folder, number))?;
    }
    Ok(())
}

/// Whether the last line has no end: whoever wrote it was killed.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Shows every line of a segment, oldest first. What is no line is passed over, and a segment that went meanwhile has none.
pub(super) fn read(path: &Path, mut show: impl FnMut(LogLine)) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        if let Some(line) = bytes.strip_suffix(b"\n").and_then(line::read) {
            show(line);
        }
    }
}

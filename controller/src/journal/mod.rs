//! What the processes of apps wrote, on disk, so that it outlives them: across releases, restarts and containers.
//!
//! Each app has a folder of its own, under its id, with the newest lines in a few [segments](segment); whatever is older
//! goes. It is no truth of the platform's: lost, it is lost, and nothing else with it.

mod line;
mod segment;

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use paas_api::ReleaseVersion;
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};
use uuid::Uuid;

use crate::scheduler::{Ends, LogLine};

/// Lines that a slow follower may lag behind.
const LINES_KEPT: usize = 512;
/// Most bytes of lines that are read at once, whatever number of them was asked for.
const BYTES_READ: usize = 8 << 20;

/// The lines of every app; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limit: u64,
    news: broadcast::Sender<Arc<(Uuid, LogLine)>>,
    collector: Arc<Mutex<()>>,
}

/// Which lines are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A process type, or the name of a process with or without its app in front.
    pub process: Option<String>,
    /// A release.
    pub release: Option<ReleaseVersion>,
}

impl Filter {
    /// Whether every line is meant.
    pub fn is_empty(&self) -> bool {
        self.process.is_none() && self.release.is_none()
    }

    /// Whether a line is meant.
    pub fn covers(&self, line: &LogLine) -> bool {
        let name = line.instance.as_str();
        self.release.is_none_or(|wanted| wanted == line.release)
            && self.process.as_deref().is_none_or(|wanted| {
                wanted == line.process_type.as_str()
                    || wanted == name
                    || name
                        .strip_suffix(wanted)
                        .is_some_and(|app| app.ends_with('-') && wanted.matches('-').count() >= 2)
            })
    }
}

/// What was read of an app's lines.
#[derive(Debug, Default)]
pub struct Past {
    /// The newest lines, oldest first.
    pub lines: VecDeque<LogLine>,
    /// Where the instances had got to that wrote lately, whether their lines were asked for or not.
    pub ends: Ends,
}

impl Journal {
    /// The journal in a data folder, which keeps at most `limit` bytes of an app.
    pub fn open(data: &Path, limit: u64) -> io::Result<Self> {
        let root = data.join("logs");
        segment::make_folder(&root)?;
        let inner = Inner { root, limit, news: broadcast::Sender::new(LINES_KEPT), collector: Arc::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// Waits until nobody else collects lines for this journal, and keeps others from it while it lives.
    pub async fn claim(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0.collector).lock_owned().await
    }

    fn folder(&self, app: Uuid) -> PathBuf {
        self.0.root.join(app.to_string())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let journal = self.clone();
        tokio::task::spawn_blocking(move || work(&journal)).await.map_err(io::Error::other)?
    }

    /// Keeps lines, and tells them to those who follow. Followers hear of them whether they could be kept or not.
    pub async fn append(&self, lines: Vec<(Uuid, LogLine)>) -> io::Result<()> {
        let lines: Vec<Arc<(Uuid, LogLine)>> = lines.into_iter().map(Arc::new).collect();
        let kept = lines.clone();
        let outcome = self.on_disk(move |journal| journal.write(&kept)).await;
        for line in lines {
            // Without a follower there is nobody to tell.
            let _ = self.0.news.send(line);
        }
        outcome
    }

    fn write(&self, lines: &[Arc<(Uuid, LogLine)>]) -> io::Result<()> {
        let mut texts: HashMap<Uuid, Vec<u8>> = HashMap::new();
        for line in lines {
            line::write(&line.1, texts.entry(line.0).or_default());
        }
        for (app, text) in texts {
            segment::append(&self.folder(app), self.0.limit, &text)?;
        }
        Ok(())
    }

    /// Hears the lines of every app from now on.
    pub fn hear(&self) -> broadcast::Receiver<Arc<(Uuid, LogLine)>> {
        self.0.news.subscribe()
    }

    /// The newest lines of an app, at most so many.
    pub async fn last(&self, app: Uuid, filter: Filter, count: usize) -> io::Result<Past> {
        self.on_disk(move |journal| journal.read_last(app, &filter, count)).await
    }

    fn read_last(&self, app: Uuid, filter: &Filter, count: usize) -> io::Result<Past> {
        let mut past = Past::default();
        let mut bytes = 0;
        // From the newest segment to the oldest, each from its beginning.
        for path in segment::list(&self.folder(app))?.into_iter().rev() {
            let mut found = VecDeque::new();
            let mut found_bytes = 0;
            segment::read(&path, |line| {
                let end = past.ends.entry(line.instance.clone()).or_insert(line.moment);
                *end = line.moment.max(*end);
                if !filter.covers(&line) {
                    return;
                }
                found_bytes += line.text.len();
                found.push_back(line);
                while found.len() > count - past.lines.len() || found_bytes + bytes > BYTES_READ {
                    let Some(LogLine { text, .. }) = found.pop_front() else { return };
                    found_bytes -= text.len();
                }
            })?;
            bytes += found_bytes;
            found.append(&mut past.lines);
            past.lines = found;
            if past.lines.len() >= count || bytes >= BYTES_READ {
                break;
            }
        }
        past.lines.make_contiguous().sort_by_key(|line| line.moment);
        Ok(past)
    }

    /// Where the instances of these apps have got to.
    pub async fn ends(&self, apps: Vec<Uuid>) -> io::Result<Ends> {
        self.on_disk(move |journal| {
            let mut ends = Ends::new();
            for app in apps {
                for path in segment::list(&journal.folder(app))? {
                    segment::read(&path, |line| {
                        let end = ends.entry(line.instance).or_insert(line.moment);
                        *end = line.moment.max(*end);
                    })?;
                }
            }
            Ok(ends)
        })
        .await
    }

    /// Every app of which there is anything.
    pub async fn apps(&self) -> io::Result<Vec<Uuid>> {
        self.on_disk(|journal| {
            let mut apps = Vec::new();
            for entry in fs::read_dir(&journal.0.root)? {
                apps.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok()));
            }
            Ok(apps)
        })
        .await
    }

    /// Forgets an app.
    pub async fn remove(&self, app: Uuid) -> io::Result<()> {
        self.on_disk(move |journal| match fs::remove_dir_all(journal.folder(app)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn line(second: i64, instance: &str, text: &str) -> LogLine {
        let (process_type, version) = if instance.contains("worker") { ("worker", 3) } else { ("web", 2) };
        LogLine {
            moment: DateTime::from_timestamp(second, 5).unwrap(),
            instance: instance.parse().unwrap(),
            process_type: process_type.parse().unwrap(),
            release: ReleaseVersion::new(version).unwrap(),
            text: text.to_owned(),
        }
    }

    const WEB: &str = "hello-web-v2-aaaaa";
    const WORKER: &str = "hello-worker-v3-bbbbb";

    async fn texts(journal: &Journal, app: Uuid, filter: Filter, count: usize) -> Vec<String> {
        journal.last(app, filter, count).await.unwrap().lines.into_iter().map(|line| line.text).collect()
    }

    #[tokio::test]
    async fn the_newest_lines_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), 1 << 20).unwrap();
        let (app, other) = (Uuid::new_v4(), Uuid::new_v4());
        let mut news = journal.hear();
        journal.append(vec![(app, line(1, WEB, "one")), (other, line(2, WEB, "not mine"))]).await.unwrap();
        journal.append(vec![(app, line(4, WEB, "four ")), (app, line(3, WORKER, "\u{1b}[1mthree"))]).await.unwrap();
        assert_eq!(news.recv().await.unwrap().1.text, "one");
        let all = texts(&journal, app, Filter::default(), 10).await;
        assert_eq!(all, ["one", "\u{1b}[1mthree", "four "]);
        assert_eq!(texts(&journal, app, Filter::default(), 1).await, ["\u{1b}[1mthree"], "the last that was kept");
        for (process, release, expected) in [
            (Some("web"), None, &["one", "four "][..]),
            (Some(WORKER), None, &["\u{1b}[1mthree"]),
            (Some("web-v2-aaaaa"), None, &["one", "four "]),
            (Some("aaaaa"), None, &[]),
            (None, Some(3), &["\u{1b}[1mthree"]),
            (Some("web"), Some(3), &[]),
        ] {
            let release = release.and_then(ReleaseVersion::new);
            let filter = Filter { process: process.map(str::to_owned), release };
            assert_eq!(texts(&journal, app, filter, 10).await, expected, "{process:?} {release:?}");
        }
        let ends = journal.ends(vec![app]).await.unwrap();
        assert_eq!(ends[&WEB.parse().unwrap()], line(4, WEB, "").moment);
        assert_eq!(journal.last(app, Filter::default(), 1).await.unwrap().ends, ends);
    }

    #[tokio::test]
    async fn an_apps_lines_stay_within_their_limit_and_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), 64 << 10).unwrap();
        let app = Uuid::new_v4();
        let long = "x".repeat(1000);
        for second in 0..300 {
            journal.append(vec![(app, line(second, WEB, &format!("{second} {long}")))]).await.unwrap();
        }
        let own = folder.path().join("logs").join(app.to_string());
        let size: u64 = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!((32 << 10..=64 << 10).contains(&size), "{size}");
        let kept = texts(&journal, app, Filter::default(), 1000).await;
        assert!(kept.len() > 30 && kept.last().unwrap().starts_with("299 "), "{}", kept.len());
        assert_eq!(texts(&journal, app, Filter::default(), 20).await.len(), 20);
        assert_eq!(journal.apps().await.unwrap(), [app]);
        journal.remove(app).await.unwrap();
        journal.remove(app).await.unwrap();
        assert_eq!(texts(&journal, app, Filter::default(), 20).await.len(), 0);
        assert!(journal.apps().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), 1 << 20).unwrap();
        let app = Uuid::new_v4();
        journal.append(vec![(app, line(1, WEB, "whole"))]).await.unwrap();
        let path = segment::list(&journal.folder(app)).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"2026-01-01T00:00:00.0");
        bytes.extend([0xff, 0xfe]);
        fs::write(&path, bytes).unwrap();
        journal.append(vec![(app, line(2, WEB, "after"))]).await.unwrap();
        assert_eq!(texts(&journal, app, Filter::default(), 10).await, ["whole", "after"]);
    }
}

//! Logs: what the platform did and what the processes said, merged by time (contract §1.4).

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Query, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::Stream;
use http::{StatusCode, header::CONTENT_TYPE};
use paas_api::ReleaseVersion;
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    Api,
    access::{AppAccess, Level, TokenHash, revoked},
    describe::{nothing, text},
    error::{Answer, ApiError},
    router::Routes,
};
use crate::{
    db::events::{self, Event},
    deploy::signals::{Hearing, Signal},
    domain::app::App,
    journal::Filter,
    scheduler::{Ends, LogLine},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/logs", logs)
        .says("What the platform did and what the processes said, oldest first; nothing when nobody said anything")
        .asks(&["log_lines", "follow", "ps", "release"])
        .gives(200, text)
        .gives(204, nothing)
        .refuses(&[400])
        .patient()
}

/// Lines when the client does not say.
const USUAL: usize = 100;
/// Most lines of the past.
const MOST: usize = 10_000;
/// How often a follower looks for events, and at most how long a look waits.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Asked {
    log_lines: Option<String>,
    follow: Option<String>,
    /// A process type or one process; beyond the contract.
    ps: Option<String>,
    /// A release, `v4`; beyond the contract.
    release: Option<String>,
}

impl Asked {
    fn filter(&self) -> Answer<Filter> {
        let release = self.release.as_deref().filter(|text| !text.is_empty());
        let release = release.map(|text| {
            let number = text.strip_prefix('v').unwrap_or(text).parse().ok().and_then(ReleaseVersion::new);
            let shown: String = text.chars().take(100).collect();
            number.ok_or_else(|| ApiError::Refused(format!("'{shown}' is no release; one is called v4, say")))
        });
        Ok(Filter { process: self.ps.clone().filter(|text| !text.is_empty()), release: release.transpose()? })
    }
}

async fn logs(
    access: AppAccess,
    State(api): State<Api>,
    query: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let Query(asked) =
        query.map_err(|_| ApiError::Refused("log_lines is a number, follow is true or false".to_owned()))?;
    let filter = asked.filter()?;
    let lines =
        asked.log_lines.and_then(|lines| lines.parse().ok()).filter(|lines| *lines > 0).unwrap_or(USUAL).min(MOST);
    let follow = asked.follow.is_some_and(|follow| follow == "true" || follow == "1");
    let journal = &api.platform().journal;
    // Whoever listens before looking misses nothing in between.
    let (output, hearing) = (journal.hear(), api.platform().signals.hear());
    let events =
        events::list(&mut *api.pool().acquire().await?, access.app.id, 0, i64::try_from(lines).unwrap_or(i64::MAX))
            .await?;
    let seen = events.last().map_or(0, |event| event.id);
    let written = journal.last(access.app.id, filter.clone(), lines).await.map_err(|error| {
        ApiError::Internal(anyhow::Error::new(error).context(format!("the log of {} cannot be read", access.app.name)))
    })?;
    // What the platform does is no process's doing.
    let mut past: Vec<Line> = events.iter().filter(|_| filter.is_empty()).flat_map(of_event).collect();
    past.extend(written.lines.into_iter().map(|line| of_output(&access.app, &line)));
    past.sort_by_key(|line| line.moment);
    let past: String = past.split_off(past.len().saturating_sub(lines)).into_iter().map(|line| line.text).collect();

    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    if follow {
        let ends = written.ends;
        let follower = Follower { api, app: access.app, token: access.token, filter, hearing, seen, output, ends };
        return Ok((kind, Body::from_stream(follower.stream(past))).into_response());
    }
    Ok(if past.is_empty() { StatusCode::NO_CONTENT.into_response() } else { (kind, past).into_response() })
}

/// One line, ready to be sent.
struct Line {
    moment: DateTime<Utc>,
    text: String,
}

fn moment(moment: DateTime<Utc>) -> impl std::fmt::Display {
    moment.format("%Y-%m-%dT%H:%M:%S+00:00")
}

/// An event's words, each line of them a line of the log.
fn of_event(event: &Event) -> Vec<Line> {
    let at = event.created;
    let line =
        |words: &str| Line { moment: at, text: format!("{} deis[controller]: {} {words}\n", moment(at), event.level) };
    event.message.lines().map(line).collect()
}

fn of_output(app: &App, line: &LogLine) -> Line {
    let LogLine { process_type, release, instance, text, .. } = line;
    let from = format!("{}[{process_type}.{release}.{}]", app.name, instance.suffix());
    Line { moment: line.moment, text: format!("{} {from}: {text}\n", moment(line.moment)) }
}

/// Somebody who follows the log.
struct Follower {
    api: Api,
    app: App,
    token: TokenHash,
    filter: Filter,
    hearing: Hearing,
    seen: i64,
    output: broadcast::Receiver<std::sync::Arc<(uuid::Uuid, LogLine)>>,
    /// What was read of the past already.
    ends: Ends,
}

impl Follower {
    /// The past, then what comes, until the client goes away, may no longer follow, or the controller stops.
    fn stream(mut self, past: String) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
        async_stream::stream! {
            yield Ok(Bytes::from(past));
            let stopping = self.api.stopping().clone();
            let mut revoked = Box::pin(revoked(self.api.clone(), self.token, self.app.clone()));
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = &mut revoked => return,
                    line = self.output.recv() => match line {
                        Ok(line) if line.0 == self.app.id && self.is_wanted(&line.1) => {
                            yield Ok(of_output(&self.app, &line.1).text.into());
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(count)) => yield Ok(left_out(count)),
                        Err(RecvError::Closed) => return,
                    },
                    () = hear(&mut self.hearing, &self.app) => {
                        for line in self.news().await {
                            yield Ok(line.text.into());
                        }
                    }
                }
            }
        }
    }

    fn is_wanted(&self, line: &LogLine) -> bool {
        self.filter.covers(line) && self.ends.get(&line.instance).is_none_or(|end| line.moment > *end)
    }

    /// Events since the last look.
    async fn news(&mut self) -> Vec<Line> {
        let Ok(mut connection) = self.api.pool().acquire().await else { return Vec::new() };
        let Ok(events) = events::list(&mut connection, self.app.id, self.seen, 100).await else { return Vec::new() };
        self.seen = events.last().map_or(self.seen, |event| event.id);
        events.iter().filter(|_| self.filter.is_empty()).flat_map(of_event).collect()
    }
}

/// Says that a follower is too slow.
fn left_out(count: u64) -> Bytes {
    let now = moment(Utc::now());
    format!("{now} deis[controller]: WARN up to {count} lines are left out here: they are read too slowly\n").into()
}

async fn hear(hearing: &mut Hearing, app: &App) {
    hearing.wait_for(LOOK, |signal| signal == Signal::Progress(app.id) || signal == Signal::App(app.id)).await;
}

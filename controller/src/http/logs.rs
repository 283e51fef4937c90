//! Logs: what the platform did and what the processes said, merged by time (contract §1.4).

use std::{collections::VecDeque, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use tokio::time::{Instant, timeout};

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
    scheduler::{LogLine, LogQuery},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/logs", logs)
        .says("What the platform did and what the processes said, oldest first; nothing when nobody said anything")
        .asks(&["log_lines", "follow"])
        .gives(200, text)
        .gives(204, nothing)
        .refuses(&[400])
        .patient()
}

/// Lines when the client does not say.
const USUAL: usize = 100;
/// Most lines of the past.
const MOST: usize = 1000;
/// How long a follower's look at the past waits for the next line of it.
const PAST: Duration = Duration::from_millis(200);
/// How long the past may take in all.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How often a follower looks for events, and at most how long a look waits.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Asked {
    log_lines: Option<String>,
    follow: Option<String>,
}

async fn logs(
    access: AppAccess,
    State(api): State<Api>,
    query: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let Query(asked) =
        query.map_err(|_| ApiError::Refused("log_lines is a number, follow is true or false".to_owned()))?;
    let lines =
        asked.log_lines.and_then(|lines| lines.parse().ok()).filter(|lines| *lines > 0).unwrap_or(USUAL).min(MOST);
    let follow = asked.follow.is_some_and(|follow| follow == "true" || follow == "1");
    let query = LogQuery { instance: None, lines, follow };
    let mut output = api.platform().scheduler.logs(access.app.id, query).await?;
    // Whoever listens before looking misses nothing in between.
    let hearing = api.platform().signals.hear();
    let events =
        events::list(&mut *api.pool().acquire().await?, access.app.id, 0, i64::try_from(lines).unwrap_or(i64::MAX))
            .await?;
    let seen = events.last().map_or(0, |event| event.id);
    let mut past: Vec<Line> = events.iter().flat_map(of_event).collect();
    past.extend(read_past(&mut output, lines, follow).await.into_iter().map(|line| of_output(&access.app, line)));
    past.sort_by_key(|line| line.moment);
    let past: String = past.split_off(past.len().saturating_sub(lines)).into_iter().map(|line| line.text).collect();

    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    if follow {
        let follower = Follower { api, app: access.app, token: access.token, hearing, seen };
        return Ok((kind, Body::from_stream(follower.stream(past, output))).into_response());
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

fn of_output(app: &App, line: LogLine) -> Line {
    let LogLine { process_type, release, instance, text, .. } = line;
    let from = format!("{}[{process_type}.{release}.{}]", app.name, instance.suffix());
    Line { moment: line.moment, text: format!("{} {from}: {text}\n", moment(line.moment)) }
}

/// The past of a stream of output: all of it, or with a follower what comes without a pause.
async fn read_past(output: &mut BoxStream<'static, LogLine>, lines: usize, follow: bool) -> VecDeque<LogLine> {
    let mut past = VecDeque::new();
    let deadline = Instant::now() + LONGEST_LOOK;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = if follow { PAST.min(left) } else { left };
        let Ok(Some(line)) = timeout(pause, output.next()).await else { return past };
        past.push_back(line);
        if past.len() > lines {
            past.pop_front();
        }
    }
}

/// Somebody who follows the log.
struct Follower {
    api: Api,
    app: App,
    token: TokenHash,
    hearing: Hearing,
    seen: i64,
}

impl Follower {
    /// The past, then what comes, until the client goes away, may no longer follow, or the controller stops.
    fn stream(
        mut self,
        past: String,
        mut output: BoxStream<'static, LogLine>,
    ) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
        async_stream::stream! {
            yield Ok(Bytes::from(past));
            let stopping = self.api.stopping().clone();
            let mut revoked = Box::pin(revoked(self.api.clone(), self.token, self.app.clone()));
            let mut ended = false;
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = &mut revoked => return,
                    line = output.next(), if !ended => match line {
                        Some(line) => yield Ok(of_output(&self.app, line).text.into()),
                        None => ended = true,
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

    /// Events since the last look.
    async fn news(&mut self) -> Vec<Line> {
        let Ok(mut connection) = self.api.pool().acquire().await else { return Vec::new() };
        let Ok(events) = events::list(&mut connection, self.app.id, self.seen, 100).await else { return Vec::new() };
        self.seen = events.last().map_or(self.seen, |event| event.id);
        events.iter().flat_map(of_event).collect()
    }
}

async fn hear(hearing: &mut Hearing, app: &App) {
    hearing.wait_for(LOOK, |signal| signal == Signal::Progress(app.id) || signal == Signal::App(app.id)).await;
}

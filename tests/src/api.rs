//! The controller's API, as a client of another make speaks it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

use crate::User;

/// A user's way to the API, through the router.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    router: String,
    host: String,
    token: Option<String>,
}

/// What the API said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl Answer {
    /// The body as JSON, when the status is the one that is wanted.
    pub fn json(&self, status: u16) -> anyhow::Result<Value> {
        ensure!(self.status == status, "wanted {status}: {self:?}");
        serde_json::from_str(&self.text).with_context(|| format!("{self:?}"))
    }

    /// Nothing more, when the status is the one that is wanted.
    pub fn is(&self, status: u16) -> anyhow::Result<()> {
        ensure!(self.status == status, "wanted {status}: {self:?}");
        Ok(())
    }
}

impl User<'_> {
    /// The API at `<host>.localhost`, with this user's token.
    pub fn api(&self, host: &str) -> anyhow::Result<Api> {
        Ok(Api { token: Some(self.token()?), ..self.anonymous_api(host)? })
    }

    /// The API at `<host>.localhost`, without any token.
    pub fn anonymous_api(&self, host: &str) -> anyhow::Result<Api> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build()?;
        let router = format!("http://{}", self.platform.addresses.http);
        Ok(Api { client, router, host: format!("{host}.localhost"), token: None })
    }
}

impl Api {
    /// The same, with another token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// Any request; a body is said to be JSON, whatever it is.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.router)).header("host", &self.host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("token {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, text: answer.text().await? })
    }
}

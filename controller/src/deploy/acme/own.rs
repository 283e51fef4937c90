//! The platform's own hosts: those of its API. They are no app's, and their certificates are shown to nobody but visitors.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Authority, is_public};
use crate::{
    db::{self, DbError, acme::Due},
    deploy::{OWN_HOSTS, Options},
};

/// Those that get certificates.
#[derive(Debug, Clone)]
pub(super) struct Own {
    hosts: Vec<String>,
}

impl Own {
    /// The API's hosts, as far as an authority could reach them and the operator wants it.
    pub(super) fn of(options: &Options, authority: &Authority) -> Self {
        let hosts = OWN_HOSTS.iter().map(|name| options.host(name));
        Self { hosts: hosts.filter(|host| authority.own_hosts && is_public(host)).collect() }
    }

    /// Those without a certificate, or with one past two thirds of its life, whose next attempt has come.
    pub(super) async fn list_due(&self, db: &mut PgConnection) -> Result<Vec<Due>, DbError> {
        db::acme::list_own_due(db, &self.hosts).await
    }

    /// The next moment at which one becomes due by itself.
    pub(super) async fn next_due(&self, db: &mut PgConnection) -> Result<Option<DateTime<Utc>>, DbError> {
        db::acme::next_own_due(db, &self.hosts).await
    }
}

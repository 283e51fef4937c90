//! An app and what it is made of.

use chrono::{DateTime, Utc};
use paas_api::{AppName, BranchName, Username};
use uuid::Uuid;

use super::formation::Formation;
use crate::scheduler::AppKey;

/// An app of the ledger.
#[derive(Debug, Clone)]
pub struct App {
    /// Stable id; its repository, network and labels are named after it.
    pub id: Uuid,
    /// Its name.
    pub name: AppName,
    /// Id of its owner.
    pub owner_id: Uuid,
    /// Name of its owner.
    pub owner: Username,
    /// Wanted number of processes of each type.
    pub formation: Formation,
    /// The branch that deploys; `main` and `master` when absent.
    pub deploy_branch: Option<BranchName>,
    /// Creation.
    pub created: DateTime<Utc>,
    /// Last change.
    pub updated: DateTime<Utc>,
}

impl App {
    /// What schedulers know of it.
    pub fn key(&self) -> AppKey {
        AppKey { id: self.id, name: self.name.clone() }
    }
}

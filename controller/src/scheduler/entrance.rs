//! How an app is found: by its own processes, by name, and by visitors.

use std::collections::BTreeSet;

use paas_api::{ProcessType, ReleaseVersion};
use paas_router::model::{Certificate, PathPattern, Route};

use super::AppKey;
use crate::domain::instance::InstanceName;

/// Who brings visitors to processes that run on a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Entry {
    /// Our routers, by the routing table.
    #[default]
    Router,
    /// The cluster's Ingress controller.
    Ingress,
    /// Whatever the operator makes of the apps' Services.
    None,
}

impl Entry {
    /// Whether visitors come by what the cluster is told, and not by the routing table.
    pub fn is_the_clusters(self) -> bool {
        self != Self::Router
    }
}

/// How one app is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrance {
    /// Which app.
    pub app: AppKey,
    /// Where visitors come in whom no path leads elsewhere.
    pub main: Door,
    /// Where else.
    pub others: Vec<Door>,
    /// Instances that are to get no new visitors, although they are of a release that a door leads to.
    pub leaving: BTreeSet<InstanceName>,
    /// How visitors come, without addresses of processes; none where nobody may.
    pub route: Option<Route>,
    /// What is shown to those who come by TLS.
    pub certificates: Vec<Certificate>,
}

/// The processes of a type that are found under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Their type, which is the name.
    pub process_type: ProcessType,
    /// The release that serves.
    pub release: ReleaseVersion,
    /// Paths that lead there.
    pub paths: Option<PathPattern>,
}

/// What came of telling a cluster how an app is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What visitors' way was asked to be and cannot be, in words for the app's owner.
    pub left_out: Vec<String>,
    /// Objects that were refused, each with why.
    pub refused: Vec<String>,
}

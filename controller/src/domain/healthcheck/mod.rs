//! Health checks: whose probes there are (contract §2.9), how they are read ([`read`]) and what they mean ([`Check`]).

mod check;
mod read;

use std::{collections::BTreeMap, fmt, str::FromStr};

use paas_api::{
    ProcessType,
    config::{LIVENESS, Probe, Probes, READINESS},
};
use serde::{Deserialize, Serialize};

pub use self::{
    check::{Check, Checks, Standing, Trial},
    read::{of_variables, read},
};
use super::config::Changed;

/// Whose probes they are: a process type's, or those of `web/cmd`, which hold for both that have none of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// The type that stands for `web` and `cmd`.
const WEB_AND_CMD: &str = "web/cmd";

impl Owner {
    /// `web/cmd`.
    pub fn web_and_cmd() -> Self {
        Self(WEB_AND_CMD.to_owned())
    }
}

impl FromStr for Owner {
    type Err = paas_api::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text != WEB_AND_CMD {
            text.parse::<ProcessType>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Owner {
    type Error = paas_api::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of the two probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whether a process must be started again.
    Liveness,
    /// Whether a process can be sent visitors.
    Readiness,
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            LIVENESS => Ok(Self::Liveness),
            READINESS => Ok(Self::Readiness),
            _ => Err("Healthcheck keys must be either livenessProbe or readinessProbe".to_owned()),
        }
    }
}

/// The probes of an app.
pub type Healthchecks = BTreeMap<Owner, Probes>;

/// Probes to set or, with `None`, to unset: all of an owner's, or one.
pub type ChangedProbes = Changed<Owner, ChangesOfOwner>;

/// Probes of one owner to set or to unset.
pub type ChangesOfOwner = BTreeMap<Kind, Option<Box<Probe>>>;

/// Changes the probes; the error names an owner who has not what was to be unset.
pub fn merge(checks: &mut Healthchecks, changes: ChangedProbes) -> Result<(), Owner> {
    for (owner, change) in changes {
        let Some(change) = change else {
            checks.remove(&owner).ok_or(owner)?;
            continue;
        };
        let mut probes = checks.remove(&owner).unwrap_or_default();
        for (kind, probe) in change {
            let place = match kind {
                Kind::Liveness => &mut probes.liveness,
                Kind::Readiness => &mut probes.readiness,
            };
            if probe.is_none() && place.is_none() {
                return Err(owner);
            }
            *place = probe.map(|probe| *probe);
        }
        if probes != Probes::default() {
            checks.insert(owner, probes);
        }
    }
    Ok(())
}

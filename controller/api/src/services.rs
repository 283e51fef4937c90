//! Services: further process types that visitors reach, by path (contract §1.12).

use serde::{Deserialize, Serialize};

use crate::ProcessType;

/// A process type and the paths that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Service {
    /// The process type.
    pub procfile_type: ProcessType,
    /// Regular expressions, separated by commas: a path that begins with what one of them describes leads here.
    pub path_pattern: String,
}

/// Every service of an app, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Services {
    /// The services.
    pub services: Vec<Service>,
}

/// `DELETE /v2/apps/<app>/services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RemoveService {
    /// The process type that is to be reached by path no more.
    pub procfile_type: ProcessType,
}

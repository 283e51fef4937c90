//! Hooks in the life of a process: command lines that run in its container (contract §1.7).

use std::fmt;

use paas_api::Secret;
use serde::{Deserialize, Serialize};

/// Longest command line, in bytes.
const LONGEST: usize = 8192;

/// Reads the command line of a hook. It may hold a secret, so no error shows it.
pub fn read(text: &str) -> Result<Secret, &'static str> {
    if text.trim().is_empty() {
        Err("This field may not be blank.")
    } else if text.contains('\0') {
        Err("Null characters are not allowed.")
    } else if text.len() > LONGEST {
        Err("A hook's command line may have 8192 bytes.")
    } else {
        Ok(text.into())
    }
}

/// The hooks of a process: programs with their arguments.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Runs after each start; the process is not ready before it has ended well.
    pub after_start: Option<Vec<String>>,
    /// Runs before SIGTERM, within the grace period.
    pub before_stop: Option<Vec<String>>,
}

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_start", &self.after_start.is_some())
            .field("before_stop", &self.before_stop.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_a_line_of_some_length() {
        assert_eq!(read("echo 'a b'").unwrap().expose(), "echo 'a b'");
        for bad in ["", " ", "a\0b", &"x".repeat(LONGEST + 1)] {
            assert!(read(bad).is_err());
        }
    }
}

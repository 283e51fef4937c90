//! Second.

//! A scheduler in memory, for tests of everything above it.

//! Processes as containers of one Docker engine.

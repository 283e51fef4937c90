//! The builder from outside: real `git` and `ssh`, the real engine, a real registry; the hooks are answered by the test.

mod controller;
mod deploys;
mod front_door;
mod hostile;
mod trouble;
mod world;

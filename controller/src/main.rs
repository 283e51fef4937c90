//! Settings and wiring of the controller.

fn main() {}

//! front_door

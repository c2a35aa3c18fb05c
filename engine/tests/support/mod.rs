//! What the twin test and the simulator share.
#![allow(dead_code, reason = "each test uses its part")]

pub mod check;
pub mod disk;
pub mod flights;
pub mod money;
pub mod rng;
pub mod topology;
pub mod traffic;
pub mod twin;
pub mod world;

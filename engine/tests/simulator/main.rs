//! The seeded simulator: one thread plays pollers, shards, publishers, writers, stores and log,
//! and crashes nodes between any two steps.
//!
//! A failing seed prints how to play it again. `KILTER_SIM_SEEDS=n` plays that many of each kind.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod one_node;
mod seeds;

#[test]
fn one_node_crashes_anywhere() {
    seeds::play("one_node_crashes_anywhere", 10_000, one_node::play);
}

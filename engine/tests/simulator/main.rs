//! The seeded simulator: one thread plays pollers, shards, publishers, writers, store and log, and
//! crashes nodes between any two steps.
//!
//! A failing seed prints how to play it again. `KILTER_SIM_SEEDS=n` plays that many of each kind,
//! `KILTER_SIM_FIRST=n` begins at another seed than 0.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod auditor;
mod claims;
mod database;
mod lease;
mod locks;
mod many_nodes;
mod node;
mod one_node;
mod operator;
mod outbox;
mod process;
mod reader;
mod running;
mod seeds;
mod sights;
mod stage;
mod store;
mod topic;
mod weather;

#[test]
fn one_node_crashes_anywhere() {
    seeds::play("one_node_crashes_anywhere", 6_000, one_node::play);
}

#[test]
fn many_nodes_take_over_anywhere() {
    let seeds = seeds::play("many_nodes_take_over_anywhere", 12_000, |seed| {
        many_nodes::play(seed);
    });
    sights::tell(seeds);
}

#[test]
fn what_is_accepted_and_what_leaves_takes_effect_once() {
    let test = "what_is_accepted_and_what_leaves_takes_effect_once";
    let seeds = seeds::play(test, 1_000, |seed| {
        outbox::play(seed);
    });
    outbox::sights::tell(seeds);
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..20 {
        assert_eq!(
            many_nodes::play(seed),
            many_nodes::play(seed),
            "seed {seed}"
        );
        assert_eq!(outbox::play(seed), outbox::play(seed), "seed {seed}");
    }
}

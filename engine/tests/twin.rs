//! The engine against its naive twin: any number of shards and writers, any ring, batch and epoch
//! size, the same balances, ledger, results and state hash.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::{cell::RefCell, rc::Rc};

use proptest::prelude::*;
use support::{
    check,
    disk::Disk,
    money,
    rng::Rng,
    traffic::{self, Entry, Shape},
    twin::{Judged, Twin},
    world::{Setup, World},
};

/// Runs a whole log through a node set up as asked; what the store holds then, and the hash.
fn run(entries: &Rc<Vec<Entry>>, setup: &Setup, seed: u64) -> (Disk, u128) {
    let disk = Rc::new(RefCell::new(Disk::new(setup.partitions)));
    let mut rng = Rng::new(seed);
    let mut world = World::start(&disk, entries, setup, &mut rng);
    let mut steps = 0_u64;
    while !world.is_done() {
        world.step(&mut rng).unwrap();
        steps += 1;
        if steps.is_multiple_of(512) && world.has_read_all() {
            world.stop();
        }
        assert!(steps < 4_000_000, "stuck");
    }
    let hash = world.state_hash();
    drop(world);
    let Ok(disk) = Rc::try_unwrap(disk) else {
        unreachable!("the world is gone");
    };
    (disk.into_inner(), hash)
}

fn setups() -> impl Strategy<Value = Setup> {
    (
        (1_usize..=8, 1_usize..=8),
        prop::sample::select(vec![2_usize, 4, 32, 256]),
        prop::sample::select(vec![16_usize, 32, 64]),
        2_usize..=4,
        1_u64..2000,
    )
        .prop_map(
            |((shards, writers), command_slots, result_slots, parts, flush_max_commands)| Setup {
                shards,
                writers: writers.min(shards),
                command_slots,
                result_slots,
                parts,
                flush_max_commands,
                window_ms: 0,
                partitions: 0,
                fault_one_in: 0,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_set_up_gives_the_twins_state(
        seed in any::<u64>(),
        users in 1_u64..100,
        records in 1_usize..1500,
        partitions in 1_u32..4,
        wild_time in any::<bool>(),
        setups in prop::collection::vec(setups(), 2),
    ) {
        let shape = Shape {
            users,
            records,
            partitions,
            window_ms: 60_000,
            wild_time,
            ids: 50,
            conflicts: 40,
            anew: true,
        };
        let entries = traffic::log(&shape, &mut Rng::new(seed));
        let mut twin = Twin::new(shape.window_ms, partitions);
        let log: Vec<(Entry, Judged)> = entries
            .iter()
            .map(|entry| (entry.clone(), twin.judge(entry)))
            .collect();
        let entries = Rc::new(entries);
        let mut hashes = Vec::new();
        for setup in setups {
            let setup = Setup { window_ms: shape.window_ms, partitions, ..setup };
            let (disk, hash) = run(&entries, &setup, seed);
            check::disk_is_exact(&disk, &log);
            check::sums_are_equal(&disk);
            money::is_constant(&disk, &log);
            let answers: usize = log.iter().map(|(entry, judged)| judged.results(entry)).sum();
            prop_assert_eq!(disk.results.len(), answers);
            prop_assert_eq!(disk.balances.len(), twin.purses().len());
            hashes.push(hash);
        }
        prop_assert_eq!(hashes[0], hashes[1], "state hashes of two set-ups");
    }
}

//! One node on a store that answers: the embedded mode. The node crashes between any two steps,
//! and an old one that should be dead may wake up beside the new one.
//!
//! A few times as fast as many nodes are, so that it plays that many more seeds.

use std::{cell::RefCell, rc::Rc};

use crate::support::{
    check,
    disk::Disk,
    money,
    rng::Rng,
    traffic::{self, Entry, Shape},
    twin::{Judged, Twin},
    world::{Setup, World},
};

/// So many steps in a row in which nobody found work: the node is stuck. Even the agent that is
/// chosen least has had its turn many times by then.
const IDLE_STEPS_MAX: u64 = 100_000;

/// Plays a seed.
pub fn play(seed: u64) {
    let mut rng = Rng::new(seed);
    let shape = Shape {
        users: *rng.pick(&[1, 3, 12, 60]),
        records: rng.between(20, 300) as usize,
        partitions: *rng.pick(&[1, 1, 2, 3]),
        window_ms: *rng.pick(&[40, 1_000, 86_400_000]),
        wild_time: rng.one_in(2),
        ids: *rng.pick(&[2, 20, 1000]),
        conflicts: 40,
        anew: true,
    };
    let partitions = shape.partitions;
    let entries = traffic::log(&shape, &mut rng);
    let mut twin = Twin::new(shape.window_ms, partitions);
    let log: Vec<(Entry, Judged)> = entries
        .iter()
        .map(|entry| (entry.clone(), twin.judge(entry)))
        .collect();
    let entries = Rc::new(entries);
    let disk = Rc::new(RefCell::new(Disk::new(partitions)));

    let mut zombie = None;
    for life in 0..rng.below(6) {
        let mut world = World::start(&disk, &entries, &setup(&shape, &mut rng, true), &mut rng);
        let steps_max = *rng.pick(&[50, 500, 5_000]);
        let steps = rng.below(steps_max);
        live(&mut world, &mut zombie, steps, &mut rng);
        check::disk_is_exact(&disk.borrow(), &log);
        check::sums_are_equal(&disk.borrow());
        money::is_constant(&disk.borrow(), &log);
        // Now and then the old node does not die, and wakes up beside the new one.
        zombie = (life > 0 && rng.one_in(2)).then_some(world);
    }

    let mut world = World::start(&disk, &entries, &setup(&shape, &mut rng, false), &mut rng);
    let mut idle_steps = 0;
    while !world.is_done() {
        if ends(&disk.borrow(), &log) {
            world.stop();
        }
        let work = live(&mut world, &mut zombie, 200, &mut rng);
        idle_steps = if work == 0 { idle_steps + 200 } else { 0 };
        assert!(idle_steps < IDLE_STEPS_MAX, "stuck");
    }
    let disk = disk.borrow();
    check::disk_is_exact(&disk, &log);
    check::sums_are_equal(&disk);
    money::is_constant(&disk, &log);
    let answers: usize = log
        .iter()
        .map(|(entry, judged)| judged.results(entry))
        .sum();
    assert_eq!(disk.results.len(), answers, "every record is answered");
    assert_eq!(disk.balances.len(), twin.purses().len());
    assert_eq!(disk.accounts.len(), twin.accounts().len());
}

/// Steps the node, and an old one that should be dead, until the node fails. Returns how much the
/// node did.
fn live(world: &mut World, zombie: &mut Option<World>, steps: u64, rng: &mut Rng) -> usize {
    let mut work = 0;
    for _ in 0..steps {
        match world.step(rng) {
            Ok(done) => work += done,
            Err(_) => return work,
        }
        if let Some(old) = zombie
            && rng.one_in(3)
            && old.step(rng).is_err()
        {
            *zombie = None;
        }
    }
    work
}

/// Whether every record's range is committed past it.
fn ends(disk: &Disk, log: &[(Entry, Judged)]) -> bool {
    log.iter().rev().all(|(entry, _)| {
        disk.rows
            .iter()
            .filter(|row| row.partition.get() == entry.partition)
            .all(|row| row.offset.get() > entry.offset)
    })
}

fn setup(shape: &Shape, rng: &mut Rng, faults: bool) -> Setup {
    let shards = rng.between(1, 8) as usize;
    Setup {
        shards,
        writers: rng.between(1, shards as u64) as usize,
        command_slots: *rng.pick(&[2, 4, 64]),
        result_slots: *rng.pick(&[16, 32, 128]),
        parts: *rng.pick(&[2, 3, 4]),
        flush_max_commands: *rng.pick(&[1, 7, 50, 1000]),
        window_ms: shape.window_ms,
        partitions: shape.partitions,
        fault_one_in: if faults { *rng.pick(&[0, 8, 40]) } else { 0 },
    }
}

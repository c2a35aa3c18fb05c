//! The front door's outbox beside a node: what is accepted, what is sent, and what leaves with an
//! epoch and comes back through the log as a leg.
//!
//! Everything that may be lost, late or twice is so, more than a window late included; front doors,
//! relays and nodes die between any two steps, and time jumps. The log grows by what arrives, and
//! by nothing else.

mod books;
mod clients;
mod courier;
mod growing;
pub mod sights;
mod table;
mod wire;

use std::{cell::RefCell, rc::Rc};

use kilter_engine::LegName;

use crate::support::{
    check,
    disk::Disk,
    money,
    rng::Rng,
    world::{Setup, World},
};
use clients::Clients;
use courier::{Courier, Kind, Lease, RANGES};
use growing::{GrowingLog, Reader};
use sights::{Sight, saw};
use table::{Status, Table};
use wire::Wire;

/// How long ids are remembered.
pub const WINDOW_MS: i64 = 86_400_000;

/// So many turns in calm weather are enough for whatever is left.
const CALM_TURNS_MAX: u64 = 100_000;

/// All that is outside of the processes.
pub struct Scene {
    rng: Rng,
    now_ms: i64,
    window_ms: i64,
    partitions: u32,
    table: Table,
    wire: Wire,
    leases: [Lease; RANGES],
    log: Rc<RefCell<GrowingLog>>,
    disk: Rc<RefCell<Disk>>,
    is_calm: bool,
}

/// The node, and one that should be dead.
#[derive(Default)]
struct Nodes {
    node: Option<World<Reader>>,
    zombie: Option<World<Reader>>,
    /// Nobody starts one before that turn.
    down_until: u64,
}

/// Plays a seed. Returns how many turns that took, and how long the log became.
pub fn play(seed: u64) -> (u64, usize) {
    let mut scene = Scene::new(seed);
    let users = *scene.rng.pick(&[2, 3, 5]);
    let mut clients = Clients::new(users, &mut scene);
    let mut senders = [(); 2].map(|()| Courier::start(Kind::Sender, &mut scene));
    let mut relays = [(); 2].map(|()| Courier::start(Kind::Relay, &mut scene));
    let mut nodes = Nodes::default();
    let leaves_stuck = scene.rng.one_in(3);
    let rough_turns = scene.rng.between(300, 1_500);
    let mut turn = 0;
    loop {
        turn += 1;
        scene.is_calm = turn > rough_turns;
        assert!(turn < rough_turns + CALM_TURNS_MAX, "stuck");
        scene.pass_time();
        nodes.turn(turn, &mut scene);
        scene.table.take_legs(&scene.disk.borrow(), scene.now_ms);
        scene.arrive();
        let at = scene.rng.below(senders.len() as u64) as usize;
        clients.step(&mut scene, &mut senders[at]);
        for sender in &mut senders {
            scene.may_die(sender, Kind::Sender);
            sender.step(&mut scene);
        }
        for relay in &mut relays {
            scene.may_die(relay, Kind::Relay);
            relay.step(&mut scene);
        }
        if scene.rng.one_in(100) {
            scene.operate(&mut clients, leaves_stuck);
        }
        if turn.is_multiple_of(100) {
            scene.audit();
            if scene.is_calm && clients.are_done() && scene.is_quiet(leaves_stuck) {
                break;
            }
        }
    }
    let log = scene.log.borrow();
    books::check_end(&scene.disk.borrow(), &scene.table, &log.judged);
    (turn, log.judged.len())
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = *rng.pick(&[1, 2, 3]);
        let window_ms = WINDOW_MS as u64;
        let log = GrowingLog::new(partitions, window_ms, Rng::new(rng.next()));
        Self {
            now_ms: 1_700_000_000_000,
            window_ms: WINDOW_MS,
            partitions,
            table: Table::default(),
            wire: Wire::new(window_ms, Rng::new(rng.next())),
            leases: [Lease::default(); RANGES],
            log: Rc::new(RefCell::new(log)),
            disk: Rc::new(RefCell::new(Disk::new(partitions))),
            is_calm: false,
            rng,
        }
    }

    /// Mostly little, and now and then half a day or two.
    fn pass_time(&mut self) {
        let window_ms = self.window_ms as u64;
        let mut step_ms = self.rng.below(window_ms / 2_000);
        if !self.is_calm && self.rng.one_in(120) {
            step_ms =
                self.rng.below(
                    *self
                        .rng
                        .clone()
                        .pick(&[window_ms / 4, window_ms, 2 * window_ms]),
                );
        }
        if self.is_calm && self.wire.last_ms().is_some_and(|at| at > self.now_ms) {
            step_ms = window_ms / 50;
        }
        self.now_ms += step_ms as i64;
    }

    fn arrive(&mut self) {
        let log = &mut self.log.borrow_mut();
        for _ in 0..3 {
            self.wire.step(log, self.now_ms, self.is_calm);
        }
    }

    /// A process dies, and another takes its place.
    fn may_die(&mut self, courier: &mut Courier, kind: Kind) {
        if !self.is_calm && self.rng.one_in(80) {
            let new = Courier::start(kind, self);
            std::mem::replace(courier, new).die(self);
        }
    }

    /// The operator has refunds that did not fit sent again, and sees to it that there is room.
    fn operate(&mut self, clients: &mut Clients, leaves_stuck: bool) {
        if self.is_calm && !self.is_committed() {
            return;
        }
        let disk = self.disk.borrow();
        for name in money::in_flight(&disk) {
            let is_full = books::is_too_full(&disk, name);
            if self.is_calm && is_full && !leaves_stuck && clients.are_done() {
                let amount = books::available(&disk, name).to_string();
                let leg = &disk.legs[&name];
                let currency = clients::currency(leg.currency.as_str());
                clients.make_room(&leg.user_id, leg.account_id.get(), currency, amount);
            }
            // Sent again it is the same issue: only the relay, by the committed clock, makes a new
            // one.
            if !(self.is_calm && is_full) {
                self.table.resend(name);
            }
        }
    }

    fn audit(&self) {
        let disk = self.disk.borrow();
        money::is_constant(&disk, &[]);
        let whole = |name: &LegName| disk.legs.contains_key(name);
        assert!(disk.landed.values().all(|landed| whole(&landed.name)));
        books::effects(&disk, &self.table);
        check::disk_is_exact(&disk, &self.log.borrow().judged);
        check::sums_are_equal(&disk);
    }

    fn is_committed(&self) -> bool {
        let disk = self.disk.borrow();
        let log = self.log.borrow();
        log.ends().all(|(partition, end)| {
            let mut rows = disk.rows.iter().filter(|row| row.partition == partition);
            rows.all(|row| row.offset >= end)
        })
    }

    fn is_quiet(&self, leaves_stuck: bool) -> bool {
        let disk = self.disk.borrow();
        let may_fly = |name: &LegName| leaves_stuck && books::is_too_full(&disk, *name);
        self.is_committed()
            && self.wire.is_empty()
            && self
                .table
                .is_quiet(|leg| leg.parse().is_ok_and(|name| may_fly(&name)))
            && money::in_flight(&disk).iter().all(may_fly)
    }
}

impl Table {
    /// Lets the relay send a leg again that was refused.
    fn resend(&mut self, name: LegName) {
        if let Some(row) = self.row_of_leg(name) {
            row.status = Status::Pending;
        }
    }
}

impl Nodes {
    fn turn(&mut self, turn: u64, scene: &mut Scene) {
        if self.node.is_none() && (turn >= self.down_until || scene.is_calm) {
            self.node = Some(start(scene));
        }
        let steps = scene.rng.between(5, 40);
        for _ in 0..steps {
            let Some(node) = &mut self.node else {
                break;
            };
            if node.step(&mut scene.rng).is_err() {
                self.bury(turn, scene);
                break;
            }
            if let Some(zombie) = &mut self.zombie
                && scene.rng.one_in(3)
                && zombie.step(&mut scene.rng).is_err()
            {
                self.zombie = None;
            }
        }
        if !scene.is_calm && scene.rng.one_in(100) {
            self.bury(turn, scene);
        }
    }

    /// It dies, or only seems to.
    fn bury(&mut self, turn: u64, scene: &mut Scene) {
        let Some(dead) = self.node.take() else {
            return;
        };
        saw(Sight::NodeCrashed);
        if scene.rng.one_in(3) {
            saw(Sight::Zombie);
            self.zombie = Some(dead);
        }
        let most = *scene.rng.pick(&[2, 20, 300]);
        self.down_until = turn + scene.rng.below(most);
        scene.audit();
    }
}

fn start(scene: &mut Scene) -> World<Reader> {
    let rng = &mut scene.rng;
    let shards = rng.between(1, 4) as usize;
    let setup = Setup {
        shards,
        writers: rng.between(1, shards as u64) as usize,
        command_slots: *rng.pick(&[2, 4, 64]),
        result_slots: *rng.pick(&[16, 32, 128]),
        parts: *rng.pick(&[2, 3, 4]),
        flush_max_commands: *rng.pick(&[1, 7, 50]),
        window_ms: scene.window_ms as u64,
        partitions: scene.partitions,
        fault_one_in: if scene.is_calm {
            0
        } else {
            *rng.pick(&[0, 8, 40])
        },
    };
    let log = scene.log.clone();
    World::start_on(&scene.disk, &setup, rng, |starts, rng| {
        Reader::open(&log, starts, rng)
    })
}

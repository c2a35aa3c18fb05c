//! Several nodes on one store and one log: they take partitions by leases, freeze, crash, come
//! back, and lose the store's answers.

use kilter_engine::epoch::OffsetRow;

use super::{stage::Stage, weather::Weather};
use crate::support::{
    rng::Rng,
    traffic::{self, Shape},
};

/// So many steps in calm weather are enough for any log played here.
const CALM_STEPS_MAX: u64 = 2_000_000;

/// Plays a seed. Returns how many steps that took, and the offset rows at the end: the same each
/// time.
pub fn play(seed: u64) -> (u64, Vec<OffsetRow>) {
    let mut rng = Rng::new(seed);
    let shape = Shape {
        users: *rng.pick(&[2, 3, 12, 60]),
        records: rng.between(20, 200) as usize,
        partitions: *rng.pick(&[1, 2, 2, 3, 4]),
        window_ms: *rng.pick(&[40, 1_000, 86_400_000]),
        wild_time: rng.one_in(2),
        ids: *rng.pick(&[2, 20, 1000]),
        conflicts: *rng.pick(&[2, 5, 40]),
        anew: false,
    };
    let entries = traffic::log(&shape, &mut rng);
    let weather = Weather {
        crash: *rng.pick(&[500, 2_000, 10_000]),
        freeze: *rng.pick(&[300, 1_000, 5_000]),
        leave: *rng.pick(&[2_000, 10_000]),
        outage: *rng.pick(&[2_000, 10_000]),
        operator: *rng.pick(&[20, 200, 2_000]),
        lost: *rng.pick(&[2, 5, 30]),
        nap: *rng.pick(&[5, 20, 100]),
        kill: *rng.pick(&[1, 3, 100]),
    };
    let nodes = *rng.pick(&[1, 2, 2, 3, 3]);
    let stage = Stage::new(shape, entries, weather, nodes, &mut rng);

    let rough_steps = rng.between(200, 15_000);
    while stage.steps() < rough_steps {
        stage.step();
    }
    stage.calm();
    let calm_since = stage.steps();
    while !stage.is_committed() || !stage.ask_to_leave() {
        stage.step();
        assert!(
            stage.steps() - calm_since < CALM_STEPS_MAX,
            "the nodes are stuck"
        );
    }
    stage.audit_the_end();
    stage.clear();
    let rows = stage.database.borrow().disk.rows.clone();
    (stage.steps(), rows)
}

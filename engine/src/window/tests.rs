//! A window against a map that forgets nothing.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Plenty.
fn plenty() -> WindowBudget {
    WindowBudget::new(1 << 30)
}

fn id(n: u64) -> IdHash {
    IdHash::of(b"user", &n.to_le_bytes())
}

/// The naive twin: every id with the latest time it was remembered from.
struct Naive {
    granule_ms: u64,
    now_ms: u64,
    times: HashMap<IdHash, u64>,
}

impl Naive {
    fn new(length_ms: u64) -> Self {
        Self {
            granule_ms: length_ms.div_ceil(40),
            now_ms: 0,
            times: HashMap::new(),
        }
    }

    fn alive(&self, remembered_ms: u64) -> bool {
        let now = (self.now_ms / self.granule_ms) as i64;
        now - (remembered_ms / self.granule_ms) as i64 <= 40
    }

    fn contains(&self, id: &IdHash) -> bool {
        self.times.get(id).is_some_and(|&time| self.alive(time))
    }

    fn insert(&mut self, id: &IdHash, remembered_ms: u64) {
        let time = self.times.entry(*id).or_insert(remembered_ms);
        *time = remembered_ms.max(*time);
    }
}

/// One thing that happens to a window.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Remember an id from so many milliseconds after (or before) the clock.
    Insert(u64, i64),
    Advance(u64),
}

fn steps(length_ms: u64) -> impl Strategy<Value = Vec<Step>> {
    let quarter = (length_ms / 4) as i64;
    let long = length_ms as i64 * 3 / 2;
    let step = prop_oneof![
        12 => (0..600u64, Just(0)).prop_map(|(n, at)| Step::Insert(n, at)),
        4 => (0..600u64, -long..=quarter).prop_map(|(n, at)| Step::Insert(n, at)),
        4 => (0..=length_ms / 20).prop_map(Step::Advance),
        1 => (0..=length_ms * 3).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..400)
}

/// Runs the steps on both and compares every id now and then.
fn run(steps: &[Step], length_ms: u64, base_bits: u32, squash: u64) -> Result<(), TestCaseError> {
    let budget = plenty();
    let mut window = Window::with_base_bits(length_ms, base_bits, &budget);
    let mut naive = Naive::new(length_ms);
    // A squashed hash sends all ids to few lines: long chains.
    let hash = |n| IdHash {
        line: id(n).line & squash,
        ..id(n)
    };
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Insert(n, ahead_ms) => {
                let time = naive.now_ms.saturating_add_signed(ahead_ms);
                prop_assert_eq!(window.contains(&hash(n)), naive.contains(&hash(n)));
                window.insert(&hash(n), time).unwrap();
                naive.insert(&hash(n), time);
                prop_assert_eq!(window.contains(&hash(n)), naive.contains(&hash(n)));
            }
            Step::Advance(ms) => {
                naive.now_ms += ms;
                window.advance(naive.now_ms);
            }
        }
        if at % 16 == 0 || at + 1 == steps.len() {
            for n in 0..600 {
                prop_assert_eq!(window.contains(&hash(n)), naive.contains(&hash(n)), "{}", n);
            }
        }
        prop_assert_eq!(window.len(), count(&window));
    }
    Ok(())
}

/// Counts the entries of all chains.
fn count(window: &Window) -> u64 {
    let mut entries = 0;
    for head in 0..window.lines.heads() {
        let mut line = window.lines.head(head);
        entries += line.len() as u64;
        while let Some(spill) = line.next() {
            line = window.lines.spill(spill);
            entries += line.len() as u64;
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_window_is_its_naive_twin(steps in steps(1000), base_bits in 1u32..6) {
        run(&steps, 1000, base_bits, u64::MAX)?;
    }

    #[test]
    fn lengths_that_no_granule_divides(steps in steps(87), base_bits in 1u32..4) {
        run(&steps, 87, base_bits, u64::MAX)?;
    }

    #[test]
    fn long_chains(steps in steps(400)) {
        run(&steps, 400, 4, 0b1_0000_0001)?;
    }

    #[test]
    fn reloaded_in_any_order(
        mut entries in prop::collection::vec((0..3000u64, 0..2500u64), 1..2000),
        seed: u64,
    ) {
        let budget = plenty();
        let mut running = Window::with_base_bits(1000, 3, &budget);
        entries.sort_by_key(|&(_, time)| time);
        for &(n, time) in &entries {
            running.advance(time);
            running.insert(&id(n), time).unwrap();
        }
        let now = running.now_ms();
        // Shuffled by a hash of the place.
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|&at| id(seed ^ at as u64));
        let mut reloaded = Window::with_base_bits(1000, 3, &budget);
        reloaded.advance(now);
        for at in order {
            reloaded.insert(&id(entries[at].0), entries[at].1).unwrap();
        }
        for later in (now..now + 1100).step_by(25) {
            running.advance(later);
            reloaded.advance(later);
            for n in 0..3000 {
                prop_assert_eq!(running.contains(&id(n)), reloaded.contains(&id(n)));
            }
        }
    }
}

#[test]
fn an_id_expires_at_the_exact_edge() {
    let mut window = Window::new(86_400_000, 1 << 20, &plenty());
    let granule = 2_160_000;
    window.advance(granule * 7 - 1);
    window.insert(&id(1), granule * 7 - 1).unwrap();
    window.advance(granule * 7);
    window.insert(&id(2), granule * 7).unwrap();
    window.insert(&id(3), granule * 17).unwrap();
    window.advance(granule * 47 - 1);
    assert_eq!([1, 2, 3].map(|n| window.contains(&id(n))), [true; 3]);
    window.advance(granule * 47);
    assert_eq!(
        [1, 2, 3].map(|n| window.contains(&id(n))),
        [false, true, true]
    );
    window.advance(granule * 48);
    assert_eq!(
        [1, 2, 3].map(|n| window.contains(&id(n))),
        [false, false, true]
    );
    window.advance(granule * 58 - 1);
    assert!(window.contains(&id(3)));
    window.advance(granule * 58);
    assert!(!window.contains(&id(3)));
}

#[test]
#[should_panic(expected = "more than a quarter of the window after the clock")]
fn an_id_too_far_ahead_is_a_broken_invariant() {
    let mut window = Window::new(1000, 1 << 20, &plenty());
    let _ = window.insert(&id(1), 25 * 11);
}

#[test]
#[should_panic(expected = "the clock went back")]
fn a_clock_that_goes_back_is_a_broken_invariant() {
    let mut window = Window::new(1000, 1 << 20, &plenty());
    window.advance(5);
    window.advance(4);
}

/// Ten wraps of the generations: what expired never comes back, and memory stays what it was.
#[test]
fn generations_wrap() {
    let mut window = Window::with_base_bits(4000, 6, &plenty());
    let mut most_bytes = 0;
    for now in 0..100 * 63 * 10u64 {
        window.advance(now);
        assert!(!window.contains(&id(now)), "at {now}");
        window.insert(&id(now), now).unwrap();
        for age in [1, 3999, 4000] {
            assert!(now < age || window.contains(&id(now - age)), "at {now}");
        }
        for age in [4100, 5000, 6200, 6300, 6400, 12_600] {
            assert!(now < age || !window.contains(&id(now - age)), "at {now}");
        }
        assert!(window.len() <= 4100 + 800 + 1, "{} at {now}", window.len());
        if now == 10_000 {
            most_bytes = window.bytes();
        }
    }
    assert_eq!(window.bytes(), most_bytes);
    // Nothing but time passes: the sweep empties it.
    for now in 63_000..63_000 + 5000 {
        window.advance(now);
    }
    assert_eq!((window.len(), count(&window)), (0, 0));
    assert_eq!(window.lines.spills_used(), 0);
}

/// A table that grows all the time, so that splits move entries behind the sweep, over several
/// wraps of the generations and with steps of the clock up to just below a whole sweep.
#[test]
fn a_growing_table_is_swept_in_time() {
    for step_ms in [30u64, 100, 350, 790] {
        let mut window = Window::with_base_bits(4000, 7, &plenty());
        // The first id of each step; ids of a step are numbered on from there.
        let mut firsts = vec![0];
        for step in 0..63 * 5 * 100 / step_ms {
            let now = step * step_ms;
            window.advance(now);
            let (first, ids) = (firsts[step as usize], 2 + step_ms * now / 40_000);
            for n in first..first + ids {
                window.insert(&id(n), now).unwrap();
            }
            firsts.push(first + ids);
            for then in 0..=step {
                let alive = now / 100 - then * step_ms / 100 <= 40;
                let n = firsts[then as usize];
                assert_eq!(
                    window.contains(&id(n)),
                    alive,
                    "{then} at {step} by {step_ms}"
                );
            }
            assert!(window.clock.generations_to(now) == 0);
        }
        assert_eq!(window.len(), count(&window));
        assert!(window.lines.heads() > 256, "{}", window.lines.heads());
    }
}

#[test]
fn a_jump_past_everything_clears() {
    let mut window = Window::with_base_bits(1000, 3, &plenty());
    for jump in [275, 300, 1025, 63 * 25, 63 * 25 * 1000, u64::from(u32::MAX)] {
        let now = window.now_ms();
        for n in 0..1000 {
            window.insert(&id(n), now).unwrap();
        }
        window.advance(now + jump);
        let alive = jump / 25 <= 40 + 1 && (now + jump) / 25 - now / 25 <= 40;
        assert!(
            (0..1000).all(|n| window.contains(&id(n)) == alive),
            "{jump}"
        );
        window.advance(now + jump + 1100);
        assert_eq!(window.len(), 0);
    }
}

#[test]
fn a_table_grows_64_fold_and_then_says_that_it_is_full() {
    let budget = plenty();
    let mut window = Window::with_base_bits(1000, 2, &budget);
    let mut held = 0;
    let full = loop {
        match window.insert(&id(held), 0) {
            Ok(()) => held += 1,
            Err(full) => break full,
        }
    };
    assert_eq!(window.lines.heads(), 256);
    assert_eq!(held, 256 * 63 / 10);
    assert_eq!((window.len(), full.held_ids), (held, held));
    assert!(!window.fits(1));
    assert!(!window.contains(&id(held)));
    assert!((0..held).all(|n| window.contains(&id(n))));
    // There is room again once something has expired.
    window.advance(2000);
    assert!(window.fits(1));
    window.insert(&id(held), 2000).unwrap();
}

#[test]
fn a_spent_budget_stops_the_insert_and_changes_nothing() {
    let budget = WindowBudget::new(6 * CHUNK_BYTES);
    let mut window = Window::new(1000, 64 * CHUNK_BYTES, &budget);
    let other = {
        let mut other = Window::new(1000, CHUNK_BYTES, &budget);
        other.reserve(1).unwrap();
        other
    };
    let mut held = 0;
    let mut sure = 0;
    let full = loop {
        if window.fits(32) {
            sure = held + 32;
        }
        match window.insert(&id(held), 0) {
            Ok(()) => held += 1,
            Err(full) => break full,
        }
    };
    assert!(sure <= held && sure + 2000 > held, "{sure} {held}");
    // Two chunks of lines and two for what overflows: far above 4.5 a line.
    assert!(held > 4096 * 2 * 6, "{held}");
    assert_eq!(full.held_ids, held);
    assert_eq!(full.limit_bytes, 6 * CHUNK_BYTES);
    assert!((5 * CHUNK_BYTES..=6 * CHUNK_BYTES).contains(&full.taken_bytes));
    assert_eq!((window.len(), count(&window)), (held, held));
    assert!((0..held).all(|n| window.contains(&id(n))));
    assert!(!window.contains(&id(held)));
    drop(other);
    window.insert(&id(held), 0).unwrap();
    assert!(window.contains(&id(held)));
    drop(window);
    assert_eq!(budget.taken_bytes(), 0);
}

#[test]
fn without_a_spill_line_the_insert_changes_nothing() {
    let budget = WindowBudget::new(3 * CHUNK_BYTES);
    let mut other = Window::new(1000, CHUNK_BYTES, &budget);
    other.reserve(1).unwrap();
    let mut window = Window::new(1000, CHUNK_BYTES, &budget);
    let colliding = |n| IdHash { line: 5, ..id(n) };
    for n in 0..7 {
        window.insert(&colliding(n), 0).unwrap();
    }
    assert!(!window.fits(1));
    let full = window.insert(&colliding(7), 0).unwrap_err();
    assert_eq!((full.held_ids, full.held_bytes > CHUNK_BYTES), (7, true));
    assert_eq!((window.len(), count(&window)), (7, 7));
    assert!((0..8).all(|n| window.contains(&colliding(n)) == (n < 7)));
    // An id that is there already, or whose place has expired, needs no line.
    window.insert(&colliding(3), 200).unwrap();
    window.advance(1025);
    window.insert(&colliding(7), 1025).unwrap();
    assert!(window.contains(&colliding(3)) && window.contains(&colliding(7)));
}

#[test]
fn what_was_reserved_takes_no_more_memory() {
    let mut window = Window::new(1000, 16 << 20, &plenty());
    window.reserve(150_000).unwrap();
    let bytes = window.bytes();
    for n in 0..150_000 {
        window.insert(&id(n), 0).unwrap();
        assert!(window.contains(&id(n)));
    }
    assert_eq!(window.bytes(), bytes);
}

/// Bytes an id at every fill level past the first growth, without the rounding to whole chunks.
#[test]
fn an_id_takes_17_bytes() {
    let mut window = Window::with_base_bits(1000, 10, &plenty());
    let mut most = 0;
    for n in 1..=200_000 {
        window.insert(&id(n), 0).unwrap();
        if n > 9216 {
            let bytes = (window.lines.heads() + window.lines.spills_used() as u64) * 64;
            most = most.max(bytes * 1000 / n);
        }
    }
    assert!(most <= 17_500, "{most} bytes for a thousand ids");
    assert!(most > 15_000, "{most} bytes for a thousand ids");
}

#[test]
fn what_a_day_needs() {
    assert_eq!(bytes_needed(100_000, 86_400_000), 164_160_000_000);
    assert_eq!(bytes_needed(u64::MAX, u64::MAX), u64::MAX);
}

//! Which seeds are played, and how a failing one is told.

/// Plays the seed that was asked for, or as many as were asked for, or `seeds`, from the first one
/// asked for or 0. Returns how many.
pub fn play(test: &str, seeds: u64, play: impl Fn(u64) + Sync + std::panic::RefUnwindSafe) -> u64 {
    if let Some(seed) = number("KILTER_SIM_SEED") {
        play(seed);
        return 1;
    }
    let seeds = number("KILTER_SIM_SEEDS").unwrap_or(seeds);
    let first = number("KILTER_SIM_FIRST").unwrap_or(0);
    let play = &play;
    // Two threads on the two cores of the smallest machine; each seed is one thread's alone.
    std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn(move || {
                    for seed in (first + half..first + seeds).step_by(2) {
                        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
                            eprintln!(
                                "seed {seed} failed; again: KILTER_SIM_SEED={seed} \
                                 cargo test -p kilter-engine --test simulator {test}"
                            );
                            std::panic::resume_unwind(panic);
                        }
                    }
                })
            })
            .collect();
        for half in halves {
            if let Err(panic) = half.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    println!("{seeds} seeds of {test}");
    seeds
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
    )
}

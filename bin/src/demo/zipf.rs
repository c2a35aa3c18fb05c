//! A seeded generator, and skewed choices from it.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// Numbers below a limit, the n-th chosen in proportion to 1 / n^theta.
#[derive(Clone, Debug)]
pub struct Zipf {
    limit: u64,
    /// The sums of the weights, scaled to 64 bits; empty for the uniform choice.
    sums: Vec<u64>,
}

impl Zipf {
    /// A choice among `limit` numbers; `theta` 0 is uniform.
    #[expect(
        clippy::float_arithmetic,
        reason = "weights of a random choice, no money"
    )]
    pub fn new(limit: u64, theta: f64) -> Self {
        if theta == 0.0 {
            let sums = Vec::new();
            return Self { limit, sums };
        }
        let weight = |n: u64| ((n + 1) as f64).powf(-theta);
        let total: f64 = (0..limit).map(weight).sum();
        let mut sum = 0.0;
        let sums = (0..limit)
            .map(|n| {
                sum += weight(n);
                // Saturates at the end, where rounding may pass 1.
                (sum / total * u64::MAX as f64) as u64
            })
            .collect();
        Self { limit, sums }
    }

    /// The next choice.
    pub fn sample(&self, random: &mut Random) -> u64 {
        if self.sums.is_empty() {
            return random.below(self.limit);
        }
        let ticket = random.next();
        let index = self.sums.partition_point(|sum| *sum < ticket) as u64;
        index.min(self.limit - 1)
    }
}

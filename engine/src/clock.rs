//! The node's own clocks, handed in from outside: the engine has none.

/// The clocks of the machine.
///
/// They decide when an epoch is cut and whether a record's time is mad. No outcome of a command
/// ever depends on them.
pub trait Clock {
    /// The time of day in ms since 1970.
    fn wall_ms(&self) -> i64;

    /// A time that never goes back, in ns since some fixed moment.
    fn monotonic_ns(&self) -> u64;
}

//! Rows that may not be produced yet, with whoever produces them.

use std::collections::VecDeque;

use crate::mysql::outbox::Made;

/// How much may wait, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingLimits {
    /// Rows.
    pub(super) rows: usize,
    /// Their memory, in bytes.
    pub(super) bytes: usize,
    /// The latest issue that has waited for too long, in ms since 1970.
    pub(super) issued_ms: i64,
}

/// The rows, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: VecDeque<Made>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Behind those that are there.
    pub(super) fn push(&mut self, made: Made) {
        self.bytes += made.bytes();
        self.rows.push_back(made);
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Vec<Made> {
        self.bytes = 0;
        std::mem::take(&mut self.rows).into()
    }

    /// Takes out the oldest as long as there is too much, or they have waited for too long.
    pub(super) fn give_up(&mut self, limits: WaitingLimits) -> Vec<Made> {
        let mut given_up = Vec::new();
        loop {
            let too_much = self.rows.len() > limits.rows || self.bytes > limits.bytes;
            let gives_up = |made: &mut Made| too_much || made.issued_at_ms <= limits.issued_ms;
            let Some(made) = self.rows.pop_front_if(gives_up) else {
                return given_up;
            };
            self.bytes -= made.bytes();
            given_up.push(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(number: i64) -> Made {
        Made {
            event_id: number.to_string(),
            user: "u-1".into(),
            transaction_id: "t".into(),
            payload: "x".repeat(100),
            issued_at_ms: number,
        }
    }

    fn waiting() -> Waiting {
        let mut waiting = Waiting::default();
        (0..10).for_each(|number| waiting.push(made(number)));
        waiting
    }

    /// What is given up is told by its numbers.
    fn given_up(waiting: &mut Waiting, limits: WaitingLimits) -> Vec<i64> {
        let rows = waiting.give_up(limits);
        rows.iter().map(|made| made.issued_at_ms).collect()
    }

    const NONE: WaitingLimits = WaitingLimits {
        rows: usize::MAX,
        bytes: usize::MAX,
        issued_ms: -1,
    };

    #[test]
    fn the_oldest_are_given_up_by_number_memory_and_age() {
        let mut rows = waiting();
        assert!(given_up(&mut rows, NONE).is_empty());
        assert_eq!(
            given_up(&mut rows, WaitingLimits { rows: 8, ..NONE }),
            [0, 1]
        );
        let bytes = 5 * made(0).bytes();
        assert_eq!(
            given_up(&mut rows, WaitingLimits { bytes, ..NONE }),
            [2, 3, 4]
        );
        assert_eq!(
            given_up(
                &mut rows,
                WaitingLimits {
                    issued_ms: 6,
                    ..NONE
                }
            ),
            [5, 6]
        );
        assert_eq!(rows.len(), 3);
        assert_eq!(
            given_up(&mut rows, WaitingLimits { rows: 0, ..NONE }),
            [7, 8, 9]
        );
        assert!(rows.is_empty());
    }

    #[test]
    fn memory_is_counted_anew_when_all_are_taken() {
        let mut rows = waiting();
        let bytes = 10 * made(0).bytes();
        let all = rows.take();
        assert_eq!(all.len(), 10);
        all.into_iter().for_each(|made| rows.push(made));
        assert!(given_up(&mut rows, WaitingLimits { bytes, ..NONE }).is_empty());
        rows.push(made(9));
        assert_eq!(given_up(&mut rows, WaitingLimits { bytes, ..NONE }), [0]);
    }
}

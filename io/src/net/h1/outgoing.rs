//! What waits to be sent over HTTP/1.1.

use std::{collections::VecDeque, sync::Arc};

use crate::net::reply::Credit;

/// Bytes on their way out, and whom to tell when they have gone.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// How many of `bytes` have gone.
    gone: usize,
    /// How much of each piece to tell of, and where in `bytes` it ends.
    owed: VecDeque<(usize, usize, Arc<Credit>)>,
}

impl Outgoing {
    /// Where to append something.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Has it told when what was appended so far has gone: a piece of `count` bytes.
    pub(super) fn owe(&mut self, count: usize, credit: &Arc<Credit>) {
        let end = self.bytes.len();
        self.owed.push_back((end, count, Arc::clone(credit)));
    }

    /// Moves what there is until `most` bytes are in `to`.
    pub(super) fn move_to(&mut self, to: &mut Vec<u8>, most: usize) {
        let left = &self.bytes[self.gone..];
        let taken = left.len().min(most.saturating_sub(to.len()));
        to.extend_from_slice(&left[..taken]);
        self.gone += taken;
        while let Some((end, count, credit)) = self.owed.front()
            && *end <= self.gone
        {
            credit.sent(*count);
            self.owed.pop_front();
        }
        if self.gone >= self.bytes.len() / 2 {
            self.bytes.drain(..self.gone);
            for (end, _, _) in &mut self.owed {
                *end -= self.gone;
            }
            self.gone = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone == self.bytes.len()
    }
}

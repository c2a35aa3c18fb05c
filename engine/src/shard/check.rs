//! What is checked of a command before its account is looked at.

use super::{Item, Shard};
use crate::{
    Code, Command,
    command::Body,
    record::{Mark, NOT_ISSUED},
    rules::{Envelope, Why},
};

impl Shard {
    /// The checks that need no account: expiry, key, partition. Shape was checked by decoding.
    pub(super) fn check(&self, item: &Item<'_>, command: &Command<'_>) -> Result<(), Why> {
        if matches!(command.body, Body::Open)
            && !matches!(item.mark, Mark::Claimed | Mark::ClaimRefused)
        {
            let message =
                "an OPEN without a claim: its type must be written as \"OPEN\", without escapes";
            return Err((Code::Malformed, message.into()));
        }
        // A leg's name is remembered for one window, so a copy must not be good for longer.
        if matches!(command.body, Body::Leg(_)) && item.issued_at_ms == NOT_ISSUED {
            let message = "a leg without the header issuedAt, which would never expire: legs are \
                           sent again through the outbox, not by hand";
            return Err((Code::Malformed, message.into()));
        }
        let envelope = Envelope {
            partition: item.partition,
            key: item.key,
            clock_ms: item.clock_ms,
            issued_at_ms: item.issued_at_ms,
        };
        self.settings.rules().check(&envelope, &command.user_id)
    }
}

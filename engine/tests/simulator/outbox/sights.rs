//! What has to have happened in the seeds played.

use super::super::sights::sights;

sights! {
    /// A node died.
    NodeCrashed,
    /// A node that should be dead went on beside its successor.
    Zombie,
    /// A front door died with commands that were durable and that nobody had sent.
    CrashedAccepted,
    /// A front door died with commands that waited for an older one of the same user.
    CrashedWaiting,
    /// A command waited with its front door for an older one, and was sent by it.
    SentAfterWaiting,
    /// A courier died with rows that it had read and not sent.
    CrashedRead,
    /// A courier died between the committed clock and the ledger.
    CrashedJudging,
    /// A courier died with events that it had handed over.
    CrashedProduced,
    /// A courier died with acknowledgements that it had not marked.
    CrashedAcknowledged,
    /// A relay paused, lost its lease to another, came back and sent what it had read before.
    SentWithoutLease,
    /// A commit of the front door was not answered.
    AcceptUnanswered,
    /// A client's retry was answered by what became of the first.
    AcceptDuplicate,
    /// An id was refused, because the command under it is another.
    AcceptConflict,
    /// A message was lost.
    Lost,
    /// A message of a producer that had failed arrived all the same.
    Stray,
    /// A message arrived a second time.
    Twice,
    /// A copy of a leg came more than a window after the first one.
    LegAWindowLate,
    /// A copy of a leg came more than a window after the first one, and was refused as expired.
    LegExpired,
    /// A copy of a client's command was refused as expired.
    CommandExpired,
    /// The creditor's account was opened between two copies of a credit that had failed for want
    /// of one.
    OpenedBetweenCopies,
    /// A refund did not fit.
    RefundOverflowed,
    /// A refund that had not fit landed later.
    RefundLandedLater,
    /// A refund does not fit for ever.
    RefundStuck,
    /// Legs of two debtors under one client's id landed.
    IdShared,
    /// One debtor's id took effect again after the window, and both legs landed.
    IdReused,
    /// A command was issued anew.
    CommandAnew,
    /// A leg was issued anew.
    LegAnew,
    /// What a courier would have marked was issued anew meanwhile.
    MarkOutdated,
    /// A late event was in time after all.
    LateLanded,
}

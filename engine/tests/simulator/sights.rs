//! What happened in the seeds played: a simulator that never sees a thing does not test it.

/// The sights of one kind of run, each counted.
macro_rules! sights {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        use std::sync::atomic::{AtomicU64, Ordering};

        /// Something worth having met.
        #[derive(Clone, Copy, Debug)]
        pub enum Sight {
            $($(#[$doc])* $name,)+
        }

        const ALL: &[Sight] = &[$(Sight::$name),+];

        static SEEN: [AtomicU64; ALL.len()] = [const { AtomicU64::new(0) }; ALL.len()];

        pub fn saw(sight: Sight) {
            SEEN[sight as usize].fetch_add(1, Ordering::Relaxed);
        }

        /// Prints them all. With enough seeds played, asserts that none is missing.
        pub fn tell(seeds: u64) {
            let count = |sight: Sight| SEEN[sight as usize].load(Ordering::Relaxed);
            for sight in ALL {
                println!("{:>9} {sight:?}", count(*sight));
            }
            let missing: Vec<_> = ALL.iter().filter(|sight| count(**sight) == 0).collect();
            assert!(missing.is_empty() || seeds < 500, "never seen: {missing:?}");
        }
    };
}
pub(crate) use sights;

sights! {
    /// A node took partitions that another one had before.
    Takeover,
    /// A taker waited for a transaction that was past its fence.
    TakerWaited,
    /// A taker killed the old owner's open transaction.
    Killed,
    /// An epoch was refused by the fence.
    Fenced,
    /// An epoch met offset rows of another node.
    Elsewhere,
    /// A commit was applied, and its answer got lost.
    AnswerLost,
    /// A commit was applied after its node had asked what became of it, or was dead.
    AppliedLate,
    /// A commit arrived under a lease that had expired, and that nobody had taken.
    CommittedExpired,
    /// The locking read told that the epoch was committed before.
    CommittedBefore,
    /// A row was locked too long.
    LockTimeout,
    /// The store did not answer for longer than a node waits.
    Outage,
    /// A lease was renewed by a node whose own clock said that it was too late.
    RenewedLate,
    /// A node found that its lease is another's.
    LeaseLost,
    /// A node took leases and never learned it.
    LeaseAnswerLost,
    /// A node left in good order.
    Left,
    /// A node crashed.
    Crashed,
    /// A node stood still.
    Froze,
    /// Results of a dead node arrived.
    LateResults,
    /// A result was appended twice.
    ResultTwice,
    /// A result was replaced by another answer of a higher term.
    OtherAnswer,
    /// An account was claimed.
    ClaimMade,
    /// A claim was made, or not, and the answer got lost.
    ClaimAnswerLost,
    /// A claim was refused.
    ClaimRefused,
    /// A claim was refused for a user of another partition.
    ClaimRefusedAcross,
    /// An operator refused a record.
    NoteRefuse,
    /// An operator made a record's time not count.
    NoteIgnoreTime,
    /// A note came too late.
    NoteTooLate,
    /// A record was too far ahead of a node's clock.
    TimeAhead,
    /// A partition's rows were at different offsets when a node loaded them.
    RowsApart,
    /// A node with several partitions loaded.
    SeveralPartitions,
    /// A full ring made a poller pause.
    Paused,
}

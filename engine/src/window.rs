//! The idempotency window of one partition within one shard.
//!
//! A window remembers ids, as [`IdHash`], for a length of its partition's time. Time is cut into
//! *generations* of a fortieth of the length, rounded up to whole milliseconds. An id remembered
//! at one time is alive at another if it is at most 40 generations older: so for at least the
//! length, and for at most one generation (2.5 %) more. That is a function of the two times and
//! the length and of nothing else; neither load, nor layout, nor the order of a reload, nor how
//! far the sweep has come has a say.
//!
//! # Layout
//!
//! Lines of 64 bytes, one cache line, hold seven ids each, and the table grows a line at a time
//! (linear hashing). An entry is a word of 64 bits and 9 bits of the line's last word:
//!
//! | bits | what |
//! | --- | --- |
//! | 61 | of the hash's tag |
//! | 6 | growth bits of the hash's line: which of up to 64 lines an entry goes to as the table grows |
//! | 6 | generation modulo 63, plus 1; 0 is no entry |
//!
//! 7 × (64 + 9) = 511 bits; the last says that the line has overflowed. Then its seventh word is
//! not an entry, but the number of a spill line that holds the seventh and what came after.
//!
//! With `b` base bits, fixed when the window is made, there are 2^b lines at first and 64 · 2^b at
//! most, and the line is found by b and up to 6 bits of the hash. Lines split while there are more
//! than 4.5 ids for each (64 % of the entries): 14.2 bytes an id, and spill lines for 5–17 % of
//! the lines, the most when half of them are split. So 15–17 bytes an id that is held, from the
//! first growth on.
//!
//! # False duplicates
//!
//! An id never seen is called a duplicate if it agrees with a live id of its line's chain in all
//! 67 bits. Of these, the growth bits that choose the line agree anyway: in a table grown by the
//! factor 2^g, 67 − g are left. (The base bits choose the line and are not stored: they count
//! neither for nor against.) A line has at most 6.3 ids on average, which is where the window
//! calls itself full; so a look-up errs with a probability of at most 6.3 · 2^−61 = 2.7 · 10⁻¹⁸
//! in a table fully grown. A million look-ups a second for ten years are 3.16 · 10¹⁴, so the
//! probability of a single false duplicate in all that time is below **8.7 · 10⁻⁴**; at the usual
//! 4.5 ids a line it is 6.2 · 10⁻⁴, and 9.6 · 10⁻⁶ in a table that has not grown yet.
//!
//! # Sweep
//!
//! Generations repeat modulo 63, and entries between 10 ahead and 52 behind the clock are told
//! apart. So whatever is older than 40 has to be gone before it is 52: as the clock moves, a sweep
//! passes over all lines once in 8 generations, in step with the clock's milliseconds. A clock
//! that jumps by 8 generations or more sweeps all at once. Dead entries are used again, too, by
//! ids that find their line full.

mod budget;
mod chain;
mod clock;
mod line;
mod sweep;
#[cfg(test)]
mod tests;

pub use budget::{WindowBudget, WindowFull};

use crate::hash::IdHash;
use crate::lines::Lines;
use crate::prefetch::prefetch;
use budget::Want;
use clock::Clock;
use line::{GROWTH_BITS, Line, Mark};

/// Lines of a chunk.
const CHUNK: usize = 4096;
/// Bytes of a chunk, 256 KiB: what a window takes at a time, so that even the many windows of many
/// partitions and shards cost little before they are used.
const CHUNK_BYTES: u64 = Lines::<Line, CHUNK>::CHUNK_BYTES;

/// Lines split while there are more ids than this many for every two lines.
const IDS_A_PAIR: u64 = 9;
/// A window is full when there are more ids than this many for every ten lines: the bound on false
/// duplicates hangs on it.
const MOST_IDS_A_TEN: u64 = 63;
/// How many lines one insert splits at most. One in 4.5 inserts would do; the second catches up.
const SPLITS_AN_INSERT: usize = 2;

/// The ids that one partition's users in one shard have used. See the [module](self).
#[derive(Debug)]
pub struct Window {
    clock: Clock,
    lines: Lines<Line, CHUNK>,
    /// Bits of a hash's line that choose among the first lines.
    base_bits: u32,
    /// Entries in use, alive or not.
    held: u64,
    /// Lines below this one have been swept in this pass.
    swept: u64,
    /// When this pass began.
    pass_start_ms: u64,
    budget: WindowBudget,
    /// Chunks taken of the budget.
    chunks: u64,
}

/// The memory that a window needs to remember the ids of a steady load, in bytes: 19 for every id
/// of the length. At most 16.7 are for the id itself; a ninth more is for the generation begun and
/// for ids that have expired and wait for the sweep. `u64::MAX` if it is more than that.
pub fn bytes_needed(commands_per_s: u64, length_ms: u64) -> u64 {
    let ids = u128::from(commands_per_s) * u128::from(length_ms) / 1000;
    u64::try_from(ids.saturating_mul(19)).unwrap_or(u64::MAX)
}

impl Window {
    /// A window of a length in milliseconds, 40 or more, its clock at 0. It takes no memory before
    /// the first id; then it takes between a 64th and a 32nd of `most_bytes`, and grows to at
    /// least `most_bytes` and the spill lines if the budget, which other windows share, allows it.
    ///
    /// # Panics
    ///
    /// When the length is below 40 ms.
    pub fn new(length_ms: u64, most_bytes: u64, budget: &WindowBudget) -> Self {
        let most_lines = (most_bytes / size_of::<Line>() as u64).max(1);
        let line_bits = u64::BITS - (most_lines - 1).leading_zeros();
        Self::with_base_bits(length_ms, line_bits.saturating_sub(GROWTH_BITS), budget)
    }

    /// A window of 2^`base_bits` lines at first.
    fn with_base_bits(length_ms: u64, base_bits: u32, budget: &WindowBudget) -> Self {
        assert!(
            base_bits + GROWTH_BITS <= 40,
            "a window has at most 2^40 lines"
        );
        Self {
            clock: Clock::new(length_ms),
            lines: Lines::new(),
            base_bits,
            held: 0,
            swept: 0,
            pass_start_ms: 0,
            budget: budget.clone(),
            chunks: 0,
        }
    }

    /// The clock, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// How many ids are held: all that are alive, and some that have expired since the last sweep.
    pub fn len(&self) -> u64 {
        self.held
    }

    /// Whether no id is held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The memory of the window in bytes.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// Starts to bring the line of an id near, for a look-up to come.
    #[inline]
    pub fn prefetch(&self, id: &IdHash) {
        self.lines.prefetch(self.spread(id));
    }

    /// Second step towards a look-up: reads the line, and brings near what it overflowed into.
    #[inline]
    pub fn prefetch_spill(&self, id: &IdHash) {
        if self.lines.is_empty() {
            return;
        }
        let line = self.lines.head(self.lines.head_of(self.spread(id)));
        if let Some(spill) = line.next() {
            prefetch(self.lines.spill(spill));
        }
    }

    /// Whether the id is remembered at the clock's time.
    #[inline]
    pub fn contains(&self, id: &IdHash) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        let (spread, mark) = (self.spread(id), self.mark(id));
        let mut line = self.lines.head(self.lines.head_of(spread));
        loop {
            if let Some(entry) = line.find(mark) {
                return self.clock.is_alive(line.code(entry));
            }
            match line.next() {
                Some(spill) => line = self.lines.spill(spill),
                None => return false,
            }
        }
    }

    /// Remembers an id from a time, in milliseconds, that may lie before the clock or up to a
    /// quarter of the length after it. An id already remembered keeps the later of the two times;
    /// one that would have expired by now is not remembered.
    ///
    /// # Errors
    ///
    /// [`WindowFull`] if there is no room. Nothing is changed then.
    ///
    /// # Panics
    ///
    /// When the time lies more than a quarter of the length after the clock: such a record should
    /// have stopped the node.
    #[inline]
    pub fn insert(&mut self, id: &IdHash, remembered_ms: u64) -> Result<(), WindowFull> {
        let Some(code) = self.clock.code_of(remembered_ms) else {
            return Ok(());
        };
        if self.held * 2 >= self.lines.heads() * IDS_A_PAIR {
            self.make_room()?;
        }
        let (head, mark) = (self.lines.head_of(self.spread(id)), self.mark(id));
        let line = self.lines.head_mut(head);
        // By far the most: one line, room in it, and the id not there.
        if let (None, Some(entry), None) = (line.next(), line.vacant(), line.find(mark)) {
            line.put(entry, mark, code);
            self.held += 1;
            return Ok(());
        }
        self.remember(head, mark, code)
    }

    /// Whether a batch of up to 4096 more ids fits for certain, whatever they are, if no other
    /// window of the budget grows meanwhile. Near the limit it says no where luck might do.
    ///
    /// # Panics
    ///
    /// When the batch is larger.
    pub fn fits(&self, ids: u64) -> bool {
        assert!(ids <= CHUNK as u64, "a batch has at most {CHUNK} ids");
        let first = 1u64 << self.base_bits;
        let (first_chunks, heads) = if self.lines.is_empty() {
            (first.div_ceil(CHUNK as u64), first.max(CHUNK as u64))
        } else {
            (0, self.lines.heads().next_multiple_of(CHUNK as u64))
        };
        // At worst every id opens a spill line. Growth leaves a chunk for them if there is one.
        let spills = if self.budget.left() > first_chunks {
            CHUNK as u64
        } else {
            self.lines.spare_spills() as u64
        };
        let heads = heads.min(first << GROWTH_BITS);
        spills >= ids && (self.held + ids) * 10 <= heads * MOST_IDS_A_TEN
    }

    /// Grows at once to hold this many ids in all, so that inserts up to there take no more memory.
    ///
    /// # Errors
    ///
    /// [`WindowFull`] if the budget or the window's own bound does not allow it; the window has
    /// then grown as far as it could.
    pub fn reserve(&mut self, ids: u64) -> Result<(), WindowFull> {
        self.start()?;
        while ids * 2 > self.lines.heads() * IDS_A_PAIR {
            if !self.split() {
                return Err(self.full());
            }
        }
        // Up to a sixth of the lines overflow, when half of them are split.
        while (self.lines.spare_spills() + self.lines.spills_used()) as u64 * 6 < self.lines.heads()
        {
            self.add_spills()?;
        }
        Ok(())
    }

    /// Moves the clock forward to a time in milliseconds, and sweeps as far as the clock has come.
    /// The same time again does nothing.
    ///
    /// # Panics
    ///
    /// When the clock would go back.
    #[inline]
    pub fn advance(&mut self, now_ms: u64) {
        if now_ms != self.clock.now_ms() {
            self.advance_to(now_ms);
        }
    }

    /// Takes the first chunks.
    fn start(&mut self) -> Result<(), WindowFull> {
        if self.lines.is_empty() {
            let heads = 1 << self.base_bits;
            if !self.take(u64::div_ceil(heads, CHUNK as u64), Want::Hold) {
                return Err(self.full());
            }
            self.lines.start(heads);
        }
        Ok(())
    }

    /// Splits lines that are due, if memory allows it; otherwise they run fuller, up to a limit.
    fn make_room(&mut self) -> Result<(), WindowFull> {
        self.start()?;
        for _ in 0..SPLITS_AN_INSERT {
            if self.held * 2 < self.lines.heads() * IDS_A_PAIR || !self.split() {
                break;
            }
        }
        if (self.held + 1) * 10 > self.lines.heads() * MOST_IDS_A_TEN {
            return Err(self.full());
        }
        Ok(())
    }

    /// Splits the next line, if there may be one more.
    fn split(&mut self) -> bool {
        if self.lines.heads() == 1 << (self.base_bits + GROWTH_BITS) {
            return false;
        }
        if self.lines.head_needs_chunk() && !self.take(1, Want::Spread) {
            return false;
        }
        let (old, new) = self.lines.split();
        self.halve(old, new);
        // The next splits read these lines; about every other has overflowed.
        prefetch(self.lines.head(self.lines.split_after(2)));
        if let Some(spill) = self.lines.head(self.lines.split_after(1)).next() {
            prefetch(self.lines.spill(spill));
        }
        true
    }

    fn add_spills(&mut self) -> Result<(), WindowFull> {
        if !self.take(1, Want::Hold) {
            return Err(self.full());
        }
        self.lines.add_spills();
        Ok(())
    }

    fn take(&mut self, chunks: u64, want: Want) -> bool {
        let taken = self.budget.take(chunks, want);
        if taken {
            self.chunks += chunks;
        }
        taken
    }

    #[cold]
    fn full(&self) -> WindowFull {
        WindowFull {
            held_ids: self.held,
            held_bytes: self.bytes(),
            taken_bytes: self.budget.taken_bytes(),
            limit_bytes: self.budget.limit_bytes(),
        }
    }

    /// The bits that choose among all the lines there can be.
    #[inline]
    fn spread(&self, id: &IdHash) -> u64 {
        id.line & ((1 << (self.base_bits + GROWTH_BITS)) - 1)
    }

    #[inline]
    fn mark(&self, id: &IdHash) -> Mark {
        Mark::new(id.tag, id.line >> self.base_bits & ((1 << GROWTH_BITS) - 1))
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.budget.give_back(self.chunks);
    }
}

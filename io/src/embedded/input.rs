//! An input of lines that can be given again: what is in the log already is passed over.
//!
//! The transaction that appends lines also writes how many of the input's lines are in the log
//! now, and the digest of all of them. Whoever comes with an input again, hours or months later,
//! is recognised by the longest such prefix, and goes on behind it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
};

use rusqlite::{Transaction, params};
use sha2::{Digest, Sha256};

use super::{
    OVERSIZE_KEPT_BYTES, RECORD_MAX_BYTES,
    append::{CommandLog, FullSize},
    error::EmbeddedError,
};

/// How much is read from an input at once.
const BUFFER_BYTES: usize = 1 << 20;

/// How much of the input the log knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownPrefix {
    /// So many of its lines.
    pub lines: u64,
}

/// A line of a batch.
#[derive(Clone, Copy, Debug)]
pub struct InputLine<'a> {
    /// Its bytes without the newline, or the beginning of them, if `full` is there.
    pub value: &'a [u8],
    /// Length and digest of the whole line, if it is larger than the log takes.
    pub full: Option<FullSize>,
}

/// Lines read but not looked at: one buffer for all of them.
#[derive(Debug, Default)]
pub struct LineBatch {
    bytes: Vec<u8>,
    lines: Vec<(Range<usize>, Option<FullSize>)>,
}

impl LineBatch {
    /// The lines, in order.
    pub fn lines(&self) -> Vec<InputLine<'_>> {
        self.lines
            .iter()
            .map(|(range, full)| InputLine {
                value: &self.bytes[range.clone()],
                full: *full,
            })
            .collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lines.len()
    }
}

/// What is written beside the records.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    row: Option<i64>,
    lines: u64,
    digest: [u8; 32],
    first_line: [u8; 32],
}

impl Progress {
    /// Writes how far the input is known. Only this run's own row is ever written over: a prefix
    /// that an earlier run ended with stays known.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
        let lines = self.lines as i64;
        match self.row {
            Some(row) => {
                transaction
                    .prepare_cached("UPDATE inputs SET lines = ?2, digest = ?3 WHERE id = ?1")?
                    .execute(params![row, lines, &self.digest[..]])?;
                Ok(row)
            }
            None => {
                transaction
                    .prepare_cached(
                        "INSERT INTO inputs (lines, digest, first_line) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![lines, &self.digest[..], &self.first_line[..]])?;
                Ok(transaction.last_insert_rowid())
            }
        }
    }
}

/// Something to read lines from, that knows whether the next one may have to be waited for.
trait Lines: BufRead {
    /// Whether a line, or the beginning of one, was read from the system already.
    fn has_more_at_hand(&self) -> bool;
}

impl<R: Read> Lines for BufReader<R> {
    fn has_more_at_hand(&self) -> bool {
        !self.buffer().is_empty()
    }
}

/// An input, positioned behind what the log knows of it.
pub struct Input {
    name: String,
    reader: Box<dyn Lines>,
    digest: Sha256,
    /// The digest behind the first line.
    first_line: [u8; 32],
    lines: u64,
    row: Option<i64>,
}

impl Input {
    /// Opens a file. With `again`, everything in it counts as new.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn file(
        path: &Path,
        log: &CommandLog,
        again: bool,
    ) -> Result<(Self, KnownPrefix), EmbeddedError> {
        let name = path.display().to_string();
        let failed = |source| EmbeddedError::Input {
            name: name.clone(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if !metadata.is_file() {
            return Self::pipe(name, file, log, again);
        }
        let known = if again { Vec::new() } else { prefixes(log)? };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let best = longest(&mut reader, &known, None).map_err(failed)?;
        reader.seek(SeekFrom::Start(best.bytes)).map_err(failed)?;
        Ok(Self::behind(name, Box::new(reader), best))
    }

    /// Takes a stream that cannot be read twice, as standard input is. As far as it could be an
    /// input that the log knows, it is kept in a temporary file until that is certain.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the temporary file cannot be written.
    pub fn pipe(
        name: String,
        stream: impl Read + 'static,
        log: &CommandLog,
        again: bool,
    ) -> Result<(Self, KnownPrefix), EmbeddedError> {
        let failed = |source| EmbeddedError::Input {
            name: name.clone(),
            source,
        };
        let known = if again { Vec::new() } else { prefixes(log)? };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, stream);
        if known.is_empty() {
            return Ok(Self::behind(name, Box::new(reader), Prefix::default()));
        }
        let mut spool = tempfile::tempfile().map_err(failed)?;
        let best = longest(&mut reader, &known, Some(&mut spool)).map_err(failed)?;
        spool.seek(SeekFrom::Start(best.bytes)).map_err(failed)?;
        let rest = BufReader::with_capacity(BUFFER_BYTES, spool.chain(reader));
        Ok(Self::behind(name, Box::new(rest), best))
    }

    fn behind(name: String, reader: Box<dyn Lines>, prefix: Prefix) -> (Self, KnownPrefix) {
        let lines = prefix.lines;
        let input = Self {
            name,
            reader,
            digest: prefix.digest,
            first_line: prefix.first_line,
            lines,
            row: None,
        };
        (input, KnownPrefix { lines })
    }

    /// Reads the next lines into `batch`, at most so many lines and about so many bytes, and only
    /// the first of them waits: a live pipe is applied line by line, if that is how it comes. Every
    /// line is a record, an empty one too; none are left when the batch stays empty.
    ///
    /// # Errors
    ///
    /// When the input cannot be read.
    pub fn read(
        &mut self,
        batch: &mut LineBatch,
        lines_max: usize,
        bytes_max: usize,
    ) -> Result<(), EmbeddedError> {
        batch.bytes.clear();
        batch.lines.clear();
        while batch.lines.len() < lines_max && batch.bytes.len() < bytes_max {
            let start = batch.bytes.len();
            let line = read_line(
                &mut self.reader,
                Some(&mut batch.bytes),
                &mut self.digest,
                None,
            )
            .map_err(|source| EmbeddedError::Input {
                name: self.name.clone(),
                source,
            })?;
            let Some(line) = line else { break };
            if line.full.is_some() {
                batch.bytes.truncate(start + OVERSIZE_KEPT_BYTES);
            }
            self.lines += 1;
            if self.lines == 1 {
                self.first_line = self.digest.clone().finalize().into();
            }
            batch.lines.push((start..batch.bytes.len(), line.full));
            if !self.reader.has_more_at_hand() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            row: self.row,
            lines: self.lines,
            digest: self.digest.clone().finalize().into(),
            first_line: self.first_line,
        }
    }

    pub(super) fn appended(&mut self, row: Option<i64>) {
        self.row = row.or(self.row);
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({:?} at line {})", self.name, self.lines)
    }
}

/// A prefix of an input: how much it is, and its digest so far.
#[derive(Clone, Default)]
struct Prefix {
    lines: u64,
    bytes: u64,
    digest: Sha256,
    first_line: [u8; 32],
}

/// A prefix that an earlier run has appended.
struct Known {
    lines: u64,
    digest: [u8; 32],
    first_line: [u8; 32],
}

/// The known prefixes, by their number of lines.
fn prefixes(log: &CommandLog) -> Result<Vec<Known>, EmbeddedError> {
    let db = log.db();
    let failed = db.failed("read which inputs it knows");
    let mut statement = db
        .connection
        .prepare("SELECT lines, digest, first_line FROM inputs ORDER BY lines")
        .map_err(&failed)?;
    let rows = statement
        .query_map([], |row| {
            Ok(Known {
                lines: row.get::<_, i64>(0)? as u64,
                digest: row.get(1)?,
                first_line: row.get(2)?,
            })
        })
        .map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

/// Reads as far as a known prefix with the same first line goes; the longest one that the input
/// begins with.
///
/// No further: whoever feeds a pipe line by line would wait for lines that are waited for here.
fn longest(
    reader: &mut impl BufRead,
    known: &[Known],
    mut spool: Option<&mut File>,
) -> io::Result<Prefix> {
    let mut here = Prefix::default();
    let mut best = Prefix::default();
    let mut known: Vec<&Known> = known.iter().collect();
    while known
        .last()
        .is_some_and(|longest| longest.lines > here.lines)
    {
        let Some(line) = read_line(reader, None, &mut here.digest, spool.as_deref_mut())? else {
            break;
        };
        here.lines += 1;
        here.bytes += line.bytes_read;
        if here.lines == 1 {
            here.first_line = here.digest.clone().finalize().into();
            known.retain(|known| known.first_line == here.first_line);
        }
        let first = known.partition_point(|known| known.lines < here.lines);
        let mut candidates = known[first..]
            .iter()
            .take_while(|known| known.lines == here.lines)
            .peekable();
        if candidates.peek().is_some() {
            let digest: [u8; 32] = here.digest.clone().finalize().into();
            if candidates.any(|known| known.digest == digest) {
                best = here.clone();
            }
        }
    }
    Ok(best)
}

struct Line {
    /// With the newline.
    bytes_read: u64,
    full: Option<FullSize>,
}

/// Reads one line, whatever its length, without holding more of it than the log takes. `None` at
/// the end of the input.
fn read_line(
    reader: &mut (impl BufRead + ?Sized),
    mut into: Option<&mut Vec<u8>>,
    digest: &mut Sha256,
    mut spool: Option<&mut File>,
) -> io::Result<Option<Line>> {
    let mut length = 0_u64;
    let mut bytes_read = 0_u64;
    let mut own: Option<Sha256> = None;
    let start = into.as_ref().map_or(0, |into| into.len());
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            if bytes_read == 0 {
                return Ok(None);
            }
            break;
        }
        let newline = memchr::memchr(b'\n', available);
        let piece = &available[..newline.unwrap_or(available.len())];
        let used = piece.len() + usize::from(newline.is_some());
        digest.update(piece);
        length += piece.len() as u64;
        if let Some(spool) = &mut spool {
            spool.write_all(&available[..used])?;
        }
        if let Some(into) = &mut into {
            if let Some(own) = &mut own {
                own.update(piece);
            } else {
                into.extend_from_slice(piece);
                if length > RECORD_MAX_BYTES as u64 {
                    own = Some(Sha256::new_with_prefix(&into[start..]));
                    into.truncate(start + OVERSIZE_KEPT_BYTES);
                }
            }
        }
        bytes_read += used as u64;
        reader.consume(used);
        if newline.is_some() {
            break;
        }
    }
    // The length behind each line makes the digest one of lines, not of bytes.
    digest.update(length.to_le_bytes());
    Ok(Some(Line {
        bytes_read,
        full: own.map(|own| FullSize {
            bytes: length,
            sha256: own.finalize().into(),
        }),
    }))
}

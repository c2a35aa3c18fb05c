//! Results as lines of JSON in a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use kilter_engine::{
    EpochNumber,
    epoch::Cut,
    result::{ResultRecord, ResultSink},
};

use crate::json::{self, ResultJson};

/// How many bytes of results are held back before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// Why results cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write results to {}", path.display())]
pub struct ResultsError {
    path: PathBuf,
    source: io::Error,
}

/// A file of result lines, appended to; what was flushed survives a crash of the machine.
pub struct JsonLines {
    path: PathBuf,
    writer: BufWriter<Box<dyn Write + Send>>,
    /// To synchronise, where that means something.
    file: Option<File>,
    durable: Option<EpochNumber>,
}

impl JsonLines {
    /// Opens a file, makes it if needed, and cuts off a last line that a crash tore.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or written.
    pub fn append(path: &Path) -> Result<Self, ResultsError> {
        Self::open(path).map_err(|source| ResultsError {
            path: path.to_owned(),
            source,
        })
    }

    /// Result lines to standard output.
    pub fn stdout() -> Self {
        Self {
            path: PathBuf::from("standard output"),
            writer: BufWriter::with_capacity(BUFFER_BYTES, Box::new(io::stdout())),
            file: None,
            durable: None,
        }
    }

    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let is_file = file.metadata()?.is_file();
        if is_file {
            let end = whole_lines(&mut file)?;
            file.set_len(end)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: is_file.then(|| file.try_clone()).transpose()?,
            durable: None,
            writer: BufWriter::with_capacity(BUFFER_BYTES, Box::new(file)),
        })
    }

    fn failed(&self, source: io::Error) -> ResultsError {
        ResultsError {
            path: self.path.clone(),
            source,
        }
    }
}

impl ResultSink for JsonLines {
    type Error = ResultsError;

    fn result(&mut self, result: &ResultRecord) -> Result<(), ResultsError> {
        // What cannot be addressed has a dead letter only.
        if !result.addressed {
            return Ok(());
        }
        json::line(&ResultJson(result), &mut self.writer).map_err(|error| self.failed(error))
    }

    fn end(&mut self, cut: &Cut) -> Result<(), ResultsError> {
        let flushed = self.writer.flush();
        let synced = flushed.and_then(|()| self.file.as_ref().map_or(Ok(()), File::sync_data));
        synced.map_err(|error| self.failed(error))?;
        self.durable = Some(cut.epoch);
        Ok(())
    }

    fn durable(&mut self) -> Result<Option<EpochNumber>, ResultsError> {
        Ok(self.durable)
    }
}

/// The length of the file up to its last newline.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = memchr::memrchr(b'\n', block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

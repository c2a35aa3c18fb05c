//! Goes through all balances, page by page, and begins anew when Redis lost what was written.

use std::time::Instant;

use super::{
    error::RedisError,
    pass::{Pass, Sights},
    sender::Sender,
    settings::RedisSettings,
    source::{OpenSource, Reader},
};

/// All balances on their way to Redis. After an error it goes on where it was.
pub(super) struct Walk {
    sender: Sender,
    reader: Reader,
    pass: Option<Pass>,
    /// When it was last seen that nothing was lost; not since the last error.
    held: Option<Instant>,
    settings: RedisSettings,
}

/// What a step came to.
pub(super) enum Step {
    /// A page landed.
    Page {
        /// Its balances.
        rows: u64,
        /// How many of them were written.
        written: u64,
    },
    /// Every balance has landed, and the marker is set.
    Done(Sights),
    /// The server lost data: from the beginning again.
    Lost,
}

impl Walk {
    pub(super) fn new(settings: &RedisSettings, source: OpenSource) -> Self {
        Self {
            sender: Sender::new(settings),
            reader: Reader::new(source),
            pass: None,
            held: None,
            settings: settings.clone(),
        }
    }

    /// What the servers look like now.
    pub(super) fn look(&mut self) -> Result<Sights, RedisError> {
        let servers = self.sender.servers();
        servers.refresh()?;
        let sights = super::pass::look(servers);
        if sights.is_err() {
            servers.doubt();
        }
        sights
    }

    /// Whether it has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// Brings the next page to Redis.
    pub(super) fn step(&mut self) -> Result<Step, RedisError> {
        let step = self.try_step();
        match &step {
            Ok(Step::Page { .. }) => {}
            Ok(Step::Done(_) | Step::Lost) => {
                self.pass = None;
                self.reader.rewind();
            }
            Err(_) => {
                self.held = None;
                self.sender.servers().doubt();
            }
        }
        step
    }

    fn try_step(&mut self) -> Result<Step, RedisError> {
        let servers = self.sender.servers();
        servers.refresh()?;
        match &self.pass {
            None => {
                self.reader.rewind();
                self.pass = Some(Pass::begin(servers)?);
                self.held = Some(Instant::now());
            }
            Some(pass) => {
                let every = self.settings.check_interval;
                if self.held.is_none_or(|held| held.elapsed() >= every) {
                    if !pass.holds(servers)? {
                        return Ok(Step::Lost);
                    }
                    self.held = Some(Instant::now());
                }
            }
        }
        self.page()
    }

    fn page(&mut self) -> Result<Step, RedisError> {
        let rows = self.reader.page(self.settings.page.max(1))?;
        if rows.is_empty() {
            let Some(pass) = &self.pass else {
                return Ok(Step::Lost);
            };
            return Ok(match pass.finish(self.sender.servers())? {
                Some(sights) => Step::Done(sights),
                None => Step::Lost,
            });
        }
        let sent = self.sender.send(&rows);
        if !sent.failed.is_empty()
            && let Some(error) = sent.error
        {
            return Err(error);
        }
        self.reader.done(&rows);
        Ok(Step::Page {
            rows: rows.len() as u64,
            written: sent.written,
        })
    }
}

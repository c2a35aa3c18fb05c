//! What the log acknowledged, as far as it tells which log that is.

use std::collections::HashMap;

use crate::{
    kafka::{Acknowledged, KafkaError},
    mysql::{Db, MysqlError, outbox},
};

/// The log that a process produces to. In one log, what is produced later lies further behind: an
/// acknowledgement that does not is one of another log under the same name.
#[derive(Debug)]
pub(super) struct Heard {
    generation: u32,
    /// Below which offset nothing new can lie, by partition.
    ends: HashMap<u32, u64>,
}

impl Heard {
    /// Reads it, before anything is produced.
    pub(super) fn read(db: &mut Db, group: &str, topic: &str) -> Result<Self, MysqlError> {
        let generation = outbox::generation(db)?;
        Ok(Self {
            generation,
            ends: outbox::committed_ends(db, group, topic, generation)?
                .into_iter()
                .collect(),
        })
    }

    /// The log generation that its places are of.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes acknowledgements in, in their order.
    ///
    /// # Errors
    ///
    /// [`KafkaError::OtherLog`]: none of them may be marked.
    pub(super) fn take(&mut self, acknowledged: &[Acknowledged]) -> Result<(), KafkaError> {
        for ack in acknowledged {
            let (partition, offset) = (ack.partition.get(), ack.offset.get());
            let end = self.ends.entry(partition).or_default();
            if offset < *end {
                return Err(KafkaError::OtherLog {
                    what: format!(
                        "partition {partition} took a record at offset {offset}, and it was \
                         at {end} before: the topic was deleted and made again"
                    ),
                });
            }
            *end = offset.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kilter_engine::{Offset, Partition};

    use super::*;

    #[test]
    fn offsets_that_go_back_are_of_another_log() {
        let ack = |partition, offset| Acknowledged {
            id: 1,
            partition: Partition::new(partition),
            offset: Offset::new(offset),
            timestamp_ms: None,
        };
        let mut heard = Heard {
            generation: 1,
            ends: HashMap::from([(0, 5)]),
        };
        heard.take(&[ack(0, 5), ack(1, 0), ack(0, 9)]).unwrap();
        assert!(heard.take(&[ack(1, 1), ack(0, 9)]).is_err());
        let mut fresh = Heard {
            generation: 1,
            ends: HashMap::from([(0, 5)]),
        };
        assert!(fresh.take(&[ack(0, 4)]).is_err());
    }
}

//! Where a topic ends, asked again and again.

use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
};

use super::{
    client::{REQUEST_TIMEOUT, Voice},
    error::{KafkaError, failed},
    settings::KafkaSettings,
};

const WHAT: &str = "ask where a topic ends";

/// Asks where a topic ends. Records nothing and reads nothing.
pub struct TopicEnds {
    consumer: BaseConsumer<Voice>,
    topic: String,
}

impl TopicEnds {
    /// For the result topic.
    ///
    /// # Errors
    ///
    /// When a property is refused.
    pub fn of_results(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        settings.check()?;
        let mut config = settings.consumer();
        // All that was acknowledged lies below, also where a reader does not get to yet.
        config.set("isolation.level", "read_uncommitted");
        let consumer = BaseConsumer::from_config_and_context(&config, Voice::default())
            .map_err(failed(WHAT))?;
        Ok(Self {
            consumer,
            topic: settings.results.clone(),
        })
    }

    /// Behind the last record of every partition that there is: whatever was acknowledged before
    /// this was called lies below. Waits for brokers.
    ///
    /// # Errors
    ///
    /// When they do not answer, or there is no such topic.
    pub fn look(&self) -> Result<Vec<(i32, i64)>, KafkaError> {
        let failed = failed(WHAT);
        // Asked each time: a partition that was added counts, too.
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), REQUEST_TIMEOUT)
            .map_err(failed)?;
        let mut asked = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|t| t.name() == self.topic) {
            for partition in topic.partitions() {
                asked
                    .add_partition_offset(&self.topic, partition.id(), Offset::End)
                    .map_err(failed)?;
            }
        }
        if asked.count() == 0 {
            return Err(KafkaError::NoTopic {
                topic: self.topic.clone(),
            });
        }
        // "End" is a time to this call, as it is one to brokers: one request for all partitions.
        let found = self
            .consumer
            .offsets_for_times(asked, REQUEST_TIMEOUT)
            .map_err(failed)?;
        let ends = found.elements().into_iter().map(|element| {
            element.error().map_err(failed)?;
            match element.offset() {
                Offset::Offset(end) => Ok((element.partition(), end)),
                other => Err(KafkaError::Client {
                    what: WHAT,
                    why: format!("partition {} ends at {other:?}", element.partition()),
                }),
            }
        });
        ends.collect()
    }
}

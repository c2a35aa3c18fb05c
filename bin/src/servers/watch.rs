//! Results for those who watch: committed, in order in each partition, from any position on.
//!
//! The result topic has them in about any order, some more than once, and some that an operator's
//! note changes before they count. So a watcher's results wait until it has read past a [mark](marks),
//! and leave in the order of the log. A thread and a consumer for each watcher; few of them at once.

mod begin;
mod held;
mod marks;
mod watcher;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use kilter_engine::Position;
use kilter_io::{
    api::{Problem, ProblemKind, Results, Watcher},
    kafka::KafkaSettings,
    mysql::MysqlSettings,
};

use self::{held::Total, marks::Marks, watcher::Watch};

/// How long a look lasts.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What all watchers of a process may hold together.
const HELD_MAX_BYTES: usize = 256 << 20;

/// What a watcher's own consumer may hold, beside what is counted.
const CONSUMER: [(&str, &str); 2] = [
    ("consumer.queued.max.messages.kbytes", "1024"),
    ("consumer.fetch.max.bytes", "2097152"),
];

/// The watchers of this process.
pub struct Watching {
    shared: Arc<Shared>,
}

struct Shared {
    kafka: KafkaSettings,
    mysql: MysqlSettings,
    partitions: u32,
    max: usize,
    count: Arc<AtomicUsize>,
    held: Arc<Total>,
    marks: Arc<Marks>,
    stop: AtomicBool,
}

impl Watching {
    /// At most `max` watchers of the results of a topic of so many partitions.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(
        mut kafka: KafkaSettings,
        mysql: MysqlSettings,
        partitions: u32,
        max: usize,
    ) -> anyhow::Result<Self> {
        let own = CONSUMER.map(|(name, value)| (name.to_owned(), value.to_owned()));
        kafka.properties.extend(own);
        let count = Arc::<AtomicUsize>::default();
        let marks = Marks::start(kafka.clone(), mysql.clone(), partitions, Arc::clone(&count))
            .context("no thread for those who watch results")?;
        Ok(Self {
            shared: Arc::new(Shared {
                kafka,
                mysql,
                partitions,
                max,
                count,
                held: Total::new(HELD_MAX_BYTES, max),
                marks,
                stop: AtomicBool::new(false),
            }),
        })
    }

    /// Ends all of them, each within a look or two.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.marks.stop();
    }
}

impl Results for Watching {
    fn watch(&self, user_id: Option<&str>, after: &[Position], watcher: Box<dyn Watcher>) {
        let shared = Arc::clone(&self.shared);
        if shared.count.fetch_add(1, Ordering::AcqRel) >= shared.max {
            shared.count.fetch_sub(1, Ordering::AcqRel);
            let message = format!("{} watch results already", shared.max);
            return watcher.end(Some(Problem::new(ProblemKind::Overload, message)));
        }
        let user_id = user_id.map(str::to_owned);
        let after = after.to_vec();
        let slot = Arc::new(parking_lot::Mutex::new(Some(watcher)));
        let own = Arc::clone(&slot);
        let begun = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                if let Some(watcher) = own.lock().take() {
                    run(&shared, user_id, &after, watcher);
                }
                shared.count.fetch_sub(1, Ordering::AcqRel);
            });
        if let Err(error) = begun {
            self.shared.count.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(%error, "no thread for a watcher");
            if let Some(watcher) = slot.lock().take() {
                let message = "this node has no thread left for a watcher";
                watcher.end(Some(Problem::new(ProblemKind::Unavailable, message)));
            }
        }
    }
}

fn run(
    shared: &Shared,
    user_id: Option<String>,
    after: &[Position],
    mut watcher: Box<dyn Watcher>,
) {
    let ended = Watch::begin(shared, user_id, after)
        .and_then(|mut watch| watch.run(shared, watcher.as_mut()));
    watcher.end(ended.err());
}

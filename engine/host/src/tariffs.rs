//! The tariffs, read whole by every engine: they are few, and each household needs one.
//!
//! Records are merged by time in the order of the log, so every engine comes to the same series, and so does the store.
//! The log may keep a tariff's newest record alone. Where that record lacks something that is known, the engine writes
//! the whole series behind it; engines that do so at once write the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use model::tariff::{PRICES_KEPT_MS, PriceSeries, Tariff};
use platform::log::{Consumer, LogEvent, Record, Start, Subscription, TopicPartition};
use platform::order::{Order, TARIFFS};
use platform::role_context::RoleContext;
use platform::store::Row;
use platform::trace::Span;
use schemas::codec::CodecError;
use schemas::dead_letter::Reason;
use schemas::topic::Topic;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::dead_letter::dead_letter;
use crate::deliver::{produce_patiently, read_patiently, write_patiently};
use crate::fence::{Fence, Fenced};
use crate::outgoing::Outgoing;

/// Dead letters and whole series that wait to be produced.
const LETTERS_MAX: usize = 1_000;

pub(crate) type ByName = BTreeMap<String, Arc<Tariff>>;

/// The tariffs that are in force.
#[derive(Debug, Clone, Default)]
pub struct Tariffs {
    current: Arc<RwLock<Arc<ByName>>>,
}

impl Tariffs {
    /// All of them, as of now.
    #[must_use]
    pub fn current(&self) -> Arc<ByName> {
        Arc::clone(&self.current.read().expect("no writer panics"))
    }

    fn put(&self, tariff: Arc<Tariff>) {
        let mut current = self.current.write().expect("no writer panics");
        let mut tariffs = ByName::clone(&current);
        tariffs.insert(tariff.name.clone(), tariff);
        *current = Arc::new(tariffs);
    }
}

/// Reads the topic from its beginning and goes on; returns once everything that was there has been read, or after `wait`.
/// The task ends when the log ends the subscription, or when what it does behind itself has ended.
pub async fn follow(
    context: RoleContext,
    wait: Duration,
) -> Result<(Tariffs, JoinHandle<()>), platform::log::LogError> {
    let tariffs = Tariffs::default();
    let consumer = context
        .log
        .subscribe(Subscription {
            group: None,
            member: None,
            topics: vec![Topic::Tariffs],
            start: Start::Earliest,
            batch_max: 100,
        })
        .await?;
    let (caught_up, ready) = oneshot::channel();
    let (letters, refused) = mpsc::channel(LETTERS_MAX);
    let unstored = watch::Sender::new(BTreeMap::new());
    let storing = store(context.clone(), tariffs.clone(), unstored.clone());
    let refusing = produce(context.clone(), refused);
    let follower = Follower {
        series: BTreeMap::new(),
        lacking: BTreeSet::new(),
        is_caught_up: false,
        context,
        tariffs: tariffs.clone(),
        unstored,
        letters,
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = follower.run(consumer, caught_up) => {}
            () = storing => {}
            () = refusing => {}
        }
    });
    if tokio::time::timeout(wait, ready).await.is_err() {
        warn!("tariffs are still being read");
    }
    info!(tariffs_count = tariffs.current().len(), "tariffs read");
    Ok((tariffs, task))
}

struct Follower {
    series: BTreeMap<String, PriceSeries>,
    /// Tariffs whose newest record does not say all that is known.
    lacking: BTreeSet<String>,
    is_caught_up: bool,
    context: RoleContext,
    tariffs: Tariffs,
    /// Names of tariffs that the store does not have as they are, and the offset of the newest record of each.
    unstored: watch::Sender<BTreeMap<String, i64>>,
    letters: mpsc::Sender<Outgoing>,
}

impl Follower {
    async fn run(mut self, mut consumer: Consumer, caught_up: oneshot::Sender<()>) {
        let mut caught_up = Some(caught_up);
        let mut behind = BTreeSet::new();
        while let Some(event) = consumer.events.recv().await {
            match event {
                LogEvent::Assigned(partitions) => behind.extend(partitions),
                LogEvent::Records { from, records } => {
                    for record in records {
                        if let Err(newer) = self.take(from, &record).await {
                            let (offset, reason) = (record.offset, newer.to_string());
                            error!(offset, reason, "tariff is newer than this build");
                            return;
                        }
                    }
                }
                LogEvent::Revoked { .. } => {}
                LogEvent::CaughtUp(partition) => {
                    behind.remove(&partition);
                    if behind.is_empty()
                        && let Some(caught_up) = caught_up.take()
                    {
                        // The starter may have stopped waiting.
                        let _ = caught_up.send(());
                        self.is_caught_up = true;
                        for name in std::mem::take(&mut self.lacking) {
                            self.say_whole(&name).await;
                        }
                    }
                }
            }
        }
    }

    /// Puts the whole series behind the records that say parts of it.
    async fn say_whole(&self, name: &str) {
        let Some(tariff) = self.tariffs.current().get(name).cloned() else {
            return;
        };
        match self.context.codec.encode(tariff.as_ref()) {
            Ok(value) => {
                let record = Outgoing {
                    topic: Topic::Tariffs,
                    key: name.as_bytes().to_vec(),
                    value,
                    span: Span::none(),
                };
                // Gone only when the task ends.
                let _ = self.letters.send(record).await;
            }
            Err(reason) => error!(name, %reason, "could not encode a tariff"),
        }
    }

    /// Homes plan with a tariff at once; the store may be away.
    async fn take(&mut self, from: TopicPartition, record: &Record) -> Result<(), CodecError> {
        if record.value.is_empty() {
            return Ok(());
        }
        match self.context.codec.decode::<Tariff>(&record.value) {
            Ok(tariff) => {
                let name = tariff.name.clone();
                let keep_from_ms = self.context.clock.now_ms() - PRICES_KEPT_MS;
                let series = self.series.entry(name.clone()).or_default();
                let merged = series.merge(&tariff, record.offset, keep_from_ms);
                self.tariffs.put(Arc::new(series.tariff(&name)));
                self.unstored.send_modify(|names| {
                    names.insert(name.clone(), record.offset);
                });
                if !merged.record_lacks {
                    self.lacking.remove(&name);
                } else if self.is_caught_up {
                    self.say_whole(&name).await;
                } else {
                    self.lacking.insert(name);
                }
            }
            Err(newer) if newer.is_newer() => return Err(newer),
            Err(why) => {
                let (context, reason) = (&self.context, Reason::Undecodable);
                if let Some(letter) = dead_letter(context, from, record, reason, why.to_string()) {
                    // Gone only when the task ends.
                    let _ = self.letters.send(letter).await;
                }
            }
        }
        Ok(())
    }
}

/// Stores tariffs as they are when the store takes them. Bounded by the number of tariffs.
async fn store(
    context: RoleContext,
    tariffs: Tariffs,
    unstored: watch::Sender<BTreeMap<String, i64>>,
) {
    let (mut changed, mut has_claimed) = (unstored.subscribe(), false);
    while changed.wait_for(|names| !names.is_empty()).await.is_ok() {
        let mut names = BTreeMap::new();
        unstored.send_if_modified(|unstored| {
            names = std::mem::take(unstored);
            false
        });
        let current = tariffs.current();
        for (name, offset) in names {
            let Some(tariff) = current.get(&name) else {
                continue;
            };
            let row = Row::Tariff(Arc::clone(tariff));
            if store_one(&context, row, offset, &mut has_claimed)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Every engine stores every tariff, and the record's offset orders them. The offset counts from the newest epoch, which
/// each engine claims at its start: a topic that was made anew begins with small offsets again.
async fn store_one(
    context: &RoleContext,
    tariff: Row,
    offset: i64,
    has_claimed: &mut bool,
) -> Result<(), Fenced> {
    let (fence, store) = (Fence::open(), &context.store);
    if !*has_claimed {
        read_patiently("epoch of tariffs", &fence, || store.claim(TARIFFS)).await?;
        *has_claimed = true;
    }
    let newest = read_patiently("epoch of tariffs", &fence, || store.newest_epoch(TARIFFS)).await?;
    let order = newest.map_or(Order::NONE, |epoch| epoch.of_record(offset));
    write_patiently(context, order, vec![tariff], &fence).await
}

/// Produces dead letters and whole series behind the follower.
async fn produce(context: RoleContext, mut letters: mpsc::Receiver<Outgoing>) {
    let fence = Fence::open();
    while let Some(letter) = letters.recv().await {
        if produce_patiently(&context, vec![letter], &fence)
            .await
            .is_err()
        {
            return;
        }
    }
}

//! The tariffs, read whole by every engine: they are few, and each household needs one.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use model::tariff::Tariff;
use platform::log::{LogEvent, Record, Start, Subscription};
use platform::store::Row;
use schemas::topic::Topic;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::deliver::write_of_record;
use crate::fence::{Fence, Fenced};
use platform::parts::Parts;

pub(crate) type ByName = BTreeMap<String, Arc<Tariff>>;

/// The newest tariff of each name.
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

/// Reads the topic from its beginning and goes on; returns once everything that was there has been read.
pub async fn follow(
    parts: Parts,
    wait: Duration,
) -> Result<(Tariffs, JoinHandle<()>), platform::log::LogError> {
    let tariffs = Tariffs::default();
    let mut consumer = parts
        .log
        .subscribe(Subscription {
            group: None,
            member: None,
            topics: vec![Topic::Tariffs],
            start: Start::Earliest,
            batch_max: 100,
        })
        .await?;
    let (caught_up, ready) = tokio::sync::oneshot::channel();
    let follower = tariffs.clone();
    let task = tokio::spawn(async move {
        let mut caught_up = Some(caught_up);
        let mut behind = std::collections::BTreeSet::new();
        while let Some(event) = consumer.events.recv().await {
            match event {
                LogEvent::Assigned(partitions) => behind.extend(partitions),
                LogEvent::Records { records, .. } => {
                    for record in records {
                        take(&parts, &follower, &record).await;
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
                    }
                }
            }
        }
    });
    if tokio::time::timeout(wait, ready).await.is_err() {
        warn!("tariffs are still being read");
    }
    info!(tariffs_count = tariffs.current().len(), "tariffs read");
    Ok((tariffs, task))
}

async fn take(parts: &Parts, tariffs: &Tariffs, record: &Record) {
    let value = &record.value;
    if value.is_empty() {
        return;
    }
    match parts.codec.decode::<Tariff>(value) {
        Ok(tariff) => {
            let tariff = Arc::new(tariff);
            tariffs.put(Arc::clone(&tariff));
            write_of_record(parts, Row::Tariff(tariff), record.offset, &Fence::open())
                .await
                .unwrap_or_else(|Fenced| warn!("tariff was not stored"));
        }
        Err(error) => {
            warn!(%error, "undecodable tariff");
            parts
                .metrics
                .dead_letters_total
                .with_label_values(&["undecodable"])
                .inc();
        }
    }
}

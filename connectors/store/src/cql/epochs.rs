//! Epochs of partitions by compare and set: each claim is a conditional statement.

use std::sync::atomic::{AtomicU64, Ordering};

use platform::clock::wall_ms;
use platform::metrics::Metrics;
use platform::order::Epoch;
use platform::store::StoreError;
use scylla::client::session::Session;
use scylla::value::{CqlValue, Row as AnyRow};
use tokio::time::Instant;

use super::failures::{pauses, refused_or_unavailable};
use super::statements::{Statements, select};

static CLAIMS: AtomicU64 = AtomicU64::new(0);

/// Returns a name for one claim that no other claim has, in any process.
fn holder() -> String {
    let claim = CLAIMS.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{claim}", std::process::id(), wall_ms())
}

/// The way to the epochs, for one call.
pub(super) struct Epochs<'a> {
    pub(super) session: &'a Session,
    pub(super) statements: &'a Statements,
    pub(super) metrics: &'a Metrics,
    /// No claim begins again after this.
    pub(super) deadline: Instant,
}

impl Epochs<'_> {
    /// Returns the newest epoch and the holder that claimed it.
    pub(super) async fn newest(
        &self,
        partition: i32,
    ) -> Result<Option<(Epoch, String)>, StoreError> {
        let statement = &self.statements.epoch;
        let rows: Vec<(i64, Option<String>)> =
            select(self.session, statement, (partition,)).await?;
        let found = rows.into_iter().next();
        Ok(found.map(|(epoch, holder)| (Epoch::new(epoch), holder.unwrap_or_default())))
    }

    pub(super) async fn claim(&self, partition: i32) -> Result<Epoch, StoreError> {
        let found = self.set(partition, None).await?;
        found.ok_or_else(|| StoreError::Unavailable("claim: others claim all the time".to_owned()))
    }

    pub(super) async fn renew(
        &self,
        partition: i32,
        held: Epoch,
    ) -> Result<Option<Epoch>, StoreError> {
        self.set(partition, Some(held)).await
    }

    /// Sets a higher epoch. If `held` is given, it must be the current one; returns `None` if it is not.
    async fn set(&self, partition: i32, held: Option<Epoch>) -> Result<Option<Epoch>, StoreError> {
        let holder = holder();
        let mut backoff = pauses();
        loop {
            let pause = backoff.next_pause();
            let newest = self.newest(partition).await?;
            let last = match newest {
                // The previous attempt succeeded but its answer was lost.
                Some((epoch, of)) if of == holder => return Ok(Some(epoch)),
                Some((epoch, _)) => Some(epoch),
                None => None,
            };
            if held.is_some() && held != last {
                return Ok(None);
            }
            let next = Epoch::after(last, self.now_us().await?)
                .ok_or_else(|| StoreError::Refused("epochs have come to their end".to_owned()))?;
            match self.compare_and_set(partition, last, next, &holder).await {
                Ok(true) => return Ok(Some(next)),
                Ok(false) => {}
                Err(error) if !error.is_retryable() || Instant::now() + pause >= self.deadline => {
                    return Err(error);
                }
                Err(_) => self.metrics.store_retries_total.inc(),
            }
            if Instant::now() + pause >= self.deadline {
                return Err(StoreError::Unavailable(
                    "claim: others claim all the time".to_owned(),
                ));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn compare_and_set(
        &self,
        partition: i32,
        last: Option<Epoch>,
        next: Epoch,
        holder: &str,
    ) -> Result<bool, StoreError> {
        let statements = self.statements;
        let answer = match last {
            None => {
                let values = (partition, next.get(), holder);
                let statement = &statements.first_epoch;
                self.session.execute_unpaged(statement, values).await
            }
            Some(last) => {
                let values = (next.get(), holder, partition, last.get());
                let statement = &statements.next_epoch;
                self.session.execute_unpaged(statement, values).await
            }
        };
        let answer = answer.map_err(|error| refused_or_unavailable("claim", &error))?;
        let other_kind = |error: &dyn std::error::Error| {
            StoreError::Refused(format!("claim: the tables are of another kind: {error}"))
        };
        let rows = answer
            .into_rows_result()
            .map_err(|error| other_kind(&error))?;
        let row: AnyRow = rows.first_row().map_err(|error| other_kind(&error))?;
        // The first column tells whether the condition was met.
        Ok(matches!(
            row.columns.first(),
            Some(Some(CqlValue::Boolean(true)))
        ))
    }

    /// Returns the store's own time, so that our hosts' clocks do not matter.
    async fn now_us(&self) -> Result<i64, StoreError> {
        let statement = &self.statements.now;
        let rows: Vec<(i64,)> = select(self.session, statement, ()).await?;
        let now_ms = rows.first().map_or(0, |(now_ms,)| *now_ms);
        Ok(now_ms.saturating_mul(1_000))
    }
}

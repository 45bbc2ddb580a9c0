//! The store as an outside client sees it.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use model::reading::Kind;
use model::units::DAY_MS;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp};

use crate::ledger::Series;

/// The store as an outside client sees it.
#[derive(Debug)]
pub(super) struct Outside {
    session: Session,
    statements: BTreeMap<Kind, PreparedStatement>,
}

impl Outside {
    pub(super) async fn connect(contact_point: &str, keyspace: &str) -> anyhow::Result<Self> {
        let plain = keyspace
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        ensure!(
            plain && !keyspace.is_empty(),
            "{keyspace:?} is not the name of a keyspace"
        );
        let builder = SessionBuilder::new().known_node(contact_point);
        let session = builder.build().await.context("connect over CQL")?;
        let mut statements = BTreeMap::new();
        for kind in Kind::ALL {
            let table = table_of(kind);
            let question = format!(
                "SELECT ts FROM {keyspace}.{table} \
                 WHERE household_id = ? AND day = ? AND ts >= ? AND ts <= ?"
            );
            let mut statement = session
                .prepare(question)
                .await
                .context("prepare a question")?;
            statement.set_consistency(Consistency::One);
            statement.set_is_idempotent(true);
            statements.insert(kind, statement);
        }
        Ok(Self {
            session,
            statements,
        })
    }

    /// Returns the times of the rows from `first_ms` to `last_ms`, both included.
    pub(super) async fn times(
        &self,
        (household_id, kind): Series,
        first_ms: i64,
        last_ms: i64,
    ) -> anyhow::Result<Vec<i64>> {
        let statement = &self.statements[&kind];
        let mut times_ms = Vec::new();
        for day in first_ms.div_euclid(DAY_MS)..=last_ms.div_euclid(DAY_MS) {
            let day = CqlDate(u32::try_from(day + (1 << 31)).context("a day of this era")?);
            let bounds = (CqlTimestamp(first_ms), CqlTimestamp(last_ms));
            let values = (household_id.get(), day, bounds.0, bounds.1);
            let rows = self.session.execute_iter(statement.clone(), values).await?;
            let mut rows = rows.rows_stream::<(CqlTimestamp,)>()?;
            while let Some((ts,)) = rows.try_next().await? {
                times_ms.push(ts.0);
            }
        }
        Ok(times_ms)
    }
}

const fn table_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Meter => "meter_readings",
        Kind::Pv => "pv_generation",
        Kind::Battery => "battery_state",
    }
}

//! Claims on partitions, by lightweight transactions: a row is changed only while it is as it was read.

use platform::store::{Epoch, StoreError};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};

use super::refused_or_unavailable;
use super::statements::Statements;

/// Most attempts while others claim the same partition.
const ATTEMPTS_MAX: usize = 16;

/// A statement of a claim. It is not repeated by the driver: whether it was applied is looked at first.
pub(super) fn conditional(mut statement: PreparedStatement) -> PreparedStatement {
    statement.set_is_idempotent(false);
    statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    statement
}

/// See [`platform::store::Store::claim`].
pub(super) async fn claim(
    session: &Session,
    statements: &Statements,
    partition: i32,
    held: Option<Epoch>,
    now_us: i64,
) -> Result<Epoch, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let before = read(session, &statements.epoch, partition).await?;
        let goes_on = held.is_some();
        if let Some(held) = held
            && before.is_none_or(|before| before.number != held.number)
        {
            return Err(StoreError::Superseded { partition });
        }
        let next = Epoch::after(partition, before, goes_on, now_us);
        let (number, end) = next.stored();
        let outcome = match before.map(|before| before.stored()) {
            None => {
                let first = (partition, number, end);
                session
                    .execute_unpaged(&statements.epoch_first, first)
                    .await
            }
            Some((number_before, end_before)) => {
                let change = (number, end, partition, number_before, end_before);
                session
                    .execute_unpaged(&statements.epoch_next, change)
                    .await
            }
        };
        let outcome = outcome.map_err(|error| refused_or_unavailable("claim", &error))?;
        let row: Option<Row> = outcome
            .into_rows_result()
            .map_err(|error| StoreError::Refused(format!("claim: {error}")))?
            .maybe_first_row()
            .map_err(|error| StoreError::Refused(format!("claim: {error}")))?;
        // The first column says whether it was applied; the others are what stood there.
        let applied = row.and_then(|row| row.columns.into_iter().next().flatten());
        if applied == Some(CqlValue::Boolean(true)) {
            return Ok(next);
        }
    }
    Err(StoreError::Unavailable(format!(
        "claim: partition {partition} was claimed by others {ATTEMPTS_MAX} times"
    )))
}

async fn read(
    session: &Session,
    statement: &PreparedStatement,
    partition: i32,
) -> Result<Option<Epoch>, StoreError> {
    let mut statement = statement.clone();
    // Sees every claim that was applied, and finishes one that was interrupted.
    statement.set_consistency(Consistency::LocalSerial);
    let found = session
        .execute_unpaged(&statement, (partition,))
        .await
        .map_err(|error| refused_or_unavailable("claim", &error))?
        .into_rows_result()
        .map_err(|error| StoreError::Refused(format!("claim: {error}")))?
        .maybe_first_row::<(i64, i64)>()
        .map_err(|error| StoreError::Refused(format!("claim: {error}")))?;
    Ok(found.map(|(number, end)| Epoch::from_stored(partition, number, end)))
}

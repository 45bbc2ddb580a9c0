//! A household in memory: its state, and what the host knows of it.

use household::effect::Effect;
use household::household::Household;
use household::settings::Settings;
use indexmap::IndexMap;
use model::units::HouseholdId;
use platform::clock::wall_ms;
use platform::store::Row;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::unsaved::Unsaved;
use platform::role_context::RoleContext;
use schemas::snapshot::{self, NextOffsets, SnapshotError};

/// Ticks in a row on which a home may panic.
const FAILED_TICKS_MAX: u32 = 3;

/// The households of a partition that are in memory.
pub(crate) type Residents = IndexMap<HouseholdId, Box<Resident>>;

/// The household and its host's notes.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) household: Household,
    /// First offset, by topic, whose record this state has not seen.
    pub(crate) next_offsets: NextOffsets,
    /// Changed since its snapshot.
    pub(crate) is_unsaved: bool,
    /// The delivery that holds its newest snapshot; 0 for a home that never had one.
    pub(crate) saved_in: u64,
    /// When a record last reached it.
    pub(crate) touched: Instant,
    /// Ticks in a row on which it has panicked.
    pub(crate) failed_ticks_count: u32,
    /// The newest request, and when the record that led to it entered the log.
    asked: Option<Box<(String, i64)>>,
}

impl Resident {
    /// From its snapshot, or new if there is none. Fails on a snapshot of a newer build, which would be lost.
    pub(crate) fn from_snapshot(
        id: HouseholdId,
        partition: i32,
        bytes: Option<&[u8]>,
        settings: &Settings,
    ) -> Result<Self, SnapshotError> {
        let Some(bytes) = bytes else {
            return Ok(Self::new(Household::new(id), NextOffsets::default()));
        };
        let (next_offsets, mut household) = match snapshot::decode::<Household>(bytes, partition) {
            Ok(state) => state,
            // Offsets of another partition say nothing of this one, of which nothing has been seen.
            Err(SnapshotError::Partition(before)) => {
                warn!(household = %id, before, partition, "home goes on on another partition");
                (NextOffsets::default(), snapshot::household(bytes)?)
            }
            Err(newer) if newer.is_newer() => return Err(newer),
            Err(reason) => {
                error!(household = %id, %reason, "snapshot is damaged, starting the home empty");
                (NextOffsets::default(), Household::new(id))
            }
        };
        household.recall(settings);
        Ok(Self::new(household, next_offsets))
    }

    /// A home that no record has reached before.
    pub(crate) fn newborn(id: HouseholdId) -> Self {
        Self::new(Household::newborn(id), NextOffsets::default())
    }

    fn new(household: Household, next_offsets: NextOffsets) -> Self {
        Self {
            household,
            next_offsets,
            is_unsaved: false,
            saved_in: 0,
            touched: Instant::now(),
            failed_ticks_count: 0,
            asked: None,
        }
    }

    /// Its state as a row. `partition` is the one it lives on.
    pub(crate) fn snapshot(&self, partition: i32) -> Row {
        Row::Snapshot {
            household_id: self.household.id(),
            state: snapshot::encode(partition, &self.next_offsets, &self.household),
        }
    }

    /// It changes: notes so among the unsaved, unless it stands there. `since` are the shard's offsets before.
    pub(crate) fn change(&mut self, unsaved: &mut Unsaved, since: &NextOffsets, now: Instant) {
        if !self.is_unsaved {
            self.is_unsaved = true;
            unsaved.note(self.household.id(), since, now);
        }
    }

    /// Whether it is not told the time until a record has changed it: each panic costs its partition a revival.
    pub(crate) const fn is_quarantined(&self) -> bool {
        self.failed_ticks_count >= FAILED_TICKS_MAX
    }

    /// Whether nothing is lost when it is let go: all of it is in a snapshot, and the outbox, durable up to `durable`,
    /// has that written.
    pub(crate) const fn is_durable(&self, durable: u64) -> bool {
        !self.is_unsaved && self.saved_in <= durable
    }

    /// Measures the way from a reading to the command that came of it. `answered` is the request that the record
    /// answers, which entered the log at `timestamp_ms`.
    pub(crate) fn watch_answer(
        &mut self,
        context: &RoleContext,
        answered: Option<&str>,
        timestamp_ms: i64,
        effects: &[Effect],
    ) {
        for effect in effects {
            if let Effect::RequestOptimize(request) = effect {
                self.asked = Some(Box::new((request.request_id.clone(), timestamp_ms)));
            }
        }
        let Some((answered, asked)) = answered.zip(self.asked.as_ref()) else {
            return;
        };
        let is_sent = effects
            .iter()
            .any(|effect| matches!(effect, Effect::SendCommand(_)));
        if is_sent && asked.0 == answered {
            context.metrics.observe_commanded(asked.1, wall_ms());
        }
    }
}

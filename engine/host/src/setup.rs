//! What every partition of an engine is given.

use std::sync::Arc;
use std::time::Duration;

use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use household::settings::Settings;
use platform::log::ConsumerControl;

use crate::lag::LagBoard;
use crate::tariffs::Tariffs;
use platform::role_context::RoleContext;

/// What every partition of an engine shares.
#[derive(Clone)]
pub struct Setup {
    pub context: RoleContext,
    pub settings: Settings,
    pub tariffs: Tariffs,
    pub control: Arc<dyn ConsumerControl>,
    pub lag: LagBoard,
    pub checkpoint_every: Duration,
    pub checkpoint_records_max: u64,
    pub passivate_after: Duration,
    pub live_homes_max: usize,
    pub store_slots: bool,
    pub publish_slots: bool,
    /// What a home does with an event: [`Household::handle`], unless a test needs one that fails.
    pub handle: fn(&mut Household, Event, &Env<'_>, &mut Vec<Effect>),
}

impl Setup {
    /// How long a delivery may be under way before the partition waits: a quarter of the checkpoint interval, so that
    /// what a crash makes the next owner read again stays within the whole of it.
    pub(crate) fn outbox_longest(&self) -> Duration {
        self.checkpoint_every / 4
    }

    /// Within what each changed home is handed to the outbox to be saved: the rest of the interval.
    pub(crate) fn save_every(&self) -> Duration {
        self.checkpoint_every - self.outbox_longest()
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").finish_non_exhaustive()
    }
}

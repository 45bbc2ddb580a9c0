//! How long a home goes on with a plan. Thresholds hold whatever load and sun do, so a battery that has them gains next to
//! nothing by a new plan in each slot; see `docs/explanation/decisions.md`.

use serde::{Deserialize, Serialize};

use crate::planning::prices;
use crate::settings::Settings;
use model::metadata::Metadata;
use model::policy::Mode;
use model::problem::Problem;
use model::schedule::Schedule;
use model::tariff::Tariff;
use model::units::{HOUR_MS, HouseholdId};

/// A plan lasts so long at most.
const LASTS_MS: i64 = HOUR_MS;

/// What a plan was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lasting {
    /// Start of its first slot, UTC epoch milliseconds.
    start_ms: i64,
    /// What all its prices were, as one number.
    prices: u64,
}

impl Lasting {
    /// Returns what is remembered of a problem whose plan may last: that of a home which has a battery and nothing else to
    /// decide, whether that is at hand or not.
    pub(crate) fn of(problem: &Problem, metadata: &Metadata) -> Option<Self> {
        let decides_more = !metadata.appliances.is_empty()
            || !metadata.evs.is_empty()
            || !metadata.heat_stores.is_empty();
        (problem.battery.is_some() && !decides_more).then(|| Self {
            start_ms: problem.start_ms,
            prices: as_one(&problem.buy_price, &problem.sell_price),
        })
    }

    /// Returns whether the plan is the answer, and tells its battery thresholds in every slot.
    pub(crate) fn holds_for(&self, schedule: &Schedule) -> bool {
        let mut policies = schedule.plan.slots.iter().map(|slot| slot.policy.as_ref());
        let has_thresholds = |mode: Mode| match mode {
            Mode::SelfConsumption | Mode::Charge | Mode::Hold | Mode::Sell | Mode::Idle => true,
            Mode::Setpoint => false,
        };
        self.start_ms == schedule.start_ms
            && policies.all(|policy| {
                let battery = policy.and_then(|policy| policy.battery.as_ref());
                battery.is_some_and(|battery| has_thresholds(battery.mode))
            })
    }

    /// Returns whether the plan does for the slot at `slot_ms` too: until the home's next turn, unless prices have changed
    /// or more of them are known. Homes take turns, so that not all of a fleet ask at once.
    pub(crate) fn lasts(
        &self,
        id: HouseholdId,
        slot_ms: i64,
        tariff: Option<&Tariff>,
        settings: &Settings,
    ) -> bool {
        let length_ms = settings.slot.ms();
        // Before the next plan comes, half of the program is left.
        let half_ms = i64::from(settings.program_slots / 2) * length_ms;
        let period_ms = LASTS_MS.min(half_ms).max(length_ms);
        let shift_ms = id.get() % (period_ms / length_ms) * length_ms;
        let turn = |ms: i64| (ms + shift_ms).div_euclid(period_ms);
        turn(slot_ms) == turn(self.start_ms)
            && tariff.is_some_and(|tariff| {
                let (buy, sell) = prices(tariff, self.start_ms, settings);
                self.prices == as_one(&buy, &sell)
            })
    }
}

/// Mixes prices and their count into one number (FNV-1a over 64-bit words).
fn as_one(buy: &[f64], sell: &[f64]) -> u64 {
    const BEGIN: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bits = buy.iter().chain(sell).map(|price| price.to_bits());
    bits.chain([buy.len() as u64]).fold(BEGIN, |mixed, word| {
        (mixed ^ word).wrapping_mul(PRIME).rotate_left(29)
    })
}

//! Sums over the fleet for `GET /api/fleet`, kept up to date by slots and schedules as they come. They cost a fixed
//! amount for each home and each slot of a day and a half, whoever asks and however often.

use std::collections::{BTreeMap, VecDeque};

use model::schedule::Schedule;
use model::slot::HouseholdSlot;
use model::units::{DAY_MS, HouseholdId, MINUTE_MS};

use crate::body::{FleetBody, FleetSlotBody, SavingsBody, WorstHomeBody};
use schemas::time::rfc3339;

/// Most homes that are kept; further ones are counted as not covered by the sums. About 600 bytes each.
const HOMES_MAX: usize = 200_000;
/// Homes in each list of the worst.
const WORST_MAX: usize = 10;
/// Slots of a home that a later record may still correct.
const CORRECTABLE_MAX: usize = 4;
/// Most slots of a home's plan that are kept.
const PLANNED_MAX: usize = 96;
/// How far sums reach back and ahead, ms.
const BACK_MS: i64 = DAY_MS;
const AHEAD_MS: i64 = DAY_MS;
/// Most sums that are kept: slots of a minute over that stretch.
const SUMS_MAX: usize = 2 * 24 * 60;

/// What is known of the fleet since the process started.
#[derive(Debug)]
pub(crate) struct Fleet {
    since_ms: i64,
    homes: BTreeMap<HouseholdId, Home>,
    uncovered_count: u64,
    /// By start of the slot.
    sums: BTreeMap<i64, Sums>,
    /// What was told of bills at the meters.
    savings: Option<SavingsBody>,
}

#[derive(Debug, Default)]
struct Home {
    /// The latest time of which a slot or a request for a plan tells, which only homes with fresh readings make.
    heard_ms: Option<i64>,
    /// The newest slots, ascending.
    measured: VecDeque<Measured>,
    planned: Option<Planned>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    start_ms: i64,
    end_ms: i64,
    /// Means over the slot, whole W: sums of whole numbers do not drift.
    load_w: i64,
    pv_w: i64,
    battery_w: i64,
}

#[derive(Debug)]
struct Planned {
    requested_ms: i64,
    start_ms: i64,
    slot_ms: i64,
    /// Import less export, W.
    grid_w: Vec<i32>,
    cost: f64,
    baseline_cost: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    measured_count: i64,
    load_w: i64,
    pv_w: i64,
    battery_w: i64,
    planned_count: i64,
    planned_grid_w: i64,
}

impl Sums {
    fn measure(&mut self, measured: &Measured, sign: i64) {
        self.measured_count += sign;
        self.load_w += sign * measured.load_w;
        self.pv_w += sign * measured.pv_w;
        self.battery_w += sign * measured.battery_w;
    }
}

impl Home {
    fn hear(&mut self, at_ms: i64) {
        self.heard_ms = self.heard_ms.max(Some(at_ms));
    }
}

impl Planned {
    fn end_ms(&self) -> i64 {
        let count = i64::try_from(self.grid_w.len()).expect("a plan is short");
        self.start_ms + count * self.slot_ms
    }
}

/// The homes with the earliest times.
#[derive(Debug, Default)]
struct Worst(BTreeMap<(i64, HouseholdId), Option<i64>>);

impl Worst {
    /// `last_ms` is the time if it is known, and `at_ms` what stands for it.
    fn note(&mut self, at_ms: i64, id: HouseholdId, last_ms: Option<i64>) {
        let latest = self.0.last_key_value().map(|(key, _)| *key);
        if self.0.len() >= WORST_MAX && latest.is_some_and(|latest| latest <= (at_ms, id)) {
            return;
        }
        self.0.insert((at_ms, id), last_ms);
        if self.0.len() > WORST_MAX {
            self.0.pop_last();
        }
    }

    fn bodies(&self, now_ms: i64) -> Vec<WorstHomeBody> {
        let homes = self.0.iter();
        let body = |((at_ms, id), last_ms): (&(i64, HouseholdId), &Option<i64>)| WorstHomeBody {
            household_id: *id,
            last: last_ms.map(rfc3339),
            age_s: (now_ms - at_ms).max(0) / 1_000,
        };
        homes.map(body).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a home's power fits by far"
)]
fn whole(power_w: f64) -> i64 {
    power_w.clamp(-1e9, 1e9).round() as i64
}

impl Fleet {
    pub(crate) const fn new(since_ms: i64) -> Self {
        Self {
            since_ms,
            homes: BTreeMap::new(),
            uncovered_count: 0,
            sums: BTreeMap::new(),
            savings: None,
        }
    }

    /// Takes over what someone who knows the meters tells of bills.
    pub(crate) fn tell_savings(&mut self, savings: SavingsBody) {
        self.savings = Some(savings);
    }

    /// Takes note of a home that has metadata. Returns whether there is room for more.
    pub(crate) fn know(&mut self, id: HouseholdId) -> bool {
        self.home(id).is_some()
    }

    fn home(&mut self, id: HouseholdId) -> Option<&mut Home> {
        if self.homes.len() >= HOMES_MAX && !self.homes.contains_key(&id) {
            self.uncovered_count += 1;
            return None;
        }
        Some(self.homes.entry(id).or_default())
    }

    /// Takes in a closed slot, or a correction of one.
    pub(crate) fn measure(&mut self, slot: &HouseholdSlot) {
        let (id, slot) = (slot.household_id, &slot.slot);
        let measured = Measured {
            start_ms: slot.start_ms,
            end_ms: slot.start_ms + i64::from(slot.slot_minutes) * MINUTE_MS,
            load_w: whole(slot.load_w.mean().unwrap_or(0.0)),
            pv_w: whole(slot.pv_w.mean().unwrap_or(0.0)),
            battery_w: whole(slot.battery_w.mean().unwrap_or(0.0)),
        };
        let Some(home) = self.home(id) else { return };
        home.hear(measured.end_ms);
        let at = home
            .measured
            .partition_point(|known| known.start_ms < measured.start_ms);
        let before = home
            .measured
            .get_mut(at)
            .filter(|known| known.start_ms == measured.start_ms)
            .map(|known| std::mem::replace(known, measured));
        if before.is_none() {
            // What is older than all that may be corrected was counted already.
            if at == 0 && home.measured.len() >= CORRECTABLE_MAX {
                return;
            }
            home.measured.insert(at, measured);
            if home.measured.len() > CORRECTABLE_MAX {
                home.measured.pop_front();
            }
        }
        let sums = self.sums.entry(measured.start_ms).or_default();
        if let Some(before) = before {
            sums.measure(&before, -1);
        }
        sums.measure(&measured, 1);
        self.forget();
    }

    /// Takes in a home's plan in place of the one before; a what-if question is none.
    pub(crate) fn plan(&mut self, schedule: &Schedule) {
        if !schedule.adopt || schedule.plan.slots.is_empty() {
            return;
        }
        let slots = schedule.plan.slots.iter().take(PLANNED_MAX);
        let grid_w = slots.map(|slot| {
            let grid_w = whole((slot.grid_import_kw - slot.grid_export_kw) * 1e3);
            i32::try_from(grid_w).unwrap_or(0)
        });
        let planned = Planned {
            requested_ms: schedule.requested_ms,
            start_ms: schedule.start_ms,
            slot_ms: i64::from(schedule.slot_minutes) * MINUTE_MS,
            grid_w: grid_w.collect(),
            cost: schedule.plan.metrics.cost,
            baseline_cost: schedule.plan.baseline.cost,
        };
        let Some(home) = self.home(schedule.household_id) else {
            return;
        };
        home.hear(planned.requested_ms);
        let is_newer = home
            .planned
            .as_ref()
            .is_none_or(|known| known.requested_ms <= planned.requested_ms);
        if !is_newer {
            return;
        }
        let before = home.planned.take();
        if let Some(before) = &before {
            // What it had planned before the new one begins stays as it was planned.
            self.add_plan(before, planned.start_ms, -1);
        }
        self.add_plan(&planned, i64::MIN, 1);
        if let Some(home) = self.homes.get_mut(&schedule.household_id) {
            home.planned = Some(planned);
        }
        self.forget();
    }

    fn add_plan(&mut self, planned: &Planned, from_ms: i64, sign: i64) {
        for (start_ms, grid_w) in (0..).zip(&planned.grid_w).map(|(index, grid_w)| {
            let start_ms = planned.start_ms + index * planned.slot_ms;
            (start_ms, i64::from(*grid_w))
        }) {
            if start_ms < from_ms {
                continue;
            }
            // A sum that was forgotten stays so.
            if sign < 0 && !self.sums.contains_key(&start_ms) {
                continue;
            }
            let sums = self.sums.entry(start_ms).or_default();
            sums.planned_count += sign;
            sums.planned_grid_w += sign * grid_w;
        }
    }

    /// Keeps the sums bounded: the earliest go first.
    fn forget(&mut self) {
        while self.sums.len() > SUMS_MAX {
            self.sums.pop_first();
        }
    }

    /// The answer at `now_ms`. A home is stale if it was heard of more than `stale_ms` ago.
    pub(crate) fn body(&self, now_ms: i64, stale_ms: i64) -> FleetBody {
        let (mut stale, mut unplanned) = (0, 0);
        let (mut cost, mut baseline_cost) = (0.0, 0.0);
        let (mut stalest, mut longest) = (Worst::default(), Worst::default());
        for (id, home) in &self.homes {
            let heard_ms = home.heard_ms.unwrap_or(self.since_ms);
            stale += u64::from(heard_ms + stale_ms < now_ms);
            stalest.note(heard_ms, *id, home.heard_ms);
            let planned = home.planned.as_ref();
            match planned.filter(|planned| planned.end_ms() > now_ms) {
                Some(planned) => {
                    cost += planned.cost;
                    baseline_cost += planned.baseline_cost;
                }
                None => {
                    unplanned += 1;
                    let ended_ms = planned.map(Planned::end_ms);
                    longest.note(ended_ms.unwrap_or(self.since_ms), *id, ended_ms);
                }
            }
        }
        let shown = (now_ms - BACK_MS)..(now_ms + AHEAD_MS);
        let slots = self.sums.range(shown).map(|(start_ms, sums)| {
            let measured = |power_w: i64| (sums.measured_count > 0).then_some(power_w);
            FleetSlotBody {
                start: rfc3339(*start_ms),
                homes: sums.measured_count,
                load_w: measured(sums.load_w),
                pv_w: measured(sums.pv_w),
                battery_w: measured(sums.battery_w),
                grid_w: measured(sums.load_w - sums.pv_w + sums.battery_w),
                planned_homes: sums.planned_count,
                planned_grid_w: (sums.planned_count > 0).then_some(sums.planned_grid_w),
            }
        });
        FleetBody {
            now: rfc3339(now_ms),
            since: rfc3339(self.since_ms),
            households: self.homes.len() as u64,
            is_complete: self.uncovered_count == 0,
            stale,
            stalest: stalest.bodies(now_ms),
            without_plan: unplanned,
            longest_without_plan: longest.bodies(now_ms),
            planned_cost: cost,
            baseline_cost,
            planned_saving: baseline_cost - cost,
            savings: self.savings.clone(),
            slots: slots.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::reading::Measurement;
    use model::slot::Slot;
    use model::units::HOUR_MS;

    use super::*;

    const NOON_MS: i64 = 1_757_678_400_000;

    fn closed(id: i64, start_ms: i64, consumption_w: f64, pv_w: f64) -> HouseholdSlot {
        let mut slot = Slot::empty(start_ms, 15);
        slot.add(start_ms, &Measurement::Meter { consumption_w });
        slot.add(start_ms, &Measurement::Pv { pv_w });
        let household_id = HouseholdId::new(id).unwrap();
        HouseholdSlot { household_id, slot }
    }

    #[test]
    fn a_corrected_slot_counts_once() {
        let mut fleet = Fleet::new(NOON_MS);
        fleet.measure(&closed(1, NOON_MS, 500.0, 100.0));
        fleet.measure(&closed(2, NOON_MS, 1_000.0, 0.0));
        fleet.measure(&closed(1, NOON_MS, 700.0, 100.0));
        let body = fleet.body(NOON_MS + HOUR_MS, 2 * HOUR_MS);
        assert_eq!((body.households, body.stale, body.without_plan), (2, 0, 2));
        let [slot] = body.slots.as_slice() else {
            panic!("{body:?}")
        };
        assert_eq!(
            (slot.homes, slot.load_w, slot.pv_w),
            (2, Some(1_700), Some(100))
        );
        assert_eq!(slot.grid_w, Some(1_600));
        assert_eq!(slot.planned_grid_w, None);
        let later = fleet.body(NOON_MS + 3 * HOUR_MS, HOUR_MS);
        assert_eq!((later.stale, later.savings), (2, None));
        let savings = SavingsBody {
            since: rfc3339(NOON_MS),
            homes: 2,
            cost: 3.0,
            rule_cost: 3.5,
            no_battery_cost: 5.0,
            saving: 0.5,
        };
        fleet.tell_savings(savings.clone());
        assert_eq!(fleet.body(NOON_MS, HOUR_MS).savings, Some(savings));
    }

    /// Twelve homes were heard of a minute apart, two only known: these are the worst, as old as the process.
    #[test]
    fn the_ten_homes_that_are_heard_of_longest_ago() {
        let mut fleet = Fleet::new(NOON_MS - HOUR_MS);
        for id in [12, 13] {
            assert!(fleet.know(HouseholdId::new(id).unwrap()));
        }
        for id in 1..=12 {
            fleet.measure(&closed(id, NOON_MS - id * MINUTE_MS, 1.0, 0.0));
        }
        let now_ms = NOON_MS + HOUR_MS;
        let body = fleet.body(now_ms, HOUR_MS / 2);
        assert_eq!((body.households, body.stale), (13, 13));
        let worst = |body: &[WorstHomeBody]| -> Vec<(i64, i64, bool)> {
            let homes = body.iter();
            homes
                .map(|home| {
                    (
                        home.household_id.get(),
                        home.age_s / 60,
                        home.last.is_some(),
                    )
                })
                .collect()
        };
        // The slot of home 12 ended at 12:03, which is 57 minutes ago.
        let expected: Vec<_> = std::iter::once((13, 120, false))
            .chain((4..=12).rev().map(|id| (id, 45 + id, true)))
            .collect();
        assert_eq!(worst(&body.stalest), expected);
        assert_eq!(body.longest_without_plan.len(), 10);
        assert!(
            body.longest_without_plan
                .iter()
                .all(|home| home.age_s == 7_200)
        );
        assert_eq!(body.without_plan, 13);
    }

    #[test]
    fn homes_and_slots_are_bounded() {
        let mut fleet = Fleet::new(0);
        for minute in 0..10_000 {
            fleet.measure(&closed(1, minute * MINUTE_MS, 1.0, 0.0));
        }
        assert_eq!(fleet.sums.len(), SUMS_MAX);
        assert_eq!(
            fleet.homes[&HouseholdId::new(1).unwrap()].measured.len(),
            CORRECTABLE_MAX
        );
    }
}

//! The EVs and heat stores of a home's planning problem, from their metadata and newest readings. An asset that has not
//! been heard of lately is not planned: nobody knows what is in it.

use crate::assets::Assets;
use crate::planning::mean;
use model::asset::{AssetKind, AssetState};
use model::metadata::{EvSpec, HeatStoreSpec, Metadata};
use model::problem::{Ev, HeatStore, Problem};
use model::units::{HOUR_MS, MINUTE_MS};
use model::zone::Zone;

/// What they are built from.
#[derive(Debug)]
pub struct AssetInput<'a> {
    /// The home's metadata.
    pub metadata: &'a Metadata,
    /// What is known of its assets.
    pub assets: &'a Assets,
    /// Older readings count as unknown, UTC epoch milliseconds.
    pub fresh_from_ms: i64,
    /// The horizon begins with the slot that contains this moment, UTC epoch milliseconds.
    pub now_ms: i64,
}

impl AssetInput<'_> {
    /// Adds the assets to `problem`, whose horizon and prices are known.
    pub fn add_to(&self, problem: &mut Problem) {
        if self.metadata.evs.is_empty() && self.metadata.heat_stores.is_empty() {
            return;
        }
        let zone = Zone::find_or_utc(&self.metadata.time_zone);
        let evs = self.metadata.evs.iter();
        problem.evs = evs
            .filter_map(|spec| self.ev(spec, &zone, problem))
            .collect();
        let stores = self.metadata.heat_stores.iter();
        problem.heat_stores = stores
            .filter_map(|spec| self.heat_store(spec, &zone, problem))
            .collect();
    }

    fn state(&self, kind: AssetKind, id: &str) -> Option<AssetState> {
        let newest = self.assets.newest(kind, id)?;
        (newest.ts_ms >= self.fresh_from_ms).then_some(newest.state)
    }

    /// Returns the EV if it is plugged in, its SoC is known, and it does not leave within the first slot.
    ///
    /// If it leaves after the horizon, the goal at the horizon's end is what it cannot charge any more behind it. Energy on
    /// board then spares a purchase at the mean price; energy beyond the goal of an EV that leaves earlier is worth nothing
    /// to the home.
    fn ev(&self, spec: &EvSpec, zone: &Zone, problem: &Problem) -> Option<Ev> {
        let AssetState::Ev {
            plugged: true,
            soc_pct: Some(soc_pct),
            departure_ms,
            goal_pct,
            ..
        } = self.state(AssetKind::Ev, &spec.id)?
        else {
            return None;
        };
        let slot_ms = i64::from(problem.slot_minutes) * MINUTE_MS;
        let slots_count = i64::try_from(problem.load_kw.len()).expect("672 slots at most");
        let departure_ms = departure_ms
            .filter(|ms| *ms > self.now_ms)
            .or_else(|| self.next_departure_ms(spec, zone));
        let kwh = |pct: f64| spec.capacity_kwh * pct / 100.0;
        let goal_kwh = goal_pct.map_or(spec.goal_soc_kwh, kwh);
        let slots_until = departure_ms.map_or(slots_count, |ms| {
            (ms - problem.start_ms).div_euclid(slot_ms)
        });
        let leaves_within = slots_until <= slots_count && departure_ms.is_some();
        let departure_slot = u32::try_from(slots_until.min(slots_count)).ok()?;
        if departure_slot == 0 {
            return None;
        }
        let (goal_soc_kwh, end_value_per_kwh) = if leaves_within {
            (goal_kwh, 0.0)
        } else {
            let worth = mean(&problem.buy_price) * spec.discharge_efficiency;
            let left = (slots_until - slots_count).clamp(0, 96 * 7);
            let hours = f64::from(u32::try_from(left).expect("it is below 672"))
                * f64::from(problem.slot_minutes)
                / 60.0;
            let later_kwh = spec.charge_kw * spec.charge_efficiency * hours;
            let goal_kwh = departure_ms.map_or(0.0, |_| (goal_kwh - later_kwh).max(0.0));
            (goal_kwh, worth.max(0.0))
        };
        Some(Ev {
            id: spec.id.clone(),
            arrival_slot: 0,
            departure_slot,
            capacity_kwh: spec.capacity_kwh,
            soc_kwh: kwh(soc_pct).clamp(0.0, spec.capacity_kwh),
            min_soc_kwh: spec.min_soc_kwh,
            goal_soc_kwh: goal_soc_kwh.clamp(0.0, spec.capacity_kwh),
            charge_kw: spec.charge_kw,
            min_charge_kw: spec.min_charge_kw,
            discharge_kw: spec.discharge_kw,
            charge_efficiency: spec.charge_efficiency,
            discharge_efficiency: spec.discharge_efficiency,
            end_value_per_kwh,
            wear_cost_per_kwh: spec.wear_cost_per_kwh,
        })
    }

    /// Returns when the EV leaves next by its habits, UTC epoch milliseconds; `None` if it has none.
    fn next_departure_ms(&self, spec: &EvSpec, zone: &Zone) -> Option<i64> {
        let today = zone.day_of(self.now_ms);
        (0..=7).find_map(|days| {
            let day = today.plus(days);
            let mut habits = spec.departures.iter();
            let habit = habits.find(|habit| habit.weekday == day.weekday())?;
            let departure_ms = zone.at_ms(day, habit.at_min);
            (departure_ms > self.now_ms).then_some(departure_ms)
        })
    }

    fn heat_store(
        &self,
        spec: &HeatStoreSpec,
        zone: &Zone,
        problem: &Problem,
    ) -> Option<HeatStore> {
        let AssetState::Heat { temperature_c, .. } = self.state(AssetKind::Heat, &spec.id)? else {
            return None;
        };
        let slots_count = problem.load_kw.len();
        let slot_ms = i64::from(problem.slot_minutes) * MINUTE_MS;
        let starts_ms = std::iter::successors(Some(problem.start_ms), |ms| Some(ms + slot_ms));
        let draw_kw = |start_ms: i64| {
            let local_ms = start_ms + i64::from(zone.offset_min(start_ms)) * MINUTE_MS;
            let hour = usize::try_from(local_ms.div_euclid(HOUR_MS).rem_euclid(24)).ok()?;
            spec.draw_kw.get(hour).copied()
        };
        let draws = starts_ms.take(slots_count);
        Some(HeatStore {
            id: spec.id.clone(),
            power_kw: spec.power_kw,
            cop: vec![spec.cop; slots_count],
            kwh_per_k: spec.kwh_per_k,
            loss_kw_per_k: spec.loss_kw_per_k,
            temperature_c,
            min_c: spec.min_c,
            max_c: spec.max_c,
            ambient_c: vec![spec.ambient_c; slots_count],
            draw_kw: draws.map(|ms| draw_kw(ms).unwrap_or(0.0)).collect(),
            end_value_per_kwh: (mean(&problem.buy_price) / spec.cop).max(0.0),
        })
    }
}

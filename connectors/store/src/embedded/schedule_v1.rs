//! Schedules in the layout of version 1 of the embedded store: postcard, where the order of fields is the format. These
//! types never change. If a shared type that they use changes, its old form is copied here.

use std::collections::BTreeMap;

use model::schedule::{Metrics, Plan, PlannedSlot, Relaxation, Schedule, Status};
use model::units::HouseholdId;
use serde::Deserialize;

#[derive(Deserialize)]
struct ScheduleV1 {
    schedule_id: String,
    request_id: String,
    household_id: HouseholdId,
    requested_ms: i64,
    start_ms: i64,
    slot_minutes: u32,
    adopt: bool,
    solve_us: i64,
    plan: PlanV1,
}

#[derive(Deserialize)]
struct PlanV1 {
    status: Status,
    relaxed: Vec<Relaxation>,
    objective: f64,
    solver: String,
    gap: f64,
    metrics: Metrics,
    baseline: Metrics,
    slots: Vec<PlannedSlotV1>,
}

#[derive(Deserialize)]
struct PlannedSlotV1 {
    start_ms: i64,
    load_kw: f64,
    pv_kw: f64,
    grid_import_kw: f64,
    grid_export_kw: f64,
    battery_charge_kw: f64,
    battery_discharge_kw: f64,
    soc_kwh: f64,
    appliances: BTreeMap<String, bool>,
    shadow_price: f64,
}

/// Reads the schedule in `bytes`, which follow the version byte.
pub(super) fn read(bytes: &[u8]) -> Result<Schedule, postcard::Error> {
    let schedule: ScheduleV1 = postcard::from_bytes(bytes)?;
    Ok(Schedule {
        schedule_id: schedule.schedule_id,
        request_id: schedule.request_id,
        household_id: schedule.household_id,
        requested_ms: schedule.requested_ms,
        start_ms: schedule.start_ms,
        slot_minutes: schedule.slot_minutes,
        adopt: schedule.adopt,
        solve_us: schedule.solve_us,
        forecast: None,
        plan: schedule.plan.into(),
    })
}

impl From<PlanV1> for Plan {
    fn from(plan: PlanV1) -> Self {
        Self {
            status: plan.status,
            relaxed: plan.relaxed,
            objective: plan.objective,
            solver: plan.solver,
            gap: plan.gap,
            metrics: plan.metrics,
            baseline: plan.baseline,
            slots: plan.slots.into_iter().map(PlannedSlot::from).collect(),
        }
    }
}

impl From<PlannedSlotV1> for PlannedSlot {
    fn from(slot: PlannedSlotV1) -> Self {
        Self {
            start_ms: slot.start_ms,
            load_kw: slot.load_kw,
            pv_kw: slot.pv_kw,
            grid_import_kw: slot.grid_import_kw,
            grid_export_kw: slot.grid_export_kw,
            battery_charge_kw: slot.battery_charge_kw,
            battery_discharge_kw: slot.battery_discharge_kw,
            soc_kwh: slot.soc_kwh,
            appliances: slot.appliances,
            evs: BTreeMap::new(),
            heat: BTreeMap::new(),
            shadow_price: slot.shadow_price,
            policy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::schedule::{Relaxation, Status};

    use crate::embedded::tables::{packed_record, unpacked_schedule};

    #[test]
    fn a_row_of_version_1_is_read() {
        let stored = include_bytes!("../../golden/schedule-row-v1.bin");
        let schedule = unpacked_schedule(stored).unwrap();
        assert_eq!(schedule.schedule_id, "7-1757670300000-3");
        assert_eq!(schedule.household_id.get(), 7);
        assert_eq!(schedule.start_ms, 1_757_670_300_000);
        assert!(schedule.adopt);
        let plan = &schedule.plan;
        assert_eq!(plan.status, Status::Optimal);
        let relaxed = Relaxation {
            constraint: "grid.import_limit_kw".to_owned(),
            amount: 0.5,
        };
        assert_eq!(plan.relaxed, [relaxed]);
        let [first, last] = plan.slots.as_slice() else {
            panic!("two slots, found {}", plan.slots.len());
        };
        assert_eq!((first.pv_kw, first.battery_charge_kw), (2.0, 1.5));
        assert_eq!(first.appliances, [("dishwasher".to_owned(), false)].into());
        assert_eq!(
            (last.start_ms, last.shadow_price),
            (1_757_671_200_000, 0.25)
        );
        // Written again, it has the current version.
        let row = packed_record(&schedule).unwrap();
        assert_eq!(row[0], 2);
        assert_eq!(unpacked_schedule(&row).unwrap(), schedule);
    }

    #[test]
    fn other_versions_and_damage_are_corrupt() {
        for value in [&[][..], &[1, 2, 3], &[2, 0xC3, 1], &[3, 0]] {
            assert!(!unpacked_schedule(value).unwrap_err().is_retryable());
        }
    }
}

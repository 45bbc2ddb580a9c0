//! Rules for the values of each topic that an Avro schema cannot express.

use model::alert::Alert;
use model::asset::{AssetReading, AssetState};
use model::command::{Ack, Command, ENTRIES_MAX, ProgramEntry};
use model::limits::{ID_BYTES_MAX, LimitError, PERIODS_MAX, counted, named};
use model::metadata::Metadata;
use model::policy::SlotPolicy;
use model::problem::{Battery, Ev, Grid, HeatStore, Problem, Signal};
use model::reading::{Measurement, Reading};
use model::request::OptimizeRequest;
use model::schedule::{Metrics, Plan, PlannedSlot, Schedule};
use model::slot::{HouseholdSlot, Stat};
use model::tariff::Tariff;
use model::units::{HouseholdId, SlotLength};

use super::Message;
use crate::dead_letter::DeadLetter;
use crate::mqtt::{CONSUMPTION_W, HEATER_W, POWER_W, PV_W, SOC_PCT, TEMPERATURE_C};
use crate::telemetry::Telemetry;
use crate::time::{self, rfc3339};
use crate::topic::Topic;
use crate::weather::WeatherForecast;

/// Largest absolute value of a field that has no range of its own. Anything larger is damage.
const NUMBER_MAX: f64 = 1e15;

type Checked = Result<(), LimitError>;

fn broken(field: &str, found: &dyn std::fmt::Display, expected: &str) -> LimitError {
    LimitError {
        field: field.to_owned(),
        found: found.to_string(),
        expected: expected.to_owned(),
    }
}

fn id(id: HouseholdId) -> Checked {
    if id.get() > 0 {
        Ok(())
    } else {
        Err(broken("household_id", &id, "a positive 63-bit integer"))
    }
}

fn time(field: &str, ts_ms: i64) -> Checked {
    if time::is_in_range(ts_ms) {
        return Ok(());
    }
    let expected = "a time of the years 1970 to 9999";
    let found = format!("{ts_ms} ms ({})", rfc3339(ts_ms));
    Err(broken(field, &found, expected))
}

/// Checks both times, and that the end is after the start.
fn span(fields: (&str, &str), start_ms: i64, end_ms: i64) -> Checked {
    time(fields.0, start_ms)?;
    time(fields.1, end_ms)?;
    if start_ms < end_ms {
        return Ok(());
    }
    let expected = format!("a time after {}", rfc3339(start_ms));
    Err(broken(fields.1, &rfc3339(end_ms), &expected))
}

fn within(field: &str, value: f64, (min, max): (f64, f64)) -> Checked {
    // NaN is in no range.
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(broken(field, &value, &format!("{min} to {max}")))
    }
}

/// Checks that every field of `parent` is finite and at most [`NUMBER_MAX`] in absolute value.
fn numbers(parent: &str, fields: &[(&str, f64)]) -> Checked {
    for (name, value) in fields {
        if !(-NUMBER_MAX..=NUMBER_MAX).contains(value) {
            let field = if parent.is_empty() {
                (*name).to_owned()
            } else {
                format!("{parent}.{name}")
            };
            within(&field, *value, (-NUMBER_MAX, NUMBER_MAX))?;
        }
    }
    Ok(())
}

fn series(field: &str, values: &[f64]) -> Checked {
    for (index, value) in values.iter().enumerate() {
        if !(-NUMBER_MAX..=NUMBER_MAX).contains(value) {
            let field = format!("{field}[{index}]");
            within(&field, *value, (-NUMBER_MAX, NUMBER_MAX))?;
        }
    }
    Ok(())
}

fn slot_minutes(field: &str, minutes: u32) -> Checked {
    match SlotLength::new(minutes) {
        Some(_) => Ok(()),
        None => Err(broken(field, &minutes, "1, 5, 15, 30 or 60")),
    }
}

impl Message for Reading {
    const TOPIC: Topic = Topic::Telemetry;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("ts_ms", self.ts_ms)?;
        match self.measurement {
            Measurement::Meter { consumption_w } => {
                within("consumption_w", consumption_w, CONSUMPTION_W)
            }
            Measurement::Pv { pv_w } => within("pv_w", pv_w, PV_W),
            Measurement::Battery { soc_pct, power_w } => {
                within("soc_pct", soc_pct, SOC_PCT)?;
                within("power_w", power_w, POWER_W)
            }
        }
    }
}

impl Message for Telemetry {
    const TOPIC: Topic = Topic::Telemetry;

    fn check(&self) -> Checked {
        match self {
            Self::Reading(reading) => reading.check(),
            Self::Asset(reading) => asset(reading),
        }
    }
}

fn asset(reading: &AssetReading) -> Checked {
    id(reading.household_id)?;
    time("ts_ms", reading.ts_ms)?;
    named("id", &reading.id, 1, ID_BYTES_MAX)?;
    match reading.state {
        AssetState::Ev {
            soc_pct,
            power_w,
            departure_ms,
            goal_pct,
            ..
        } => {
            within("soc_pct", soc_pct.unwrap_or(0.0), SOC_PCT)?;
            within("power_w", power_w, POWER_W)?;
            departure_ms.map_or(Ok(()), |ts_ms| time("departure_ms", ts_ms))?;
            within("goal_pct", goal_pct.unwrap_or(0.0), SOC_PCT)
        }
        AssetState::Heat {
            temperature_c,
            power_w,
        } => {
            within("temperature_c", temperature_c, TEMPERATURE_C)?;
            within("power_w", power_w, HEATER_W)
        }
    }
}

impl Message for Metadata {
    const TOPIC: Topic = Topic::Households;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        Self::check(self)
    }
}

fn weights(field: &str, weights: model::problem::Weights) -> Checked {
    let fields = [
        ("cost", weights.cost),
        ("autarky", weights.autarky),
        ("revenue", weights.revenue),
    ];
    numbers(field, &fields)
}

impl Message for Tariff {
    const TOPIC: Topic = Topic::Tariffs;

    fn check(&self) -> Checked {
        Self::check(self)
    }
}

impl Message for WeatherForecast {
    const TOPIC: Topic = Topic::WeatherForecast;

    fn check(&self) -> Checked {
        time("issued_ms", self.issued_ms)?;
        counted("periods", self.periods.len(), 0, PERIODS_MAX)?;
        for (index, period) in self.periods.iter().enumerate() {
            let field = |name: &str| format!("periods[{index}].{name}");
            let (start, end) = (field("start_ms"), field("end_ms"));
            span((&start, &end), period.start_ms, period.end_ms)?;
            let fields = [
                ("ghi_w_per_m2", period.ghi_w_per_m2),
                ("temperature_c", period.temperature_c),
            ];
            numbers(&format!("periods[{index}]"), &fields)?;
        }
        Ok(())
    }
}

impl Message for OptimizeRequest {
    const TOPIC: Topic = Topic::OptimizeRequests;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("requested_ms", self.requested_ms)?;
        problem(&self.problem)
    }
}

/// Checks times and numbers only; the scheduler validates the rest.
fn problem(problem: &Problem) -> Checked {
    time("problem.start_ms", problem.start_ms)?;
    slot_minutes("problem.slot_minutes", problem.slot_minutes)?;
    for (field, values) in [
        ("problem.load_kw", &problem.load_kw),
        ("problem.pv_kw", &problem.pv_kw),
        ("problem.buy_price", &problem.buy_price),
        ("problem.sell_price", &problem.sell_price),
    ] {
        series(field, values)?;
    }
    if let Some(battery) = &problem.battery {
        self::battery(battery)?;
    }
    grid("problem.grid", problem.grid)?;
    for (index, appliance) in problem.appliances.iter().enumerate() {
        let field = format!("problem.appliances[{index}].profile_kw");
        series(&field, &appliance.profile_kw)?;
    }
    for (index, ev) in problem.evs.iter().enumerate() {
        self::ev(&format!("problem.evs[{index}]"), ev)?;
    }
    for (index, store) in problem.heat_stores.iter().enumerate() {
        heat_store(&format!("problem.heat_stores[{index}]"), store)?;
    }
    if let Some(stability) = &problem.stability {
        let fields = [
            ("battery_cost_per_kwh", stability.battery_cost_per_kwh),
            ("start_cost", stability.start_cost),
        ];
        numbers("problem.stability", &fields)?;
        series(
            "problem.stability.soc_change_kwh",
            &stability.soc_change_kwh,
        )?;
    }
    numbers("problem", &[("caution_per_kwh", problem.caution_per_kwh)])?;
    for (index, scenario) in problem.scenarios.iter().enumerate() {
        let field = format!("problem.scenarios[{index}]");
        numbers(&field, &[("weight", scenario.weight)])?;
    }
    if let Some(signal) = &problem.signal {
        self::signal(signal)?;
    }
    weights("problem.weights", problem.weights)
}

fn signal(signal: &Signal) -> Checked {
    series("problem.signal.price_per_kwh", &signal.price_per_kwh)?;
    let caps = [
        ("problem.signal.import_cap_kw", &signal.import_cap_kw),
        ("problem.signal.export_cap_kw", &signal.export_cap_kw),
    ];
    for (field, caps) in caps {
        let known: Vec<f64> = caps.iter().map(|cap| cap.unwrap_or(0.0)).collect();
        series(field, &known)?;
    }
    let prices = [
        (
            "import_breach_price_per_kwh",
            signal.import_breach_price_per_kwh,
        ),
        (
            "export_breach_price_per_kwh",
            signal.export_breach_price_per_kwh,
        ),
    ];
    numbers("problem.signal", &prices)
}

fn grid(field: &str, grid: Grid) -> Checked {
    let fields = [
        ("import_limit_kw", grid.import_limit_kw.unwrap_or(0.0)),
        ("export_limit_kw", grid.export_limit_kw.unwrap_or(0.0)),
        ("peak_price_per_kw", grid.peak_price_per_kw),
        ("peak_kw", grid.peak_kw),
    ];
    numbers(field, &fields)
}

fn battery(battery: &Battery) -> Checked {
    let fields = [
        ("capacity_kwh", battery.capacity_kwh),
        ("soc_kwh", battery.soc_kwh),
        ("min_soc_kwh", battery.min_soc_kwh),
        ("max_soc_kwh", battery.max_soc_kwh),
        ("charge_kw", battery.charge_kw),
        ("discharge_kw", battery.discharge_kw),
        ("charge_efficiency", battery.charge_efficiency),
        ("discharge_efficiency", battery.discharge_efficiency),
        ("end_soc_min_kwh", battery.end_soc_min_kwh),
        ("end_value_per_kwh", battery.end_value_per_kwh),
        ("wear_cost_per_kwh", battery.wear_cost_per_kwh),
    ];
    numbers("problem.battery", &fields)
}

fn ev(field: &str, ev: &Ev) -> Checked {
    let fields = [
        ("capacity_kwh", ev.capacity_kwh),
        ("soc_kwh", ev.soc_kwh),
        ("min_soc_kwh", ev.min_soc_kwh),
        ("goal_soc_kwh", ev.goal_soc_kwh),
        ("charge_kw", ev.charge_kw),
        ("min_charge_kw", ev.min_charge_kw),
        ("discharge_kw", ev.discharge_kw),
        ("charge_efficiency", ev.charge_efficiency),
        ("discharge_efficiency", ev.discharge_efficiency),
        ("end_value_per_kwh", ev.end_value_per_kwh),
        ("wear_cost_per_kwh", ev.wear_cost_per_kwh),
    ];
    numbers(field, &fields)
}

fn heat_store(field: &str, store: &HeatStore) -> Checked {
    let fields = [
        ("power_kw", store.power_kw),
        ("kwh_per_k", store.kwh_per_k),
        ("loss_kw_per_k", store.loss_kw_per_k),
        ("temperature_c", store.temperature_c),
        ("min_c", store.min_c),
        ("max_c", store.max_c),
        ("end_value_per_kwh", store.end_value_per_kwh),
    ];
    numbers(field, &fields)?;
    series(&format!("{field}.cop"), &store.cop)?;
    series(&format!("{field}.ambient_c"), &store.ambient_c)?;
    series(&format!("{field}.draw_kw"), &store.draw_kw)
}

impl Message for Schedule {
    const TOPIC: Topic = Topic::Schedules;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("requested_ms", self.requested_ms)?;
        time("start_ms", self.start_ms)?;
        slot_minutes("slot_minutes", self.slot_minutes)?;
        plan(&self.plan)
    }
}

fn plan(plan: &Plan) -> Checked {
    numbers("plan", &[("objective", plan.objective), ("gap", plan.gap)])?;
    figures("plan.metrics", plan.metrics)?;
    figures("plan.baseline", plan.baseline)?;
    for relaxation in &plan.relaxed {
        numbers("plan.relaxed", &[("amount", relaxation.amount)])?;
    }
    for (index, slot) in plan.slots.iter().enumerate() {
        planned_slot(index, slot)?;
    }
    Ok(())
}

fn figures(field: &str, figures: Metrics) -> Checked {
    let fields = [
        ("cost", figures.cost),
        ("grid_import_kwh", figures.grid_import_kwh),
        ("grid_export_kwh", figures.grid_export_kwh),
        ("autarky", figures.autarky),
        ("self_consumption", figures.self_consumption),
    ];
    numbers(field, &fields)
}

fn planned_slot(index: usize, slot: &PlannedSlot) -> Checked {
    let field = || format!("plan.slots[{index}]");
    if !time::is_in_range(slot.start_ms) {
        time(&format!("{}.start_ms", field()), slot.start_ms)?;
    }
    let fields = [
        ("load_kw", slot.load_kw),
        ("pv_kw", slot.pv_kw),
        ("grid_import_kw", slot.grid_import_kw),
        ("grid_export_kw", slot.grid_export_kw),
        ("battery_charge_kw", slot.battery_charge_kw),
        ("battery_discharge_kw", slot.battery_discharge_kw),
        ("soc_kwh", slot.soc_kwh),
        ("shadow_price", slot.shadow_price),
    ];
    // A fleet's schedules have many slots, so the path is formatted only for an error.
    if numbers("", &fields).is_err() {
        numbers(&field(), &fields)?;
    }
    for ev in slot.evs.values() {
        let fields = [
            ("charge_kw", ev.charge_kw),
            ("discharge_kw", ev.discharge_kw),
            ("soc_kwh", ev.soc_kwh),
        ];
        numbers("plan.slots.evs", &fields)?;
    }
    for store in slot.heat.values() {
        let fields = [
            ("power_kw", store.power_kw),
            ("temperature_c", store.temperature_c),
        ];
        numbers("plan.slots.heat", &fields)?;
    }
    match &slot.policy {
        Some(policy) => slot_policy("plan.slots.policy", policy),
        None => Ok(()),
    }
}

impl Message for Command {
    const TOPIC: Topic = Topic::Commands;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("requested_ms", self.requested_ms)?;
        time("issued_ms", self.issued_ms)?;
        time("expires_ms", self.expires_ms)?;
        counted("program", self.program.len(), 1, ENTRIES_MAX)?;
        for (index, (entry, end_ms)) in self.spans().enumerate() {
            let from = format!("program[{index}].from_ms");
            span((&from, "expires_ms"), entry.from_ms, end_ms)?;
            program_entry(&format!("program[{index}]"), entry)?;
        }
        if let Some(battery) = self.battery {
            let fields = [
                ("capacity_kwh", battery.capacity_kwh),
                ("charge_kw", battery.charge_kw),
                ("discharge_kw", battery.discharge_kw),
            ];
            numbers("battery", &fields)?;
        }
        Ok(())
    }
}

fn program_entry(field: &str, entry: &ProgramEntry) -> Checked {
    if let Some(policy) = &entry.policy {
        slot_policy(&format!("{field}.policy"), policy)?;
    }
    for order in entry.evs.values() {
        let fields = [
            ("charge_kw", order.charge_kw),
            ("discharge_max_kw", order.discharge_max_kw),
        ];
        numbers(&format!("{field}.evs"), &fields)?;
    }
    for order in entry.heat.values() {
        numbers(&format!("{field}.heat"), &[("power_kw", order.power_kw)])?;
    }
    Ok(())
}

fn slot_policy(field: &str, policy: &SlotPolicy) -> Checked {
    let fields = [
        ("import_max_kw", policy.import_max_kw.unwrap_or(0.0)),
        ("export_max_kw", policy.export_max_kw.unwrap_or(0.0)),
        ("value_per_kwh", policy.value_per_kwh),
    ];
    numbers(field, &fields)?;
    let Some(battery) = &policy.battery else {
        return Ok(());
    };
    let or_never = |content_kwh: Option<f64>| content_kwh.unwrap_or(0.0);
    let fields = [
        (
            "charge_from_grid_to_kwh",
            or_never(battery.charge_from_grid_to_kwh),
        ),
        (
            "charge_from_pv_to_kwh",
            or_never(battery.charge_from_pv_to_kwh),
        ),
        (
            "discharge_to_home_to_kwh",
            or_never(battery.discharge_to_home_to_kwh),
        ),
        (
            "discharge_to_grid_to_kwh",
            or_never(battery.discharge_to_grid_to_kwh),
        ),
        (
            "charge_from_excess_to_kwh",
            or_never(battery.charge_from_excess_to_kwh),
        ),
        (
            "discharge_to_excess_to_kwh",
            or_never(battery.discharge_to_excess_to_kwh),
        ),
        ("setpoint_kw", battery.setpoint_kw.unwrap_or(0.0)),
        ("expected_kw", battery.expected_kw),
    ];
    numbers(&format!("{field}.battery"), &fields)
}

impl Message for Ack {
    const TOPIC: Topic = Topic::Acks;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("ts_ms", self.ts_ms)
    }
}

impl Message for DeadLetter {
    const TOPIC: Topic = Topic::DeadLetters;

    fn check(&self) -> Checked {
        time("refused_ms", self.refused_ms)
    }
}

impl Message for Alert {
    const TOPIC: Topic = Topic::Alerts;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        time("ts_ms", self.ts_ms)
    }
}

impl Message for HouseholdSlot {
    const TOPIC: Topic = Topic::Slots;

    fn check(&self) -> Checked {
        id(self.household_id)?;
        let slot = &self.slot;
        time("slot.start_ms", slot.start_ms)?;
        time("slot.soc_ts_ms", slot.soc_ts_ms)?;
        slot_minutes("slot.slot_minutes", slot.slot_minutes)?;
        stat("slot.load_w", slot.load_w)?;
        stat("slot.pv_w", slot.pv_w)?;
        stat("slot.battery_w", slot.battery_w)?;
        within("slot.soc_pct", slot.soc_pct.unwrap_or(0.0), SOC_PCT)
    }
}

fn stat(field: &str, stat: Stat) -> Checked {
    let fields = [("sum", stat.sum), ("min", stat.min), ("max", stat.max)];
    numbers(field, &fields)
}

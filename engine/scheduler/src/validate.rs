//! Checks that a problem is valid. A valid problem may still have no plan that keeps every limit.

use std::fmt::Display;

use model::limits::{
    self, APPLIANCES_MAX, EFFICIENCY_MIN, ENERGY_KWH_MAX, LimitError, POWER_KW_MAX, PRICE_MAX,
    SCENARIOS_MAX, SLOTS_MAX, STORES_MAX, TIME_MS_MAX, WEIGHT_MAX,
};
use model::problem::{Appliance, Battery, Problem};
use model::units::{HOUR_MS, SlotLength};

/// Largest absolute temperature, degrees Celsius.
pub const TEMPERATURE_C_MAX: f64 = 1_000.0;
/// Smallest heat capacity of a store, kWh per kelvin: about a litre of water.
pub const KWH_PER_K_MIN: f64 = 0.001;
/// Smallest coefficient of performance of a heater.
pub const COP_MIN: f64 = 0.1;
/// Largest coefficient of performance of a heater.
pub const COP_MAX: f64 = 100.0;
/// Latest start of a horizon, so that its last slot still has a date that can be written.
const START_MS_MAX: i64 = TIME_MS_MAX - SLOTS_MAX as i64 * HOUR_MS;

/// Why a problem is invalid. `field` is the name of the field in `POST /api/optimize`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// A number outside its range, or NaN.
    #[error("{field} is {value}, but must be {limit}")]
    OutOfRange {
        /// Its path, such as `battery.charge_kw` or `load_kw[3]`.
        field: String,
        /// The value found, in the field's unit.
        value: f64,
        /// The values allowed.
        limit: String,
    },
    /// A series or list of the wrong length.
    #[error("{field} has {count} entries, but must have {limit}")]
    Count {
        /// Its path.
        field: String,
        /// How many entries it has.
        count: usize,
        /// How many it may have.
        limit: String,
    },
    /// A text or a time that is not allowed.
    #[error("{field} is {value:?}, but must be {limit}")]
    Name {
        /// Its path.
        field: String,
        /// The value found.
        value: String,
        /// The values allowed.
        limit: String,
    },
    /// A limit that holds for metadata as well.
    #[error(transparent)]
    Home(#[from] LimitError),
}

impl ProblemError {
    /// Returns the path of the field at fault, such as `battery.charge_kw` or `load_kw[3]`.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::OutOfRange { field, .. }
            | Self::Count { field, .. }
            | Self::Name { field, .. }
            | Self::Home(LimitError { field, .. }) => field,
        }
    }

    /// Returns what the field must be.
    #[must_use]
    pub fn limit(&self) -> &str {
        match self {
            Self::OutOfRange { limit, .. }
            | Self::Count { limit, .. }
            | Self::Name { limit, .. }
            | Self::Home(LimitError {
                expected: limit, ..
            }) => limit,
        }
    }

    /// Returns false: the same problem fails again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfRange { .. } | Self::Count { .. } | Self::Name { .. } | Self::Home(_) => {
                false
            }
        }
    }
}

/// Checks that `problem` is valid.
///
/// # Errors
/// Returns the first field that breaks a limit, with the limit.
pub fn validate(problem: &Problem) -> Result<(), ProblemError> {
    time(problem)?;
    series(problem)?;
    if let Some(battery) = &problem.battery {
        self::battery(battery)?;
    }
    problem.grid.check()?;
    appliances(problem)?;
    evs(problem)?;
    heat_stores(problem)?;
    stability(problem)?;
    problem.weights.check()?;
    scenarios(problem)?;
    signal(problem)
}

/// Checks that `value` is in `least..=most`. NaN is in no range. A `field` is written out only where something is wrong.
fn within(field: impl Display, value: f64, least: f64, most: f64) -> Result<(), ProblemError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ProblemError::OutOfRange {
        field: field.to_string(),
        value,
        limit: format!("{least} to {most}"),
    })
}

fn time(problem: &Problem) -> Result<(), ProblemError> {
    let Some(slot) = SlotLength::new(problem.slot_minutes) else {
        return Err(ProblemError::OutOfRange {
            field: "slot_minutes".to_owned(),
            value: f64::from(problem.slot_minutes),
            limit: "1, 5, 15, 30 or 60".to_owned(),
        });
    };
    if (0..=START_MS_MAX).contains(&problem.start_ms) && problem.start_ms % slot.ms() == 0 {
        return Ok(());
    }
    Err(ProblemError::Name {
        field: "start".to_owned(),
        value: format!("{} ms", problem.start_ms),
        limit: format!(
            "a multiple of {} minutes since 1970-01-01T00:00:00Z, before the year 9999",
            problem.slot_minutes
        ),
    })
}

fn series(problem: &Problem) -> Result<(), ProblemError> {
    let slots_count = problem.load_kw.len();
    if !(1..=SLOTS_MAX).contains(&slots_count) {
        return Err(ProblemError::Count {
            field: "load_kw".to_owned(),
            count: slots_count,
            limit: format!("1 to {SLOTS_MAX}"),
        });
    }
    let all = [
        ("load_kw", &problem.load_kw, 0.0, POWER_KW_MAX),
        ("pv_kw", &problem.pv_kw, 0.0, POWER_KW_MAX),
        ("buy_price", &problem.buy_price, -PRICE_MAX, PRICE_MAX),
        ("sell_price", &problem.sell_price, -PRICE_MAX, PRICE_MAX),
    ];
    for (field, values, least, most) in all {
        one_a_slot(field, values, slots_count)?;
        each_within(field, values, least, most)?;
    }
    Ok(())
}

fn battery(battery: &Battery) -> Result<(), ProblemError> {
    let capacity = battery.capacity_kwh;
    within("battery.capacity_kwh", capacity, 0.0, ENERGY_KWH_MAX)?;
    within("battery.soc_kwh", battery.soc_kwh, 0.0, capacity)?;
    let most = battery.max_soc_kwh;
    within("battery.max_soc_kwh", most, 0.0, capacity)?;
    within("battery.min_soc_kwh", battery.min_soc_kwh, 0.0, most)?;
    within("battery.charge_kw", battery.charge_kw, 0.0, POWER_KW_MAX)?;
    within(
        "battery.discharge_kw",
        battery.discharge_kw,
        0.0,
        POWER_KW_MAX,
    )?;
    within(
        "battery.charge_efficiency",
        battery.charge_efficiency,
        EFFICIENCY_MIN,
        1.0,
    )?;
    within(
        "battery.discharge_efficiency",
        battery.discharge_efficiency,
        EFFICIENCY_MIN,
        1.0,
    )?;
    within(
        "battery.end_soc_min_kwh",
        battery.end_soc_min_kwh,
        0.0,
        capacity,
    )?;
    within(
        "battery.end_value_per_kwh",
        battery.end_value_per_kwh,
        -PRICE_MAX,
        PRICE_MAX,
    )?;
    within(
        "battery.wear_cost_per_kwh",
        battery.wear_cost_per_kwh,
        0.0,
        PRICE_MAX,
    )
}

fn appliances(problem: &Problem) -> Result<(), ProblemError> {
    if problem.appliances.len() > APPLIANCES_MAX {
        return Err(ProblemError::Count {
            field: "appliances".to_owned(),
            count: problem.appliances.len(),
            limit: format!("0 to {APPLIANCES_MAX}"),
        });
    }
    let ids = problem.appliances.iter().map(|a| a.id.as_str());
    limits::ids("appliances", ids)?;
    for (index, appliance) in problem.appliances.iter().enumerate() {
        self::appliance(problem, index, appliance)?;
    }
    Ok(())
}

fn evs(problem: &Problem) -> Result<(), ProblemError> {
    if problem.evs.len() > STORES_MAX {
        return Err(ProblemError::Count {
            field: "evs".to_owned(),
            count: problem.evs.len(),
            limit: format!("0 to {STORES_MAX}"),
        });
    }
    limits::ids("evs", problem.evs.iter().map(|ev| ev.id.as_str()))?;
    for (index, ev) in problem.evs.iter().enumerate() {
        let slots_count = problem.load_kw.len();
        if ev.departure_slot as usize > slots_count || ev.departure_slot <= ev.arrival_slot {
            return Err(ProblemError::OutOfRange {
                field: format!("evs[{index}].departure_slot"),
                value: f64::from(ev.departure_slot),
                limit: format!(
                    "{} to {slots_count}: after arrival_slot and inside the horizon",
                    ev.arrival_slot.saturating_add(1)
                ),
            });
        }
        let capacity = ev.capacity_kwh;
        let limits = [
            ("capacity_kwh", capacity, 0.0, ENERGY_KWH_MAX),
            ("soc_kwh", ev.soc_kwh, 0.0, capacity),
            ("min_soc_kwh", ev.min_soc_kwh, 0.0, capacity),
            ("goal_soc_kwh", ev.goal_soc_kwh, 0.0, capacity),
            ("charge_kw", ev.charge_kw, 0.0, POWER_KW_MAX),
            ("min_charge_kw", ev.min_charge_kw, 0.0, ev.charge_kw),
            ("discharge_kw", ev.discharge_kw, 0.0, POWER_KW_MAX),
            (
                "charge_efficiency",
                ev.charge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            (
                "discharge_efficiency",
                ev.discharge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            (
                "end_value_per_kwh",
                ev.end_value_per_kwh,
                -PRICE_MAX,
                PRICE_MAX,
            ),
            ("wear_cost_per_kwh", ev.wear_cost_per_kwh, 0.0, PRICE_MAX),
        ];
        all_within(format_args!("evs[{index}]"), &limits)?;
    }
    Ok(())
}

fn heat_stores(problem: &Problem) -> Result<(), ProblemError> {
    let stores = &problem.heat_stores;
    if stores.len() > STORES_MAX {
        return Err(ProblemError::Count {
            field: "heat_stores".to_owned(),
            count: stores.len(),
            limit: format!("0 to {STORES_MAX}"),
        });
    }
    limits::ids("heat_stores", stores.iter().map(|store| store.id.as_str()))?;
    for (index, store) in stores.iter().enumerate() {
        let celsius = (-TEMPERATURE_C_MAX, TEMPERATURE_C_MAX);
        let limits = [
            ("power_kw", store.power_kw, 0.0, POWER_KW_MAX),
            ("kwh_per_k", store.kwh_per_k, KWH_PER_K_MIN, ENERGY_KWH_MAX),
            ("loss_kw_per_k", store.loss_kw_per_k, 0.0, POWER_KW_MAX),
            ("temperature_c", store.temperature_c, celsius.0, celsius.1),
            ("max_c", store.max_c, celsius.0, celsius.1),
            ("min_c", store.min_c, celsius.0, store.max_c),
            (
                "end_value_per_kwh",
                store.end_value_per_kwh,
                -PRICE_MAX,
                PRICE_MAX,
            ),
        ];
        all_within(format_args!("heat_stores[{index}]"), &limits)?;
        let all = [
            ("cop", &store.cop, COP_MIN, COP_MAX),
            ("ambient_c", &store.ambient_c, celsius.0, celsius.1),
            ("draw_kw", &store.draw_kw, 0.0, POWER_KW_MAX),
        ];
        for (field, values, least, most) in all {
            let name = format_args!("heat_stores[{index}].{field}");
            one_a_slot(name, values, problem.load_kw.len())?;
            each_within(name, values, least, most)?;
        }
    }
    Ok(())
}

fn stability(problem: &Problem) -> Result<(), ProblemError> {
    let Some(stability) = &problem.stability else {
        return Ok(());
    };
    let limits = [
        (
            "battery_cost_per_kwh",
            stability.battery_cost_per_kwh,
            0.0,
            PRICE_MAX,
        ),
        ("start_cost", stability.start_cost, 0.0, PRICE_MAX),
    ];
    all_within("stability", &limits)?;
    let changes = &stability.soc_change_kwh;
    if changes.len() > problem.load_kw.len() {
        return Err(ProblemError::Count {
            field: "stability.soc_change_kwh".to_owned(),
            count: changes.len(),
            limit: format!("0 to {}, the slots of load_kw", problem.load_kw.len()),
        });
    }
    let most = ENERGY_KWH_MAX;
    each_within("stability.soc_change_kwh", changes, -most, most)
}

fn scenarios(problem: &Problem) -> Result<(), ProblemError> {
    within("caution_per_kwh", problem.caution_per_kwh, 0.0, PRICE_MAX)?;
    let scenarios = &problem.scenarios;
    if scenarios.len() > SCENARIOS_MAX {
        return Err(ProblemError::Count {
            field: "scenarios".to_owned(),
            count: scenarios.len(),
            limit: format!("0 to {SCENARIOS_MAX}"),
        });
    }
    for (index, scenario) in scenarios.iter().enumerate() {
        let weight = format_args!("scenarios[{index}].weight");
        within(weight, scenario.weight, 0.0, WEIGHT_MAX)?;
        let all = [("load_kw", &scenario.load_kw), ("pv_kw", &scenario.pv_kw)];
        for (field, values) in all {
            let name = format_args!("scenarios[{index}].{field}");
            one_a_slot(name, values, problem.load_kw.len())?;
            each_within(name, values, 0.0, POWER_KW_MAX)?;
        }
    }
    if scenarios.is_empty() || scenarios.iter().any(|scenario| scenario.weight > 0.0) {
        return Ok(());
    }
    Err(ProblemError::OutOfRange {
        field: "scenarios[0].weight".to_owned(),
        value: 0.0,
        limit: format!("above 0 to {WEIGHT_MAX} in at least one scenario"),
    })
}

fn signal(problem: &Problem) -> Result<(), ProblemError> {
    let Some(signal) = &problem.signal else {
        return Ok(());
    };
    let slots_count = problem.load_kw.len();
    let prices = &signal.price_per_kwh;
    if !prices.is_empty() {
        one_a_slot("signal.price_per_kwh", prices, slots_count)?;
        each_within("signal.price_per_kwh", prices, -PRICE_MAX, PRICE_MAX)?;
    }
    let caps = [
        ("signal.import_cap_kw", &signal.import_cap_kw),
        ("signal.export_cap_kw", &signal.export_cap_kw),
    ];
    for (field, caps) in caps {
        if caps.is_empty() {
            continue;
        }
        one_a_slot(field, caps, slots_count)?;
        for (t, cap) in caps.iter().enumerate() {
            let cap = cap.unwrap_or(0.0);
            within(
                format_args!("{field}[{t}]"),
                cap,
                -POWER_KW_MAX,
                POWER_KW_MAX,
            )?;
        }
    }
    let limits = [
        (
            "import_breach_price_per_kwh",
            signal.import_breach_price_per_kwh,
            0.0,
            PRICE_MAX,
        ),
        (
            "export_breach_price_per_kwh",
            signal.export_breach_price_per_kwh,
            0.0,
            PRICE_MAX,
        ),
    ];
    all_within("signal", &limits)
}

/// Checks that each named field of `parent` is within its limits.
fn all_within(parent: impl Display, limits: &[(&str, f64, f64, f64)]) -> Result<(), ProblemError> {
    for (field, value, least, most) in limits {
        within(format_args!("{parent}.{field}"), *value, *least, *most)?;
    }
    Ok(())
}

fn one_a_slot<T>(
    field: impl Display,
    values: &[T],
    slots_count: usize,
) -> Result<(), ProblemError> {
    if values.len() == slots_count {
        return Ok(());
    }
    Err(ProblemError::Count {
        field: field.to_string(),
        count: values.len(),
        limit: format!("{slots_count}, as many as load_kw"),
    })
}

fn each_within(
    field: impl Display,
    values: &[f64],
    least: f64,
    most: f64,
) -> Result<(), ProblemError> {
    // Check all at once first, because they nearly always pass.
    let mut are_inside = true;
    for value in values {
        are_inside &= *value >= least && *value <= most;
    }
    if are_inside {
        return Ok(());
    }
    for (t, value) in values.iter().enumerate() {
        within(format_args!("{field}[{t}]"), *value, least, most)?;
    }
    Ok(())
}

fn appliance(problem: &Problem, index: usize, appliance: &Appliance) -> Result<(), ProblemError> {
    let slots_count = problem.load_kw.len();
    let end = appliance.latest_end_slot as usize;
    let earliest = appliance.earliest_slot as usize;
    if end > slots_count || end <= earliest {
        return Err(ProblemError::OutOfRange {
            field: format!("appliances[{index}].latest_end_slot"),
            value: f64::from(appliance.latest_end_slot),
            limit: format!(
                "{} to {slots_count}: after earliest_slot and inside the horizon",
                earliest + 1
            ),
        });
    }
    let profile = &appliance.profile_kw;
    if !(1..=end - earliest).contains(&profile.len()) {
        return Err(ProblemError::Count {
            field: format!("appliances[{index}].profile_kw"),
            count: profile.len(),
            limit: format!("1 to {}, to fit its window", end - earliest),
        });
    }
    let field = format_args!("appliances[{index}].profile_kw");
    each_within(field, profile, 0.0, POWER_KW_MAX)
}

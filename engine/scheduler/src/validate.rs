//! Which problems can be stated. A problem that passes may still have no plan that keeps every limit.

use std::collections::BTreeSet;

use household::problem::{Appliance, Battery, Problem};
use household::units::SlotLength;

/// Most slots in a horizon: a week of quarter hours.
pub const SLOTS_MAX: usize = 672;
/// Most appliances in a problem.
pub const APPLIANCES_MAX: usize = 16;
/// Largest power, kW.
pub const POWER_KW_MAX: f64 = 10_000.0;
/// Largest energy, kWh.
pub const ENERGY_KWH_MAX: f64 = 100_000.0;
/// Largest price of either sign, currency per kWh. It leaves room for currencies of small units.
pub const PRICE_MAX: f64 = 100_000.0;
/// Largest weight.
pub const WEIGHT_MAX: f64 = 1_000.0;
/// Smallest efficiency.
const EFFICIENCY_MIN: f64 = 0.01;
/// Longest appliance id, bytes.
const APPLIANCE_ID_BYTES_MAX: usize = 64;

/// Why a problem cannot be stated. `field` is its name in `POST /api/optimize`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// A number beyond its limit, or none at all.
    #[error("{field} is {value}, but must be {limit}")]
    OutOfRange {
        field: String,
        value: f64,
        limit: String,
    },
    /// A series or list of the wrong length.
    #[error("{field} has {count} entries, but must have {limit}")]
    Count {
        field: String,
        count: usize,
        limit: String,
    },
    /// A text, or a time, that cannot be used.
    #[error("{field} is {value:?}, but must be {limit}")]
    Name {
        field: String,
        value: String,
        limit: String,
    },
}

impl ProblemError {
    /// The field at fault, such as `battery.charge_kw` or `load_kw[3]`.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::OutOfRange { field, .. }
            | Self::Count { field, .. }
            | Self::Name { field, .. } => field,
        }
    }

    /// What the field must be.
    #[must_use]
    pub fn limit(&self) -> &str {
        match self {
            Self::OutOfRange { limit, .. }
            | Self::Count { limit, .. }
            | Self::Name { limit, .. } => limit,
        }
    }

    /// The same problem fails again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfRange { .. } | Self::Count { .. } | Self::Name { .. } => false,
        }
    }
}

/// Checks that `problem` can be stated.
///
/// # Errors
/// The first field that breaks a limit, with the limit.
pub fn validate(problem: &Problem) -> Result<(), ProblemError> {
    time(problem)?;
    series(problem)?;
    if let Some(battery) = &problem.battery {
        self::battery(battery)?;
    }
    let limits = [
        ("grid.import_limit_kw", problem.grid.import_limit_kw),
        ("grid.export_limit_kw", problem.grid.export_limit_kw),
    ];
    for (field, limit) in limits {
        if let Some(limit) = limit {
            within(field, limit, 0.0, POWER_KW_MAX)?;
        }
    }
    appliances(problem)?;
    let weights = problem.weights;
    within("weights.cost", weights.cost, 0.0, WEIGHT_MAX)?;
    within("weights.autarky", weights.autarky, 0.0, WEIGHT_MAX)?;
    within("weights.revenue", weights.revenue, 0.0, WEIGHT_MAX)
}

/// `value` is finite and from `least` to `most`.
fn within(field: &str, value: f64, least: f64, most: f64) -> Result<(), ProblemError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ProblemError::OutOfRange {
        field: field.to_owned(),
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
    // The upper end is in the year 33658 and keeps the slots' starts from overflowing.
    if (0..=1_000_000_000_000_000).contains(&problem.start_ms) && problem.start_ms % slot.ms() == 0
    {
        return Ok(());
    }
    Err(ProblemError::Name {
        field: "start".to_owned(),
        value: format!("{} ms", problem.start_ms),
        limit: format!(
            "a multiple of {} minutes since 1970-01-01T00:00:00Z",
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
        if values.len() != slots_count {
            return Err(ProblemError::Count {
                field: field.to_owned(),
                count: values.len(),
                limit: format!("{slots_count}, as many as load_kw"),
            });
        }
        for (t, value) in values.iter().enumerate() {
            if !(least..=most).contains(value) {
                within(&format!("{field}[{t}]"), *value, least, most)?;
            }
        }
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
    let mut ids = BTreeSet::new();
    for (index, appliance) in problem.appliances.iter().enumerate() {
        let id = appliance.id.as_str();
        let limit = if id.is_empty() || id.len() > APPLIANCE_ID_BYTES_MAX {
            format!("1 to {APPLIANCE_ID_BYTES_MAX} bytes")
        } else if !ids.insert(id) {
            "used once".to_owned()
        } else {
            self::appliance(problem, index, appliance)?;
            continue;
        };
        return Err(ProblemError::Name {
            field: format!("appliances[{index}].id"),
            value: id.chars().take(APPLIANCE_ID_BYTES_MAX).collect(),
            limit,
        });
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
    for (slot, power) in profile.iter().enumerate() {
        if !(0.0..=POWER_KW_MAX).contains(power) {
            let field = format!("appliances[{index}].profile_kw[{slot}]");
            within(&field, *power, 0.0, POWER_KW_MAX)?;
        }
    }
    Ok(())
}

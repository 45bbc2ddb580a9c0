//! The JSON of a command, which devices receive: version 2. Contents of the battery are shares of its capacity there, and
//! powers are whole watts. `null` means never, or no limit, or not said; for excess it means as much as fits.

use std::collections::BTreeMap;

use model::command::{BatteryRating, Command, EvOrder, FALLBACK, HeatOrder, ProgramEntry};
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};
use model::units::HouseholdId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ranges::POWER_W_MAX;
use crate::time::{parse_rfc3339, rfc3339};

/// Version of the layout.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct CommandBody {
    version: u32,
    command_id: String,
    household_id: HouseholdId,
    schedule_id: String,
    issued: String,
    expires: String,
    fallback: String,
    program: Vec<EntryBody>,
}

#[derive(Serialize, Deserialize)]
struct EntryBody {
    from: String,
    battery: Option<BatteryBody>,
    #[serde(default)]
    grid: GridBody,
    #[serde(default)]
    appliances: BTreeMap<String, bool>,
    #[serde(default)]
    evs: BTreeMap<String, EvBody>,
    #[serde(default)]
    heat: BTreeMap<String, HeatBody>,
    value_per_kwh: Option<f64>,
    reason: Option<Reason>,
}

#[derive(Serialize, Deserialize)]
struct BatteryBody {
    mode: Mode,
    charge_from_grid_to_pct: Option<f64>,
    charge_from_pv_to_pct: Option<f64>,
    discharge_to_home_to_pct: Option<f64>,
    discharge_to_grid_to_pct: Option<f64>,
    charge_from_excess_to_pct: Option<f64>,
    discharge_to_excess_to_pct: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    setpoint_w: Option<f64>,
    charge_w_max: Option<f64>,
    discharge_w_max: Option<f64>,
    expected_w: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct GridBody {
    import_w_max: Option<f64>,
    export_w_max: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct EvBody {
    charge_w: f64,
    #[serde(default)]
    surplus: bool,
    #[serde(default)]
    discharge_w_max: f64,
}

#[derive(Serialize, Deserialize)]
struct HeatBody {
    power_w: f64,
}

/// Returns the payload with which a device receives a command.
#[must_use]
pub fn command_json(command: &Command) -> String {
    let body = CommandBody {
        version: VERSION,
        command_id: command.command_id.clone(),
        household_id: command.household_id,
        schedule_id: command.schedule_id.clone(),
        issued: rfc3339(command.issued_ms),
        expires: rfc3339(command.expires_ms),
        fallback: FALLBACK.to_owned(),
        program: entries(command).collect(),
    };
    serde_json::to_string(&body).expect("every map of a command has text as its keys")
}

/// Returns the entries of a command's program, as [`command_json`] has them.
#[must_use]
pub fn entries_json(command: &Command) -> Vec<Value> {
    let values = entries(command).map(serde_json::to_value);
    values
        .map(|value| value.expect("every map of a command has text as its keys"))
        .collect()
}

fn entries(command: &Command) -> impl Iterator<Item = EntryBody> {
    let rating = command.battery;
    command.program.iter().map(move |entry| {
        let policy = entry.policy.as_ref();
        let ev = |(id, order): (&String, &EvOrder)| {
            let body = EvBody {
                charge_w: watts(order.charge_kw),
                surplus: order.surplus,
                discharge_w_max: watts(order.discharge_max_kw),
            };
            (id.clone(), body)
        };
        let heat = |(id, order): (&String, &HeatOrder)| {
            let power_w = watts(order.power_kw);
            (id.clone(), HeatBody { power_w })
        };
        EntryBody {
            from: rfc3339(entry.from_ms),
            battery: policy
                .and_then(|policy| policy.battery.as_ref())
                .map(|battery| battery_body(battery, rating)),
            grid: GridBody {
                import_w_max: policy.and_then(|policy| policy.import_max_kw).map(watts),
                export_w_max: policy.and_then(|policy| policy.export_max_kw).map(watts),
            },
            appliances: entry.appliances.clone(),
            evs: entry.evs.iter().map(ev).collect(),
            heat: entry.heat.iter().map(heat).collect(),
            value_per_kwh: policy.map(|policy| (policy.value_per_kwh * 1e6).round() / 1e6),
            reason: policy.map(|policy| policy.reason),
        }
    })
}

fn battery_body(battery: &BatteryPolicy, rating: Option<BatteryRating>) -> BatteryBody {
    let capacity_kwh = rating.map(|rating| rating.capacity_kwh);
    // Hundredths of a percent are finer than any battery tells its content.
    let pct = |content_kwh: Option<f64>| {
        let share = content_kwh? / capacity_kwh?;
        Some((share * 1e4).round() / 1e2)
    };
    BatteryBody {
        mode: battery.mode,
        charge_from_grid_to_pct: pct(battery.charge_from_grid_to_kwh),
        charge_from_pv_to_pct: pct(battery.charge_from_pv_to_kwh),
        discharge_to_home_to_pct: pct(battery.discharge_to_home_to_kwh),
        discharge_to_grid_to_pct: pct(battery.discharge_to_grid_to_kwh),
        charge_from_excess_to_pct: pct(battery.charge_from_excess_to_kwh),
        discharge_to_excess_to_pct: pct(battery.discharge_to_excess_to_kwh),
        setpoint_w: battery.setpoint_kw.map(watts),
        charge_w_max: rating.map(|rating| watts(rating.charge_kw)),
        discharge_w_max: rating.map(|rating| watts(rating.discharge_kw)),
        expected_w: watts(battery.expected_kw),
    }
}

fn watts(kw: f64) -> f64 {
    (kw * 1e3).round()
}

/// Parses a command, as a device does. `capacity_kwh` is that of the device's battery: shares of it become contents.
/// `requested_ms` is not part of the payload and is set to 0.
///
/// # Errors
/// Returns what is wrong with the payload.
pub fn parse_command(payload: &[u8], capacity_kwh: f64) -> Result<Command, String> {
    let body: CommandBody = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    if body.version != VERSION {
        return Err(format!("version is {}, not {VERSION}", body.version));
    }
    let rates = body.program.iter().find_map(|entry| {
        let battery = entry.battery.as_ref()?;
        Some((battery.charge_w_max?, battery.discharge_w_max?))
    });
    let program: Result<Vec<_>, _> = body
        .program
        .into_iter()
        .map(|entry| program_entry(entry, capacity_kwh))
        .collect();
    let command = Command {
        command_id: body.command_id,
        household_id: body.household_id,
        schedule_id: body.schedule_id,
        requested_ms: 0,
        issued_ms: time("issued", &body.issued)?,
        expires_ms: time("expires", &body.expires)?,
        battery: rates.map(|(charge_w, discharge_w)| BatteryRating {
            capacity_kwh,
            charge_kw: charge_w / 1e3,
            discharge_kw: discharge_w / 1e3,
        }),
        program: program?,
    };
    let ascends = command
        .spans()
        .all(|(entry, end_ms)| entry.from_ms < end_ms);
    if command.program.is_empty() || !ascends {
        return Err("program is empty or does not ascend up to expires".to_owned());
    }
    Ok(command)
}

fn program_entry(entry: EntryBody, capacity_kwh: f64) -> Result<ProgramEntry, String> {
    let mut policy = None;
    if let Some(battery) = entry.battery {
        let content = |name, pct: Option<f64>| match pct {
            None => Ok(None),
            Some(pct) if (0.0..=100.0).contains(&pct) => Ok(Some(pct / 1e2 * capacity_kwh)),
            Some(pct) => Err(format!("{name} is {pct}, 0 to 100")),
        };
        policy = Some(SlotPolicy {
            battery: Some(BatteryPolicy {
                mode: battery.mode,
                charge_from_grid_to_kwh: content(
                    "charge_from_grid_to_pct",
                    battery.charge_from_grid_to_pct,
                )?,
                charge_from_pv_to_kwh: content(
                    "charge_from_pv_to_pct",
                    battery.charge_from_pv_to_pct,
                )?,
                discharge_to_home_to_kwh: content(
                    "discharge_to_home_to_pct",
                    battery.discharge_to_home_to_pct,
                )?,
                discharge_to_grid_to_kwh: content(
                    "discharge_to_grid_to_pct",
                    battery.discharge_to_grid_to_pct,
                )?,
                charge_from_excess_to_kwh: content(
                    "charge_from_excess_to_pct",
                    battery.charge_from_excess_to_pct,
                )?,
                discharge_to_excess_to_kwh: content(
                    "discharge_to_excess_to_pct",
                    battery.discharge_to_excess_to_pct,
                )?,
                setpoint_kw: battery
                    .setpoint_w
                    .map(|w| power("setpoint_w", w))
                    .transpose()?,
                expected_kw: power("expected_w", battery.expected_w)?,
            }),
            import_max_kw: entry.grid.import_w_max.map(|w| w / 1e3),
            export_max_kw: entry.grid.export_w_max.map(|w| w / 1e3),
            value_per_kwh: entry.value_per_kwh.unwrap_or(0.0),
            reason: entry.reason.unwrap_or(Reason::OwnUse),
        });
    }
    let evs = entry.evs.into_iter().map(|(id, order)| {
        let order = EvOrder {
            charge_kw: power("charge_w", order.charge_w)?,
            surplus: order.surplus,
            discharge_max_kw: power("discharge_w_max", order.discharge_w_max)?,
        };
        Ok::<_, String>((id, order))
    });
    let evs = evs.collect::<Result<_, _>>()?;
    let heat = entry.heat.into_iter().map(|(id, order)| {
        let power_kw = power("power_w", order.power_w)?;
        Ok::<_, String>((id, HeatOrder { power_kw }))
    });
    Ok(ProgramEntry {
        from_ms: time("from", &entry.from)?,
        policy,
        appliances: entry.appliances,
        evs,
        heat: heat.collect::<Result<_, _>>()?,
    })
}

/// Returns the power in kW.
fn power(name: &str, watts: f64) -> Result<f64, String> {
    if (-POWER_W_MAX..=POWER_W_MAX).contains(&watts) {
        Ok(watts / 1e3)
    } else {
        Err(format!(
            "{name} is {watts}, at most {POWER_W_MAX} either way"
        ))
    }
}

fn time(name: &str, text: &str) -> Result<i64, String> {
    parse_rfc3339(text).ok_or_else(|| format!("{name} is not an RFC 3339 time with an offset"))
}

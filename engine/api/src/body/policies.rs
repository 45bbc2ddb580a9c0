//! The policy of each slot, and the scenarios that it may come from, in bodies of the HTTP API.

use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};
use model::problem::{Problem, Scenario};
use serde::{Deserialize, Serialize};

/// One way in which load and PV may turn out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioBody {
    /// Absent: as likely as any other.
    #[serde(default = "one")]
    pub weight: f64,
    pub load_kw: Vec<f64>,
    pub pv_kw: Vec<f64>,
}

const fn one() -> f64 {
    1.0
}

/// What a home does in a slot whatever its load and PV turn out to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyBody {
    pub reason: Reason,
    pub value_per_kwh: f64,
    pub import_max_kw: Option<f64>,
    pub export_max_kw: Option<f64>,
    /// Null without a battery.
    pub battery: Option<BatteryPolicyBody>,
}

/// What the battery does: contents up or down to which it moves each kind of energy; null means never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatteryPolicyBody {
    pub mode: Mode,
    pub charge_from_grid_to_kwh: Option<f64>,
    pub charge_from_pv_to_kwh: Option<f64>,
    pub discharge_to_home_to_kwh: Option<f64>,
    pub discharge_to_grid_to_kwh: Option<f64>,
    pub charge_from_excess_to_kwh: Option<f64>,
    pub discharge_to_excess_to_kwh: Option<f64>,
    pub setpoint_kw: Option<f64>,
    pub expected_kw: f64,
}

impl From<&SlotPolicy> for PolicyBody {
    fn from(policy: &SlotPolicy) -> Self {
        Self {
            reason: policy.reason,
            // Makes -0.0 a plain 0.
            value_per_kwh: policy.value_per_kwh + 0.0,
            import_max_kw: policy.import_max_kw.map(|limit| limit + 0.0),
            export_max_kw: policy.export_max_kw.map(|limit| limit + 0.0),
            battery: policy.battery.as_ref().map(BatteryPolicyBody::from),
        }
    }
}

impl From<&BatteryPolicy> for BatteryPolicyBody {
    fn from(policy: &BatteryPolicy) -> Self {
        let plain = |number: Option<f64>| number.map(|number| number + 0.0);
        Self {
            mode: policy.mode,
            charge_from_grid_to_kwh: plain(policy.charge_from_grid_to_kwh),
            charge_from_pv_to_kwh: plain(policy.charge_from_pv_to_kwh),
            discharge_to_home_to_kwh: plain(policy.discharge_to_home_to_kwh),
            discharge_to_grid_to_kwh: plain(policy.discharge_to_grid_to_kwh),
            charge_from_excess_to_kwh: plain(policy.charge_from_excess_to_kwh),
            discharge_to_excess_to_kwh: plain(policy.discharge_to_excess_to_kwh),
            setpoint_kw: plain(policy.setpoint_kw),
            expected_kw: policy.expected_kw + 0.0,
        }
    }
}

/// The scenarios given, or the engine's on the same slots as far as they reach.
pub(super) fn scenarios(
    given: Option<Vec<ScenarioBody>>,
    same_slots: Option<&Problem>,
    slots_count: usize,
) -> Vec<Scenario> {
    if let Some(given) = given {
        let scenario = |body: ScenarioBody| Scenario {
            weight: body.weight,
            load_kw: body.load_kw,
            pv_kw: body.pv_kw,
        };
        return given.into_iter().map(scenario).collect();
    }
    let known = same_slots.map_or(&[][..], |base| &base.scenarios);
    let reach = |scenario: &&Scenario| scenario.load_kw.len() >= slots_count;
    let cut = |scenario: &Scenario| Scenario {
        weight: scenario.weight,
        load_kw: scenario.load_kw[..slots_count].to_vec(),
        pv_kw: scenario.pv_kw[..slots_count].to_vec(),
    };
    known.iter().filter(reach).map(cut).collect()
}

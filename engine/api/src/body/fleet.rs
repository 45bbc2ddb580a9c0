//! What the API says of the fleet, of commands and alerts, and of the tariffs that there are.

use model::alert::{Alert, AlertKind};
use model::command::{CommandProgress, CommandState};
use model::tariff::Tariff;
use model::units::HouseholdId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use schemas::mqtt::entries_json;
use schemas::time::rfc3339;

/// The answer of `GET /api/fleet`: sums over the homes heard of since the process started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetBody {
    pub now: String,
    /// When this process began to listen; the sums know nothing from before.
    pub since: String,
    /// Homes that had metadata then, or were heard of since.
    pub households: u64,
    /// False if there are more homes than the sums have room for.
    pub is_complete: bool,
    /// Homes of which neither a slot nor a request for a plan came for two slots and `engine.stale_minutes`.
    pub stale: u64,
    /// The ten homes heard of longest ago, the oldest first.
    pub stalest: Vec<WorstHomeBody>,
    /// Homes without a plan that still holds.
    pub without_plan: u64,
    /// The ten of those whose last plan ended longest ago, the longest first.
    pub longest_without_plan: Vec<WorstHomeBody>,
    /// Bills of the plans that hold, and the same with batteries idle and appliances at their earliest start.
    pub planned_cost: f64,
    pub baseline_cost: f64,
    /// `baseline_cost` less `planned_cost`.
    pub planned_saving: f64,
    /// What homes have paid at their meters, where something knows what they would have paid otherwise: null but in a demo.
    #[serde(default)]
    pub savings: Option<SavingsBody>,
    /// A day back and a day ahead, ascending.
    pub slots: Vec<FleetSlotBody>,
}

/// A home that needs a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstHomeBody {
    pub household_id: HouseholdId,
    /// The end of its newest slot, the time of its newest request, or the end of its last plan; null if none came since
    /// the process began to listen.
    pub last: Option<String>,
    /// Seconds since then; without it, since the process began to listen: it is at least as long.
    pub age_s: i64,
}

/// Bills at the meter, with what is left in batteries, EVs and tanks valued the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavingsBody {
    pub since: String,
    /// Homes that are in the sums.
    pub homes: u64,
    /// With Hearth's programs.
    pub cost: f64,
    /// By a plain rule: what PV leaves over is stored, load is covered, EVs charge and appliances run at once.
    pub rule_cost: f64,
    /// By the same rule without batteries.
    pub no_battery_cost: f64,
    /// `rule_cost` less `cost`.
    pub saving: f64,
}

/// The fleet in one slot, W. Numbers are null where no home is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetSlotBody {
    pub start: String,
    /// Homes whose readings are in the sums.
    pub homes: i64,
    pub load_w: Option<i64>,
    pub pv_w: Option<i64>,
    /// Positive while charging.
    pub battery_w: Option<i64>,
    /// Import less export, as it follows from the three.
    pub grid_w: Option<i64>,
    /// Homes whose plans are in the sum.
    pub planned_homes: i64,
    /// Import less export, as planned.
    pub planned_grid_w: Option<i64>,
}

/// The answer of `GET /api/households/{id}/commands`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandsBody {
    pub household_id: HouseholdId,
    /// Ascending by `not_before`.
    pub commands: Vec<CommandBody>,
}

/// A command and how far it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandBody {
    pub command_id: String,
    pub schedule_id: String,
    pub issued: String,
    /// When the first entry begins.
    pub not_before: String,
    /// When the last entry ends.
    pub expires: String,
    /// As devices are told over MQTT.
    pub program: Vec<Value>,
    pub state: CommandState,
    /// When the device answered; null while it has not.
    pub acked: Option<String>,
    /// What the device said; empty if nothing.
    pub reason: String,
}

impl From<&CommandProgress> for CommandBody {
    fn from(progress: &CommandProgress) -> Self {
        let command = &progress.command;
        Self {
            command_id: command.command_id.clone(),
            schedule_id: command.schedule_id.clone(),
            issued: rfc3339(command.issued_ms),
            not_before: rfc3339(command.from_ms()),
            expires: rfc3339(command.expires_ms),
            program: entries_json(command),
            state: progress.state,
            acked: progress.acked_ms.map(rfc3339),
            reason: progress.reason.clone(),
        }
    }
}

/// The answer of `GET /api/households/{id}/alerts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertsBody {
    pub household_id: HouseholdId,
    /// The oldest first, as far as the log keeps them.
    pub alerts: Vec<AlertBody>,
}

/// Something that an operator should know of a home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertBody {
    pub ts: String,
    pub kind: AlertKind,
    pub detail: String,
}

impl From<&Alert> for AlertBody {
    fn from(alert: &Alert) -> Self {
        Self {
            ts: rfc3339(alert.ts_ms),
            kind: alert.kind,
            detail: alert.detail.clone(),
        }
    }
}

/// The answer of `GET /api/tariffs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TariffsBody {
    /// By name, ascending.
    pub tariffs: Vec<TariffSpan>,
}

/// What a tariff covers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TariffSpan {
    pub name: String,
    /// Start of its first period and end of its last; null without one.
    pub from: Option<String>,
    pub until: Option<String>,
    /// Number of periods.
    pub periods: usize,
}

impl From<&Tariff> for TariffSpan {
    fn from(tariff: &Tariff) -> Self {
        Self {
            name: tariff.name.clone(),
            from: tariff.periods.first().map(|first| rfc3339(first.start_ms)),
            until: tariff.periods.last().map(|last| rfc3339(last.end_ms)),
            periods: tariff.periods.len(),
        }
    }
}

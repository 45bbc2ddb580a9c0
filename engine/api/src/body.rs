//! The JSON of the HTTP API: times are RFC 3339, powers kW, energies kWh. Unknown fields are refused by name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::metadata::{
    ApplianceSpec, BatterySpec, EvSpec, HeatStoreSpec, Metadata, Position, PvMounting,
};
use model::problem::{Appliance, Battery, Grid, Problem, Weights};
use model::rolling::Rolling;
use model::rung::Rungs;
use model::schedule::{
    Metrics, Plan, PlannedEv, PlannedHeat, PlannedSlot, Relaxation, Schedule, Status,
};
use model::slot::{Slot, Stat};
use model::tariff::{PricePeriod, Tariff};
use model::units::HouseholdId;
use model::zone::UTC;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::field_error::FieldError;
use self::field_error::field_error;
pub use self::fleet::{
    AlertBody, AlertsBody, CommandBody, CommandsBody, FleetBody, FleetSlotBody, SavingsBody,
    TariffSpan, TariffsBody, WorstHomeBody,
};
pub use self::policies::{BatteryPolicyBody, PolicyBody, ScenarioBody};
pub use self::signal::SignalBody;
pub use self::stores::{EvBody, HeatStoreBody, SeriesBody, StabilityBody};
use schemas::time::rfc3339;

mod field_error;
mod fleet;
mod policies;
mod signal;
mod stores;

#[cfg(test)]
mod tests;

fn time_ms(field: &str, text: &str) -> Result<i64, FieldError> {
    // A named zone behind the offset would be read past, whether it exists or not.
    let is_plain = text.len() <= 64 && !text.contains('[');
    let parsed: Option<Timestamp> = is_plain.then(|| text.parse().ok()).flatten();
    parsed.map(Timestamp::as_millisecond).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        field_error(
            field,
            format!("expected an RFC 3339 time with an offset, found {shown:?}"),
        )
    })
}

/// The body of `POST /api/optimize`: the household alone, or what shall replace the engine's own values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizeBody {
    pub household_id: i64,
    pub start: Option<String>,
    pub slot_minutes: Option<u32>,
    pub load_kw: Option<Vec<f64>>,
    pub pv_kw: Option<Vec<f64>>,
    pub buy_price: Option<Vec<f64>>,
    pub sell_price: Option<Vec<f64>>,
    /// `Some(None)`, a null, asks for a plan without a battery.
    #[serde(default, deserialize_with = "given")]
    pub battery: Option<Option<BatteryBody>>,
    pub grid: Option<GridBody>,
    pub pv_curtailable: Option<bool>,
    pub appliances: Option<Vec<ApplianceBody>>,
    pub evs: Option<Vec<EvBody>>,
    pub heat_stores: Option<Vec<HeatStoreBody>>,
    pub weights: Option<WeightsBody>,
    /// `Some(None)`, a null, makes the plan free of the one before.
    #[serde(default, deserialize_with = "given")]
    pub stability: Option<Option<StabilityBody>>,
    pub time_limit_ms: Option<u32>,
    pub scenarios: Option<Vec<ScenarioBody>>,
    pub caution_per_kwh: Option<f64>,
    /// `Some(None)`, a null, asks for a plan without one.
    #[serde(default, deserialize_with = "given")]
    pub signal: Option<Option<SignalBody>>,
}

/// Tells a field that is null from one that is absent.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// A battery at the start of a horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryBody {
    pub capacity_kwh: f64,
    pub soc_kwh: f64,
    pub min_soc_kwh: f64,
    pub max_soc_kwh: f64,
    pub charge_kw: f64,
    pub discharge_kw: f64,
    pub charge_efficiency: f64,
    pub discharge_efficiency: f64,
    /// Absent: the lowest SoC allowed.
    pub end_soc_min_kwh: Option<f64>,
    #[serde(default)]
    pub end_value_per_kwh: f64,
    #[serde(default)]
    pub wear_cost_per_kwh: f64,
}

/// The grid connection; a limit of null means none, and there is no price on the peak unless it is given.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GridBody {
    pub import_limit_kw: Option<f64>,
    pub export_limit_kw: Option<f64>,
    pub peak_price_per_kw: f64,
    pub peak_kw: f64,
}

/// An appliance that runs once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplianceBody {
    pub id: String,
    pub profile_kw: Vec<f64>,
    pub earliest_slot: u32,
    pub latest_end_slot: u32,
}

/// Weights of the objective; what is absent counts as in the default, cost alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsBody {
    pub cost: f64,
    pub autarky: f64,
    pub revenue: f64,
}

impl Default for WeightsBody {
    fn default() -> Self {
        let Weights {
            cost,
            autarky,
            revenue,
        } = Weights::COST;
        Self {
            cost,
            autarky,
            revenue,
        }
    }
}

impl OptimizeBody {
    /// Whose problem it is.
    pub fn household_id(&self) -> Result<HouseholdId, FieldError> {
        HouseholdId::new(self.household_id).ok_or_else(|| {
            field_error(
                "household_id",
                format!("expected a positive integer, found {}", self.household_id),
            )
        })
    }

    /// Whether it gives nothing but the household: then the engine's own problem is solved, and adopted.
    #[must_use]
    pub fn is_household_alone(&self) -> bool {
        *self
            == Self {
                household_id: self.household_id,
                ..Self::EMPTY
            }
    }

    /// Whether it states load or PV itself.
    #[must_use]
    pub fn states_forecasts(&self) -> bool {
        self.load_kw.is_some() || self.pv_kw.is_some() || self.scenarios.is_some()
    }

    /// Whether it states a whole problem, so that the engine's own is not needed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.start.is_some()
            && self.load_kw.is_some()
            && self.pv_kw.is_some()
            && self.buy_price.is_some()
            && self.sell_price.is_some()
    }

    const EMPTY: Self = Self {
        household_id: 0,
        start: None,
        slot_minutes: None,
        load_kw: None,
        pv_kw: None,
        buy_price: None,
        sell_price: None,
        battery: None,
        grid: None,
        pv_curtailable: None,
        appliances: None,
        evs: None,
        heat_stores: None,
        weights: None,
        stability: None,
        time_limit_ms: None,
        scenarios: None,
        caution_per_kwh: None,
        signal: None,
    };

    /// The problem: what is given here over what `base`, the engine's own, says. Ranges are checked by the scheduler.
    pub fn into_problem(self, base: Option<&Problem>) -> Result<Problem, FieldError> {
        let household_id = self.household_id()?;
        let missing = |field: &str| field_error(field, "required where the engine knows no value");
        let start_ms = match &self.start {
            Some(start) => time_ms("start", start)?,
            None => base.ok_or_else(|| missing("start"))?.start_ms,
        };
        let slot_minutes = self
            .slot_minutes
            .or(base.map(|base| base.slot_minutes))
            .unwrap_or(15);
        // The engine's series and appliances stand on the engine's slots and mean nothing on others.
        let same_slots =
            base.filter(|base| base.start_ms == start_ms && base.slot_minutes == slot_minutes);
        let series = [
            &self.load_kw,
            &self.pv_kw,
            &self.buy_price,
            &self.sell_price,
        ];
        let slots_count = series.into_iter().flatten().map(Vec::len).next();
        // A load or PV that is stated here is certain, unless scenarios are stated too.
        let is_certain = self.load_kw.is_some() || self.pv_kw.is_some();
        let uncertain = same_slots.filter(|_| !is_certain);
        let series = |field: &str, given: Option<Vec<f64>>, known: fn(&Problem) -> &Vec<f64>| {
            if let Some(given) = given {
                return Ok(given);
            }
            let mut known =
                same_slots
                    .map(|base| known(base).clone())
                    .ok_or_else(|| match base {
                        Some(_) => {
                            field_error(field, "required with another start or slot_minutes")
                        }
                        None => missing(field),
                    })?;
            let count = slots_count.unwrap_or(known.len());
            if known.len() < count {
                let detail = format!("required: the engine knows {} of {count}", known.len());
                return Err(field_error(field, detail));
            }
            known.truncate(count);
            Ok(known)
        };
        let load_kw = series("load_kw", self.load_kw, |base| &base.load_kw)?;
        let appliance = |body: ApplianceBody| Appliance {
            id: body.id,
            profile_kw: body.profile_kw,
            earliest_slot: body.earliest_slot,
            latest_end_slot: body.latest_end_slot,
        };
        let slots_count = load_kw.len();
        Ok(Problem {
            household_id,
            start_ms,
            slot_minutes,
            pv_kw: series("pv_kw", self.pv_kw, |base| &base.pv_kw)?,
            buy_price: series("buy_price", self.buy_price, |base| &base.buy_price)?,
            sell_price: series("sell_price", self.sell_price, |base| &base.sell_price)?,
            battery: match self.battery {
                Some(body) => body.map(Battery::from),
                None => base.and_then(|base| base.battery.clone()),
            },
            grid: self
                .grid
                .map_or_else(|| base.map_or(Grid::OPEN, |base| base.grid), Grid::from),
            pv_curtailable: self
                .pv_curtailable
                .or(base.map(|base| base.pv_curtailable))
                .unwrap_or(false),
            appliances: match self.appliances {
                Some(bodies) => bodies.into_iter().map(appliance).collect(),
                None => same_slots
                    .map(|base| base.appliances.clone())
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|appliance| appliance.latest_end_slot as usize <= slots_count)
                    .collect(),
            },
            load_kw,
            evs: stores::evs(self.evs, same_slots, slots_count),
            heat_stores: stores::heat_stores(self.heat_stores, same_slots, slots_count),
            stability: stores::stability(self.stability, same_slots, slots_count),
            time_limit_ms: self
                .time_limit_ms
                .or(base.and_then(|base| base.time_limit_ms)),
            scenarios: policies::scenarios(self.scenarios, uncertain, slots_count),
            caution_per_kwh: self
                .caution_per_kwh
                .unwrap_or_else(|| base.map_or(0.0, |base| base.caution_per_kwh)),
            signal: signal::signal(self.signal, same_slots, slots_count)?,
            weights: self.weights.map_or_else(
                || base.map_or(Weights::COST, |base| base.weights),
                |body| Weights {
                    cost: body.cost,
                    autarky: body.autarky,
                    revenue: body.revenue,
                },
            ),
        })
    }
}

impl From<BatteryBody> for Battery {
    fn from(body: BatteryBody) -> Self {
        Self {
            capacity_kwh: body.capacity_kwh,
            soc_kwh: body.soc_kwh,
            min_soc_kwh: body.min_soc_kwh,
            max_soc_kwh: body.max_soc_kwh,
            charge_kw: body.charge_kw,
            discharge_kw: body.discharge_kw,
            charge_efficiency: body.charge_efficiency,
            discharge_efficiency: body.discharge_efficiency,
            end_soc_min_kwh: body.end_soc_min_kwh.unwrap_or(body.min_soc_kwh),
            end_value_per_kwh: body.end_value_per_kwh,
            wear_cost_per_kwh: body.wear_cost_per_kwh,
        }
    }
}

impl From<GridBody> for Grid {
    fn from(body: GridBody) -> Self {
        Self {
            import_limit_kw: body.import_limit_kw,
            export_limit_kw: body.export_limit_kw,
            peak_price_per_kw: body.peak_price_per_kw,
            peak_kw: body.peak_kw,
        }
    }
}

impl From<Grid> for GridBody {
    fn from(grid: Grid) -> Self {
        Self {
            import_limit_kw: grid.import_limit_kw,
            export_limit_kw: grid.export_limit_kw,
            peak_price_per_kw: grid.peak_price_per_kw,
            peak_kw: grid.peak_kw,
        }
    }
}

/// A schedule, as `GET /api/schedule/{id}` and `POST /api/optimize?wait=` answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleBody {
    pub id: String,
    pub household_id: HouseholdId,
    pub requested: String,
    pub adopted: bool,
    /// What the load and PV behind it rest on; null where they were stated by whoever asked.
    pub forecast: Option<Rungs>,
    #[serde(flatten)]
    pub plan: PlanBody,
}

/// A plan, as `hearth solve` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanBody {
    pub start: String,
    pub slot_minutes: u32,
    pub status: StatusBody,
    /// Why it failed; null for any other status.
    pub reason: Option<String>,
    /// Constraints that could not be held, by how much.
    pub relaxed: Vec<Relaxation>,
    pub objective: f64,
    pub solver: String,
    pub gap: f64,
    pub solve_us: i64,
    pub metrics: Metrics,
    pub baseline: Metrics,
    pub slots: Vec<PlannedSlotBody>,
}

/// How a plan stands to the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusBody {
    Optimal,
    Relaxed,
    Infeasible,
    /// There is no plan: the problem cannot be stated, or the solver failed on it.
    Failed,
}

/// One slot of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedSlotBody {
    pub start: String,
    pub load_kw: f64,
    pub pv_kw: f64,
    pub grid_import_kw: f64,
    pub grid_export_kw: f64,
    pub battery_charge_kw: f64,
    pub battery_discharge_kw: f64,
    /// At the end of the slot.
    pub soc_kwh: f64,
    pub appliances: BTreeMap<String, bool>,
    /// Absent where the problem has none, as is `heat`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evs: BTreeMap<String, PlannedEv>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heat: BTreeMap<String, PlannedHeat>,
    pub shadow_price: f64,
    /// Absent in plans of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyBody>,
}

impl PlanBody {
    /// Of a plan whose first slot starts at `start_ms`.
    #[must_use]
    pub fn of(plan: &Plan, start_ms: i64, slot_minutes: u32, solve_us: i64) -> Self {
        let (status, reason) = Self::status_of(plan);
        Self {
            start: rfc3339(start_ms),
            slot_minutes,
            status,
            relaxed: match &reason {
                Some(_) => Vec::new(),
                None => plan.relaxed.clone(),
            },
            reason,
            objective: plan.objective,
            solver: plan.solver.clone(),
            gap: plan.gap,
            solve_us,
            metrics: plan.metrics,
            baseline: plan.baseline,
            slots: plan.slots.iter().map(PlannedSlotBody::from).collect(),
        }
    }
}

impl PlanBody {
    /// A plan's status, and why it failed.
    #[must_use]
    pub fn status_of(plan: &Plan) -> (StatusBody, Option<String>) {
        if let Some(reason) = plan.failure() {
            return (StatusBody::Failed, Some(reason.to_owned()));
        }
        let status = match plan.status {
            Status::Optimal => StatusBody::Optimal,
            Status::Relaxed => StatusBody::Relaxed,
            Status::Infeasible => StatusBody::Infeasible,
        };
        (status, None)
    }
}

impl From<&PlannedSlot> for PlannedSlotBody {
    fn from(slot: &PlannedSlot) -> Self {
        Self {
            start: rfc3339(slot.start_ms),
            load_kw: slot.load_kw,
            pv_kw: slot.pv_kw,
            grid_import_kw: slot.grid_import_kw,
            grid_export_kw: slot.grid_export_kw,
            battery_charge_kw: slot.battery_charge_kw,
            battery_discharge_kw: slot.battery_discharge_kw,
            soc_kwh: slot.soc_kwh,
            appliances: slot.appliances.clone(),
            evs: slot.evs.clone(),
            heat: slot.heat.clone(),
            shadow_price: slot.shadow_price,
            policy: slot.policy.as_ref().map(PolicyBody::from),
        }
    }
}

impl From<&Schedule> for ScheduleBody {
    fn from(schedule: &Schedule) -> Self {
        let Schedule {
            start_ms,
            slot_minutes,
            solve_us,
            ..
        } = *schedule;
        Self {
            id: schedule.schedule_id.clone(),
            household_id: schedule.household_id,
            requested: rfc3339(schedule.requested_ms),
            adopted: schedule.adopt,
            forecast: schedule.forecast,
            plan: PlanBody::of(&schedule.plan, start_ms, slot_minutes, solve_us),
        }
    }
}

/// The answer of `GET /api/latest/{household_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatestBody {
    pub household_id: HouseholdId,
    pub now: String,
    pub slots: Vec<SlotBody>,
    pub rolling: RollingBody,
}

/// Mean and highest value of a series; null where nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanMax {
    pub mean: Option<f64>,
    pub max: Option<f64>,
}

/// One slot's aggregate with its prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlotBody {
    pub start: String,
    pub load_w: MeanMax,
    pub pv_w: MeanMax,
    pub battery_w: MeanMax,
    pub soc_pct: Option<f64>,
    /// Currency per kWh; null where the tariff has none.
    pub buy_price: Option<f64>,
    pub sell_price: Option<f64>,
    pub samples: u32,
    /// Whether it still takes readings.
    pub open: bool,
}

/// Rolling means, sums of the UTC day and the peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RollingBody {
    pub load_w_mean_1h: Option<f64>,
    pub load_w_mean_24h: Option<f64>,
    pub pv_w_mean_1h: Option<f64>,
    pub pv_w_mean_24h: Option<f64>,
    pub load_kwh_today: f64,
    pub pv_kwh_today: f64,
    pub load_w_peak_24h: Option<f64>,
}

impl From<Rolling> for RollingBody {
    fn from(rolling: Rolling) -> Self {
        Self {
            load_w_mean_1h: rolling.load_w_mean_1h,
            load_w_mean_24h: rolling.load_w_mean_24h,
            pv_w_mean_1h: rolling.pv_w_mean_1h,
            pv_w_mean_24h: rolling.pv_w_mean_24h,
            load_kwh_today: rolling.load_kwh_today,
            pv_kwh_today: rolling.pv_kwh_today,
            load_w_peak_24h: rolling.load_w_peak_24h,
        }
    }
}

impl SlotBody {
    /// Of an aggregate; `period` is the tariff's at its start.
    #[must_use]
    pub fn of(slot: &Slot, period: Option<&PricePeriod>, open: bool) -> Self {
        let mean_max = |stat: &Stat| MeanMax {
            mean: stat.mean(),
            max: (stat.count > 0).then_some(stat.max),
        };
        Self {
            start: rfc3339(slot.start_ms),
            load_w: mean_max(&slot.load_w),
            pv_w: mean_max(&slot.pv_w),
            battery_w: mean_max(&slot.battery_w),
            soc_pct: slot.soc_pct,
            buy_price: period.map(|period| period.buy_per_kwh),
            sell_price: period.map(|period| period.sell_per_kwh),
            samples: slot.samples_count(),
            open,
        }
    }
}

/// A household's metadata, as `GET` and `PUT /api/households/{id}` speak it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataBody {
    /// Optional in a PUT; where given it must agree with the path.
    pub household_id: Option<i64>,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub location: String,
    #[serde(default = "utc")]
    pub time_zone: String,
    pub position: Option<Position>,
    #[serde(default)]
    pub pv_capacity_kw: f64,
    pub pv_mounting: Option<PvMounting>,
    pub battery: Option<BatterySpec>,
    #[serde(default)]
    pub grid: GridBody,
    #[serde(default)]
    pub pv_curtailable: bool,
    #[serde(default)]
    pub appliances: Vec<ApplianceSpec>,
    #[serde(default)]
    pub evs: Vec<EvSpec>,
    #[serde(default)]
    pub heat_stores: Vec<HeatStoreSpec>,
    #[serde(default)]
    pub groups: Vec<String>,
    pub tariff: String,
    #[serde(default)]
    pub weights: WeightsBody,
}

fn utc() -> String {
    UTC.to_owned()
}

impl From<&Metadata> for MetadataBody {
    fn from(metadata: &Metadata) -> Self {
        let Weights {
            cost,
            autarky,
            revenue,
        } = metadata.weights;
        Self {
            household_id: Some(metadata.household_id.get()),
            name: metadata.name.clone(),
            location: metadata.location.clone(),
            time_zone: metadata.time_zone.clone(),
            position: metadata.position,
            pv_capacity_kw: metadata.pv_capacity_kw,
            pv_mounting: metadata.pv_mounting,
            battery: metadata.battery.clone(),
            grid: metadata.grid.into(),
            pv_curtailable: metadata.pv_curtailable,
            appliances: metadata.appliances.clone(),
            evs: metadata.evs.clone(),
            heat_stores: metadata.heat_stores.clone(),
            groups: metadata.groups.clone(),
            tariff: metadata.tariff.clone(),
            weights: WeightsBody {
                cost,
                autarky,
                revenue,
            },
        }
    }
}

impl MetadataBody {
    /// The metadata of the household in the path.
    pub fn into_metadata(self, household_id: HouseholdId) -> Result<Metadata, FieldError> {
        if self.household_id.is_some_and(|id| id != household_id.get()) {
            return Err(field_error(
                "household_id",
                format!("expected {household_id}, as in the path"),
            ));
        }
        let metadata = Metadata {
            household_id,
            name: self.name,
            location: self.location,
            time_zone: self.time_zone,
            position: self.position,
            pv_capacity_kw: self.pv_capacity_kw,
            pv_mounting: self.pv_mounting,
            battery: self.battery,
            grid: self.grid.into(),
            pv_curtailable: self.pv_curtailable,
            appliances: self.appliances,
            evs: self.evs,
            heat_stores: self.heat_stores,
            groups: self.groups,
            tariff: self.tariff,
            weights: Weights {
                cost: self.weights.cost,
                autarky: self.weights.autarky,
                revenue: self.weights.revenue,
            },
        };
        metadata.check()?;
        Ok(metadata)
    }
}

/// A tariff, as `GET` and `PUT /api/tariffs/{name}` speak it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffBody {
    pub periods: Vec<PricePeriodBody>,
}

/// Prices that hold from `start` until before `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PricePeriodBody {
    pub start: String,
    pub end: String,
    pub buy: f64,
    pub sell: f64,
}

impl From<&Tariff> for TariffBody {
    fn from(tariff: &Tariff) -> Self {
        let periods = tariff.periods.iter().map(|period| PricePeriodBody {
            start: rfc3339(period.start_ms),
            end: rfc3339(period.end_ms),
            buy: period.buy_per_kwh,
            sell: period.sell_per_kwh,
        });
        Self {
            periods: periods.collect(),
        }
    }
}

impl TariffBody {
    /// The tariff called `name`.
    pub fn into_tariff(self, name: &str) -> Result<Tariff, FieldError> {
        let mut periods = Vec::with_capacity(self.periods.len());
        for (index, body) in self.periods.iter().enumerate() {
            let field = |name: &str| format!("periods[{index}].{name}");
            periods.push(PricePeriod {
                start_ms: time_ms(&field("start"), &body.start)?,
                end_ms: time_ms(&field("end"), &body.end)?,
                // Makes -0.0 a plain 0.
                buy_per_kwh: body.buy + 0.0,
                sell_per_kwh: body.sell + 0.0,
            });
        }
        let tariff = Tariff {
            stated: Vec::new(),
            name: name.to_owned(),
            periods,
        };
        tariff.check()?;
        Ok(tariff)
    }
}

/// An error, as RFC 9457 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemDocument {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The field, parameter or header at fault, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

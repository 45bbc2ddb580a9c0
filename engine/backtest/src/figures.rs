//! The figures of a backtest, as `report.json` has them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::errors::ErrorFigures;

/// Costs of the contenders over the same steps, currency. What a battery's content has changed by is valued alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Costs {
    /// Without a battery.
    #[serde(rename = "cost_none")]
    pub none: f64,
    /// Self-consumption at the recorded resolution.
    #[serde(rename = "cost_rule")]
    pub rule: f64,
    /// Hearth's plans as fixed set-points of a slot.
    #[serde(rename = "cost_setpoint")]
    pub setpoint: f64,
    /// Hearth's programs.
    #[serde(rename = "cost_hearth")]
    pub hearth: f64,
    /// Perfect foresight at the length of a slot, carried out as programs.
    #[serde(rename = "cost_perfect")]
    pub perfect: f64,
}

impl Costs {
    /// Adds those of other steps or another home.
    pub fn add(&mut self, other: &Self) {
        self.none += other.none;
        self.rule += other.rule;
        self.setpoint += other.setpoint;
        self.hearth += other.hearth;
        self.perfect += other.perfect;
    }

    /// The share of the gap from the rule to perfect foresight that Hearth closes; `None` where there is no gap of a
    /// thousandth of the bill without a battery.
    #[must_use]
    pub fn share_of_gap(&self) -> Option<f64> {
        share(self.rule - self.hearth, self.rule - self.perfect, self.none)
    }

    /// The same of the plans as set-points.
    #[must_use]
    pub fn share_of_gap_setpoint(&self) -> Option<f64> {
        share(
            self.rule - self.setpoint,
            self.rule - self.perfect,
            self.none,
        )
    }

    /// The share of what perfect foresight saves that Hearth saves.
    #[must_use]
    pub fn share_of_saving(&self) -> Option<f64> {
        share(self.none - self.hearth, self.none - self.perfect, self.none)
    }
}

/// Gaps below this share of the bill are none.
const GAP_MIN: f64 = 1e-3;

fn share(part: f64, whole: f64, bill: f64) -> Option<f64> {
    (whole > GAP_MIN * bill.abs()).then(|| part / whole)
}

/// A home's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HomeFigures {
    /// Costs over all steps that count.
    #[serde(flatten)]
    pub costs: Costs,
    /// Perfect foresight at the recorded resolution: no contender can cost less.
    pub cost_bound: f64,
    /// See [`Costs::share_of_gap`].
    pub share_of_gap: Option<f64>,
    /// See [`Costs::share_of_gap_setpoint`].
    pub share_of_gap_setpoint: Option<f64>,
    /// See [`Costs::share_of_saving`].
    pub share_of_saving: Option<f64>,
    /// Share of the load that is not imported, under Hearth.
    pub autarky: f64,
    /// The same under the rule.
    pub autarky_rule: f64,
    /// Energy moved through the battery under Hearth, as change of content either way, kWh.
    pub wear_kwh: f64,
    /// The same under the rule.
    pub wear_kwh_rule: f64,
    /// Energy used in the steps that count, kWh.
    pub load_kwh: f64,
    /// Days that count, with what is missing left out.
    pub days: f64,
    /// Length of a recorded step, minutes.
    pub step_minutes: u32,
    /// Errors of load forecasts of a day, made every six hours.
    pub load_errors: ErrorFigures,
    /// The same of PV.
    pub pv_errors: ErrorFigures,
    /// The load model in place at the end.
    pub model: &'static str,
    /// Costs by month, such as `2017-03`.
    pub months: BTreeMap<String, Costs>,
    /// Plans made.
    pub plans: usize,
    /// Commands sent, each a program.
    pub commands: usize,
    /// What is left in the battery counts so much, currency per kWh.
    pub left_per_kwh: f64,
}

/// All homes together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetFigures {
    /// Number of homes.
    pub homes: usize,
    /// Sums.
    #[serde(flatten)]
    pub costs: Costs,
    /// Sum.
    pub cost_bound: f64,
    /// Of the sums.
    pub share_of_gap: Option<f64>,
    /// Mean of the homes that have a gap.
    pub share_of_gap_mean: Option<f64>,
    /// Of the sums.
    pub share_of_saving: Option<f64>,
    /// Share of all load that is not imported, under Hearth.
    pub autarky: f64,
    /// Sum, kWh.
    pub wear_kwh: f64,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// By name.
    pub homes: BTreeMap<String, HomeFigures>,
    /// All of them.
    pub fleet: FleetFigures,
}

impl Report {
    /// Sums homes up.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "homes are few")]
    pub fn of(homes: BTreeMap<String, HomeFigures>) -> Self {
        let mut costs = Costs::default();
        let (mut bound, mut wear_kwh, mut load_kwh, mut own_kwh) = (0.0, 0.0, 0.0, 0.0);
        let mut shares = Vec::new();
        for home in homes.values() {
            costs.add(&home.costs);
            bound += home.cost_bound;
            wear_kwh += home.wear_kwh;
            load_kwh += home.load_kwh;
            own_kwh += home.autarky * home.load_kwh;
            shares.extend(home.share_of_gap);
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let fleet = FleetFigures {
            homes: homes.len(),
            costs,
            cost_bound: bound,
            share_of_gap: costs.share_of_gap(),
            share_of_gap_mean: (!shares.is_empty()).then_some(mean),
            share_of_saving: costs.share_of_saving(),
            autarky: if load_kwh > 0.0 {
                own_kwh / load_kwh
            } else {
                0.0
            },
            wear_kwh,
        };
        Self { homes, fleet }
    }
}

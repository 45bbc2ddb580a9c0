//! The policy of each slot: what the battery does whatever load and sun turn out to be, its name, and why. It looks at a
//! plan and at the levels of its convex program, and changes nothing of the plan.

use model::battery::{Bounds, Moment};
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};
use model::problem::{Battery, Problem};
use model::schedule::PlannedSlot;

use crate::numbers::REACH_KWH;
use crate::outlook::{Levels, Outlook};

/// Powers below this are none, kW.
const STILL_KW: f64 = 1e-9;

/// What is known of a plan's battery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) dt: f64,
    /// Weighted.
    pub(crate) buy: &'a [f64],
    pub(crate) outlook: Outlook<'a>,
    /// The highest import that the battery reckons with, kW; infinite without a price on it.
    pub(crate) peak_kw: f64,
}

/// What a battery does that follows its policies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followed {
    /// Content at the end of each slot, kWh.
    pub(crate) contents: Vec<f64>,
    policies: Vec<BatteryPolicy>,
}

/// Follows the thresholds of each slot on the series of `slots`, which hold another plan of the same home.
pub(crate) fn follow(known: &Known, slots: &[PlannedSlot]) -> Followed {
    let mut followed = Followed::default();
    let Some(home) = known.home() else {
        return followed;
    };
    let mut content = home.battery.soc_kwh;
    for (t, slot) in slots.iter().enumerate() {
        let plan = known.plan(t, slot, content);
        let levels = ordered(known.outlook.levels(t, content), &plan);
        let policy = home.thresholds(&levels, &plan);
        content = home.after(&policy, &plan);
        followed.contents.push(content);
        followed.policies.push(policy);
    }
    followed
}

/// Writes the policy into each of `slots`, which hold the plan that was found, and `followed` if it came from following
/// policies. Where a slot's levels do not lead to the plan, as at prices that are not convex, the policy holds the plan's
/// power.
pub(crate) fn write(known: &Known, followed: Option<&Followed>, slots: &mut [PlannedSlot]) {
    let Some(home) = known.home() else {
        return without_battery(slots);
    };
    let outlook = &known.outlook;
    let mut ahead = Ahead::NOTHING;
    for t in (0..slots.len()).rev() {
        let before = t.checked_sub(1).map(|before| slots[before].soc_kwh);
        let slot = &mut slots[t];
        let plan = known.plan(t, slot, before.unwrap_or(home.battery.soc_kwh));
        let policy = if let Some(followed) = followed {
            BatteryPolicy {
                expected_kw: plan.power_kw,
                ..followed.policies[t]
            }
        } else {
            let levels = outlook.levels(t, plan.content);
            let ordered = ordered(levels, &plan);
            let policy = home.thresholds(&ordered, &plan);
            let is_theirs = outlook.is_plain && ordered == levels;
            if is_theirs || home.leads_to(&policy, &plan) {
                policy
            } else {
                BatteryPolicy::setpoint(plan.power_kw)
            }
        };
        slot.policy = Some(SlotPolicy {
            battery: Some(policy),
            import_max_kw: known.kept_kw(t, &policy).0,
            export_max_kw: known.kept_kw(t, &policy).1,
            value_per_kwh: outlook.worths[t],
            reason: home.reason(&policy, &plan, ahead),
        });
        ahead.dearest = ahead.dearest.max(plan.price);
        ahead.has_sun |= plan.net_kw < -STILL_KW;
    }
}

impl Known<'_> {
    fn home(&self) -> Option<Home<'_>> {
        let battery = self.problem.battery.as_ref()?;
        Some(Home {
            battery,
            bounds: battery.into(),
            dt: self.dt,
        })
    }

    /// The limits of the connection, kW; infinite without.
    fn connection_kw(&self) -> (f64, f64) {
        let grid = self.problem.grid;
        let limit = |limit: Option<f64>| limit.unwrap_or(f64::INFINITY);
        (limit(grid.import_limit_kw), limit(grid.export_limit_kw))
    }

    /// The signal's caps in slot `t`, kW: 0 or more, infinite without. A battery that keeps to a flow of 0 is told no more.
    fn caps_kw(&self, t: usize) -> (f64, f64) {
        let signal = self.problem.signal.as_ref();
        let (import, export) = signal.map_or((f64::INFINITY, f64::INFINITY), |s| s.caps_kw(t));
        (import.max(0.0), export.max(0.0))
    }

    /// What a battery under `policy` keeps to in slot `t` beside the limits of the connection. A set-point is what the plan
    /// does at its caps, or beyond.
    fn kept_kw(&self, t: usize, policy: &BatteryPolicy) -> (Option<f64>, Option<f64>) {
        let connection = self.connection_kw();
        let (import, export) = match policy.mode {
            Mode::Setpoint => (f64::INFINITY, f64::INFINITY),
            Mode::SelfConsumption | Mode::Hold | Mode::Charge | Mode::Sell | Mode::Idle => {
                self.caps_kw(t)
            }
        };
        let import = import.min(self.peak_kw);
        (
            (import < connection.0).then_some(import),
            (export < connection.1).then_some(export),
        )
    }

    fn plan(&self, t: usize, slot: &PlannedSlot, content: f64) -> SlotPlan {
        let (connection, caps) = (self.connection_kw(), self.caps_kw(t));
        SlotPlan {
            import_max_kw: connection.0.min(self.peak_kw).min(caps.0),
            export_max_kw: connection.1.min(caps.1),
            content,
            after: slot.soc_kwh,
            power_kw: slot.battery_charge_kw - slot.battery_discharge_kw,
            net_kw: taken_kw(slot) - self.problem.pv_kw[t],
            imports: slot.grid_export_kw <= 0.0,
            price: self.buy[t],
            bounds: self.outlook.bounds[t],
        }
    }
}

/// The peak that the plan has or has paid, kW; infinite where it has no price.
pub(crate) fn peak_kw(problem: &Problem, slots: &[PlannedSlot]) -> f64 {
    if problem.grid.peak_price_per_kw <= 0.0 {
        return f64::INFINITY;
    }
    let imports = slots.iter().map(|slot| slot.grid_import_kw);
    imports.fold(problem.grid.peak_kw, f64::max)
}

/// Writes policies that hold the plan's power, of which no worth is known; for a plan without a convex program.
pub(crate) fn fix(problem: &Problem, slots: &mut [PlannedSlot]) {
    if problem.battery.is_none() {
        return without_battery(slots);
    }
    for slot in slots {
        let power_kw = slot.battery_charge_kw - slot.battery_discharge_kw;
        slot.policy = Some(SlotPolicy::setpoint(power_kw));
    }
}

fn without_battery(slots: &mut [PlannedSlot]) {
    for slot in slots {
        slot.policy = Some(SlotPolicy {
            battery: None,
            import_max_kw: None,
            export_max_kw: None,
            value_per_kwh: 0.0,
            reason: Reason::OwnUse,
        });
    }
}

/// What everything but the battery takes in a slot, kW.
pub(crate) fn taken_kw(slot: &PlannedSlot) -> f64 {
    let evs = slot.evs.values().map(|ev| ev.charge_kw - ev.discharge_kw);
    let heat = slot.heat.values().map(|heat| heat.power_kw);
    slot.load_kw + evs.chain(heat).sum::<f64>()
}

/// What the plan has for a slot.
#[derive(Debug, Clone, Copy)]
struct SlotPlan {
    /// Limits and caps with the peak that the plan reckons with; infinite without.
    import_max_kw: f64,
    export_max_kw: f64,
    /// Content at the slot's start and at its end, kWh.
    content: f64,
    after: f64,
    /// The battery's power, positive while charging.
    power_kw: f64,
    /// Load less all PV, without the battery.
    net_kw: f64,
    imports: bool,
    /// What a kWh from the grid costs, weighted.
    price: f64,
    /// What can be held at its end, kWh.
    bounds: (f64, f64),
}

/// What comes after a slot.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    dearest: f64,
    /// Whether PV will be left over.
    has_sun: bool,
}

impl Ahead {
    const NOTHING: Self = Self {
        dearest: f64::NEG_INFINITY,
        has_sun: false,
    };
}

/// Puts levels in order. They are out of it only where selling pays more than buying costs, or where a battery would earn by
/// its losses. What the plan makes use of stays.
fn ordered(mut levels: Levels, plan: &SlotPlan) -> Levels {
    let Levels {
        left_over,
        bought,
        needed,
        sold,
        ..
    } = &mut levels;
    if plan.power_kw < 0.0 {
        *bought = bought.min(*needed);
        *left_over = left_over.min(*sold);
    } else {
        *needed = needed.max(*bought);
        *sold = sold.max(*left_over);
    }
    if plan.imports {
        *left_over = left_over.max(*bought);
        *sold = sold.max(*needed).max(*left_over);
    } else {
        *needed = needed.min(*sold);
        *bought = bought.min(*left_over).min(*needed);
    }
    levels.excess = levels.excess.max(levels.left_over);
    levels.beyond = levels.beyond.min(levels.needed);
    levels
}

/// The home of a battery, and what does not change from slot to slot.
struct Home<'a> {
    battery: &'a Battery,
    bounds: Bounds,
    dt: f64,
}

impl Home<'_> {
    fn thresholds(&self, levels: &Levels, plan: &SlotPlan) -> BatteryPolicy {
        let up_to = |level: f64| self.is_above_least(level).then_some(level);
        let down_to = |level: f64| self.is_below_most(level).then_some(level);
        let mut policy = BatteryPolicy {
            mode: Mode::Idle,
            charge_from_grid_to_kwh: up_to(levels.bought),
            charge_from_pv_to_kwh: up_to(levels.left_over),
            discharge_to_home_to_kwh: down_to(levels.needed),
            discharge_to_grid_to_kwh: down_to(levels.sold),
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: None,
            expected_kw: plan.power_kw,
        };
        if plan.export_max_kw.is_finite() && self.is_below_most(levels.excess) {
            policy.charge_from_excess_to_kwh = Some(levels.excess);
        }
        if plan.import_max_kw.is_finite() && self.is_above_least(levels.beyond) {
            policy.discharge_to_excess_to_kwh = Some(levels.beyond);
        }
        policy.mode = self.mode(&policy, plan);
        policy
    }

    fn is_above_least(&self, content: f64) -> bool {
        content > self.bounds.min_kwh + REACH_KWH
    }

    fn is_below_most(&self, content: f64) -> bool {
        content < self.bounds.max_kwh - REACH_KWH
    }

    /// Whether a battery that follows `policy` does what was planned, if everything else is as planned.
    fn leads_to(&self, policy: &BatteryPolicy, plan: &SlotPlan) -> bool {
        let after = self.after(policy, plan);
        (after - plan.after).abs() <= REACH_KWH * self.bounds.max_kwh.max(1.0)
    }

    /// The content after the slot of a battery that follows `policy`, if everything else is as planned.
    fn after(&self, policy: &BatteryPolicy, plan: &SlotPlan) -> f64 {
        let moment = Moment {
            content_kwh: plan.content,
            net_load_kw: plan.net_kw,
            import_max_kw: plan.import_max_kw,
            export_max_kw: plan.export_max_kw,
        };
        let power_kw = self.bounds.power_kw(policy, &moment, self.dt);
        self.bounds.after_kwh(plan.content, power_kw, self.dt)
    }

    /// The name of the thresholds at the slot's start. A threshold at the end of the battery counts as passed by no content,
    /// so that an empty battery that would cover load is not said to hold back.
    fn mode(&self, policy: &BatteryPolicy, plan: &SlotPlan) -> Mode {
        let content = plan.content;
        let is_below = |level: f64| content < level - REACH_KWH;
        let is_above = |level: f64| content > level + REACH_KWH;
        let stores = policy
            .charge_from_pv_to_kwh
            .is_some_and(|level| is_below(level) || !self.is_below_most(level));
        let covers = policy
            .discharge_to_home_to_kwh
            .is_some_and(|level| is_above(level) || !self.is_above_least(level));
        if policy.charge_from_grid_to_kwh.is_some_and(is_below) {
            Mode::Charge
        } else if policy.discharge_to_grid_to_kwh.is_some_and(is_above) {
            Mode::Sell
        } else if covers && (stores || plan.net_kw >= 0.0) {
            Mode::SelfConsumption
        } else if stores {
            Mode::Hold
        } else {
            Mode::Idle
        }
    }

    /// The first reason that holds.
    fn reason(&self, policy: &BatteryPolicy, plan: &SlotPlan, ahead: Ahead) -> Reason {
        let covers_beyond = plan.power_kw < -STILL_KW && plan.net_kw > plan.import_max_kw;
        let stores_beyond = plan.power_kw > STILL_KW && -plan.net_kw > plan.export_max_kw;
        if policy.mode != Mode::Setpoint && (covers_beyond || stores_beyond) {
            return Reason::GridLimit;
        }
        let (least, most) = plan.bounds;
        let must = if self.battery.end_soc_min_kwh > self.bounds.min_kwh {
            Reason::EndContent
        } else {
            Reason::GridLimit
        };
        match policy.mode {
            Mode::Setpoint => Reason::Fixed,
            Mode::Charge if plan.content < least - REACH_KWH => must,
            Mode::Charge => Reason::CheapNow,
            Mode::Sell if plan.content > most + REACH_KWH => Reason::GridLimit,
            Mode::Sell => Reason::PaysNow,
            Mode::Hold if self.is_above_least(least) && plan.content <= least + REACH_KWH => must,
            Mode::Hold if ahead.dearest > plan.price => Reason::DearLater,
            Mode::Idle if ahead.has_sun && self.is_below_most(plan.content) => Reason::SunLater,
            Mode::Hold | Mode::Idle => Reason::NotWorthIt,
            Mode::SelfConsumption => Reason::OwnUse,
        }
    }
}

//! What a program has told the devices, small enough to be kept by each home: as fine as devices can tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use model::command::Command;
use model::policy::{Mode, SlotPolicy};

/// How far a threshold may move without being news: 1 % of the capacity, in hundredths of a percent.
const THRESHOLD_NEWS: u16 = 100;

/// The content of a program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What the battery does in each entry.
    battery: Vec<Option<ToldBattery>>,
    /// Indexes of the entries in which each appliance runs, ascending.
    pub(crate) appliances: BTreeMap<String, Vec<u16>>,
    /// Power of each EV in each entry, W: drawn in any case, and largest back to the home.
    evs: BTreeMap<String, Vec<(i32, i32)>>,
    /// Power of each heat store in each entry, W.
    heat: BTreeMap<String, Vec<i32>>,
}

/// What the battery does in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct ToldBattery {
    mode: Mode,
    /// In hundredths of a percent of the capacity; `None` where the policy has none.
    thresholds: [Option<u16>; 6],
    setpoint_w: Option<i32>,
    import_max_w: Option<i32>,
    export_max_w: Option<i32>,
}

impl Told {
    pub(crate) fn of(command: &Command) -> Self {
        let capacity_kwh = command.battery.map_or(0.0, |battery| battery.capacity_kwh);
        let mut told = Self::default();
        for (index, entry) in (0_u16..).zip(&command.program) {
            let policy = entry.policy.as_ref();
            told.battery
                .push(policy.and_then(|policy| ToldBattery::of(policy, capacity_kwh)));
            for (id, runs) in &entry.appliances {
                let indexes = told.appliances.entry(id.clone()).or_default();
                if *runs {
                    indexes.push(index);
                }
            }
            for (id, order) in &entry.evs {
                let powers = (watts(order.charge_kw), watts(order.discharge_max_kw));
                told.evs.entry(id.clone()).or_default().push(powers);
            }
            for (id, order) in &entry.heat {
                let powers = told.heat.entry(id.clone()).or_default();
                powers.push(watts(order.power_kw));
            }
        }
        told
    }

    /// Returns whether `wanted` says nothing new where both have something to say. Its first entry is for the time of this
    /// one's entry `offset`, which is one of them.
    pub(crate) fn says_as_much_as(&self, wanted: &Self, offset: usize) -> bool {
        let first = u16::try_from(offset).expect("a horizon has 672 slots at most");
        let both = first..self.entries().min(first + wanted.entries());
        if both.is_empty() {
            // What it said is forgotten.
            return false;
        }
        let mut batteries = self.battery[offset..].iter().zip(&wanted.battery);
        let appliances = same_keys(&self.appliances, &wanted.appliances)
            && self.appliances.iter().all(|(id, indexes)| {
                both.clone().all(|index| {
                    let runs = indexes.binary_search(&index).is_ok();
                    runs == wanted.appliances[id]
                        .binary_search(&(index - first))
                        .is_ok()
                })
            });
        appliances
            && batteries.all(|(one, other)| match (one, other) {
                (Some(one), Some(other)) => one.is_as_good_as(other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            })
            && same_series(&self.evs, &wanted.evs, offset)
            && same_series(&self.heat, &wanted.heat, offset)
    }

    fn entries(&self) -> u16 {
        u16::try_from(self.battery.len()).expect("a horizon has 672 slots at most")
    }

    /// Forgets all but the appliances, whose runs may still have to be noted.
    pub(crate) fn forget_stores(&mut self) {
        self.battery = Vec::new();
        self.evs = BTreeMap::new();
        self.heat = BTreeMap::new();
    }
}

impl ToldBattery {
    fn of(policy: &SlotPolicy, capacity_kwh: f64) -> Option<Self> {
        let battery = policy.battery.as_ref()?;
        let thresholds = [
            battery.charge_from_grid_to_kwh,
            battery.charge_from_pv_to_kwh,
            battery.discharge_to_home_to_kwh,
            battery.discharge_to_grid_to_kwh,
            battery.charge_from_excess_to_kwh,
            battery.discharge_to_excess_to_kwh,
        ];
        Some(Self {
            mode: battery.mode,
            thresholds: thresholds.map(|kwh| Some(hundredths(kwh? / capacity_kwh))),
            setpoint_w: battery.setpoint_kw.map(watts),
            import_max_w: policy.import_max_kw.map(watts),
            export_max_w: policy.export_max_kw.map(watts),
        })
    }

    fn is_as_good_as(&self, wanted: &Self) -> bool {
        let mut thresholds = self.thresholds.iter().zip(&wanted.thresholds);
        self.mode == wanted.mode
            && self.setpoint_w == wanted.setpoint_w
            && self.import_max_w == wanted.import_max_w
            && self.export_max_w == wanted.export_max_w
            && thresholds.all(|pair| match pair {
                (Some(one), Some(other)) => one.abs_diff(*other) <= THRESHOLD_NEWS,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            })
    }
}

fn same_keys<A, B>(one: &BTreeMap<String, A>, other: &BTreeMap<String, B>) -> bool {
    one.keys().eq(other.keys())
}

fn same_series<T: PartialEq>(
    told: &BTreeMap<String, Vec<T>>,
    wanted: &BTreeMap<String, Vec<T>>,
    offset: usize,
) -> bool {
    same_keys(told, wanted)
        && told.iter().all(|(id, powers)| {
            let mut both = powers.iter().skip(offset).zip(&wanted[id]);
            both.all(|(one, other)| one == other)
        })
}

#[expect(clippy::cast_possible_truncation, reason = "powers are below 10 MW")]
fn watts(kw: f64) -> i32 {
    (kw * 1e3).round() as i32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is 0 to 1, and anything else becomes one of them"
)]
fn hundredths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1e4).round() as u16
}

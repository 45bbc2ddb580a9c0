//! Ways in which a home's load and PV may turn out, and how they travel in records.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Steps of net load in a kW.
const STEPS_PER_KW: f64 = 100.0;

/// One way in which load and PV may turn out. Both series have the length of the horizon.
///
/// In records only the net load of each slot travels, in steps of 10 W: a positive one comes back as load, a negative one
/// as PV.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// How likely it is, relative to the other scenarios: 0 to `WEIGHT_MAX`. At least one weight is above 0.
    pub weight: f64,
    /// Load without appliances, EVs and heaters, kW: 0 to `POWER_KW_MAX`.
    pub load_kw: Vec<f64>,
    /// PV production available, kW: 0 to `POWER_KW_MAX`.
    pub pv_kw: Vec<f64>,
}

/// A scenario in a record.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Scenario")]
struct NetLoad {
    weight: f64,
    /// The net load of the first slot, then by how much each slot's is above the one before: small numbers are short.
    net_steps: Vec<i32>,
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "powers are at most 10,000 kW; what is far above is cut"
        )]
        let steps_of = |(load, pv): (&f64, &f64)| ((load - pv) * STEPS_PER_KW).round() as i32;
        let slots = self.load_kw.iter().zip(&self.pv_kw);
        let mut before = 0_i32;
        let net_steps = slots.map(steps_of).map(|steps| {
            let rise = steps.saturating_sub(before);
            before = steps;
            rise
        });
        let net_load = NetLoad {
            weight: self.weight,
            net_steps: net_steps.collect(),
        };
        net_load.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let NetLoad { weight, net_steps } = NetLoad::deserialize(deserializer)?;
        let mut steps = 0_i32;
        let net_kw = net_steps.into_iter().map(|rise| {
            steps = steps.saturating_add(rise);
            f64::from(steps) / STEPS_PER_KW
        });
        let (load_kw, pv_kw) = net_kw.map(|net| (net.max(0.0), (-net).max(0.0))).unzip();
        Ok(Self {
            weight,
            load_kw,
            pv_kw,
        })
    }
}

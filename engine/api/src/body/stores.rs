//! What a home can store energy in beside its battery, and what keeps a plan to the one before, in the body of
//! `POST /api/optimize`.

use std::collections::BTreeMap;

use model::problem::{Ev, HeatStore, Problem, Stability};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// An electric vehicle that is plugged in once during the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvBody {
    pub id: String,
    pub arrival_slot: u32,
    pub departure_slot: u32,
    pub capacity_kwh: f64,
    pub soc_kwh: f64,
    #[serde(default)]
    pub min_soc_kwh: f64,
    /// Absent: the SoC on arrival.
    pub goal_soc_kwh: Option<f64>,
    pub charge_kw: f64,
    #[serde(default)]
    pub min_charge_kw: f64,
    #[serde(default)]
    pub discharge_kw: f64,
    #[serde(default = "lossless")]
    pub charge_efficiency: f64,
    #[serde(default = "lossless")]
    pub discharge_efficiency: f64,
    #[serde(default)]
    pub end_value_per_kwh: f64,
    #[serde(default)]
    pub wear_cost_per_kwh: f64,
}

const fn lossless() -> f64 {
    1.0
}

/// A store of heat with one temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatStoreBody {
    pub id: String,
    pub power_kw: f64,
    pub cop: SeriesBody,
    pub kwh_per_k: f64,
    pub loss_kw_per_k: f64,
    pub temperature_c: f64,
    pub min_c: f64,
    pub max_c: f64,
    pub ambient_c: SeriesBody,
    #[serde(default = "SeriesBody::zero")]
    pub draw_kw: SeriesBody,
    #[serde(default)]
    pub end_value_per_kwh: f64,
}

/// A number for every slot, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "cop, ambient_c, draw_kw: expected a number, or an array with a number for each slot"
)]
pub enum SeriesBody {
    Same(f64),
    Each(Vec<f64>),
}

impl SeriesBody {
    const fn zero() -> Self {
        Self::Same(0.0)
    }

    fn into_series(self, slots_count: usize) -> Vec<f64> {
        match self {
            Self::Same(value) => vec![value; slots_count],
            Self::Each(values) => values,
        }
    }
}

/// What departing from the plan before costs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StabilityBody {
    pub battery_cost_per_kwh: f64,
    pub start_cost: f64,
    pub soc_change_kwh: Vec<f64>,
    #[serde(deserialize_with = "each_once")]
    pub start_slots: BTreeMap<String, u32>,
}

/// Reads slots by id. An id that is given twice is refused, as a field is.
fn each_once<'de, D: Deserializer<'de>>(map: D) -> Result<BTreeMap<String, u32>, D::Error> {
    struct EachOnce;

    impl<'de> Visitor<'de> for EachOnce {
        type Value = BTreeMap<String, u32>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of slots by id")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Self::Value, A::Error> {
            let mut slots = BTreeMap::new();
            while let Some((id, slot)) = given.next_entry::<String, u32>()? {
                if slots.contains_key(&id) {
                    return Err(A::Error::custom(format!("duplicate field `{id}`")));
                }
                slots.insert(id, slot);
            }
            Ok(slots)
        }
    }

    map.deserialize_map(EachOnce)
}

/// The given EVs, or those of `known` that leave before the end of the horizon.
pub(super) fn evs(
    given: Option<Vec<EvBody>>,
    known: Option<&Problem>,
    slots_count: usize,
) -> Vec<Ev> {
    if let Some(bodies) = given {
        return bodies.into_iter().map(Ev::from).collect();
    }
    let known = known.map(|known| known.evs.clone()).unwrap_or_default();
    let evs = known.into_iter();
    evs.filter(|ev| ev.departure_slot as usize <= slots_count)
        .collect()
}

/// The given heat stores, or those of `known` up to the end of the horizon.
pub(super) fn heat_stores(
    given: Option<Vec<HeatStoreBody>>,
    known: Option<&Problem>,
    slots_count: usize,
) -> Vec<HeatStore> {
    if let Some(bodies) = given {
        let stores = bodies.into_iter();
        return stores
            .map(|body| body.into_heat_store(slots_count))
            .collect();
    }
    let mut stores = known
        .map(|known| known.heat_stores.clone())
        .unwrap_or_default();
    for store in &mut stores {
        for series in [&mut store.cop, &mut store.ambient_c, &mut store.draw_kw] {
            series.truncate(slots_count);
        }
    }
    stores
}

/// What is given, a null for none, or that of `known` up to the end of the horizon.
pub(super) fn stability(
    given: Option<Option<StabilityBody>>,
    known: Option<&Problem>,
    slots_count: usize,
) -> Option<Stability> {
    if let Some(body) = given {
        return body.map(Stability::from);
    }
    let mut stability = known?.stability.clone()?;
    stability.soc_change_kwh.truncate(slots_count);
    Some(stability)
}

impl From<EvBody> for Ev {
    fn from(body: EvBody) -> Self {
        Self {
            id: body.id,
            arrival_slot: body.arrival_slot,
            departure_slot: body.departure_slot,
            capacity_kwh: body.capacity_kwh,
            soc_kwh: body.soc_kwh,
            min_soc_kwh: body.min_soc_kwh,
            goal_soc_kwh: body.goal_soc_kwh.unwrap_or(body.soc_kwh),
            charge_kw: body.charge_kw,
            min_charge_kw: body.min_charge_kw,
            discharge_kw: body.discharge_kw,
            charge_efficiency: body.charge_efficiency,
            discharge_efficiency: body.discharge_efficiency,
            end_value_per_kwh: body.end_value_per_kwh,
            wear_cost_per_kwh: body.wear_cost_per_kwh,
        }
    }
}

impl HeatStoreBody {
    fn into_heat_store(self, slots_count: usize) -> HeatStore {
        HeatStore {
            id: self.id,
            power_kw: self.power_kw,
            cop: self.cop.into_series(slots_count),
            kwh_per_k: self.kwh_per_k,
            loss_kw_per_k: self.loss_kw_per_k,
            temperature_c: self.temperature_c,
            min_c: self.min_c,
            max_c: self.max_c,
            ambient_c: self.ambient_c.into_series(slots_count),
            draw_kw: self.draw_kw.into_series(slots_count),
            end_value_per_kwh: self.end_value_per_kwh,
        }
    }
}

impl From<StabilityBody> for Stability {
    fn from(body: StabilityBody) -> Self {
        Self {
            battery_cost_per_kwh: body.battery_cost_per_kwh,
            start_cost: body.start_cost,
            soc_change_kwh: body.soc_change_kwh,
            start_slots: body.start_slots,
        }
    }
}

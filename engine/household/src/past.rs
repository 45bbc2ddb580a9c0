//! What a home remembers for its forecasts: each slot that ends is told to it.
//!
//! A slot that is aggregated again, because a reading came late, corrects the load of that time. The PV power of a time is
//! taken from what was known when its slot ended first, since its hour of sun may be over.

use forecast::home::{Ahead, EndedSlot, Forecast, HomeForecast};
use forecast::horizon::Horizon;
use forecast::irradiance::Plane;
use forecast::local_time::LocalTime;
use forecast::plant::Plant;
use forecast::sun::Place;
use model::metadata::Metadata;
use model::slot::Slot;
use model::units::{MINUTE_MS, SlotLength};
use model::zone::Zone;

/// What a kWh costs more that comes unforeseen. All hours count the same: a home's state must not depend on prices, which
/// reach the engine in another order when a log is read again.
const STAKE_PER_KWH: f64 = 1.0;

/// Tells the home's past a slot that has ended. Of a slot of another length than the past's, a longer one is cut, and a
/// shorter one is left out. `planned_w` is the part of its load that plans decide, W; where that is not known, the load is
/// not told.
pub fn note(
    past: &mut HomeForecast,
    slot: &Slot,
    planned_w: Option<f64>,
    metadata: Option<&Metadata>,
) {
    let length = past.slot();
    let end_ms = slot.start_ms + i64::from(slot.slot_minutes) * MINUTE_MS;
    let plant = plant(metadata);
    let load_w = slot.load_w.mean().zip(planned_w);
    let mut start_ms = length.start_of_ms(slot.start_ms);
    while start_ms + length.ms() <= end_ms {
        past.observe(&EndedSlot {
            start_ms,
            offset_min: local_time(metadata, start_ms).offset_min,
            load_w: load_w.map(|(load_w, planned_w)| (load_w - planned_w).max(0.0)),
            pv_w: slot.pv_w.mean(),
            plant: &plant,
            weather: None,
            stake_per_kwh: STAKE_PER_KWH,
        });
        start_ms += length.ms();
    }
}

/// Forecasts the slots from `start_ms` on.
#[must_use]
pub fn forecast(
    past: &HomeForecast,
    metadata: &Metadata,
    start_ms: i64,
    slot: SlotLength,
    slots_count: usize,
) -> Forecast {
    let plant = plant(Some(metadata));
    past.forecast(&Ahead {
        horizon: Horizon {
            start_ms,
            slot,
            slots_count,
            local: local_time(Some(metadata), start_ms),
        },
        load_now_w: None,
        plant: &plant,
        weather: &[],
    })
}

/// Returns where the home stands: its position, or its location where that is one.
fn place(metadata: &Metadata) -> Option<Place> {
    let position = metadata.position;
    position.map_or_else(
        || Place::parse(&metadata.location),
        |position| Place::new(position.latitude_deg, position.longitude_deg),
    )
}

/// Returns the plant as far as metadata tells. Before there is metadata, the highest power shown is its peak power.
fn plant(metadata: Option<&Metadata>) -> Plant {
    Plant {
        place: metadata.and_then(place),
        plane: metadata
            .and_then(|metadata| metadata.pv_mounting)
            .map(|mounting| Plane {
                tilt_deg: mounting.tilt_deg,
                azimuth_deg: mounting.azimuth_deg,
            }),
        capacity_w: metadata.map(|metadata| metadata.pv_capacity_kw * 1e3),
    }
}

/// Returns the time on the home's clocks from a moment on, UTC epoch milliseconds; UTC before there is metadata.
fn local_time(metadata: Option<&Metadata>, from_ms: i64) -> LocalTime {
    let zone = metadata.map(|metadata| Zone::find_or_utc(&metadata.time_zone));
    zone.map_or(LocalTime::UTC, |zone| LocalTime {
        offset_min: zone.offset_min(from_ms),
        change: zone.next_change(from_ms),
    })
}

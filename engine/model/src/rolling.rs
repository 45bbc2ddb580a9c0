//! Rolling figures of a home.

use crate::slot::{Slot, Stat};
use crate::units::{DAY_MS, HOUR_MS, MINUTE_MS};

/// Rolling figures over slots. A mean or peak is `None` if nothing was read in its span; a sum covers what was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// Mean load of the last hour, W.
    pub load_w_mean_1h: Option<f64>,
    /// Mean load of the last 24 hours, W.
    pub load_w_mean_24h: Option<f64>,
    /// Mean PV power of the last hour, W.
    pub pv_w_mean_1h: Option<f64>,
    /// Mean PV power of the last 24 hours, W.
    pub pv_w_mean_24h: Option<f64>,
    /// Energy consumed since 00:00 UTC, kWh, over the slots that have readings. The open slot counts the time that has
    /// passed.
    pub load_kwh_today: f64,
    /// Energy produced by PV since 00:00 UTC, kWh, counted in the same way.
    pub pv_kwh_today: f64,
    /// Highest load reading of the last 24 hours, W.
    pub load_w_peak_24h: Option<f64>,
}

impl Rolling {
    /// Computes the figures from `slots` at `now_ms` (UTC epoch milliseconds). `slots` may reach further back than needed.
    /// A span contains the slots that began in it. Each slot is weighted by the time it has lasted, so an open slot that
    /// has just begun does not count, unless there is no other.
    #[must_use]
    pub fn of(slots: &[Slot], now_ms: i64) -> Self {
        let since = |from_ms: i64| {
            slots
                .iter()
                .filter(move |slot| (from_ms..=now_ms).contains(&slot.start_ms))
        };
        let energy = |from_ms: i64, series: fn(&Slot) -> &Stat| {
            let known = since(from_ms).filter_map(|slot| {
                let hours = hours_passed(slot, now_ms);
                Some((series(slot).mean()?, hours))
            });
            known.fold((0.0, 0.0), |(energy_wh, hours), (mean_w, more)| {
                (energy_wh + mean_w * more, hours + more)
            })
        };
        let mean = |from_ms: i64, series: fn(&Slot) -> &Stat| {
            let (energy_wh, hours) = energy(from_ms, series);
            if hours > 0.0 {
                return Some(energy_wh / hours);
            }
            since(from_ms).find_map(|slot| series(slot).mean())
        };
        let energy_kwh =
            |from_ms: i64, series: fn(&Slot) -> &Stat| energy(from_ms, series).0 / 1_000.0;
        let (hour_ms, day_ms) = (now_ms - HOUR_MS, now_ms - DAY_MS);
        let midnight_ms = now_ms - now_ms.rem_euclid(DAY_MS);
        let read = since(day_ms).filter(|slot| slot.load_w.count > 0);
        Self {
            load_w_mean_1h: mean(hour_ms, |slot| &slot.load_w),
            load_w_mean_24h: mean(day_ms, |slot| &slot.load_w),
            pv_w_mean_1h: mean(hour_ms, |slot| &slot.pv_w),
            pv_w_mean_24h: mean(day_ms, |slot| &slot.pv_w),
            load_kwh_today: energy_kwh(midnight_ms, |slot| &slot.load_w),
            pv_kwh_today: energy_kwh(midnight_ms, |slot| &slot.pv_w),
            load_w_peak_24h: read.map(|slot| slot.load_w.max).reduce(f64::max),
        }
    }
}

/// Returns how much of a slot has passed, in hours.
#[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds fits")]
fn hours_passed(slot: &Slot, now_ms: i64) -> f64 {
    let length_ms = i64::from(slot.slot_minutes) * MINUTE_MS;
    (now_ms - slot.start_ms).clamp(0, length_ms) as f64 / HOUR_MS as f64
}

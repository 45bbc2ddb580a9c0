//! Rolling figures of a home.

use crate::slot::{Slot, Stat};
use crate::units::{DAY_MS, HOUR_MS};

/// Rolling figures over slots. `None` where nothing was read; a sum is over what was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rolling {
    /// Mean load of the last hour and the last 24 hours, W.
    pub load_w_mean_1h: Option<f64>,
    pub load_w_mean_24h: Option<f64>,
    /// Mean PV power of the same spans, W.
    pub pv_w_mean_1h: Option<f64>,
    pub pv_w_mean_24h: Option<f64>,
    /// Energy since 00:00 UTC, kWh, from the slots that were measured.
    pub load_kwh_today: f64,
    pub pv_kwh_today: f64,
    /// Highest reading of the load in the last 24 hours, W.
    pub load_w_peak_24h: Option<f64>,
}

impl Rolling {
    /// Of `slots`, which may reach further back than needed, at `now_ms`. A span holds the slots that began in it, and
    /// each slot weighs the same, however many readings it has.
    #[must_use]
    pub fn of(slots: &[Slot], now_ms: i64) -> Self {
        let since = |from_ms: i64| {
            slots
                .iter()
                .filter(move |slot| (from_ms..=now_ms).contains(&slot.start_ms))
        };
        let mean = |from_ms: i64, series: fn(&Slot) -> &Stat| {
            let mut means_w = Stat::EMPTY;
            let known = since(from_ms).filter_map(|slot| series(slot).mean());
            known.for_each(|mean_w| means_w.add(mean_w));
            means_w.mean()
        };
        let energy_kwh = |from_ms: i64, series: fn(&Slot) -> &Stat| -> f64 {
            since(from_ms)
                .filter_map(|slot| Some(series(slot).mean()? * f64::from(slot.slot_minutes)))
                .sum::<f64>()
                / 60_000.0
        };
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

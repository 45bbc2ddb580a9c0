//! What a plan is based on, and how old it is. An input whose last reading is too old is unknown, whatever the others
//! say: a meter that goes on does not vouch for a battery's sensor that has died.

use serde::{Deserialize, Serialize};

use crate::unplannable::Unplannable;
use model::metadata::Metadata;
use model::reading::Reading;
use model::slot::{Slot, Stat};
use model::units::{DAY_MS, MINUTE_MS, SlotLength};

/// An inverter that last told of more than this share of its peak power had not gone to sleep for the night, and one
/// whose plant made more than this share a day before should be awake.
const PV_AWAKE_SHARE: f64 = 0.1;

/// The newest reading of one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    /// Its event time.
    pub ts_ms: i64,
    /// W, or percent of the capacity for a SoC.
    pub value: f64,
}

/// The newest reading of each input; `None` where none is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Inputs {
    pub load_w: Option<Newest>,
    pub pv_w: Option<Newest>,
    pub soc_pct: Option<Newest>,
    /// Mean PV power of the slot a day before the current one, W.
    pub pv_day_before_w: Option<f64>,
}

/// Which inputs were read, but too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    pub load: bool,
    pub pv: bool,
    pub soc: bool,
}

impl Newest {
    /// The later one of `held` and this reading's.
    pub(crate) fn after(held: Option<Self>, reading: &Reading, value: f64) -> Option<Self> {
        match held {
            Some(held) if held.ts_ms > reading.ts_ms => Some(held),
            Some(_) | None => Some(Self {
                ts_ms: reading.ts_ms,
                value,
            }),
        }
    }
}

impl Inputs {
    /// From slots, which ascend and reach up to `now_ms`, as far as slots tell: load and PV are as new as the end of the
    /// newest slot that has them.
    #[must_use]
    pub fn of(slots: &[Slot], now_ms: i64, length: SlotLength) -> Self {
        let newest = |series: fn(&Slot) -> &Stat| {
            slots.iter().rev().find_map(|slot| {
                let value = series(slot).mean()?;
                let end_ms = slot.start_ms + i64::from(slot.slot_minutes) * MINUTE_MS;
                Some(Newest {
                    ts_ms: end_ms.min(now_ms),
                    value,
                })
            })
        };
        let soc = |slot: &Slot| {
            Some(Newest {
                value: slot.soc_pct?,
                ts_ms: slot.soc_ts_ms,
            })
        };
        let before_ms = length.start_of_ms(now_ms) - DAY_MS;
        let day_before = slots.iter().find(|slot| slot.start_ms == before_ms);
        Self {
            load_w: newest(|slot| &slot.load_w),
            pv_w: newest(|slot| &slot.pv_w),
            soc_pct: slots.iter().rev().find_map(soc),
            pv_day_before_w: day_before.and_then(|slot| slot.pv_w.mean()),
        }
    }

    /// Whether what this home is planned on is known and fresh at `now_ms`.
    ///
    /// # Errors
    /// The first input that is not.
    pub fn check(
        &self,
        metadata: &Metadata,
        now_ms: i64,
        stale_after_ms: i64,
    ) -> Result<(), Unplannable> {
        let stale = self.stale(metadata, now_ms, stale_after_ms);
        let (has_battery, has_pv) = (metadata.battery.is_some(), metadata.pv_capacity_kw > 0.0);
        let inputs = [
            (
                has_battery,
                self.soc_pct,
                Unplannable::NoSoc,
                stale.soc,
                Unplannable::StaleSoc,
            ),
            (
                true,
                self.load_w,
                Unplannable::NoLoad,
                stale.load,
                Unplannable::StaleLoad,
            ),
            (
                has_pv,
                self.pv_w,
                Unplannable::NoPv,
                stale.pv,
                Unplannable::StalePv,
            ),
        ];
        for (is_needed, newest, never_read, is_stale, too_old) in inputs {
            if is_needed && newest.is_none() {
                return Err(never_read);
            }
            if is_stale {
                return Err(too_old);
            }
        }
        Ok(())
    }

    /// The inputs that this home has and that were last read more than `stale_after_ms` before `now_ms`. One that was
    /// never read is not among them.
    #[must_use]
    pub fn stale(&self, metadata: &Metadata, now_ms: i64, stale_after_ms: i64) -> Stale {
        let is_stale = |newest: Newest| now_ms.saturating_sub(newest.ts_ms) > stale_after_ms;
        let capacity_kw = metadata.pv_capacity_kw;
        let has_pv_died =
            |newest: Newest| is_stale(newest) && self.is_pv_awake(newest.value, capacity_kw);
        Stale {
            load: self.load_w.is_some_and(is_stale),
            pv: capacity_kw > 0.0 && self.pv_w.is_some_and(has_pv_died),
            soc: metadata.battery.is_some() && self.soc_pct.is_some_and(is_stale),
        }
    }

    /// Many inverters say nothing from dusk to dawn: their silence is no fault while the sun is down.
    fn is_pv_awake(&self, last_w: f64, capacity_kw: f64) -> bool {
        let awake_w = PV_AWAKE_SHARE * capacity_kw * 1e3;
        last_w > awake_w || self.pv_day_before_w.is_some_and(|mean_w| mean_w > awake_w)
    }
}

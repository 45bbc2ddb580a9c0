//! The inputs of a plan and their age. An input whose last reading is too old counts as unknown even if others are
//! fresh: a working meter says nothing about a battery sensor that has failed.

use serde::{Deserialize, Serialize};

use crate::unplannable::Unplannable;
use model::metadata::Metadata;
use model::reading::Reading;
use model::slot::{Slot, Stat};
use model::units::{DAY_MS, MINUTE_MS, SlotLength};

/// Share of the peak power above which PV counts as awake. If its last reading was above this, the inverter had not gone
/// to sleep for the night. If the plant produced more than this at the same time yesterday, it should be awake now.
const PV_AWAKE_SHARE: f64 = 0.1;

/// The newest reading of one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    /// Its event time, UTC epoch milliseconds.
    pub ts_ms: i64,
    /// W; for a SoC percent of the capacity.
    pub value: f64,
}

/// The newest reading of each input; `None` if there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Inputs {
    /// Load, W.
    pub load_w: Option<Newest>,
    /// PV production, W.
    pub pv_w: Option<Newest>,
    /// SoC of the battery, percent of the capacity.
    pub soc_pct: Option<Newest>,
    /// Mean PV power of the slot 24 hours before the current one, W.
    pub pv_day_before_w: Option<f64>,
}

/// Which inputs have a last reading that is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// The load.
    pub load: bool,
    /// The PV power.
    pub pv: bool,
    /// The battery's SoC.
    pub soc: bool,
}

impl Newest {
    /// Returns the later of `held` and this reading.
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
    /// Derives the inputs from slots, which must ascend and reach up to `now_ms`. Load and PV count as read at the end of
    /// the newest slot that has them.
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

    /// Checks that every input this home needs is known and fresh at `now_ms`.
    ///
    /// # Errors
    /// Returns the first input that is missing or stale.
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

    /// Returns which of this home's inputs were last read more than `stale_after_ms` before `now_ms`. An input that was
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

    /// Returns whether PV should be sending readings. Many inverters are silent from dusk to dawn, which is not a fault.
    fn is_pv_awake(&self, last_w: f64, capacity_kw: f64) -> bool {
        let awake_w = PV_AWAKE_SHARE * capacity_kw * 1e3;
        last_w > awake_w || self.pv_day_before_w.is_some_and(|mean_w| mean_w > awake_w)
    }
}

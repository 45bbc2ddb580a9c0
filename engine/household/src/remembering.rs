//! What a home tells its past: the slots that have ended, without what its plans decide anew.

use std::sync::Arc;

use crate::assets::Counting;
use crate::effect::Effect;
use crate::household::Household;
use crate::past;
use crate::runs::power_w;
use crate::settings::Settings;
use forecast::home::HomeForecast;
use model::metadata::Metadata;
use model::slot::Slot;
use model::units::MINUTE_MS;

impl Household {
    /// Returns what the home remembers once it is told `metadata` and slots that have ended, for a look at a saved home.
    #[must_use]
    pub fn past_with(
        mut self,
        metadata: &Metadata,
        ended: &[Slot],
        settings: &Settings,
    ) -> HomeForecast {
        self.metadata = Some(Arc::new(metadata.clone()));
        for slot in ended {
            self.remember_slot(slot, settings);
        }
        let past = self.past.map(|past| past.resized(settings.slot));
        past.unwrap_or_else(|| HomeForecast::new(settings.slot))
    }

    /// Tells the home's past the slots that have ended or were corrected.
    pub(crate) fn remember(&mut self, effects: &[Effect], settings: &Settings) {
        for effect in effects {
            if let Effect::StoreSlot { slot, .. } = effect {
                self.remember_slot(slot, settings);
            }
        }
    }

    /// The load is told without what the home's plans decide anew: its EVs, heaters and runs of appliances.
    pub(crate) fn remember_slot(&mut self, slot: &Slot, settings: &Settings) {
        let counting = Counting {
            slot_ms: i64::from(slot.slot_minutes) * MINUTE_MS,
            hold_ms: settings.hold_ms,
        };
        let metadata = self.metadata.as_deref();
        let is_planned = |kind, id: &str| metadata.is_some_and(|home| home.has_asset(kind, id));
        let assets_w = self.assets.drawn_w(slot.start_ms, is_planned, counting);
        let runs_w = metadata.map_or(0.0, |home| {
            power_w(&self.runs, home, slot.start_ms, counting.slot_ms)
        });
        let planned_w = assets_w.map(|assets_w| assets_w + runs_w);
        let length = self.windows.length;
        let past = self
            .past
            .get_or_insert_with(|| Box::new(HomeForecast::new(length)));
        if past.slot() != length {
            **past = past.resized(length);
        }
        past::note(past, slot, planned_w, self.metadata.as_deref());
    }
}

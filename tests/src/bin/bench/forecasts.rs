//! What forecasts cost a home: to take in a slot that has ended, to forecast a day, and the bytes of its past.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use forecast::home::HomeForecast;
use forecast::load::SCENARIOS_MAX;
use household::past;
use loadtest::homes::{self, Home};
use model::metadata::Metadata;
use model::reading::Measurement;
use model::slot::Slot;
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};
use schemas::snapshot::{self, NextOffsets};

use crate::board::Board;
use crate::selection::Selection;

const HOMES: i64 = 50;
/// A midnight.
const FIRST_MS: i64 = 20_000 * DAY_MS;
/// Days that a home has lived through before it is measured, more than it remembers.
const PAST_DAYS: i64 = 45;
const SLOT: SlotLength = SlotLength::QUARTER_HOUR;

/// Measures what is wanted.
pub(crate) fn measure(board: &mut Board, runs: usize, selection: &Selection<'_>) -> Result<()> {
    let (mut updates, mut hours, mut forecasts) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for _ in 0..runs {
        let mut lived = Lived::default();
        for number in 1..=HOMES {
            lived.home(HouseholdId::new(number).context("a positive id")?)?;
        }
        updates.push(median(&mut lived.update_us));
        hours.push(median(&mut lived.hour_us));
        forecasts.push(median(&mut lived.forecast_us));
        bytes.push(median(&mut lived.bytes));
    }
    let rows = [
        ("forecast.update_us", "us", updates),
        ("forecast.update_that_ends_an_hour_us", "us", hours),
        ("forecast.scenarios30_us", "us", forecasts),
        ("forecast.state_bytes", "bytes", bytes),
    ];
    for (name, unit, values) in rows {
        if selection.wants(name) {
            board.add(name, unit, values);
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Lived {
    update_us: Vec<f64>,
    hour_us: Vec<f64>,
    forecast_us: Vec<f64>,
    bytes: Vec<f64>,
}

impl Lived {
    /// A home that has a past lives through one more day and is forecast in each of its slots.
    fn home(&mut self, id: HouseholdId) -> Result<()> {
        let home = Home::new(id, homes::SEED);
        let metadata = home.metadata();
        let mut known = HomeForecast::new(SLOT);
        let slot_at = |index: i64| FIRST_MS + index * SLOT.ms();
        let per_day = i64::try_from(SLOT.per_day())?;
        for index in 0..PAST_DAYS * per_day {
            past::note(
                &mut known,
                &slot(&home, slot_at(index)),
                Some(0.0),
                Some(&metadata),
            );
        }
        for index in PAST_DAYS * per_day..(PAST_DAYS + 1) * per_day {
            let ended = slot(&home, slot_at(index));
            let begun = Instant::now();
            past::note(&mut known, black_box(&ended), Some(0.0), Some(&metadata));
            let us = us(begun);
            let ends_hour = slot_at(index + 1).rem_euclid(HOUR_MS) == 0;
            if ends_hour {
                self.hour_us.push(us);
            } else {
                self.update_us.push(us);
            }
            self.forecast_us
                .push(forecast_us(&known, &metadata, slot_at(index + 1))?);
        }
        #[expect(clippy::cast_precision_loss, reason = "a few kilobytes")]
        self.bytes
            .push(snapshot::encode(0, &NextOffsets::default(), &known).len() as f64);
        Ok(())
    }
}

/// The time of a forecast of a day with its medians, as a plan needs it.
fn forecast_us(known: &HomeForecast, metadata: &Metadata, start_ms: i64) -> Result<f64> {
    let begun = Instant::now();
    let found = past::forecast(known, black_box(metadata), start_ms, SLOT, SLOT.per_day());
    black_box((found.load.median_w(), found.pv.median_w()));
    let us = us(begun);
    let count = found.load.weights.len();
    ensure!((1..=SCENARIOS_MAX).contains(&count), "{count} scenarios");
    drop(black_box(found));
    Ok(us)
}

fn us(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A slot with a reading a minute.
fn slot(home: &Home, start_ms: i64) -> Slot {
    let mut slot = Slot::empty(start_ms, SLOT.minutes());
    for minute in 0..i64::from(SLOT.minutes()) {
        let at_ms = start_ms + minute * MINUTE_MS;
        let consumption_w = home.load_w(at_ms);
        slot.add(at_ms, &Measurement::Meter { consumption_w });
        let pv_w = home.pv_w(at_ms);
        slot.add(at_ms, &Measurement::Pv { pv_w });
    }
    slot
}

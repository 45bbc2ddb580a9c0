//! A slot that may still change, with its raw readings in 12 bytes per number: each of a million homes holds dozens.

use serde::Deserialize;

use model::reading::ReadingOutcome;
use model::reading::{Kind, Measurement};

/// A reading inside its slot.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct RawReading {
    /// Time since the slot's start.
    pub(crate) offset_ms: u32,
    pub(crate) measurement: Measurement,
}

/// One number of a reading: time and series, then the two halves of the value's bits. A battery's reading has two
/// numbers, SoC and then power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawNumber([u32; 3]);

// The series of a number, in the order of `Kind`.
const METER: u32 = 0;
const PV: u32 = 1;
const SOC: u32 = 2;
const POWER: u32 = 3;

impl RawNumber {
    /// Packs a number. A slot lasts at most 3,600,000 ms, which leaves two bits for the series.
    const fn new(offset_ms: u32, series: u32, value: f64) -> Self {
        let bits = value.to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
        let halves = [(bits >> 32) as u32, bits as u32];
        Self([offset_ms << 2 | series, halves[0], halves[1]])
    }

    const fn key(&self) -> u32 {
        self.0[0]
    }

    const fn series(&self) -> u32 {
        self.0[0] & 3
    }

    fn value(&self) -> f64 {
        f64::from_bits(u64::from(self.0[1]) << 32 | u64::from(self.0[2]))
    }
}

/// The raw readings of a slot, ascending by (time, kind), without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawReadings(Vec<RawNumber>);

impl RawReadings {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// Returns how many numbers are held; a battery's reading has two.
    pub(crate) const fn numbers_count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RawReading> + '_ {
        self.0.iter().enumerate().filter_map(|(index, number)| {
            let value = number.value();
            let measurement = match number.series() {
                METER => Measurement::Meter {
                    consumption_w: value,
                },
                PV => Measurement::Pv { pv_w: value },
                SOC => Measurement::Battery {
                    soc_pct: value,
                    power_w: self.0[index + 1].value(),
                },
                _ => return None,
            };
            Some(RawReading {
                offset_ms: number.key() >> 2,
                measurement,
            })
        })
    }

    /// Inserts a reading of a snapshot.
    pub(crate) fn restore(&mut self, reading: RawReading) {
        self.take_in(reading, true);
    }

    /// Returns the battery's newest power, W, and the time since the slot's start.
    pub(crate) fn newest_power_w(&self) -> Option<(u32, f64)> {
        let powers = self.0.iter().rev();
        let newest = powers.into_iter().find(|number| number.series() == POWER)?;
        Some((newest.key() >> 2, newest.value()))
    }

    /// Inserts the reading. Returns `None` if it is new and there is no `room`, so it is not kept.
    fn take_in(&mut self, reading: RawReading, room: bool) -> Option<ReadingOutcome> {
        let number = |series, value| RawNumber::new(reading.offset_ms, series, value);
        match reading.measurement {
            Measurement::Meter { consumption_w } => self.put([number(METER, consumption_w)], room),
            Measurement::Pv { pv_w } => self.put([number(PV, pv_w)], room),
            Measurement::Battery { soc_pct, power_w } => {
                self.put([number(SOC, soc_pct), number(POWER, power_w)], room)
            }
        }
    }

    /// Replaces the newest reading of this kind with `reading`, unless `reading` is older.
    fn hold_newest(&mut self, reading: RawReading) {
        let kind = reading.measurement.kind();
        let newest = self.iter().filter(|held| held.measurement.kind() == kind);
        let newest_ms = newest.map(|held| held.offset_ms).last();
        if newest_ms.is_some_and(|newest_ms| newest_ms > reading.offset_ms) {
            return;
        }
        if let Some(newest_ms) = newest_ms {
            let is_replaced = |number: &RawNumber| {
                let of_kind = match kind {
                    Kind::Meter => number.series() == METER,
                    Kind::Pv => number.series() == PV,
                    Kind::Battery => matches!(number.series(), SOC | POWER),
                };
                of_kind && number.key() >> 2 == newest_ms
            };
            self.0.retain(|number| !is_replaced(number));
        }
        self.take_in(reading, true);
    }

    fn put<const N: usize>(&mut self, new: [RawNumber; N], room: bool) -> Option<ReadingOutcome> {
        let key = new[0].key();
        let found = match self.0.last() {
            Some(last) if last.key() < key => Err(self.0.len()),
            Some(_) | None => self.0.binary_search_by_key(&key, RawNumber::key),
        };
        match found {
            Ok(index) => {
                let held = &mut self.0[index..index + N];
                // Compare the numbers, not their bits: 0 and -0 are the same value.
                let same = held.iter().zip(&new).all(|(a, b)| a.value() == b.value());
                if same {
                    return Some(ReadingOutcome::Duplicate);
                }
                held.copy_from_slice(&new);
                Some(ReadingOutcome::Corrected)
            }
            Err(index) if room => {
                if index == self.0.len() {
                    self.0.extend_from_slice(&new);
                } else {
                    self.0.splice(index..index, new);
                }
                Some(ReadingOutcome::Accepted)
            }
            Err(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for RawReadings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut readings = Self::EMPTY;
        for reading in Vec::<RawReading>::deserialize(deserializer)? {
            readings.restore(reading);
        }
        Ok(readings)
    }
}

/// A slot that may still change: it has not ended, or its grace has not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct OpenSlot {
    pub(crate) start_ms: i64,
    pub(crate) readings: RawReadings,
    /// The slot has ended and was aggregated. It is aggregated again when a reading changes it.
    pub(crate) ended: bool,
    /// Some readings may not be here, so the slot must be aggregated from the store.
    pub(crate) from_store: bool,
}

impl OpenSlot {
    /// Inserts the reading. Without `room`, a new one only replaces the newest of its kind, which may hold into the
    /// following slots.
    pub(crate) fn take_in(&mut self, reading: RawReading, room: bool) -> ReadingOutcome {
        self.readings.take_in(reading, room).unwrap_or_else(|| {
            self.from_store = true;
            self.readings.hold_newest(reading);
            ReadingOutcome::Accepted
        })
    }

    /// Iterates over the readings with their event times.
    pub(crate) fn timed_readings(&self) -> impl Iterator<Item = (i64, RawReading)> + '_ {
        let start_ms = self.start_ms;
        let timed = move |read: RawReading| (start_ms + i64::from(read.offset_ms), read);
        self.readings.iter().map(timed)
    }

    /// Drops all readings except the newest of each kind, which may hold into the following slots.
    pub(crate) fn trim(&mut self) {
        let mut newest: [Option<RawReading>; Kind::ALL.len()] = [None; Kind::ALL.len()];
        for reading in self.readings.iter() {
            newest[reading.measurement.kind() as usize] = Some(reading);
        }
        let mut kept = RawReadings::EMPTY;
        for reading in newest.into_iter().flatten() {
            kept.take_in(reading, true);
        }
        kept.0.shrink_to_fit();
        self.readings = kept;
    }

    /// Returns the event time of the newest reading.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        let number = self.readings.0.last()?;
        Some(self.start_ms + i64::from(number.key() >> 2))
    }
}

impl RawReading {
    pub(crate) const fn key(&self) -> (u32, Kind) {
        (self.offset_ms, self.measurement.kind())
    }
}

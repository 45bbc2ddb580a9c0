//! A slot that may still change, with its raw readings in 12 bytes each: a million homes hold some dozens of them.

use serde::{Deserialize, Serialize};

use model::reading::ReadingOutcome;
use model::reading::{Kind, Measurement};

/// A reading inside its slot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct RawReading {
    /// Time since the slot's start.
    pub(crate) offset_ms: u32,
    pub(crate) measurement: Measurement,
}

/// One number of a reading: time and series, then the two halves of the value's bits. A battery's reading has two, SoC
/// and power, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry([u32; 3]);

/// What the number is. Ascending as [`Kind`].
const METER: u32 = 0;
const PV: u32 = 1;
const SOC: u32 = 2;
const POWER: u32 = 3;

impl Entry {
    /// A slot lasts 3,600,000 ms at most, which leaves room for the series.
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

/// The raw readings of a slot, ascending by (time, kind), each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawReadings(Vec<Entry>);

impl RawReadings {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// How many numbers are held; a battery's reading has two.
    pub(crate) const fn numbers_count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RawReading> + '_ {
        self.0.iter().enumerate().filter_map(|(index, entry)| {
            let value = entry.value();
            let measurement = match entry.series() {
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
                offset_ms: entry.key() >> 2,
                measurement,
            })
        })
    }

    /// Puts the reading where it belongs; without `room` a new one is not kept, which is `None`.
    fn take_in(&mut self, reading: RawReading, room: bool) -> Option<ReadingOutcome> {
        let entry = |series, value| Entry::new(reading.offset_ms, series, value);
        match reading.measurement {
            Measurement::Meter { consumption_w } => self.put([entry(METER, consumption_w)], room),
            Measurement::Pv { pv_w } => self.put([entry(PV, pv_w)], room),
            Measurement::Battery { soc_pct, power_w } => {
                self.put([entry(SOC, soc_pct), entry(POWER, power_w)], room)
            }
        }
    }

    /// Puts the reading in place of the newest of its kind, if it is newer than that.
    fn hold_newest(&mut self, reading: RawReading) {
        let kind = reading.measurement.kind();
        let newest = self.iter().filter(|held| held.measurement.kind() == kind);
        let newest_ms = newest.map(|held| held.offset_ms).last();
        if newest_ms.is_some_and(|newest_ms| newest_ms > reading.offset_ms) {
            return;
        }
        if let Some(newest_ms) = newest_ms {
            let is_replaced = |entry: &Entry| {
                let of_kind = match kind {
                    Kind::Meter => entry.series() == METER,
                    Kind::Pv => entry.series() == PV,
                    Kind::Battery => matches!(entry.series(), SOC | POWER),
                };
                of_kind && entry.key() >> 2 == newest_ms
            };
            self.0.retain(|entry| !is_replaced(entry));
        }
        self.take_in(reading, true);
    }

    fn put<const N: usize>(&mut self, new: [Entry; N], room: bool) -> Option<ReadingOutcome> {
        let key = new[0].key();
        let found = match self.0.last() {
            Some(last) if last.key() < key => Err(self.0.len()),
            Some(_) | None => self.0.binary_search_by_key(&key, Entry::key),
        };
        match found {
            Ok(index) => {
                let held = &mut self.0[index..index + N];
                // As numbers, not as bits: 0 and -0 are the same value.
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

impl Serialize for RawReadings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let powers = self.0.iter().filter(|entry| entry.series() == POWER);
        let count = self.0.len() - powers.count();
        let mut list = serializer.serialize_seq(Some(count))?;
        for reading in self.iter() {
            serde::ser::SerializeSeq::serialize_element(&mut list, &reading)?;
        }
        serde::ser::SerializeSeq::end(list)
    }
}

impl<'de> Deserialize<'de> for RawReadings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut readings = Self::EMPTY;
        for reading in Vec::<RawReading>::deserialize(deserializer)? {
            readings.take_in(reading, true);
        }
        Ok(readings)
    }
}

/// A slot that may still change: it has not ended, or its grace has not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenSlot {
    pub(crate) start_ms: i64,
    pub(crate) readings: RawReadings,
    /// Its aggregate has been ordered, and is ordered again when a reading changes it.
    pub(crate) ended: bool,
    /// Readings may exist that are not here, so only the store can aggregate it.
    pub(crate) from_store: bool,
}

impl OpenSlot {
    /// Puts the reading where it belongs. Without `room` a new one is kept only in place of the newest of its kind, as it
    /// may hold on into the slots behind.
    pub(crate) fn take_in(&mut self, reading: RawReading, room: bool) -> ReadingOutcome {
        self.readings.take_in(reading, room).unwrap_or_else(|| {
            self.from_store = true;
            self.readings.hold_newest(reading);
            ReadingOutcome::Accepted
        })
    }

    /// The readings with their event times.
    pub(crate) fn timed_readings(&self) -> impl Iterator<Item = (i64, RawReading)> + '_ {
        let start_ms = self.start_ms;
        let timed = move |read: RawReading| (start_ms + i64::from(read.offset_ms), read);
        self.readings.iter().map(timed)
    }

    /// Lets all readings go but the newest of each kind, which may hold on into the slots behind.
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

    /// Time of the newest reading.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        let entry = self.readings.0.last()?;
        Some(self.start_ms + i64::from(entry.key() >> 2))
    }
}

impl RawReading {
    pub(crate) const fn key(&self) -> (u32, Kind) {
        (self.offset_ms, self.measurement.kind())
    }
}

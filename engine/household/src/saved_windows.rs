//! Windows as a snapshot has them. Readings and ended slots are most of a home's state, so they are packed.
//!
//! Snapshots of version 4 and before have lists in their place. The length of a slot tells them apart.

use std::collections::VecDeque;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::closed_slots::{ClosedSlot, ClosedSlots, quarters, watts};
use crate::open_slot::{OpenSlot, RawReading, RawReadings};
use crate::packed::{Reader, Writer};
use crate::windows::Windows;
use model::reading::Measurement;
use model::units::SlotLength;

/// Added to the minutes of a slot where readings and ended slots are packed.
const PACKED: u32 = 1_000;
/// Elements of windows before they were packed: length, watermark, since when they are whole, open and ended slots.
const ELEMENTS_MAX: usize = 5;
/// Milliseconds of a second: most readings are whole seconds apart.
const SECOND_MS: u32 = 1_000;

impl Serialize for Windows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut packed = Writer::default();
        write_open(&self.open, &mut packed);
        write_closed(&self.closed, &mut packed);
        let mut elements = serializer.serialize_tuple(4)?;
        elements.serialize_element(&(PACKED + self.length.minutes()))?;
        elements.serialize_element(&self.watermark_ms)?;
        elements.serialize_element(&self.whole_from_ms)?;
        elements.serialize_element(&Bytes(packed.bytes()))?;
        elements.end()
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Windows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(ELEMENTS_MAX, Elements)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Windows;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("windows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Windows, A::Error> {
        let minutes: u32 = next(&mut elements)?;
        let is_packed = minutes > PACKED;
        let minutes = if is_packed { minutes - PACKED } else { minutes };
        let length = SlotLength::new(minutes).ok_or_else(|| A::Error::custom("no slot length"))?;
        let (watermark_ms, whole_from_ms) = (next(&mut elements)?, next(&mut elements)?);
        let (open, closed) = if is_packed {
            let bytes: Vec<u8> = next(&mut elements)?;
            let mut packed = Reader::new(&bytes);
            let slots = read_open(length, &mut packed).zip(read_closed(length, &mut packed));
            let slots = slots.filter(|_| packed.is_at_end());
            slots.ok_or_else(|| A::Error::custom("damaged slots"))?
        } else {
            let open: VecDeque<OpenSlot> = next(&mut elements)?;
            let closed: Vec<ClosedSlot> = next(&mut elements)?;
            (open, ClosedSlots::restored(length, &closed))
        };
        Ok(Windows {
            length,
            watermark_ms,
            whole_from_ms,
            open,
            closed,
        })
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(elements: &mut A) -> Result<T, A::Error> {
    let element = elements.next_element()?;
    element.ok_or_else(|| A::Error::custom("too few elements"))
}

const METER: u64 = 0;
const PV: u64 = 1;
const BATTERY: u64 = 2;

fn write_open(open: &VecDeque<OpenSlot>, packed: &mut Writer) {
    packed.whole(open.len() as u64);
    for slot in open {
        packed.signed(slot.start_ms);
        let flags = u64::from(slot.ended) | u64::from(slot.from_store) << 1;
        let count = slot.readings.iter().count() as u64;
        packed.whole(count << 2 | flags);
        let mut before_ms = 0;
        for RawReading {
            offset_ms,
            measurement,
        } in slot.readings.iter()
        {
            let past_ms = offset_ms - before_ms;
            before_ms = offset_ms;
            let past = if past_ms.is_multiple_of(SECOND_MS) {
                u64::from(past_ms / SECOND_MS) << 1
            } else {
                u64::from(past_ms) << 1 | 1
            };
            let (kind, value) = match measurement {
                Measurement::Meter { consumption_w } => (METER, consumption_w),
                Measurement::Pv { pv_w } => (PV, pv_w),
                Measurement::Battery { soc_pct, .. } => (BATTERY, soc_pct),
            };
            packed.whole(past << 2 | kind);
            packed.number(value);
            if let Measurement::Battery { power_w, .. } = measurement {
                packed.number(power_w);
            }
        }
    }
}

fn read_open(length: SlotLength, packed: &mut Reader<'_>) -> Option<VecDeque<OpenSlot>> {
    let mut open = VecDeque::new();
    for _ in 0..packed.whole()? {
        let start_ms = packed.signed()?;
        let head = packed.whole()?;
        let (mut readings, mut offset_ms) = (RawReadings::EMPTY, 0_u64);
        for _ in 0..head >> 2 {
            let code = packed.whole()?;
            let (past, kind) = (code >> 2, code & 3);
            let unit_ms = if past & 1 == 1 {
                1
            } else {
                u64::from(SECOND_MS)
            };
            offset_ms = offset_ms.checked_add((past >> 1).checked_mul(unit_ms)?)?;
            let value = packed.number()?;
            let measurement = match kind {
                METER => Measurement::Meter {
                    consumption_w: value,
                },
                PV => Measurement::Pv { pv_w: value },
                BATTERY => Measurement::Battery {
                    soc_pct: value,
                    power_w: packed.number()?,
                },
                _ => return None,
            };
            let offset_ms = u32::try_from(offset_ms).ok()?;
            if i64::from(offset_ms) >= length.ms() {
                return None;
            }
            readings.restore(RawReading {
                offset_ms,
                measurement,
            });
        }
        open.push_back(OpenSlot {
            start_ms,
            readings,
            ended: head & 1 == 1,
            from_store: head & 2 == 2,
        });
    }
    Some(open)
}

const HAS_LOAD: u64 = 1;
const HAS_PV: u64 = 2;
/// In the place of a load: no slot has ended there.
const GAP: i64 = 1;

fn write_closed(closed: &ClosedSlots, packed: &mut Writer) {
    packed.signed(closed.first_ms());
    packed.whole(closed.cells_count() as u64);
    for slot in closed.cells() {
        let Some(slot) = slot else {
            packed.flagged(GAP, 0);
            continue;
        };
        let has_pv = if slot.pv_w.is_some() { HAS_PV } else { 0 };
        if let Some((mean_w, max_w)) = slot.load_w {
            let mean = quarters(mean_w);
            packed.flagged(mean, has_pv | HAS_LOAD);
            packed.signed(quarters(max_w) - mean);
        } else {
            packed.flagged(0, has_pv);
        }
        if let Some(pv_w) = slot.pv_w {
            packed.signed(quarters(pv_w));
        }
    }
}

fn read_closed(length: SlotLength, packed: &mut Reader<'_>) -> Option<ClosedSlots> {
    let first_ms = packed.signed()?;
    let count = usize::try_from(packed.whole()?).ok()?;
    if count > length.per_day() {
        return None;
    }
    let mut closed = ClosedSlots::new(length);
    let mut start_ms = first_ms;
    for _ in 0..count {
        let (mean, flags) = packed.flagged()?;
        let is_gap = (mean, flags) == (GAP, 0);
        let load_w = if flags & HAS_LOAD == HAS_LOAD {
            let max = mean.checked_add(packed.signed()?)?;
            Some((watts(mean), watts(max)))
        } else {
            None
        };
        let pv_w = if flags & HAS_PV == HAS_PV {
            Some(watts(packed.signed()?))
        } else {
            None
        };
        if !is_gap {
            closed.insert(&ClosedSlot {
                start_ms,
                load_w,
                pv_w,
            });
        }
        start_ms = start_ms.checked_add(length.ms())?;
    }
    Some(closed)
}

//! What happens in the world of one seed: homes, settings, and what devices and operators send, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use household::settings::{Settings, UNKNOWN_KW_MAX};
use model::metadata::{ApplianceSpec, BatterySpec, Metadata};
use model::reading::{Kind, Measurement, Reading};
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};
use schemas::codec::{Codec, Message};
use schemas::topic::Topic;

use super::draws::Draws;
use super::faults::{Counts, Fault};
use super::poison;

/// A Tuesday, 05:00 UTC.
const BEGINS_MS: i64 = 1_757_394_000_000;
pub const TARIFF: &str = "flat";
/// How far from the host's clock a reading may be. No jump of a clock comes near, so what is refused is the same
/// whenever a record is read.
const AHEAD_MS: i64 = 40 * DAY_MS;
const KEPT_MS: i64 = 400 * DAY_MS;

/// Whether a reading is so far from every clock that it is refused.
pub const fn is_far(ts_ms: i64) -> bool {
    ts_ms > BEGINS_MS + 60 * DAY_MS || ts_ms < BEGINS_MS - 600 * DAY_MS
}

/// A record that somebody sends.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Event time at which it reaches the log.
    pub at_ms: i64,
    pub topic: Topic,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// One seed's world before anything goes wrong.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub partitions_count: u32,
    pub settings: Settings,
    pub homes: Vec<HouseholdId>,
    /// Homes of which the operator has said what they are.
    pub planned: Vec<HouseholdId>,
    pub with_battery: BTreeSet<HouseholdId>,
    pub begins_ms: i64,
    pub ends_ms: i64,
    /// Milliseconds of event time in one of virtual time.
    pub speed: i64,
    /// By time.
    pub sent: Vec<Sent>,
    pub hosting: Hosting,
    /// What is odd in what is sent.
    pub oddities: Counts,
}

/// Settings of the engine.
#[derive(Debug, Clone, Copy)]
pub struct Hosting {
    pub checkpoint_every: Duration,
    pub checkpoint_records_max: u64,
    pub passivate_after: Duration,
    pub live_homes_max: usize,
    pub store_slots: bool,
    pub publish_slots: bool,
    pub batch_max: usize,
    pub tick_every: Duration,
}

impl Hosting {
    fn draw(draws: &mut Draws) -> Self {
        let seconds = |seconds| Duration::from_secs(seconds);
        let (store_slots, publish_slots) =
            draws.one_of(&[(true, true), (true, false), (false, true)]);
        Self {
            checkpoint_every: seconds(draws.one_of(&[1, 5, 30, 120])),
            checkpoint_records_max: draws.one_of(&[5, 50, 1_000]),
            passivate_after: seconds(draws.one_of(&[2, 20, 600])),
            live_homes_max: draws.one_of(&[1, 3, 8, 1_000]),
            store_slots,
            publish_slots,
            batch_max: draws.one_of(&[1, 7, 40]),
            tick_every: Duration::from_millis(draws.one_of(&[200, 1_000, 5_000])),
        }
    }
}

impl Scenario {
    pub fn draw(draws: &mut Draws) -> Self {
        let minutes = draws.one_of(&[5, 15, 15, 30]);
        let slot = SlotLength::new(minutes).expect("a length that is allowed");
        let settings = Settings {
            slot,
            horizon_slots: draws.one_of(&[4, 12]),
            program_slots: if minutes == 15 { 8 } else { 3 },
            grace_ms: draws.one_of(&[0, 5, 20, 45]) * MINUTE_MS,
            hold_ms: draws.one_of(&[0, 1, 15]) * MINUTE_MS,
            ahead_ms: AHEAD_MS,
            kept_ms: KEPT_MS,
            stores_readings: draws.permille(500),
            stale_after_ms: draws.one_of(&[30 * MINUTE_MS, 6 * HOUR_MS]),
            load_kw_max: UNKNOWN_KW_MAX,
            pv_kw_max: UNKNOWN_KW_MAX,
            battery_kw_max: UNKNOWN_KW_MAX,
            switching_cost_per_kwh: 0.0,
            switching_cost_per_start: 0.0,
        };
        let span_ms = slot.ms() * draws.within(4, 14);
        let homes_count = draws.one_of(&[2, 5, 9, 14]);
        let homes = (0..homes_count).filter_map(|nth| HouseholdId::new(101 + 7 * nth));
        let mut scenario = Self {
            partitions_count: draws.one_of(&[1, 2, 3]),
            settings,
            homes: homes.collect(),
            planned: Vec::new(),
            with_battery: BTreeSet::new(),
            begins_ms: BEGINS_MS,
            ends_ms: BEGINS_MS + span_ms,
            speed: draws.one_of(&[30, 60, 120]),
            sent: Vec::new(),
            hosting: Hosting::draw(draws),
            oddities: Counts::new(),
        };
        let tariff = tariff();
        scenario.send(&tariff, TARIFF.as_bytes(), 0);
        let period_ms = span_ms * homes_count / draws.within(100, 300);
        for id in scenario.homes.clone() {
            scenario.home(id, period_ms.max(MINUTE_MS), draws);
        }
        scenario.sent.sort_by_key(|sent| sent.at_ms);
        scenario
    }

    /// A few homes, read in turn and on time, in one partition.
    pub fn plain(readings_count: i64, hosting: Hosting) -> Self {
        let homes: Vec<HouseholdId> = (1..=5).filter_map(HouseholdId::new).collect();
        let ends_ms = BEGINS_MS + readings_count * 1_000;
        let mut scenario = Self {
            partitions_count: 1,
            settings: Settings {
                slot: SlotLength::QUARTER_HOUR,
                horizon_slots: 4,
                program_slots: 3,
                grace_ms: 15 * MINUTE_MS,
                hold_ms: 0,
                ahead_ms: i64::MAX / 4,
                kept_ms: i64::MAX / 4,
                stores_readings: false,
                stale_after_ms: 30 * MINUTE_MS,
                load_kw_max: UNKNOWN_KW_MAX,
                pv_kw_max: UNKNOWN_KW_MAX,
                battery_kw_max: UNKNOWN_KW_MAX,
                switching_cost_per_kwh: 0.0,
                switching_cost_per_start: 0.0,
            },
            planned: Vec::new(),
            with_battery: BTreeSet::new(),
            begins_ms: BEGINS_MS,
            ends_ms,
            speed: 60,
            sent: Vec::new(),
            hosting,
            oddities: Counts::new(),
            homes,
        };
        scenario.send(&tariff(), TARIFF.as_bytes(), 0);
        let times = (BEGINS_MS..ends_ms).step_by(1_000);
        for (ts_ms, id) in times.zip(scenario.homes.clone().into_iter().cycle()) {
            let measurement = Measurement::Meter {
                consumption_w: 500.0,
            };
            let reading = Reading {
                household_id: id,
                ts_ms,
                measurement,
            };
            scenario.send(&reading, id.to_string().as_bytes(), ts_ms);
        }
        scenario
    }

    fn send<T: Message>(&mut self, value: &T, key: &[u8], at_ms: i64) {
        let value = Codec::single_object().encode(value);
        self.sent.push(Sent {
            at_ms,
            topic: T::TOPIC,
            key: key.to_vec(),
            value: value.expect("what is made here is valid"),
        });
    }

    fn home(&mut self, id: HouseholdId, period_ms: i64, draws: &mut Draws) {
        let has_battery = draws.permille(500);
        if has_battery {
            self.with_battery.insert(id);
        }
        let key = id.to_string().into_bytes();
        if draws.permille(600) {
            self.planned.push(id);
            for version in 0..draws.one_of(&[1, 1, 2]) {
                let metadata = metadata(id, has_battery, version);
                let at_ms = draws.within(self.begins_ms, self.ends_ms);
                self.send(
                    &metadata,
                    &key,
                    if version == 0 { self.begins_ms } else { at_ms },
                );
            }
        }
        // Every home is read once before anything is odd.
        let mut ts_ms = self.begins_ms + draws.within(0, period_ms);
        let silent_from_ms = if draws.permille(200) {
            draws.within(self.begins_ms, self.ends_ms)
        } else {
            self.ends_ms
        };
        while ts_ms < silent_from_ms {
            let kinds = if has_battery {
                &Kind::ALL[..]
            } else {
                &Kind::ALL[..2]
            };
            for kind in kinds {
                let reading = reading(id, ts_ms, *kind, draws);
                self.reading(reading, &key, draws);
            }
            ts_ms += draws.within(period_ms / 2, period_ms * 3 / 2).max(1);
        }
    }

    /// Sends a reading, on time or not, once or more often.
    fn reading(&mut self, mut reading: Reading, key: &[u8], draws: &mut Draws) {
        let (slot_ms, grace_ms) = (self.settings.slot.ms(), self.settings.grace_ms);
        let mut odd = |fault: Fault| *self.oddities.entry(fault).or_default() += 1;
        let mut at_ms = reading.ts_ms + draws.within(0, 20_000);
        let (mut again, mut corrected, mut damaged) = (false, false, false);
        match draws.next() % 40 {
            0 => {
                odd(Fault::LateReading);
                at_ms += draws.within(0, slot_ms + grace_ms);
            }
            1 => {
                odd(Fault::LateReading);
                at_ms += draws.within(slot_ms + grace_ms, 3 * slot_ms + 2 * grace_ms);
            }
            2 | 3 => {
                odd(Fault::DuplicateReading);
                again = true;
            }
            4 => {
                odd(Fault::CorrectedReading);
                corrected = true;
            }
            5 if draws.permille(500) => {
                odd(Fault::FutureReading);
                reading.ts_ms += draws.within(0, 10 * MINUTE_MS);
            }
            6 if draws.permille(500) => {
                odd(Fault::DamagedRecord);
                damaged = true;
            }
            7 if draws.permille(250) => {
                odd(Fault::PoisonRecord);
                reading.measurement = poison::ALWAYS;
            }
            8 if draws.permille(250) => {
                odd(Fault::PanicOnce);
                reading.measurement = poison::FIRST_TIME;
            }
            9 if draws.permille(500) => {
                odd(Fault::FarReading);
                reading.ts_ms += if draws.permille(500) {
                    draws.within(100 * DAY_MS, 10_000 * DAY_MS)
                } else {
                    -draws.within(700 * DAY_MS, 20_000 * DAY_MS)
                };
            }
            _ => {}
        }
        self.send(&reading, key, at_ms);
        let later_ms = at_ms + draws.within(0, 2 * slot_ms + grace_ms);
        if again {
            self.send(&reading, key, later_ms);
        }
        if corrected {
            reading.measurement = measurement(reading.measurement.kind(), draws);
            self.send(&reading, key, later_ms);
        }
        if damaged {
            let (mut key, mut value) = (key.to_vec(), Vec::new());
            match draws.next() % 3 {
                0 => {}
                1 => value.extend_from_slice(b"nonsense"),
                _ => {
                    key = b"999983".to_vec();
                    let sent = self.sent.last().expect("one was sent just now");
                    value.clone_from(&sent.value);
                }
            }
            self.sent.push(Sent {
                at_ms: later_ms,
                topic: Topic::Telemetry,
                key,
                value,
            });
        }
    }

    /// Readings that end every slot of before.
    pub fn closing(&self) -> Vec<Sent> {
        let mut closing = Self {
            sent: Vec::new(),
            ..self.clone()
        };
        let ts_ms = self.stands_at_ms();
        for id in &self.homes {
            // An input that has not been read for long is unknown, and a home without it has no plan.
            let mut last = vec![
                Measurement::Meter {
                    consumption_w: 100.5,
                },
                Measurement::Pv { pv_w: 50.25 },
            ];
            if self.with_battery.contains(id) {
                last.push(Measurement::Battery {
                    soc_pct: 50.0,
                    power_w: 0.0,
                });
            }
            for measurement in last {
                let reading = Reading {
                    household_id: *id,
                    ts_ms,
                    measurement,
                };
                closing.send(&reading, id.to_string().as_bytes(), ts_ms);
            }
        }
        closing.sent
    }

    /// Where the clock stops: after every reading, every grace and every jump.
    pub const fn stands_at_ms(&self) -> i64 {
        self.ends_ms + DAY_MS / 2
    }
}

fn reading(household_id: HouseholdId, ts_ms: i64, kind: Kind, draws: &mut Draws) -> Reading {
    Reading {
        household_id,
        ts_ms,
        measurement: measurement(kind, draws),
    }
}

fn measurement(kind: Kind, draws: &mut Draws) -> Measurement {
    let value = draws.watts();
    match kind {
        Kind::Meter => Measurement::Meter {
            consumption_w: value,
        },
        Kind::Pv => Measurement::Pv { pv_w: value },
        Kind::Battery => Measurement::Battery {
            soc_pct: value / 100.0,
            power_w: draws.watts() - 4_000.0,
        },
    }
}

fn metadata(household_id: HouseholdId, has_battery: bool, version: u32) -> Metadata {
    let battery = BatterySpec {
        capacity_kwh: 10.0 + f64::from(version),
        min_soc_kwh: 1.0,
        max_soc_kwh: 9.0,
        charge_kw: 5.0,
        discharge_kw: 5.0,
        charge_efficiency: 0.95,
        discharge_efficiency: 0.95,
        wear_cost_per_kwh: 0.01,
    };
    Metadata {
        name: format!("home {household_id}, version {version}"),
        location: "48.14,11.58".to_owned(),
        pv_capacity_kw: 10.0,
        battery: has_battery.then_some(battery),
        appliances: vec![ApplianceSpec {
            id: "dishwasher".to_owned(),
            profile_kw: vec![1.0, 0.5],
            window_start_min: 0,
            window_end_min: 1_439,
        }],
        ..Metadata::of(household_id, TARIFF)
    }
}

fn tariff() -> Tariff {
    Tariff {
        stated: Vec::new(),
        name: TARIFF.to_owned(),
        periods: vec![PricePeriod {
            start_ms: BEGINS_MS - 10 * DAY_MS,
            end_ms: BEGINS_MS + 10 * DAY_MS,
            buy_per_kwh: 0.3,
            sell_per_kwh: 0.08,
        }],
    }
}

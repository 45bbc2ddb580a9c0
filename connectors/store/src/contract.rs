//! Checks that every store must pass, written against the seam alone. They write rows of a few households that
//! nothing else uses, and leave them there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use model::command::{Command, CommandProgress, CommandState};
use model::metadata::{BatterySpec, Metadata};
use model::problem::{Grid, Weights};
use model::reading::{Measurement, Reading};
use model::schedule::{Metrics, Plan, PlannedEv, PlannedHeat, PlannedSlot, Schedule, Status};
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS};

use crate::retention::RANGE_DAYS_MAX;
use platform::store::{Epoch, Row, Store, StoreError, WriteOrder};

/// Number of households that the checks use, from the first on.
pub const HOUSEHOLDS_COUNT: i64 = 8;

/// 2025-09-12T10:00:00Z.
const NOON_MS: i64 = 1_757_671_200_000;

/// Runs every check with the households `first_id` to `first_id + HOUSEHOLDS_COUNT - 1`; names the first that fails.
/// May run again on the same store.
pub async fn run(store: &(dyn Store + 'static), first_id: i64) -> Result<(), String> {
    let home = |index: i64| {
        HouseholdId::new(first_id + index).ok_or_else(|| format!("{first_id} is no household"))
    };
    called("init", store.init().await)?;
    called("init again", store.init().await)?;
    called("ping", store.ping().await)?;
    let partition = i32::try_from(first_id % 1_000_000).expect("six digits fit");
    let owner = Owner::claim(store, partition).await?;
    let store = &owner;
    called("write nothing", store.write(Vec::new()).await)?;
    readings(store, home(0)?, home(1)?).await?;
    slots(store, home(0)?).await?;
    schedules(store, home(2)?).await?;
    commands(store, home(3)?).await?;
    let homes: Vec<HouseholdId> = (0..HOUSEHOLDS_COUNT).map(home).collect::<Result<_, _>>()?;
    households(store, &homes).await?;
    tariffs(store, &format!("contract-{first_id}")).await?;
    snapshots(store, home(4)?, home(5)?).await?;
    owners(store, partition, home(6)?).await
}

/// An owner of a partition: what it writes is ordered after what the owners before it wrote.
struct Owner<'a> {
    store: &'a (dyn Store + 'static),
    epoch: Mutex<Epoch>,
}

impl<'a> Owner<'a> {
    async fn claim(store: &'a (dyn Store + 'static), partition: i32) -> Result<Self, String> {
        let epoch = called("claim", store.claim(partition, None).await)?;
        Ok(Self {
            store,
            epoch: Mutex::new(epoch),
        })
    }

    fn draw(&self) -> WriteOrder {
        let mut epoch = self.epoch.lock().expect("no holder panics");
        epoch
            .draw()
            .expect("a check writes less than an epoch holds")
    }

    async fn write(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.store.write(rows, self.draw()).await
    }
}

impl std::ops::Deref for Owner<'_> {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        self.store
    }
}

/// Whoever owned the partition before cannot undo what its owner has written, however late its writes come.
async fn owners(before: &Owner<'_>, partition: i32, home: HouseholdId) -> Result<(), String> {
    let row = |consumption_w: f64| {
        let measurement = Measurement::Meter { consumption_w };
        vec![Row::Reading(reading(home, NOON_MS, measurement))]
    };
    let snapshot = |byte: u8| {
        vec![Row::Snapshot {
            household_id: home,
            state: vec![byte; 3],
        }]
    };
    let held = *before.epoch.lock().expect("no holder panics");
    called("write", before.write(row(1.0)).await)?;
    let renewed = called(
        "go on as the owner",
        before.claim(partition, Some(held)).await,
    )?;
    equal("the owner's number", &renewed.number, &held.number)?;
    let (early, late) = (before.draw(), before.draw());
    called(
        "write the later order",
        before.store.write(snapshot(2), late).await,
    )?;

    let owner = Owner::claim(before.store, partition).await?;
    called("write", owner.write(row(2.0)).await)?;
    called("write", owner.write(snapshot(3)).await)?;
    for (rows, order) in [(row(3.0), early), (snapshot(1), late)] {
        match before.store.write(rows, order).await {
            Ok(()) | Err(StoreError::Superseded { .. }) => {}
            Err(error) => return Err(format!("a write that comes late: {error}")),
        }
    }
    let found = before.readings(home, NOON_MS, NOON_MS + 1).await;
    let expected = vec![reading(
        home,
        NOON_MS,
        Measurement::Meter { consumption_w: 2.0 },
    )];
    equal(
        "a late reading",
        &called("read readings", found)?,
        &expected,
    )?;
    let found = called("read a snapshot", before.snapshot(home).await)?;
    equal("a late snapshot", &found, &Some(vec![3; 3]))?;
    match before.claim(partition, Some(renewed)).await {
        Err(StoreError::Superseded { .. }) => {}
        other => return Err(format!("an owner of before goes on: {other:?}")),
    }

    // Of those who claim at the same time each gets a stretch of its own.
    let claims = (0..4).map(|_| before.claim(partition, None));
    let mut numbers = BTreeSet::new();
    let mut ends = BTreeSet::new();
    for claimed in futures::future::join_all(claims).await {
        let claimed = called("claim with others", claimed)?;
        numbers.insert(claimed.number);
        ends.insert(claimed.stored().1);
    }
    equal("owners", &(numbers.len(), ends.len()), &(4, 4))
}

async fn readings(store: &Owner<'_>, one: HouseholdId, other: HouseholdId) -> Result<(), String> {
    let meter = |ts_ms, consumption_w| reading(one, ts_ms, Measurement::Meter { consumption_w });
    // Two days, more rows than fit one batch, of every kind.
    let start_ms = NOON_MS + 13 * HOUR_MS;
    let mut expected = Vec::new();
    for minute in 0..300_u32 {
        let ts_ms = start_ms + i64::from(minute) * MINUTE_MS;
        expected.push(meter(ts_ms, 450.0 + f64::from(minute) / 7.0));
        expected.push(reading(one, ts_ms, Measurement::Pv { pv_w: 1200.25 }));
        if minute % 15 == 0 {
            let state = Measurement::Battery {
                soc_pct: 57.5,
                power_w: -800.0,
            };
            expected.push(reading(one, ts_ms, state));
        }
    }
    let end_ms = start_ms + 300 * MINUTE_MS;
    let foreign = reading(other, start_ms, Measurement::Pv { pv_w: 7.0 });
    let mut rows: Vec<Row> = expected.iter().copied().map(Row::Reading).collect();
    rows.push(Row::Reading(foreign));
    rows.reverse();
    called("write readings", store.write(rows.clone()).await)?;
    called("write readings again", store.write(rows).await)?;
    let found = called("read readings", store.readings(one, start_ms, end_ms).await)?;
    equal("readings of two days", &found, &expected)?;

    let found = called(
        "read readings",
        store
            .readings(one, start_ms + 1, start_ms + MINUTE_MS)
            .await,
    )?;
    equal("readings between two moments", &found, &Vec::new())?;
    let found = called(
        "read readings",
        store.readings(one, start_ms, start_ms + 1).await,
    )?;
    equal(
        "from is inside, to is outside",
        &found,
        &expected[..3].to_vec(),
    )?;
    let found = called(
        "read readings",
        store.readings(other, start_ms, end_ms).await,
    )?;
    equal("readings of the other home", &found, &vec![foreign])?;
    let found = called("read readings", store.readings(one, end_ms, start_ms).await)?;
    equal("an empty range", &found, &Vec::new())?;

    // The later of two values for one moment holds, within one write too.
    let rows = vec![
        Row::Reading(meter(start_ms, 9999.0)),
        Row::Reading(meter(start_ms, 451.0)),
    ];
    called("correct a reading", store.write(rows).await)?;
    let found = called(
        "read readings",
        store.readings(one, start_ms, start_ms + 1).await,
    )?;
    equal(
        "a corrected reading",
        &found.first().copied(),
        &Some(meter(start_ms, 451.0)),
    )?;
    let wide = start_ms + RANGE_DAYS_MAX * DAY_MS + 1;
    match store.readings(one, start_ms, wide).await {
        Err(StoreError::Refused(_)) => Ok(()),
        other => Err(format!("a range over {RANGE_DAYS_MAX} days: {other:?}")),
    }
}

async fn slots(store: &Owner<'_>, home: HouseholdId) -> Result<(), String> {
    let start_ms = NOON_MS - NOON_MS.rem_euclid(DAY_MS);
    let mut full = Slot::empty(start_ms, 15);
    for step in 0..90_u32 {
        let ts_ms = start_ms + i64::from(step) * 10_000;
        let consumption_w = 300.0 + f64::from(step) / 3.0;
        full.add(ts_ms, &Measurement::Meter { consumption_w });
        full.add(ts_ms, &Measurement::Pv { pv_w: 0.1 });
    }
    let mut with_battery = Slot::empty(start_ms + 15 * MINUTE_MS, 15);
    with_battery.add(
        start_ms + 16 * MINUTE_MS,
        &Measurement::Battery {
            soc_pct: 33.3,
            power_w: -1.5,
        },
    );
    // Nothing seen is not zero.
    let empty = Slot::empty(start_ms + DAY_MS, 15);
    let expected = vec![full, with_battery, empty];
    let rows = |slots: &[Slot]| -> Vec<Row> {
        let row = |slot: &Slot| Row::Slot {
            household_id: home,
            slot: *slot,
        };
        slots.iter().map(row).collect()
    };
    called("write slots", store.write(rows(&expected)).await)?;
    called("write slots again", store.write(rows(&expected)).await)?;
    let found = store.slots(home, start_ms, start_ms + DAY_MS + 1).await;
    equal("slots", &called("read slots", found)?, &expected)?;
    let found = store.slots(home, start_ms + 1, start_ms + DAY_MS).await;
    equal(
        "slots inside",
        &called("read slots", found)?,
        &vec![with_battery],
    )
}

async fn schedules(store: &Owner<'_>, home: HouseholdId) -> Result<(), String> {
    let found = called("latest schedule", store.latest_schedule(home).await)?;
    let repeated = found.is_some();
    let older = schedule(home, NOON_MS, 1, true);
    let newer = schedule(home, NOON_MS + HOUR_MS, 2, true);
    let what_if = schedule(home, NOON_MS + 2 * HOUR_MS, 3, false);
    let all = [&newer, &what_if, &older];
    for schedule in all {
        let rows = vec![Row::Schedule(Arc::new(schedule.clone()))];
        called("write a schedule", store.write(rows).await)?;
        if !repeated {
            let found = called("latest schedule", store.latest_schedule(home).await)?;
            equal("the one requested last holds", &found, &Some(newer.clone()))?;
        }
    }
    for schedule in all {
        let found = store.schedule(&schedule.schedule_id).await;
        let found = called("schedule by id", found)?;
        equal("a schedule by its id", &found, &Some(schedule.clone()))?;
    }
    let unknown = format!("{home}-0-0");
    let found = called("schedule by id", store.schedule(&unknown).await)?;
    equal("an unknown schedule", &found, &None)
}

async fn commands(store: &Owner<'_>, home: HouseholdId) -> Result<(), String> {
    let issued = |index: i64| CommandProgress {
        command: Command {
            command_id: format!("{home}-{NOON_MS}-1-{index}"),
            household_id: home,
            schedule_id: format!("{home}-{NOON_MS}-1"),
            requested_ms: NOON_MS,
            not_before_ms: NOON_MS + index * 15 * MINUTE_MS,
            expires_ms: NOON_MS + (index + 1) * 15 * MINUTE_MS,
            battery_w: (index % 2 == 0).then_some(-1500.5),
            appliances: BTreeMap::from([("dishwasher".to_owned(), index == 1)]),
        },
        state: CommandState::Issued,
        acked_ms: None,
        reason: String::new(),
    };
    let applied = CommandProgress {
        state: CommandState::Applied,
        acked_ms: Some(NOON_MS + 1234),
        ..issued(0)
    };
    let rejected = CommandProgress {
        state: CommandState::Rejected,
        acked_ms: Some(NOON_MS + 5678),
        reason: "battery is full".to_owned(),
        ..issued(1)
    };
    let end_ms = NOON_MS + 60 * 15 * MINUTE_MS;
    let expected: Vec<CommandProgress> = [applied.clone(), rejected.clone()]
        .into_iter()
        .chain((2..60).map(issued))
        .collect();
    let all_issued: Vec<Row> = (0..60).map(issued).map(Row::Command).collect();
    called("issue commands", store.write(all_issued.clone()).await)?;
    let answers = vec![Row::Command(applied), Row::Command(rejected)];
    called("answer commands", store.write(answers).await)?;
    let found = store.commands(home, NOON_MS, end_ms).await;
    equal(
        "commands over two days",
        &called("read commands", found)?,
        &expected,
    )?;
    called("issue commands again", store.write(all_issued).await)?;
    let found = store.commands(home, NOON_MS, end_ms).await;
    equal(
        "an order again keeps the answer",
        &called("read commands", found)?,
        &expected,
    )?;
    let found = store
        .commands(home, NOON_MS + 1, NOON_MS + 15 * MINUTE_MS)
        .await;
    equal(
        "commands between",
        &called("read commands", found)?,
        &Vec::new(),
    )
}

async fn households(store: &Owner<'_>, homes: &[HouseholdId]) -> Result<(), String> {
    let rows = homes
        .iter()
        .map(|id| Row::Household(Arc::new(metadata(*id, "before"))))
        .collect();
    called("write households", store.write(rows).await)?;
    let rows: Vec<Row> = homes
        .iter()
        .map(|id| Row::Household(Arc::new(metadata(*id, "after"))))
        .collect();
    called("change households", store.write(rows).await)?;
    for id in homes {
        let found = called("read a household", store.household(*id).await)?;
        equal("metadata", &found, &Some(metadata(*id, "after")))?;
    }
    // Pages hold each household exactly once, whatever else is in the table.
    let mut seen = BTreeSet::new();
    let mut after = None;
    loop {
        let page = called("read a page", store.households(after, 3).await)?;
        if page.len() > 3 {
            return Err(format!("a page of 3 holds {}", page.len()));
        }
        for found in &page {
            if !seen.insert(found.household_id) {
                return Err(format!("household {} is on two pages", found.household_id));
            }
        }
        match page.last() {
            Some(last) => after = Some(last.household_id),
            None => break,
        }
    }
    match homes.iter().find(|id| !seen.contains(id)) {
        Some(id) => Err(format!("household {id} is on no page")),
        None => Ok(()),
    }
}

async fn tariffs(store: &Owner<'_>, name: &str) -> Result<(), String> {
    let period = |start_min: i64, end_min: i64, buy_per_kwh: f64| PricePeriod {
        start_ms: NOON_MS + start_min * MINUTE_MS,
        end_ms: NOON_MS + end_min * MINUTE_MS,
        buy_per_kwh,
        sell_per_kwh: -0.01,
    };
    let write = async |periods: Vec<PricePeriod>| {
        let tariff = Tariff {
            name: name.to_owned(),
            periods,
        };
        called(
            "write a tariff",
            store.write(vec![Row::Tariff(Arc::new(tariff))]).await,
        )
    };
    let read = async |from_min: i64, to_min: i64| {
        let at = |min: i64| NOON_MS + min * MINUTE_MS;
        let found = store.tariff(name, at(from_min), at(to_min)).await;
        let found = called("read a tariff", found)?;
        Ok::<_, String>(found.map(|tariff| tariff.periods))
    };
    let flat = period(-100_000, 100_000, 0.3);
    write(vec![flat]).await?;
    equal(
        "a long period holds",
        &read(15, 30).await?,
        &Some(vec![flat]),
    )?;
    let quarters: Vec<PricePeriod> = (0..240)
        .map(|slot| period(slot * 15, slot * 15 + 15, 0.25))
        .collect();
    write(quarters.clone()).await?;
    let expected = Some(quarters[1..3].to_vec());
    equal("prices by the quarter", &read(15, 45).await?, &expected)?;
    let expected = Some(vec![period(-100_000, 0, 0.3), quarters[0]]);
    equal("the long period is cut", &read(-10, 5).await?, &expected)?;
    let hours: Vec<PricePeriod> = (0..60)
        .map(|hour| period(hour * 60, hour * 60 + 60, -0.05))
        .collect();
    write(hours.clone()).await?;
    write(hours.clone()).await?;
    let expected = Some(hours[..2].to_vec());
    equal(
        "a coarser series replaces a finer",
        &read(0, 120).await?,
        &expected,
    )?;
    equal(
        "prices that ended",
        &read(240 * 15, 240 * 15 + 60).await?,
        &None,
    )?;
    let unknown = format!("{name}-unknown");
    let found = store.tariff(&unknown, NOON_MS, NOON_MS + HOUR_MS).await;
    equal("an unknown tariff", &called("read a tariff", found)?, &None)
}

async fn snapshots(store: &Owner<'_>, one: HouseholdId, other: HouseholdId) -> Result<(), String> {
    for state in [vec![1_u8; 200_000], vec![0, 255, 7], Vec::new()] {
        let rows = vec![Row::Snapshot {
            household_id: one,
            state: state.clone(),
        }];
        called("write a snapshot", store.write(rows).await)?;
        let found = called("read a snapshot", store.snapshot(one).await)?;
        equal("the last snapshot", &found, &Some(state))?;
    }
    let found = called("read a snapshot", store.snapshot(other).await)?;
    equal("no snapshot", &found, &None)
}

fn reading(household_id: HouseholdId, ts_ms: i64, measurement: Measurement) -> Reading {
    Reading {
        household_id,
        ts_ms,
        measurement,
    }
}

fn schedule(household_id: HouseholdId, requested_ms: i64, counter: u32, adopt: bool) -> Schedule {
    let figures = Metrics {
        cost: 1.25,
        grid_import_kwh: 4.5,
        grid_export_kwh: 0.5,
        autarky: 0.75,
        self_consumption: 0.5,
    };
    let ev = PlannedEv {
        charge_kw: 3.75,
        discharge_kw: 0.0,
        soc_kwh: 21.5,
    };
    let heat = PlannedHeat {
        power_kw: 1.5,
        temperature_c: 48.25,
    };
    let slots = (0..96)
        .map(|slot| PlannedSlot {
            start_ms: requested_ms + slot * 15 * MINUTE_MS,
            load_kw: 0.5,
            pv_kw: 0.25,
            grid_import_kw: 1.25,
            grid_export_kw: 0.0,
            battery_charge_kw: 1.0,
            battery_discharge_kw: 0.0,
            soc_kwh: 4.25,
            appliances: BTreeMap::from([("dishwasher".to_owned(), slot % 2 == 0)]),
            shadow_price: -0.03125,
            evs: BTreeMap::from([("car".to_owned(), ev)]),
            heat: BTreeMap::from([("tank".to_owned(), heat)]),
        })
        .collect();
    Schedule {
        schedule_id: format!("{household_id}-{NOON_MS}-{counter}"),
        request_id: format!("{household_id}-{NOON_MS}-{counter}"),
        household_id,
        requested_ms,
        start_ms: requested_ms,
        slot_minutes: 15,
        adopt,
        solve_us: 1234,
        plan: Plan {
            status: Status::Optimal,
            relaxed: Vec::new(),
            objective: 1.25,
            solver: "milp".to_owned(),
            gap: 0.0,
            metrics: figures,
            baseline: figures,
            slots,
        },
    }
}

fn metadata(household_id: HouseholdId, name: &str) -> Metadata {
    Metadata {
        household_id,
        name: name.to_owned(),
        location: "48.14,11.58".to_owned(),
        pv_capacity_kw: 7.5,
        battery: Some(BatterySpec {
            capacity_kwh: 10.0,
            min_soc_kwh: 1.0,
            max_soc_kwh: 9.5,
            charge_kw: 5.0,
            discharge_kw: 5.0,
            charge_efficiency: 0.95,
            discharge_efficiency: 0.95,
            wear_cost_per_kwh: 0.0,
        }),
        grid: Grid {
            import_limit_kw: Some(11.0),
            export_limit_kw: None,
            peak_price_per_kw: 12.5,
            peak_kw: 3.5,
        },
        pv_curtailable: false,
        appliances: Vec::new(),
        tariff: "spot".to_owned(),
        weights: Weights::COST,
    }
}

fn called<T>(tried: &str, outcome: Result<T, StoreError>) -> Result<T, String> {
    outcome.map_err(|error| format!("{tried}: {error}"))
}

fn equal<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    // A whole day of rows would hide what differs.
    let short = |value: &T| format!("{value:?}").chars().take(2000).collect::<String>();
    Err(format!(
        "{what}: found {}, expected {}",
        short(found),
        short(expected)
    ))
}

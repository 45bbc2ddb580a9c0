//! Checks that every store must pass, written against the trait alone. They write rows of a few households that nothing
//! else uses, and leave them there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use model::asset::{AssetReading, AssetState};
use model::command::{
    AckStatus, Command, CommandAnswer, CommandProgress, CommandState, ProgramEntry,
};
use model::metadata::{BatterySpec, Metadata};
use model::policy::SlotPolicy;
use model::problem::Grid;
use model::reading::{Measurement, Reading};
use model::rung::{LoadRung, PvRung, Rungs};
use model::schedule::{Metrics, Plan, PlannedEv, PlannedHeat, PlannedSlot, Schedule, Status};
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS};

use crate::retention::RANGE_DAYS_MAX;
use platform::order::{Epoch, Order};
use platform::store::{Row, Store, StoreError};

/// Number of households that the checks use.
pub const HOUSEHOLDS_COUNT: i64 = 8;

/// The partition that the checks claim; they also claim the next two.
const PARTITION: i32 = 1_000_000;

/// 2025-09-12T10:00:00Z.
const NOON_MS: i64 = 1_757_671_200_000;

/// Runs every check with the households `first_id` to `first_id + HOUSEHOLDS_COUNT - 1`. Fails with the first that fails.
/// May run again on the same store.
pub async fn run(store: &dyn Store, first_id: i64) -> Result<(), String> {
    let home = |index: i64| {
        HouseholdId::new(first_id + index).ok_or_else(|| format!("{first_id} is no household"))
    };
    called("init", store.init().await)?;
    called("init again", store.init().await)?;
    called("ping", store.ping().await)?;
    called("write nothing", write(store, Vec::new()).await)?;
    readings(store, home(0)?, home(1)?).await?;
    assets(store, home(0)?, home(1)?).await?;
    slots(store, home(0)?).await?;
    schedules(store, home(2)?).await?;
    commands(store, home(3)?).await?;
    let homes: Vec<HouseholdId> = (0..HOUSEHOLDS_COUNT).map(home).collect::<Result<_, _>>()?;
    households(store, &homes).await?;
    tariffs(store, &format!("contract-{first_id}")).await?;
    snapshots(store, home(4)?, home(5)?).await?;
    epochs(store).await?;
    orders(store, home(6)?).await?;
    tariff_orders(store, &format!("contract-orders-{first_id}")).await
}

/// Writes as the next owner of a partition that nothing else uses, so that its order is above all earlier ones.
pub async fn write(store: &dyn Store, rows: Vec<Row>) -> Result<(), StoreError> {
    let epoch = store.claim(PARTITION).await?;
    store.write(order(epoch, 0), rows).await
}

fn order(epoch: Epoch, sequence: i64) -> Order {
    epoch
        .order(sequence)
        .expect("an epoch has thousands of orders")
}

async fn epochs(store: &dyn Store) -> Result<(), String> {
    let before = called("newest epoch", store.newest_epoch(PARTITION).await)?;
    let held = called("claim", store.claim(PARTITION).await)?;
    if before.is_some_and(|before| before >= held) {
        return Err(format!("{held:?} was claimed after {before:?}"));
    }
    let newest = called("newest epoch", store.newest_epoch(PARTITION).await)?;
    equal("the newest epoch", &newest, &Some(held))?;
    let other = called("claim another", store.claim(PARTITION + 1).await)?;
    let newest = called("newest epoch", store.newest_epoch(PARTITION).await)?;
    equal("a partition beside", &newest, &Some(held))?;
    let renewed = called("renew", store.renew(PARTITION, held).await)?;
    if renewed.is_none_or(|renewed| renewed <= held) {
        return Err(format!("{held:?} was renewed to {renewed:?}"));
    }
    let late = called("renew what was renewed", store.renew(PARTITION, held).await)?;
    equal("an owner before renews", &late, &None)?;
    // Simultaneous claims get different epochs.
    let claims = (0..8).map(|_| store.claim(PARTITION + 1));
    let claims = futures::future::join_all(claims).await;
    let mut seen = BTreeSet::from([other]);
    for claimed in claims {
        let claimed = called("claim together", claimed)?;
        if claimed <= other || !seen.insert(claimed) {
            return Err(format!("{claimed:?} was claimed twice, or after {other:?}"));
        }
    }
    let newest = called("newest epoch", store.newest_epoch(PARTITION + 1).await)?;
    equal("the highest of them", &newest, &seen.last().copied())?;
    let missing = called("newest epoch", store.newest_epoch(PARTITION + 2).await)?;
    equal("a partition that nobody claims", &missing, &None)
}

/// An owner that slept past its session still writes its rows.
async fn orders(store: &dyn Store, home: HouseholdId) -> Result<(), String> {
    let asleep = called("claim", store.claim(PARTITION).await)?;
    let awake = called("claim", store.claim(PARTITION).await)?;
    let rows = |value: u8| {
        let mut slot = Slot::empty(NOON_MS, 15);
        let consumption_w = f64::from(value);
        slot.add(NOON_MS, &Measurement::Meter { consumption_w });
        let state = vec![value; 9];
        vec![
            Row::Reading(reading(home, NOON_MS, Measurement::Meter { consumption_w })),
            Row::Slot {
                household_id: home,
                slot,
            },
            Row::Household(Arc::new(metadata(home, &value.to_string()))),
            Row::Snapshot {
                household_id: home,
                state,
            },
        ]
    };
    let check = async |what: &str, value: u8| {
        let found = called(what, store.readings(home, NOON_MS, NOON_MS + 1).await)?;
        let power = Measurement::Meter {
            consumption_w: f64::from(value),
        };
        equal(what, &found, &vec![reading(home, NOON_MS, power)])?;
        let found = called(what, store.slots(home, NOON_MS, NOON_MS + 1).await)?;
        let means: Vec<Option<f64>> = found.iter().map(|slot| slot.load_w.mean()).collect();
        equal(what, &means, &vec![Some(f64::from(value))])?;
        let found = called(what, store.household(home).await)?;
        equal(
            what,
            &found.map(|found| found.name),
            &Some(value.to_string()),
        )?;
        let found = called(what, store.snapshot(home).await)?;
        equal(what, &found, &Some(vec![value; 9]))
    };
    called("write", store.write(order(awake, 0), rows(1)).await)?;
    check("the owner's rows", 1).await?;
    called("write late", store.write(order(asleep, 9), rows(2)).await)?;
    check("rows of an owner before", 1).await?;
    called("write again", store.write(order(awake, 2), rows(3)).await)?;
    check("a later write of the owner, as a repair", 3).await?;
    called("write late", store.write(order(awake, 1), rows(4)).await)?;
    check("an earlier write of the owner that lands late", 3).await?;
    called("repeat", store.write(order(awake, 2), rows(3)).await)?;
    check("the same write again", 3).await?;
    let next = called("claim", store.claim(PARTITION).await)?;
    called("write", store.write(order(next, 0), rows(5)).await)?;
    check("the next owner's first write", 5).await
}

/// Periods that a series replaced stay removed, and a late series does not restore them.
async fn tariff_orders(store: &dyn Store, name: &str) -> Result<(), String> {
    let older = called("claim", store.claim(PARTITION).await)?;
    let newer = called("claim", store.claim(PARTITION).await)?;
    let series = |minutes: i64, buy_per_kwh: f64| {
        let period = |index: i64| PricePeriod {
            start_ms: NOON_MS + index * minutes * MINUTE_MS,
            end_ms: NOON_MS + (index + 1) * minutes * MINUTE_MS,
            buy_per_kwh,
            sell_per_kwh: 0.0,
        };
        let periods: Vec<PricePeriod> = (0..120 / minutes).map(period).collect();
        let tariff = Tariff {
            stated: Vec::new(),
            name: name.to_owned(),
            periods: periods.clone(),
        };
        (periods, vec![Row::Tariff(Arc::new(tariff))])
    };
    let check = async |what: &str, expected: &Vec<PricePeriod>| {
        let found = store.tariff(name, NOON_MS, NOON_MS + 2 * HOUR_MS).await;
        let found = called(what, found)?.map(|tariff| tariff.periods);
        equal(what, &found.unwrap_or_default(), expected)
    };
    let (quarters, quarter_rows) = series(15, 0.1);
    called(
        "write quarters",
        store.write(order(older, 1), quarter_rows.clone()).await,
    )?;
    let (hours, hour_rows) = series(60, 0.2);
    called("write hours", store.write(order(newer, 5), hour_rows).await)?;
    check("hours replace quarters", &hours).await?;
    called(
        "write quarters late",
        store.write(order(older, 2), quarter_rows.clone()).await,
    )?;
    check("quarters of an order below", &hours).await?;
    called(
        "write quarters again",
        store.write(order(newer, 6), quarter_rows).await,
    )?;
    check("quarters of the order next to it", &quarters).await
}

async fn readings(store: &dyn Store, one: HouseholdId, other: HouseholdId) -> Result<(), String> {
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
    called("write readings", write(store, rows.clone()).await)?;
    called("write readings again", write(store, rows).await)?;
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

    // The later of two values for one time wins, within one write too.
    let rows = vec![
        Row::Reading(meter(start_ms, 9999.0)),
        Row::Reading(meter(start_ms, 451.0)),
    ];
    called("correct a reading", write(store, rows).await)?;
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

async fn assets(store: &dyn Store, one: HouseholdId, other: HouseholdId) -> Result<(), String> {
    let of = |household_id, id: &str, ts_ms, state| AssetReading {
        household_id,
        id: id.to_owned(),
        ts_ms,
        state,
    };
    let ev = |soc_pct: Option<f64>| AssetState::Ev {
        plugged: true,
        soc_pct,
        power_w: -3_600.0,
        departure_ms: soc_pct.map(|_| NOON_MS + DAY_MS),
        goal_pct: soc_pct.map(|_| 80.0),
    };
    let tank = AssetState::Heat {
        temperature_c: 48.5,
        power_w: 900.0,
    };
    // Two EVs and a tank at one moment, and the next day.
    let start_ms = NOON_MS + 12 * HOUR_MS - MINUTE_MS;
    let expected = vec![
        of(one, "car", start_ms, ev(Some(41.5))),
        of(one, "zoé", start_ms, ev(None)),
        of(one, "tank", start_ms, tank),
        of(one, "car", start_ms + MINUTE_MS, ev(Some(41.75))),
    ];
    let mut rows: Vec<Row> = expected.iter().cloned().map(Row::Asset).collect();
    rows.push(Row::Asset(of(other, "car", start_ms, ev(None))));
    rows.reverse();
    called("write assets", write(store, rows.clone()).await)?;
    called("write assets again", write(store, rows).await)?;
    let end_ms = start_ms + 2 * MINUTE_MS;
    let found = called("read assets", store.assets(one, start_ms, end_ms).await)?;
    equal("assets of two days", &found, &expected)?;
    let found = called(
        "read assets",
        store.assets(one, start_ms, start_ms + 1).await,
    )?;
    equal("assets of a moment", &found, &expected[..3].to_vec())?;
    let found = called("read assets", store.assets(one, end_ms, start_ms).await)?;
    equal("an empty range of assets", &found, &Vec::new())
}

async fn slots(store: &dyn Store, home: HouseholdId) -> Result<(), String> {
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
    // No readings is not zero.
    let empty = Slot::empty(start_ms + DAY_MS, 15);
    let expected = vec![full, with_battery, empty];
    let rows = |slots: &[Slot]| -> Vec<Row> {
        let row = |slot: &Slot| Row::Slot {
            household_id: home,
            slot: *slot,
        };
        slots.iter().map(row).collect()
    };
    called("write slots", write(store, rows(&expected)).await)?;
    called("write slots again", write(store, rows(&expected)).await)?;
    let found = store.slots(home, start_ms, start_ms + DAY_MS + 1).await;
    equal("slots", &called("read slots", found)?, &expected)?;
    let found = store.slots(home, start_ms + 1, start_ms + DAY_MS).await;
    equal(
        "slots inside",
        &called("read slots", found)?,
        &vec![with_battery],
    )
}

async fn schedules(store: &dyn Store, home: HouseholdId) -> Result<(), String> {
    let found = called("latest schedule", store.latest_schedule(home).await)?;
    let repeated = found.is_some();
    let older = schedule(home, NOON_MS, 1, true);
    let newer = schedule(home, NOON_MS + HOUR_MS, 2, true);
    let what_if = schedule(home, NOON_MS + 2 * HOUR_MS, 3, false);
    let all = [&newer, &what_if, &older];
    for schedule in all {
        let rows = vec![Row::Schedule(Arc::new(schedule.clone()))];
        called("write a schedule", write(store, rows).await)?;
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

/// The command for two slots from the one at `index` on.
fn command(home: HouseholdId, index: i64) -> Command {
    let from_ms = NOON_MS + index * 15 * MINUTE_MS;
    let entry = |nth: i64| ProgramEntry {
        from_ms: from_ms + nth * 15 * MINUTE_MS,
        policy: (index % 2 == 0).then_some(SlotPolicy::setpoint(-1.5005)),
        appliances: BTreeMap::from([("dishwasher".to_owned(), nth == 1)]),
        evs: BTreeMap::new(),
        heat: BTreeMap::new(),
    };
    Command {
        command_id: format!("{home}-{NOON_MS}-1-{index}"),
        household_id: home,
        schedule_id: format!("{home}-{NOON_MS}-1"),
        requested_ms: NOON_MS,
        issued_ms: NOON_MS + 1,
        expires_ms: from_ms + 30 * MINUTE_MS,
        battery: None,
        program: (0..2).map(entry).collect(),
    }
}

async fn commands(store: &dyn Store, home: HouseholdId) -> Result<(), String> {
    let issued = |index: i64| CommandProgress {
        command: command(home, index),
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
    let answer = |progress: &CommandProgress, status| {
        Row::CommandAnswer(CommandAnswer {
            household_id: home,
            command_id: progress.command.command_id.clone(),
            from_ms: progress.command.from_ms(),
            status,
            acked_ms: progress.acked_ms.unwrap_or(0),
            reason: progress.reason.clone(),
        })
    };
    let answers = vec![
        answer(&applied, AckStatus::Applied),
        answer(&rejected, AckStatus::Rejected),
    ];
    let end_ms = NOON_MS + 60 * 15 * MINUTE_MS;
    let expected: Vec<CommandProgress> = [applied, rejected]
        .into_iter()
        .chain((2..60).map(issued))
        .collect();
    let all: Vec<Row> = (0..60)
        .map(|index| Row::Command(command(home, index)))
        .collect();
    called("issue commands", write(store, all.clone()).await)?;
    called("answer commands", write(store, answers).await)?;
    let found = store.commands(home, NOON_MS, end_ms).await;
    equal(
        "commands over two days",
        &called("read commands", found)?,
        &expected,
    )?;
    called("issue commands again", write(store, all).await)?;
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

async fn households(store: &dyn Store, homes: &[HouseholdId]) -> Result<(), String> {
    let rows = homes
        .iter()
        .map(|id| Row::Household(Arc::new(metadata(*id, "before"))))
        .collect();
    called("write households", write(store, rows).await)?;
    let rows: Vec<Row> = homes
        .iter()
        .map(|id| Row::Household(Arc::new(metadata(*id, "after"))))
        .collect();
    called("change households", write(store, rows).await)?;
    for id in homes {
        let found = called("read a household", store.household(*id).await)?;
        equal("metadata", &found, &Some(metadata(*id, "after")))?;
    }
    // Pages contain each household exactly once, whatever else is in the table.
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

async fn tariffs(store: &dyn Store, name: &str) -> Result<(), String> {
    let period = |start_min: i64, end_min: i64, buy_per_kwh: f64| PricePeriod {
        start_ms: NOON_MS + start_min * MINUTE_MS,
        end_ms: NOON_MS + end_min * MINUTE_MS,
        buy_per_kwh,
        sell_per_kwh: -0.01,
    };
    let write = async |periods: Vec<PricePeriod>| {
        let tariff = Tariff {
            stated: Vec::new(),
            name: name.to_owned(),
            periods,
        };
        called(
            "write a tariff",
            write(store, vec![Row::Tariff(Arc::new(tariff))]).await,
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

async fn snapshots(store: &dyn Store, one: HouseholdId, other: HouseholdId) -> Result<(), String> {
    for state in [vec![1_u8; 200_000], vec![0, 255, 7], Vec::new()] {
        let rows = vec![Row::Snapshot {
            household_id: one,
            state: state.clone(),
        }];
        called("write a snapshot", write(store, rows).await)?;
        let found = called("read a snapshot", store.snapshot(one).await)?;
        equal("the last snapshot", &found, &Some(state))?;
    }
    let homes: Vec<HouseholdId> = (1..=3_000)
        .filter_map(|number| HouseholdId::new(number * 1_000_003))
        .collect();
    let state = |home: &HouseholdId| home.to_string().into_bytes();
    let rows = homes.iter().map(|home| Row::Snapshot {
        household_id: *home,
        state: state(home),
    });
    called("write many snapshots", write(store, rows.collect()).await)?;
    for home in homes.iter().step_by(500) {
        let found = called("read one of many snapshots", store.snapshot(*home).await)?;
        equal("a snapshot of many", &found, &Some(state(home)))?;
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
            policy: None,
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
        forecast: Some(Rungs {
            load: LoadRung::FewDays,
            pv: PvRung::ClearSky,
        }),
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
        time_zone: "Europe/Berlin".to_owned(),
        groups: vec!["feeder 7".to_owned()],
        ..Metadata::of(household_id, "spot")
    }
}

fn called<T>(tried: &str, outcome: Result<T, StoreError>) -> Result<T, String> {
    outcome.map_err(|error| format!("{tried}: {error}"))
}

fn equal<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    // A whole day of rows would hide the difference.
    let short = |value: &T| format!("{value:?}").chars().take(2000).collect::<String>();
    Err(format!(
        "{what}: found {}, expected {}",
        short(found),
        short(expected)
    ))
}

//! Windows of appliances follow local clocks, on days of 92 and 100 slots too.

use super::*;
use forecast::home::HomeForecast;

use crate::inputs::{Inputs, Newest};
use crate::planning::{PlanningInput, problem};
use crate::runs::Runs;
use model::zone::Zone;

/// 2025-03-30 and 2025-10-26, 00:00 UTC: clocks in Berlin go forward and back at 01:00 UTC.
const SPRING_MS: i64 = 1_743_292_800_000;
const AUTUMN_MS: i64 = 1_761_436_800_000;

/// Returns the slots between which the dishwasher may run, UTC epoch milliseconds, as planned at `now_ms`.
fn planned_window(zone: &str, window_min: (u32, u32), now_ms: i64) -> Option<(i64, i64)> {
    let mut metadata = Metadata {
        time_zone: zone.to_owned(),
        ..metadata()
    };
    metadata.appliances[0].window_start_min = window_min.0;
    metadata.appliances[0].window_end_min = window_min.1;
    let period = PricePeriod {
        start_ms: now_ms - HOUR_MS,
        end_ms: now_ms + 3 * DAY_MS,
        buy_per_kwh: 0.3,
        sell_per_kwh: 0.1,
    };
    let tariff = Tariff {
        stated: Vec::new(),
        name: "dynamic".to_owned(),
        periods: vec![period],
    };
    let newest = |value| Newest {
        ts_ms: now_ms,
        value,
    };
    let problem = problem(&PlanningInput {
        metadata: &metadata,
        past: &HomeForecast::new(SETTINGS.slot),
        tariff: Some(&tariff),
        inputs: Inputs {
            load_w: Some(newest(500.0)),
            pv_w: Some(newest(0.0)),
            soc_pct: Some(newest(50.0)),
            pv_day_before_w: None,
        },
        runs: &Runs::new(),
        now_ms,
        settings: &SETTINGS,
    });
    let problem = problem.unwrap().problem;
    let at = |slot: u32| problem.start_ms + i64::from(slot) * 15 * MINUTE_MS;
    let appliance = problem.appliances.first()?;
    Some((at(appliance.earliest_slot), at(appliance.latest_end_slot)))
}

#[test]
fn a_window_keeps_its_local_hours_when_clocks_change() {
    let berlin = |now_ms| planned_window("Europe/Berlin", (540, 720), now_ms);
    // 09:00 to 12:00: in winter from 08:00 UTC, in summer from 07:00.
    let window = |day_ms: i64, hour: i64| (day_ms + hour * HOUR_MS, day_ms + (hour + 3) * HOUR_MS);
    let midnight_ms = SPRING_MS - HOUR_MS;
    assert_eq!(
        berlin(midnight_ms - DAY_MS),
        Some(window(SPRING_MS - DAY_MS, 8))
    );
    assert_eq!(berlin(midnight_ms), Some(window(SPRING_MS, 7)));
    let midnight_ms = AUTUMN_MS - 2 * HOUR_MS;
    assert_eq!(berlin(midnight_ms), Some(window(AUTUMN_MS, 8)));
}

#[test]
fn a_window_in_the_changed_hour_is_as_long_as_clocks_make_it() {
    // 02:00 to 03:00 does not exist in spring: the next day's it is. In autumn it lasts two hours.
    let berlin = |now_ms| planned_window("Europe/Berlin", (120, 180), now_ms);
    let next_day_ms = SPRING_MS + DAY_MS;
    assert_eq!(berlin(SPRING_MS - HOUR_MS), None);
    assert_eq!(
        berlin(SPRING_MS + 2 * HOUR_MS),
        Some((next_day_ms, next_day_ms + HOUR_MS))
    );
    let midnight_ms = AUTUMN_MS - 2 * HOUR_MS;
    assert_eq!(
        berlin(midnight_ms),
        Some((AUTUMN_MS, AUTUMN_MS + 2 * HOUR_MS))
    );
}

#[test]
fn ten_years_of_local_days_in_five_zones() {
    for name in [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Auckland",
    ] {
        let zone = Zone::find(name).unwrap();
        let first = zone.day_of(SPRING_MS);
        for number in 0..3_653 {
            let day = first.plus(number);
            let midnight_ms = zone.at_ms(day, 0);
            // The slot that contains midnight begins at or before it.
            let window = planned_window(name, (600, 960), midnight_ms);
            let (start_ms, end_ms) = window.unwrap_or_else(|| panic!("{name} {number}"));
            let local_min = |ts_ms: i64| {
                let local_ms = ts_ms + i64::from(zone.offset_min(ts_ms)) * MINUTE_MS;
                (
                    local_ms.div_euclid(DAY_MS),
                    local_ms.rem_euclid(DAY_MS) / MINUTE_MS,
                )
            };
            let (today, _) = local_min(midnight_ms);
            assert_eq!(local_min(start_ms), (today, 600), "{name} {number}");
            assert_eq!(local_min(end_ms), (today, 960), "{name} {number}");
        }
    }
}

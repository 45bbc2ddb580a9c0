//! How long a backtest of a home-year takes, and, where `HEARTH_RECORDS` names a folder with open records, how much of the gap
//! from the rule to perfect foresight Hearth closes there.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use backtest::command::{Options, execute};
use backtest::recorded::{PricesKnown, Recorded};
use backtest::run::run;
use backtest::source::common_battery;
use clap::Parser;
use loadtest::homes::{self, Home};
use model::problem::Grid;
use model::units::{DAY_MS, HouseholdId, SlotLength};

use crate::board::Board;
use crate::selection::Selection;

/// 2025-01-01T00:00:00Z
const NEW_YEAR_MS: i64 = 1_735_689_600_000;
/// Days lived through; a year is as many times longer.
const DAYS: u32 = 73;

/// A run of open records: folder, homes, tariff, and days from and until.
type Records = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const SPOT: &str = "spot:prices_smard_de_2019/smard_day_ahead_2019_hourly_eur_mwh.csv:0.15/0.08";
const RECORDS: &[Records] = &[
    ("citylearn", "citylearn2022", "b0", "own", &[]),
    ("emhass_flat", "emhass_fr_home", "", "flat:0.30/0.08", &[]),
    ("emhass_spot", "emhass_fr_home", "", SPOT, &[]),
    (
        "minute_flat",
        "minute",
        "fr,uk",
        "flat:0.30/0.08",
        &["--days", "90"],
    ),
    ("minute_spot", "minute", "fr,uk", SPOT, &["--days", "90"]),
];

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Measures what is wanted.
pub(crate) fn measure(board: &mut Board, runs: usize, selection: &Selection<'_>) -> Result<()> {
    for (name, minutes) in [
        ("backtest.home_year_15_min_s", 15),
        ("backtest.home_year_1_min_s", 1),
    ] {
        if selection.wants(name) {
            let home = home_of(minutes)?;
            let seconds = (0..runs).map(|_| {
                let begun = Instant::now();
                run(&home, &mut |_| {});
                begun.elapsed().as_secs_f64() * 365.0 / f64::from(DAYS)
            });
            board.add(name, "s", seconds.collect());
        }
    }
    let Some(folder) = std::env::var_os("HEARTH_RECORDS").map(PathBuf::from) else {
        return Ok(());
    };
    for records in RECORDS {
        let name = format!("backtest.{}.share_of_gap", records.0);
        if selection.wants(&name) {
            of_records(board, &folder, records).with_context(|| name)?;
        }
    }
    Ok(())
}

fn of_records(board: &mut Board, folder: &Path, records: &Records) -> Result<()> {
    let (name, data, homes, tariff, days) = *records;
    let data = folder.join(data).to_string_lossy().into_owned();
    let tariff = tariff.replace("spot:", &format!("spot:{}/", folder.display()));
    let out = format!("target/bench/backtest-{name}");
    let words = ["backtest", &data, "--out", &out, "--tariff", &tariff];
    let mut words: Vec<&str> = words.to_vec();
    if !homes.is_empty() {
        words.extend(["--homes", homes]);
    }
    words.extend(days);
    let options = Arguments::try_parse_from(words)?.options;
    let report = execute(&options)?;
    let costs = report.fleet.costs;
    let share = report.fleet.share_of_gap_mean.unwrap_or(f64::NAN);
    for (figure, unit, value) in [
        ("share_of_gap", "", share),
        ("cost_rule", "", costs.rule),
        ("cost_setpoint", "", costs.setpoint),
        ("cost_hearth", "", costs.hearth),
        ("cost_perfect", "", costs.perfect),
        ("cost_bound", "", report.fleet.cost_bound),
    ] {
        board.add(&format!("backtest.{name}.{figure}"), unit, vec![value]);
    }
    Ok(())
}

/// A simulated home over some days.
fn home_of(minutes: u32) -> Result<Recorded> {
    let step = SlotLength::new(minutes).context("a step")?;
    let home = Home::new(HouseholdId::new(1).context("a home")?, homes::SEED);
    let metadata = home.metadata();
    let end_ms = NEW_YEAR_MS + i64::from(DAYS) * DAY_MS;
    let tariff = homes::prices(NEW_YEAR_MS, end_ms);
    let starts = || (NEW_YEAR_MS..end_ms).step_by(usize::try_from(step.ms()).unwrap_or(1));
    let price = |ms: i64| {
        let period = tariff.at_ms(ms);
        period.map_or((0.0, 0.0), |period| {
            (period.buy_per_kwh, period.sell_per_kwh)
        })
    };
    Ok(Recorded {
        name: "simulated".to_owned(),
        location: metadata.location.clone(),
        start_ms: NEW_YEAR_MS,
        step,
        load_w: starts().map(|ms| home.load_w(ms)).collect(),
        pv_w: starts().map(|ms| home.pv_w(ms)).collect(),
        pv_capacity_kw: metadata.pv_capacity_kw,
        buy: starts().map(|ms| price(ms).0).collect(),
        sell: starts().map(|ms| price(ms).1).collect(),
        prices_known: PricesKnown::DayAhead,
        battery: metadata.battery.unwrap_or(common_battery()),
        grid: Grid::OPEN,
        pv_curtailable: false,
        scored_from: 0,
    })
}

//! Replays recorded homes and prints how good each load model was, day by day, with nothing but the past.
//!
//! `cargo run --release -p forecast --example replay -- 15 0 uk.csv.gz` reads lines `utc,load_w` at one
//! minute, with European summer time and 0 minutes from UTC in winter; `-- 60 0 load_kwh.csv:b01` reads that column of
//! hourly kWh.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for the terminal, which ends at a wrong file"
)]

use std::process::Command;

use forecast::home::{Ahead, EndedSlot, Forecast, HomeForecast};
use forecast::horizon::Horizon;
use forecast::load::LoadModel;
use forecast::local_time::LocalTime;
use forecast::plant::Plant;
use forecast::scenarios::Scenarios;
use model::units::{DAY_MS, HOUR_MS, MINUTE_MS, SlotLength};

/// Mean load of each slot, W; `None` where less than half of it was measured.
struct Series {
    slot: SlotLength,
    start_ms: i64,
    load_w: Vec<Option<f64>>,
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, after 1970-02.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469
}

/// Parses `2014-03-31T23:00Z`.
fn parse_ms(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let day = days(number(0..4), number(5..7), number(8..10));
    day * DAY_MS + number(11..13) * HOUR_MS + number(14..16) * MINUTE_MS
}

/// The offset of a clock that is an hour ahead between the last Sundays of March and October, 01:00 UTC, if `is_european`.
fn offset_min(ms: i64, standard_min: i32, is_european: bool) -> i32 {
    let last_sunday_ms = |year: i64, month: i64| {
        let last = days(year, month, 31);
        (last - (last + 4).rem_euclid(7)) * DAY_MS + HOUR_MS
    };
    let year = 1970 + ms.div_euclid(DAY_MS) * 400 / 146_097;
    let is_summer = (last_sunday_ms(year, 3)..last_sunday_ms(year, 10)).contains(&ms);
    standard_min + if is_european && is_summer { 60 } else { 0 }
}

fn text_of(path: &str) -> String {
    if path.ends_with(".gz") {
        let output = Command::new("gzip").args(["-dc", path]).output().unwrap();
        return String::from_utf8(output.stdout).unwrap();
    }
    std::fs::read_to_string(path).unwrap()
}

fn minutes(path: &str, slot: SlotLength) -> Series {
    let mut sums: Vec<(f64, u32)> = Vec::new();
    let mut start_ms = None;
    for line in text_of(path).lines().skip(1) {
        let mut fields = line.split(',');
        let ts_ms = parse_ms(fields.next().unwrap());
        let first_ms = *start_ms.get_or_insert(slot.start_of_ms(ts_ms));
        let index = usize::try_from((ts_ms - first_ms) / slot.ms()).unwrap();
        if sums.len() <= index {
            sums.resize(index + 1, (0.0, 0));
        }
        if let Ok(load_w) = fields.next().unwrap().parse::<f64>() {
            sums[index].0 += load_w;
            sums[index].1 += 1;
        }
    }
    let mean =
        |(sum, count): &(f64, u32)| (2 * count >= slot.minutes()).then(|| sum / f64::from(*count));
    Series {
        slot,
        start_ms: start_ms.unwrap(),
        load_w: sums.iter().map(mean).collect(),
    }
}

fn hours(path: &str, column: &str) -> Series {
    let text = text_of(path);
    let mut lines = text.lines();
    let mut names = lines.next().unwrap().split(',');
    let column = names.position(|name| name == column).unwrap();
    let load_w =
        lines.map(|line| Some(1_000.0 * line.split(',').nth(column)?.parse::<f64>().ok()?));
    Series {
        slot: SlotLength::new(60).unwrap(),
        start_ms: parse_ms("2016-07-31T23:00Z"),
        load_w: load_w.collect(),
    }
}

const NO_PLANT: Plant = Plant {
    place: None,
    plane: None,
    capacity_w: None,
};

/// Sums of errors, W.
#[derive(Default, Clone)]
struct Errors {
    count: f64,
    sum_w: f64,
    squares: f64,
    pinball: [f64; 3],
    ranked: f64,
    hours: f64,
    hours_ranked: f64,
    within: f64,
    day: f64,
    days: f64,
}

fn ranked(scenarios: &Scenarios, values: impl Iterator<Item = f64>, came: f64) -> f64 {
    let values: Vec<f64> = values.collect();
    let w = &scenarios.weights;
    let mut score = 0.0;
    for (i, a) in values.iter().enumerate() {
        score += w[i] * (a - came).abs();
        for (j, b) in values.iter().enumerate() {
            score -= 0.5 * w[i] * w[j] * (a - b).abs();
        }
    }
    score
}

impl Errors {
    fn add(&mut self, forecast: &Forecast, came_w: &[Option<f64>], per_hour: usize) {
        let (scenarios, band) = (&forecast.load, &forecast.load_band());
        for (t, came_w) in came_w.iter().enumerate() {
            let Some(came_w) = came_w else { continue };
            self.count += 1.0;
            self.sum_w += came_w;
            self.squares += (band.mean_w[t] - came_w).powi(2);
            for (share, (sum, quantile_w)) in
                [0.1, 0.5, 0.9].iter().zip(self.pinball.iter_mut().zip([
                    band.low_w[t],
                    band.median_w[t],
                    band.high_w[t],
                ]))
            {
                let under = came_w - quantile_w;
                *sum += (share * under).max((share - 1.0) * under);
            }
            self.ranked += ranked(scenarios, scenarios.series_w.iter().map(|s| s[t]), *came_w);
            if (band.low_w[t]..=band.high_w[t]).contains(came_w) {
                self.within += 1.0;
            }
        }
        for (h, hour) in came_w.chunks(per_hour).enumerate() {
            let came: Option<f64> = hour.iter().copied().sum();
            if let Some(came) = came {
                let sums = scenarios.series_w.iter();
                let sums = sums.map(|s| s[h * per_hour..(h + 1) * per_hour].iter().sum());
                self.hours += 1.0;
                self.hours_ranked += ranked(scenarios, sums, came) / per_hour as f64;
            }
        }
        let came: Option<f64> = came_w.iter().copied().sum();
        if let Some(came) = came {
            let n = came_w.len() as f64;
            self.days += 1.0;
            self.day += ranked(
                scenarios,
                scenarios.series_w.iter().map(|s| s.iter().sum()),
                came,
            ) / n;
        }
    }

    fn print(&self, name: &str) {
        let n = self.count;
        println!(
            "{name:14} nRMSE {:.3}  pinball/mean 10 {:.4} 50 {:.4} 90 {:.4} all {:.4}  crps {:.4} hour {:.4} day {:.4}  within {:.2}",
            (self.squares / n).sqrt() / (self.sum_w / n),
            self.pinball[0] / self.sum_w,
            self.pinball[1] / self.sum_w,
            self.pinball[2] / self.sum_w,
            self.pinball.iter().sum::<f64>() / 3.0 / self.sum_w,
            self.ranked / self.sum_w,
            self.hours_ranked / self.hours / (self.sum_w / n),
            self.day / self.days / (self.sum_w / n),
            self.within / n,
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let slot = SlotLength::new(arguments[0].parse().unwrap()).unwrap();
    let standard_min: i32 = arguments[1].parse().unwrap();
    let series = match arguments[2].split_once(':') {
        Some((path, column)) => hours(path, column),
        None => minutes(&arguments[2], slot),
    };
    let is_european = arguments[2].ends_with(".gz");
    let offset_min = |ms: i64| offset_min(ms, standard_min, is_european);
    let mut home = HomeForecast::new(series.slot);
    let day = series.slot.per_day();
    // The models, and the one that the home chose.
    let mut young = vec![Errors::default(); 5];
    let mut grown = vec![Errors::default(); 5];
    let mut chosen = [0_u32; 4];
    for (t, load_w) in series.load_w.iter().enumerate() {
        let start_ms = series.start_ms + i64::try_from(t).unwrap() * series.slot.ms();
        if t % (day / 8) == 0 && t > 0 && t + day < series.load_w.len() {
            let now = offset_min(start_ms);
            let change = (1..=24)
                .map(|hour| start_ms + hour * HOUR_MS)
                .find(|ms| offset_min(*ms) != now)
                .map(|ms| (ms, offset_min(ms)));
            let ahead = Ahead {
                horizon: Horizon {
                    start_ms,
                    slot: series.slot,
                    slots_count: day,
                    local: LocalTime {
                        offset_min: now,
                        change,
                    },
                },
                load_now_w: series.load_w[t - 1],
                plant: &NO_PLANT,
                weather: &[],
            };
            let age_ms = start_ms - series.start_ms;
            let errors = if age_ms < 14 * DAY_MS {
                &mut young
            } else {
                &mut grown
            };
            let came_w = &series.load_w[t..t + day];
            for (index, model) in LoadModel::ALL.into_iter().enumerate() {
                let forecast = home.forecast_with(&ahead, model);
                errors[index].add(&forecast, came_w, day / 24);
                if model == home.contest().chosen() {
                    errors[4].add(&forecast, came_w, day / 24);
                    chosen[index] += 1;
                }
            }
        }
        home.observe(&EndedSlot {
            start_ms,
            offset_min: offset_min(start_ms),
            load_w: *load_w,
            pv_w: None,
            plant: &NO_PLANT,
            weather: None,
            stake_per_kwh: 1.0,
        });
    }
    println!("{}", arguments[2]);
    let names = LoadModel::ALL.map(LoadModel::name);
    for (when, errors) in [("first two weeks", young), ("after that", grown)] {
        println!("{when}:");
        for (name, errors) in names.iter().chain(&["chosen"]).zip(&errors) {
            errors.print(name);
        }
    }
    println!("chosen {:?}", names.iter().zip(chosen).collect::<Vec<_>>());
}

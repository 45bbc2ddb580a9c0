//! Replays a recorded PV plant and prints how good its forecasts were, with nothing but the past.
//!
//! `cargo run --release -p forecast --example replay_pv -- plant.csv LATITUDE LONGITUDE PEAK_W` reads lines
//! `time,pv_w,ghi,_,_,_,air_c` at a quarter of an hour, times such as `2016-07-01 00:00:00-07:00`. The irradiance of the
//! file stands in for a weather forecast.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for the terminal, which ends at a wrong file"
)]

use forecast::home::{Ahead, EndedSlot, HomeForecast};
use forecast::horizon::Horizon;
use forecast::local_time::LocalTime;
use forecast::plant::Plant;
use forecast::scenarios::Band;
use forecast::sun::Place;
use model::units::{DAY_MS, HOUR_MS, SlotLength};
use model::weather::WeatherPeriod;

const SLOT: SlotLength = SlotLength::QUARTER_HOUR;
const DAY: usize = 96;

/// One quarter of an hour.
#[derive(Clone, Copy)]
struct Row {
    pv_w: f64,
    ghi_w_per_m2: f64,
    air_c: f64,
}

/// Reads the rows; the first begins at midnight of the first day.
fn rows(path: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let number = |column: usize| line.split(',').nth(column).unwrap().parse::<f64>().unwrap();
        Row {
            pv_w: number(1).max(0.0),
            ghi_w_per_m2: number(2),
            air_c: number(6),
        }
    };
    text.lines().skip(1).map(row).collect()
}

/// Hourly means, as a weather forecast would have them.
fn hours(rows: &[Row], start_ms: i64) -> Vec<WeatherPeriod> {
    let hours = rows.chunks_exact(4).zip(0_i64..);
    hours
        .map(|(quarters, hour)| WeatherPeriod {
            start_ms: start_ms + hour * HOUR_MS,
            end_ms: start_ms + (hour + 1) * HOUR_MS,
            ghi_w_per_m2: quarters.iter().map(|row| row.ghi_w_per_m2).sum::<f64>() / 4.0,
            temperature_c: quarters[0].air_c,
        })
        .collect()
}

#[derive(Default)]
struct Errors {
    sum_w: f64,
    squares: f64,
    pinball: [f64; 3],
    within: f64,
    lit: f64,
    count: f64,
}

impl Errors {
    fn add(&mut self, band: &Band, rows: &[Row]) {
        for (t, row) in rows.iter().enumerate() {
            self.count += 1.0;
            self.sum_w += row.pv_w;
            self.squares += (band.mean_w[t] - row.pv_w).powi(2);
            let quantiles = [band.low_w[t], band.median_w[t], band.high_w[t]];
            for ((share, quantile_w), sum) in
                [0.1, 0.5, 0.9].iter().zip(quantiles).zip(&mut self.pinball)
            {
                let under = row.pv_w - quantile_w;
                *sum += (share * under).max((share - 1.0) * under);
            }
            if row.pv_w > 50.0 {
                self.lit += 1.0;
                self.within +=
                    f64::from(u8::from((quantiles[0]..=quantiles[2]).contains(&row.pv_w)));
            }
        }
    }

    fn print(&self, name: &str) {
        println!(
            "{name:24} nRMSE {:.3}  pinball/mean 10 {:.4} 50 {:.4} 90 {:.4}  within by day {:.2}",
            (self.squares / self.count).sqrt() / (self.sum_w / self.count),
            self.pinball[0] / self.sum_w,
            self.pinball[1] / self.sum_w,
            self.pinball[2] / self.sum_w,
            self.within / self.lit.max(1.0),
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<f64>().unwrap();
    let rows = rows(&arguments[0]);
    // 2016-07-01 00:00 at UTC-7.
    let start_ms = 16_983 * DAY_MS + 7 * HOUR_MS;
    let weather = hours(&rows, start_ms);
    let place = Place::new(number(1), number(2));
    let of = |place, capacity_w| Plant {
        place,
        plane: None,
        capacity_w,
    };
    let plants = [
        ("clear sky", of(place, Some(number(3))), false),
        ("clear sky, no peak", of(place, None), false),
        ("no place", of(None, Some(number(3))), false),
        ("weather", of(place, Some(number(3))), true),
        ("weather, no place", of(None, Some(number(3))), true),
    ];
    for (name, plant, has_weather) in plants {
        let mut home = HomeForecast::new(SLOT);
        let (mut errors, mut yesterday) = (Errors::default(), Errors::default());
        for (t, row) in rows.iter().enumerate() {
            let now_ms = start_ms + i64::try_from(t).unwrap() * SLOT.ms();
            if t % 12 == 0 && t >= 14 * DAY && t + DAY <= rows.len() {
                let ahead = Ahead {
                    horizon: Horizon {
                        start_ms: now_ms,
                        slot: SLOT,
                        slots_count: DAY,
                        local: LocalTime {
                            offset_min: -420,
                            change: None,
                        },
                    },
                    load_now_w: None,
                    plant: &plant,
                    weather: if has_weather { &weather } else { &[] },
                };
                let forecast = home.forecast(&ahead);
                errors.add(&forecast.pv_band(), &rows[t..t + DAY]);
                let before: Vec<f64> = rows[t - DAY..t].iter().map(|row| row.pv_w).collect();
                let band = Band {
                    mean_w: before.clone(),
                    low_w: before.clone(),
                    median_w: before.clone(),
                    high_w: before,
                };
                yesterday.add(&band, &rows[t..t + DAY]);
            }
            home.observe(&EndedSlot {
                start_ms: now_ms,
                offset_min: -420,
                load_w: None,
                pv_w: Some(row.pv_w),
                plant: &plant,
                weather: weather.get(t / 4).filter(|_| has_weather),
                stake_per_kwh: 1.0,
            });
        }
        if !has_weather && plant.place.is_some() && plant.capacity_w.is_some() {
            yesterday.print("yesterday");
        }
        errors.print(name);
    }
}

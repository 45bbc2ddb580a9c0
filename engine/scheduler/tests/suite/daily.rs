//! Days of homes with a battery and something beside it, in quarters of an hour: load with peaks, sun behind clouds,
//! day-ahead prices. A home follows from its number.

use model::problem::{Battery, Ev, HeatStore, Problem};

use crate::support::{home, with};

const SLOTS: usize = 96;

/// What is beside the battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Ev,
    Tank,
    Both,
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn pick<const N: usize>(&mut self, from: [f64; N]) -> f64 {
        from[(self.unit() * N as f64) as usize]
    }

    fn is(&mut self, share: f64) -> bool {
        self.unit() < share
    }
}

/// Home `number` with `beside`.
pub(crate) fn day(number: u64, beside: Beside) -> Problem {
    let draw = &mut Draw(number.wrapping_mul(3) + beside as u64);
    let start = draw.between(0.0, 96.0) as usize;
    let hour = |t: usize| ((start + t) % SLOTS) as f64 / 4.0;
    let bump = |hour: f64, at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    let (size, sun) = (draw.between(0.2, 0.8), draw.pick([0.0, 4.0, 7.0, 11.0]));
    let cloud = draw.between(0.2, 1.0);
    let level = draw.between(0.05, 0.15);
    let (mut load, mut pv, mut spot) = (Vec::new(), Vec::new(), Vec::new());
    let mut hourly = 0.0;
    for t in 0..SLOTS {
        let hour = hour(t);
        let usual = 0.5 + bump(hour, 7.5, 1.5) + 2.0 * bump(hour, 19.0, 2.5);
        let kettle = if draw.is(0.08) {
            draw.between(0.5, 2.5)
        } else {
            0.0
        };
        load.push(size * usual * draw.between(0.7, 1.3) + kettle);
        let clear = (1.0 - ((hour - 12.5) / 6.5).powi(2)).max(0.0);
        pv.push(sun * clear * cloud * draw.between(0.6, 1.0));
        if t % 4 == 0 {
            hourly = level * draw.between(0.9, 1.1);
        }
        let shape = 1.0 + 0.5 * bump(hour, 8.0, 2.0) + 0.9 * bump(hour, 19.5, 2.5)
            - 0.7 * bump(hour, 13.0, 2.5);
        spot.push(hourly * shape);
    }
    let fees = draw.pick([0.1, 0.18]);
    let is_flat = draw.is(0.2);
    let buy: Vec<f64> = spot
        .iter()
        .map(|spot| if is_flat { 0.3 } else { 1.19 * spot + fees })
        .collect();
    let is_fixed = draw.is(0.5);
    with(home(&load, &pv, &buy), |p| {
        p.slot_minutes = 15;
        p.sell_price = spot
            .iter()
            .map(|s| if is_fixed { 0.08 } else { *s })
            .collect();
        p.battery = Some(battery(draw));
        if draw.is(0.2) {
            p.grid.import_limit_kw = Some(draw.pick([11.0, 17.0]));
        }
        if draw.is(0.2) {
            p.grid.export_limit_kw = Some(0.6 * sun);
            p.pv_curtailable = true;
        }
        if beside != Beside::Tank {
            p.evs.push(ev(draw, start));
        }
        if beside != Beside::Ev {
            p.heat_stores.push(tank(draw, &hour));
        }
    })
}

fn battery(draw: &mut Draw) -> Battery {
    let capacity = draw.pick([5.1, 7.7, 10.0, 12.8, 16.0]);
    let (rate, efficiency) = (0.5 * capacity, draw.pick([0.93, 0.95, 0.975]));
    let least = draw.pick([0.0, 0.05, 0.1]) * capacity;
    let end_value = draw.pick([0.0, 0.1, 0.2]);
    Battery {
        capacity_kwh: capacity,
        soc_kwh: draw.between(least, capacity),
        min_soc_kwh: least,
        max_soc_kwh: capacity,
        charge_kw: rate,
        discharge_kw: rate,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
        end_soc_min_kwh: least,
        end_value_per_kwh: end_value,
        wear_cost_per_kwh: draw.pick([0.0, 0.01, 0.03]),
    }
}

fn ev(draw: &mut Draw, start: usize) -> Ev {
    let slot_of = |of_day: usize| (of_day + SLOTS - start) % SLOTS;
    let mut arrival = slot_of(draw.between(60.0, 84.0) as usize);
    let mut departure = slot_of(draw.between(18.0, 32.0) as usize);
    if departure <= arrival + 8 {
        // Here since before, or for the rest of the horizon.
        (arrival, departure) = if departure > 8 {
            (0, departure)
        } else {
            (arrival.min(80), SLOTS)
        };
    }
    let capacity = draw.pick([40.0, 52.0, 64.0, 77.0]);
    let (rate, efficiency) = (draw.pick([3.7, 7.4, 11.0]), draw.pick([0.9, 0.95]));
    let soc = capacity * draw.between(0.2, 0.6);
    let reach = 0.25 * (departure - arrival) as f64 * rate * efficiency;
    let wished = capacity * draw.between(0.6, 0.9);
    Ev {
        id: "car".to_owned(),
        arrival_slot: arrival as u32,
        departure_slot: departure as u32,
        capacity_kwh: capacity,
        soc_kwh: soc,
        min_soc_kwh: 0.2 * capacity,
        goal_soc_kwh: wished.min(soc + 0.9 * reach),
        charge_kw: rate,
        min_charge_kw: 0.0,
        discharge_kw: if draw.is(0.25) { 5.0 } else { 0.0 },
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
        end_value_per_kwh: draw.pick([0.0, 0.0, 0.15]),
        wear_cost_per_kwh: draw.pick([0.0, 0.02]),
    }
}

fn tank(draw: &mut Draw, hour: &impl Fn(usize) -> f64) -> HeatStore {
    let (least, cop) = (draw.between(42.0, 48.0), draw.pick([1.0, 3.0]));
    let draws = (0..SLOTS).map(|t| match hour(t) {
        6.0..8.0 | 19.0..21.0 => draw.between(0.3, 1.5),
        _ => 0.05,
    });
    HeatStore {
        id: "tank".to_owned(),
        draw_kw: draws.collect(),
        power_kw: draw.pick([1.5, 2.0, 3.0]),
        cop: vec![cop; SLOTS],
        kwh_per_k: draw.pick([0.23, 0.35, 0.6]),
        loss_kw_per_k: draw.pick([0.002, 0.005]),
        temperature_c: least + draw.between(3.0, 10.0),
        min_c: least,
        max_c: least + 15.0,
        ambient_c: vec![18.0; SLOTS],
        end_value_per_kwh: draw.pick([0.0, 0.05]),
    }
}

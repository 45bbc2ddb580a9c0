//! A simulated tank of hot water with an electric heater: it loses heat, and people draw from it. No IO, no clock.

use model::asset::AssetState;
use model::command::HeatOrder;
use model::metadata::HeatStoreSpec;
use model::units::{HOUR_MS, HouseholdId};

use crate::calendar::Calendar;

/// The thermostat switches on so far above the lowest temperature, and off at this share of the range.
const ON_ABOVE_K: f64 = 2.0;
const OFF_SHARE: f64 = 0.7;
/// 300 litres.
const KWH_PER_K: f64 = 0.348;

/// A tank.
#[derive(Debug, Clone)]
pub(crate) struct Tank {
    spec: HeatStoreSpec,
    calendar: Calendar,
    temperature_c: f64,
    is_heating: bool,
    draw: Option<HourlyDraw>,
}

/// The heat that is drawn in an hour, kW: the habit, more or less.
#[derive(Debug, Clone, Copy)]
struct HourlyDraw {
    start_ms: i64,
    kw: f64,
}

/// Returns the tank of home `id`: every second one has a heat pump in place of a heating rod.
pub(crate) fn spec(id: HouseholdId) -> HeatStoreSpec {
    let has_pump = id.get() % 2 == 0;
    let draw_kw = |hour| match hour {
        6..=8 | 18..=20 => 0.9,
        9..=17 | 21..=22 => 0.25,
        _ => 0.05,
    };
    HeatStoreSpec {
        id: "tank".to_owned(),
        power_kw: if has_pump { 0.9 } else { 3.0 },
        cop: if has_pump { 3.0 } else { 1.0 },
        kwh_per_k: KWH_PER_K,
        loss_kw_per_k: 0.0018,
        min_c: 45.0,
        max_c: if has_pump { 58.0 } else { 70.0 },
        ambient_c: 18.0,
        draw_kw: (0..24).map(draw_kw).collect(),
    }
}

impl Tank {
    /// Makes a tank in the middle of its range.
    pub(crate) fn new(spec: HeatStoreSpec, calendar: Calendar) -> Self {
        Self {
            temperature_c: f64::midpoint(spec.min_c, spec.max_c),
            spec,
            calendar,
            is_heating: false,
            draw: None,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.spec.id
    }

    /// Returns the electricity that its heat above the surroundings took, kWh.
    pub(crate) fn content_kwh(&self) -> f64 {
        let above_k = self.temperature_c - self.spec.ambient_c;
        above_k * self.spec.kwh_per_k / self.spec.cop
    }

    /// Runs it for `hours`, above 0, from `at_ms` on, and returns the power of its heater, kW. Without an order its
    /// thermostat decides. The heater never goes beyond the highest temperature, and below the lowest it heats whatever the
    /// order says.
    pub(crate) fn run(&mut self, at_ms: i64, hours: f64, order: Option<&HeatOrder>) -> f64 {
        let draw_kw = self.draw_kw(at_ms);
        let wanted_kw = match order {
            None => self.by_thermostat_kw(),
            Some(_) if self.temperature_c < self.spec.min_c => self.spec.power_kw,
            Some(order) => order.power_kw,
        };
        let spec = &self.spec;
        // With the largest power that does not lead beyond the highest temperature.
        let cold_c = self.after_c(-draw_kw, hours);
        let room_kw = (spec.max_c - cold_c).max(0.0) / (spec.cop * self.gain_k_per_kw(hours));
        let power_kw = wanted_kw.clamp(0.0, spec.power_kw).min(room_kw);
        self.temperature_c = self.after_c(spec.cop * power_kw - draw_kw, hours);
        power_kw
    }

    /// Returns what its gauge reads.
    pub(crate) fn state(&self, power_kw: f64) -> AssetState {
        AssetState::Heat {
            temperature_c: (self.temperature_c * 10.0).round() / 10.0,
            power_w: (power_kw * 1e4).round() / 10.0,
        }
    }

    fn by_thermostat_kw(&mut self) -> f64 {
        let spec = &self.spec;
        let off_c = spec.min_c + OFF_SHARE * (spec.max_c - spec.min_c);
        if self.temperature_c < spec.min_c + ON_ABOVE_K {
            self.is_heating = true;
        } else if self.temperature_c >= off_c {
            self.is_heating = false;
        }
        if self.is_heating { spec.power_kw } else { 0.0 }
    }

    /// Returns the temperature after `hours` with `heat_kw` more heat than is drawn: the exact course while powers are
    /// constant.
    fn after_c(&self, heat_kw: f64, hours: f64) -> f64 {
        let above_k = self.temperature_c - self.spec.ambient_c;
        let kept = self.kept(hours);
        self.spec.ambient_c + above_k * kept + heat_kw * self.gain_k_per_kw(hours)
    }

    /// Returns the share of the warmth that is left after `hours`.
    fn kept(&self, hours: f64) -> f64 {
        (-self.spec.loss_kw_per_k * hours / self.spec.kwh_per_k).exp()
    }

    /// Returns by how much a kW of heat warms it within `hours`, K.
    fn gain_k_per_kw(&self, hours: f64) -> f64 {
        let spec = &self.spec;
        if spec.loss_kw_per_k > 0.0 {
            let exponent = -spec.loss_kw_per_k * hours / spec.kwh_per_k;
            -exponent.exp_m1() / spec.loss_kw_per_k
        } else {
            hours / spec.kwh_per_k
        }
    }

    fn draw_kw(&mut self, at_ms: i64) -> f64 {
        let start_ms = at_ms - at_ms.rem_euclid(HOUR_MS);
        if let Some(draw) = self.draw.filter(|draw| draw.start_ms == start_ms) {
            return draw.kw;
        }
        let hour = self.calendar.hour(at_ms);
        let habit_kw = self.spec.draw_kw.get(hour).copied().unwrap_or(0.0);
        let kw = habit_kw * (0.6 + 0.8 * self.calendar.draw(start_ms).unit());
        self.draw = Some(HourlyDraw { start_ms, kw });
        kw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_790_000_100_000;

    fn tank(id: i64) -> Tank {
        let id = HouseholdId::new(id).unwrap();
        Tank::new(spec(id), Calendar::new("Europe/Berlin", 1, id))
    }

    /// A week by its thermostat: warm enough, and the heat that comes in goes out or is still there.
    #[test]
    fn heat_is_conserved_and_the_thermostat_keeps_it_warm() {
        for id in [4, 9] {
            let mut tank = tank(id);
            let hours = 1.0 / 60.0;
            let (mut heated_kwh, mut drawn_kwh, mut lost_kwh) = (0.0, 0.0, 0.0);
            let first_c = tank.temperature_c;
            for minute in 0..7 * 1_440 {
                let at_ms = START_MS + minute * 60_000;
                let before_c = tank.temperature_c;
                let power_kw = tank.run(at_ms, hours, None);
                heated_kwh += tank.spec.cop * power_kw * hours;
                drawn_kwh += tank.draw_kw(at_ms) * hours;
                // The mean over a minute is near that of its ends.
                let mean_c = f64::midpoint(before_c, tank.temperature_c);
                lost_kwh += tank.spec.loss_kw_per_k * (mean_c - 18.0) * hours;
                assert!(
                    (44.9..=tank.spec.max_c).contains(&tank.temperature_c),
                    "{tank:?}"
                );
            }
            let stored_kwh = (tank.temperature_c - first_c) * KWH_PER_K;
            let rest_kwh = heated_kwh - drawn_kwh - lost_kwh - stored_kwh;
            assert!(rest_kwh.abs() < 1e-4, "{rest_kwh}");
            assert!((5.0..90.0).contains(&drawn_kwh), "{drawn_kwh}");
        }
    }

    #[test]
    fn an_order_is_kept_to_within_the_range() {
        let hours = 1.0 / 3_600.0;
        let order = |power_kw| HeatOrder { power_kw };
        let mut tank = tank(9);
        assert_eq!(tank.run(START_MS, hours, Some(&order(1.2))), 1.2);
        assert_eq!(tank.run(START_MS, hours, Some(&order(50.0))), 3.0);
        for second in 0..20_000 {
            tank.run(START_MS + second * 1_000, hours, Some(&order(3.0)));
        }
        assert!((tank.temperature_c - 70.0).abs() < 1e-9);
        tank.temperature_c = 44.0;
        assert_eq!(tank.run(START_MS, hours, Some(&order(0.0))), 3.0);
    }

    /// One long step is the same as many short ones, while the power is constant.
    #[test]
    fn steps_of_any_length_lead_to_the_same() {
        let (mut at_once, mut bit_by_bit) = (tank(9), tank(9));
        let order = HeatOrder { power_kw: 1.0 };
        let hour_ms = START_MS - START_MS.rem_euclid(HOUR_MS);
        at_once.run(hour_ms, 1.0, Some(&order));
        for second in 0..3_600 {
            bit_by_bit.run(hour_ms + second * 1_000, 1.0 / 3_600.0, Some(&order));
        }
        assert!((at_once.temperature_c - bit_by_bit.temperature_c).abs() < 1e-9);
    }
}

//! Decides which readings are plausible for a home. Values slightly outside a gauge's range are clamped. Values that a
//! plant of this size cannot have are kept out of windows and forecasts.

use crate::settings::Settings;
use model::limits::{BELOW_ZERO_SHARE, BELOW_ZERO_W, SOC_BEYOND_PCT};
use model::metadata::Metadata;
use model::reading::Measurement;

/// Factor on rated powers. A fuse carries about 1.5 times its rating for a while, and the bright edge of a cloud lifts PV
/// above its peak.
const MARGIN: f64 = 1.5;
/// Smallest upper bound of any range, W: room for standby power of inverters and the like.
const LEAST_W: f64 = 1_000.0;

/// The plausible powers of a home, W. Battery power is negative while discharging.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranges {
    load_w_max: f64,
    pv_w_min: f64,
    pv_w_max: f64,
    battery_w_min: f64,
    battery_w_max: f64,
}

/// A value that this home cannot have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Implausible {
    /// Name of the field as devices send it.
    pub field: &'static str,
    /// The value, in the field's unit.
    pub value: f64,
    /// Smallest plausible value.
    pub least: f64,
    /// Largest plausible value.
    pub most: f64,
}

impl std::fmt::Display for Implausible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            field,
            value,
            least,
            most,
        } = self;
        write!(
            f,
            "{field} is {value}, plausible for this home is {least} to {most}"
        )
    }
}

impl std::error::Error for Implausible {}

impl Ranges {
    /// Returns what is plausible for a home with this metadata. The load is at most what grid, PV and battery supply
    /// together. A power that is unknown or 0 may be as large as the settings say.
    #[must_use]
    pub fn of(metadata: Option<&Metadata>, settings: &Settings) -> Self {
        let known =
            |kw: Option<f64>, unknown_kw: f64| kw.filter(|kw| *kw > 0.0).unwrap_or(unknown_kw);
        let battery = metadata.and_then(|metadata| metadata.battery.as_ref());
        let import_kw = metadata.and_then(|metadata| metadata.grid.import_limit_kw);
        let pv_kw = metadata.map(|metadata| metadata.pv_capacity_kw);
        let discharge_kw = battery.map(|spec| spec.discharge_kw);
        let charge_kw = battery.map(|spec| spec.charge_kw);
        let load_kw = import_kw.map_or(settings.load_kw_max, |import_kw| {
            import_kw + pv_kw.unwrap_or(0.0) + discharge_kw.unwrap_or(0.0)
        });
        let most_w = |kw: f64| (MARGIN * kw * 1e3).max(LEAST_W);
        let below_w = BELOW_ZERO_SHARE * pv_kw.unwrap_or(0.0) * 1e3;
        Self {
            load_w_max: most_w(load_kw),
            pv_w_min: -below_w.max(BELOW_ZERO_W),
            pv_w_max: most_w(known(pv_kw, settings.pv_kw_max)),
            battery_w_min: -most_w(known(discharge_kw, settings.battery_kw_max)),
            battery_w_max: most_w(known(charge_kw, settings.battery_kw_max)),
        }
    }

    /// Returns the values to use: as read, or clamped to the range of their gauge.
    ///
    /// # Errors
    /// Returns the first field whose value is implausible.
    pub fn judge(&self, measurement: Measurement) -> Result<Measurement, Implausible> {
        Ok(match measurement {
            Measurement::Meter { consumption_w } => {
                let span = (-BELOW_ZERO_W, self.load_w_max);
                let consumption_w = inside("consumption_w", consumption_w, span)?.max(0.0);
                Measurement::Meter { consumption_w }
            }
            Measurement::Pv { pv_w } => {
                let pv_w = inside("pv_w", pv_w, (self.pv_w_min, self.pv_w_max))?.max(0.0);
                Measurement::Pv { pv_w }
            }
            Measurement::Battery { soc_pct, power_w } => {
                let span = (-SOC_BEYOND_PCT, 100.0 + SOC_BEYOND_PCT);
                Measurement::Battery {
                    soc_pct: inside("soc_pct", soc_pct, span)?.clamp(0.0, 100.0),
                    power_w: inside("power_w", power_w, (self.battery_w_min, self.battery_w_max))?,
                }
            }
        })
    }
}

fn inside(field: &'static str, value: f64, (least, most): (f64, f64)) -> Result<f64, Implausible> {
    if (least..=most).contains(&value) {
        // Makes -0.0 a plain 0.
        Ok(value + 0.0)
    } else {
        Err(Implausible {
            field,
            value,
            least,
            most,
        })
    }
}

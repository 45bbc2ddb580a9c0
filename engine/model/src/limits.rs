//! The limits of input values. The API, the import, the records of the log and the scheduler share this one set. Every
//! error names the field and its limit.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::metadata::{ApplianceSpec, BatterySpec, EvSpec, HeatStoreSpec, Metadata};
use crate::problem::{Grid, Weights};
use crate::units::SlotLength;
use crate::zone::Zone;

/// Most slots in a horizon: a week of quarter hours.
pub const SLOTS_MAX: usize = 672;
/// Most appliances of a home.
pub const APPLIANCES_MAX: usize = 16;
/// Most EVs of a home, and most heat stores.
pub const STORES_MAX: usize = 8;
/// Most groups of a home.
pub const GROUPS_MAX: usize = 16;
/// Range of the heat that a heater gives for a kWh of electricity, kWh.
pub const COP_MIN: f64 = 0.1;
/// See [`COP_MIN`].
pub const COP_MAX: f64 = 100.0;
/// Largest absolute temperature of a heat store and its surroundings, degrees Celsius.
pub const TEMPERATURE_C_MAX: f64 = 1_000.0;
/// Most scenarios of load and PV.
pub const SCENARIOS_MAX: usize = 64;
/// Largest power, kW.
pub const POWER_KW_MAX: f64 = 10_000.0;
/// Largest energy, kWh.
pub const ENERGY_KWH_MAX: f64 = 100_000.0;
/// Smallest capacity of a battery, kWh. A home without a battery has none rather than one of 0 kWh.
pub const CAPACITY_KWH_MIN: f64 = 0.001;
/// Largest absolute price, currency per kWh (or per kW of the peak). Wide enough for weak currencies: a kWh costs
/// 1,444.70 rupiah in Indonesia.
pub const PRICE_MAX: f64 = 100_000.0;
/// Largest weight in the objective, and of a scenario; the smallest is 0.
pub const WEIGHT_MAX: f64 = 1_000.0;
/// Smallest efficiency of charging or of discharging; the largest is 1.
pub const EFFICIENCY_MIN: f64 = 0.01;
/// Longest id of an appliance, an EV or a heat store, bytes; the shortest is 1.
pub const ID_BYTES_MAX: usize = 64;
/// Longest name of a home or a tariff, and longest location, bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Most periods in one tariff record: seven months of quarter hours.
pub const PERIODS_MAX: usize = 20_000;
/// Latest moment that may have a price, UTC epoch milliseconds: 9999-01-01, which RFC 3339 can still write. The earliest
/// is 1970-01-01.
pub const TIME_MS_MAX: i64 = 253_370_764_800_000;

/// How far a SoC may be outside 0 to 100 % and still be read as empty or full, percentage points.
pub const SOC_BEYOND_PCT: f64 = 2.0;
/// How far a meter or an inverter may be below 0 W and still be read as 0, W.
pub const BELOW_ZERO_W: f64 = 100.0;
/// The same for an inverter, as a share of its peak power. The larger of the two applies.
pub const BELOW_ZERO_SHARE: f64 = 0.02;

/// A field that breaks its limit. Its text reads like `battery.charge_kw is -1, expected 0 to 10000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError {
    /// Path of the field as in the HTTP API, such as `battery.charge_kw` or `periods[3].buy`.
    pub field: String,
    /// The value found, shortened.
    pub found: String,
    /// The values allowed, such as `0 to 10000`.
    pub expected: String,
}

impl Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            field,
            found,
            expected,
        } = self;
        write!(f, "{field} is {found}, expected {expected}")
    }
}

impl std::error::Error for LimitError {}

/// Checks that `value` is in `least..=most`. NaN is in no range.
///
/// # Errors
/// Returns the field and its limit if it is not.
pub fn within(field: impl Display, value: f64, least: f64, most: f64) -> Result<(), LimitError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(limit_error(field, value, format!("{least} to {most}")))
}

/// Checks that a list has `least..=most` entries.
///
/// # Errors
/// Returns the field and its limit if it has not.
pub fn counted(
    field: impl Display,
    count: usize,
    least: usize,
    most: usize,
) -> Result<(), LimitError> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let (found, expected) = (format!("{count} entries"), format!("{least} to {most}"));
    Err(limit_error(field, found, expected))
}

/// Checks that a text has `least..=most` bytes and no control characters.
///
/// # Errors
/// Returns the field and its limit if it has not.
pub fn named(field: impl Display, text: &str, least: usize, most: usize) -> Result<(), LimitError> {
    if (least..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let expected = format!("{least} to {most} bytes without control characters");
    Err(limit_error(field, shown(text), expected))
}

/// Checks that each id has 1 to [`ID_BYTES_MAX`] bytes and is unique. `list` is the name of the list they are in.
///
/// # Errors
/// Returns the first id that fails, as `list[index].id`.
pub fn ids<'a>(list: &str, ids: impl IntoIterator<Item = &'a str>) -> Result<(), LimitError> {
    let mut known = BTreeSet::new();
    for (index, id) in ids.into_iter().enumerate() {
        let field = format_args!("{list}[{index}].id");
        named(field, id, 1, ID_BYTES_MAX)?;
        if !known.insert(id) {
            return Err(limit_error(field, shown(id), "an id that is used once"));
        }
    }
    Ok(())
}

/// Like [`ids`], for ids that are levels of MQTT topics: no `/`, `+`, `#` or space.
fn topic_levels<'a>(
    list: &str,
    levels: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<(), LimitError> {
    ids(list, levels.clone())?;
    for (index, id) in levels.into_iter().enumerate() {
        if id.contains(['/', '+', '#', ' ']) {
            let field = format_args!("{list}[{index}].id");
            let expected = "a level of an MQTT topic: no `/`, `+`, `#` or space";
            return Err(limit_error(field, shown(id), expected));
        }
    }
    Ok(())
}

fn shown(text: &str) -> String {
    let shown: String = text.chars().take(ID_BYTES_MAX).collect();
    format!("{shown:?}")
}

pub(crate) fn limit_error(
    field: impl Display,
    found: impl Display,
    expected: impl Into<String>,
) -> LimitError {
    LimitError {
        field: field.to_string(),
        found: found.to_string(),
        expected: expected.into(),
    }
}

impl Metadata {
    /// Checks everything that does not depend on the slot length; [`Metadata::check_runs`] checks the rest.
    ///
    /// # Errors
    /// Returns the first field that breaks its limit.
    pub fn check(&self) -> Result<(), LimitError> {
        named("name", &self.name, 0, NAME_BYTES_MAX)?;
        named("location", &self.location, 0, NAME_BYTES_MAX)?;
        named("tariff", &self.tariff, 1, NAME_BYTES_MAX)?;
        self.check_place()?;
        within("pv_capacity_kw", self.pv_capacity_kw, 0.0, POWER_KW_MAX)?;
        self.battery.as_ref().map_or(Ok(()), BatterySpec::check)?;
        self.grid.check()?;
        self.weights.check()?;
        counted("appliances", self.appliances.len(), 0, APPLIANCES_MAX)?;
        ids(
            "appliances",
            self.appliances.iter().map(|spec| spec.id.as_str()),
        )?;
        let mut specs = self.appliances.iter().enumerate();
        specs.try_for_each(|(index, spec)| spec.check(index))?;
        counted("evs", self.evs.len(), 0, STORES_MAX)?;
        topic_levels("evs", self.evs.iter().map(|spec| spec.id.as_str()))?;
        let mut specs = self.evs.iter().enumerate();
        specs.try_for_each(|(index, spec)| spec.check(index))?;
        counted("heat_stores", self.heat_stores.len(), 0, STORES_MAX)?;
        topic_levels(
            "heat_stores",
            self.heat_stores.iter().map(|spec| spec.id.as_str()),
        )?;
        let mut specs = self.heat_stores.iter().enumerate();
        specs.try_for_each(|(index, spec)| spec.check(index))?;
        counted("groups", self.groups.len(), 0, GROUPS_MAX)?;
        let mut groups = self.groups.iter().enumerate();
        groups.try_for_each(|(index, group)| {
            named(format_args!("groups[{index}]"), group, 1, NAME_BYTES_MAX)?;
            if self.groups[..index].contains(group) {
                let field = format_args!("groups[{index}]");
                return Err(limit_error(
                    field,
                    shown(group),
                    "a group that is named once",
                ));
            }
            Ok(())
        })
    }

    fn check_place(&self) -> Result<(), LimitError> {
        if Zone::find(&self.time_zone).is_none() {
            let expected = "an IANA time zone such as Europe/Berlin";
            return Err(limit_error("time_zone", shown(&self.time_zone), expected));
        }
        if let Some(position) = &self.position {
            let (latitude, longitude) = (position.latitude_deg, position.longitude_deg);
            within("position.latitude_deg", latitude, -90.0, 90.0)?;
            within("position.longitude_deg", longitude, -180.0, 180.0)?;
        }
        self.pv_mounting.map_or(Ok(()), |mounting| {
            within("pv_mounting.tilt_deg", mounting.tilt_deg, 0.0, 90.0)?;
            within("pv_mounting.azimuth_deg", mounting.azimuth_deg, 0.0, 360.0)
        })
    }

    /// Checks that each appliance's run fits into its window with slots of this length.
    ///
    /// # Errors
    /// Returns the first appliance that could never run.
    pub fn check_runs(&self, slot: SlotLength) -> Result<(), LimitError> {
        for (index, spec) in self.appliances.iter().enumerate() {
            let most = spec.slots_in_window(slot).min(SLOTS_MAX);
            if spec.profile_kw.len() > most {
                if most == 0 {
                    let field = format!("appliances[{index}].window_end_min");
                    let expected =
                        format!("a window with a whole slot of {} minutes", slot.minutes());
                    return Err(limit_error(field, spec.window_end_min, expected));
                }
                let found = format!("{} entries", spec.profile_kw.len());
                let minutes = slot.minutes();
                let expected = format!("1 to {most}, the slots of {minutes} minutes in its window");
                let field = format!("appliances[{index}].profile_kw");
                return Err(limit_error(field, found, expected));
            }
        }
        Ok(())
    }
}

impl EvSpec {
    fn check(&self, index: usize) -> Result<(), LimitError> {
        let (capacity, most_kw) = (self.capacity_kwh, self.charge_kw);
        let limits = [
            ("capacity_kwh", capacity, CAPACITY_KWH_MIN, ENERGY_KWH_MAX),
            ("min_soc_kwh", self.min_soc_kwh, 0.0, capacity),
            ("goal_soc_kwh", self.goal_soc_kwh, 0.0, capacity),
            ("charge_kw", most_kw, 0.0, POWER_KW_MAX),
            ("min_charge_kw", self.min_charge_kw, 0.0, most_kw),
            ("discharge_kw", self.discharge_kw, 0.0, POWER_KW_MAX),
            (
                "charge_efficiency",
                self.charge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            (
                "discharge_efficiency",
                self.discharge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            ("wear_cost_per_kwh", self.wear_cost_per_kwh, 0.0, PRICE_MAX),
        ];
        for (field, value, least, most) in limits {
            within(format_args!("evs[{index}].{field}"), value, least, most)?;
        }
        for (number, departure) in self.departures.iter().enumerate() {
            let field = |name: &str| format!("evs[{index}].departures[{number}].{name}");
            let (weekday, at_min) = (departure.weekday, departure.at_min);
            within(field("weekday"), f64::from(weekday), 0.0, 6.0)?;
            within(field("at_min"), f64::from(at_min), 0.0, 1_439.0)?;
            if self.departures[..number]
                .iter()
                .any(|other| other.weekday == weekday)
            {
                let expected = "a day that is named once";
                return Err(limit_error(field("weekday"), weekday, expected));
            }
        }
        Ok(())
    }
}

impl HeatStoreSpec {
    fn check(&self, index: usize) -> Result<(), LimitError> {
        let most_c = TEMPERATURE_C_MAX;
        let limits = [
            ("power_kw", self.power_kw, 0.0, POWER_KW_MAX),
            ("cop", self.cop, COP_MIN, COP_MAX),
            (
                "kwh_per_k",
                self.kwh_per_k,
                CAPACITY_KWH_MIN,
                ENERGY_KWH_MAX,
            ),
            ("loss_kw_per_k", self.loss_kw_per_k, 0.0, POWER_KW_MAX),
            ("max_c", self.max_c, -most_c, most_c),
            ("min_c", self.min_c, -most_c, self.max_c),
            ("ambient_c", self.ambient_c, -most_c, most_c),
        ];
        for (field, value, least, most) in limits {
            within(
                format_args!("heat_stores[{index}].{field}"),
                value,
                least,
                most,
            )?;
        }
        let field = format!("heat_stores[{index}].draw_kw");
        if !self.draw_kw.is_empty() {
            counted(&field, self.draw_kw.len(), 24, 24)?;
        }
        let mut draws = self.draw_kw.iter().enumerate();
        draws.try_for_each(|(hour, draw_kw)| {
            within(format_args!("{field}[{hour}]"), *draw_kw, 0.0, POWER_KW_MAX)
        })
    }
}

impl BatterySpec {
    /// Checks the battery of a home's metadata.
    ///
    /// # Errors
    /// Returns the first field under `battery` that breaks its limit.
    pub fn check(&self) -> Result<(), LimitError> {
        let (capacity, most_kwh) = (self.capacity_kwh, self.max_soc_kwh);
        let limits = [
            ("capacity_kwh", capacity, CAPACITY_KWH_MIN, ENERGY_KWH_MAX),
            ("max_soc_kwh", most_kwh, 0.0, capacity),
            ("min_soc_kwh", self.min_soc_kwh, 0.0, most_kwh),
            ("charge_kw", self.charge_kw, 0.0, POWER_KW_MAX),
            ("discharge_kw", self.discharge_kw, 0.0, POWER_KW_MAX),
            (
                "charge_efficiency",
                self.charge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            (
                "discharge_efficiency",
                self.discharge_efficiency,
                EFFICIENCY_MIN,
                1.0,
            ),
            ("wear_cost_per_kwh", self.wear_cost_per_kwh, 0.0, PRICE_MAX),
        ];
        for (field, value, least, most) in limits {
            within(format_args!("battery.{field}"), value, least, most)?;
        }
        Ok(())
    }
}

impl Grid {
    /// Checks the grid connection of a home or a problem.
    ///
    /// # Errors
    /// Returns the first field under `grid` that breaks its limit.
    pub fn check(&self) -> Result<(), LimitError> {
        let (import_kw, export_kw) = (self.import_limit_kw, self.export_limit_kw);
        within(
            "grid.import_limit_kw",
            import_kw.unwrap_or(0.0),
            0.0,
            POWER_KW_MAX,
        )?;
        within(
            "grid.export_limit_kw",
            export_kw.unwrap_or(0.0),
            0.0,
            POWER_KW_MAX,
        )?;
        within(
            "grid.peak_price_per_kw",
            self.peak_price_per_kw,
            0.0,
            PRICE_MAX,
        )?;
        within("grid.peak_kw", self.peak_kw, 0.0, POWER_KW_MAX)
    }
}

impl Weights {
    /// Checks the weights of a home or a problem.
    ///
    /// # Errors
    /// Returns the first field under `weights` that breaks its limit.
    pub fn check(&self) -> Result<(), LimitError> {
        within("weights.cost", self.cost, 0.0, WEIGHT_MAX)?;
        within("weights.autarky", self.autarky, 0.0, WEIGHT_MAX)?;
        within("weights.revenue", self.revenue, 0.0, WEIGHT_MAX)
    }
}

impl ApplianceSpec {
    fn check(&self, index: usize) -> Result<(), LimitError> {
        let field = |name: &str| format!("appliances[{index}].{name}");
        counted(field("profile_kw"), self.profile_kw.len(), 1, SLOTS_MAX)?;
        for (slot_index, power_kw) in self.profile_kw.iter().enumerate() {
            let name = format_args!("appliances[{index}].profile_kw[{slot_index}]");
            within(name, *power_kw, 0.0, POWER_KW_MAX)?;
        }
        let (start_min, end_min) = (self.window_start_min, self.window_end_min);
        within(
            field("window_start_min"),
            f64::from(start_min),
            0.0,
            1_439.0,
        )?;
        within(field("window_end_min"), f64::from(end_min), 0.0, 1_440.0)
    }

    /// Returns how many whole slots lie in the window.
    fn slots_in_window(&self, slot: SlotLength) -> usize {
        let (start_min, end_min) = (self.window_start_min, self.window_end_min);
        let overnight_min = if end_min > start_min { 0 } else { 24 * 60 };
        let first = start_min.div_ceil(slot.minutes());
        let end = end_min.saturating_add(overnight_min) / slot.minutes();
        end.saturating_sub(first) as usize
    }
}

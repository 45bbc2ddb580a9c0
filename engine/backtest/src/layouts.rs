//! The layouts of records that are read: text in, homes out.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use model::metadata::BatterySpec;
use model::problem::Grid;
use serde::Deserialize;

use crate::recorded::PricesKnown;
use crate::source::{Rows, Source, common_battery, most_kw};

const CITYLEARN: &str = "CityLearn Challenge 2022: K. Nweye and co-authors, data set doi 10.18738/T8/0YLJ6Q, MIT licence; five homes in \
    Fontana, California. Import is priced at the time-of-use tariff of the data, export earns nothing unless a tariff is \
    given.";
const EMHASS: &str = "EMHASS: David Hernandez, github.com/davidusb-geek/emhass, MIT licence; a home in France, half-hourly. The \
    battery is supposed.";
const MINUTES: &str = "Minute loads: UCI 235 (G. Hebrail and A. Berard, doi 10.24432/C58K54), REFIT (D. Murray, L. Stankovic and \
    V. Stankovic, doi 10.1038/sdata.2016.122), IDEAL (M. Pullinger and co-authors, doi 10.1038/s41597-021-00921-y), all CC BY \
    4.0. PV is not of these homes: a rooftop in the western US in 5-minute means, scaled to 5 kWp, from \
    slacgismo/solar-data-tools (SLAC and B. Meyers, BSD 2-Clause); in the months that it lacks, its nearest days in a mixed \
    order at half the power. The battery is supposed.";
const OWN: &str = "Own records.";

/// What a place in a text is wrong about.
pub type Wrong = String;

/// The header of a text tells its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `ts,load_w,pv_w,buy_price,sell_price`, UTC.
    Own,
    /// `load_kwh.csv` of a folder of CityLearn.
    CityLearn,
    /// `time_utc,load_w,pv_w,pv_forecast_w`.
    Emhass,
    /// `utc,load_w`, a row a minute.
    Minutes,
}

impl Layout {
    /// Returns the layout of a text by its first line; `None` if it is none that holds homes.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let header = text.lines().next()?.trim();
        if header.starts_with("ts,load_w,pv_w,buy_price,sell_price") {
            Some(Self::Own)
        } else if header.starts_with("step,month,hour,day_type,daylight_savings_status,") {
            Some(Self::CityLearn)
        } else if header.starts_with("time_utc,load_w,pv_w") {
            Some(Self::Emhass)
        } else if header.starts_with("utc,load_w") {
            Some(Self::Minutes)
        } else {
            None
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let numbered = text.lines().enumerate().skip(1);
    numbered.map(|(index, line)| (index + 1, line.split(',').collect()))
}

fn time_ms(text: &str, line: usize) -> Result<i64, Wrong> {
    let time: Result<Timestamp, _> = text.trim().parse();
    time.map(Timestamp::as_millisecond)
        .map_err(|error| format!("line {line}: {text:?} is no time: {error}"))
}

/// Returns a number; NaN for an empty field.
fn number(fields: &[&str], index: usize, line: usize) -> Result<f64, Wrong> {
    let text = fields.get(index).map_or("", |text| text.trim());
    if text.is_empty() {
        return Ok(f64::NAN);
    }
    text.parse()
        .map_err(|_| format!("line {line}: {text:?} is no number"))
}

/// A home in `homes.toml`.
#[derive(Debug, Clone, Deserialize)]
pub struct OwnHome {
    battery: OwnBattery,
    #[serde(default)]
    grid: OwnGrid,
    #[serde(default)]
    pv_curtailable: bool,
    /// `latitude,longitude`.
    #[serde(default)]
    location: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct OwnBattery {
    capacity_kwh: f64,
    #[serde(default)]
    min_soc_kwh: f64,
    max_soc_kwh: Option<f64>,
    charge_kw: f64,
    discharge_kw: f64,
    charge_efficiency: f64,
    discharge_efficiency: f64,
    #[serde(default)]
    wear_cost_per_kwh: f64,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct OwnGrid {
    import_limit_kw: Option<f64>,
    export_limit_kw: Option<f64>,
}

/// Reads one's own records: a home, and its table of `homes.toml`.
///
/// # Errors
/// Says what is wrong, and where.
pub fn own(name: &str, text: &str, home: &OwnHome) -> Result<Source, Wrong> {
    let mut rows = Rows::default();
    for (line, fields) in lines(text) {
        let values = [1, 2, 3, 4].map(|index| number(&fields, index, line));
        let [load_w, pv_w, buy, sell] = values;
        rows.push(time_ms(fields[0], line)?, [load_w?, pv_w?, buy?, sell?]);
    }
    let steps = rows.into_steps()?;
    let [load_w, pv_w, buy, sell] = steps.series;
    let battery = home.battery;
    Ok(Source {
        name: name.to_owned(),
        location: home.location.clone(),
        start_ms: steps.start_ms,
        step: steps.step,
        pv_capacity_kw: most_kw(&pv_w),
        load_w,
        pv_w,
        prices: Some((held(buy), held(sell))),
        prices_known: PricesKnown::DayAhead,
        battery: BatterySpec {
            capacity_kwh: battery.capacity_kwh,
            min_soc_kwh: battery.min_soc_kwh,
            max_soc_kwh: battery.max_soc_kwh.unwrap_or(battery.capacity_kwh),
            charge_kw: battery.charge_kw,
            discharge_kw: battery.discharge_kw,
            charge_efficiency: battery.charge_efficiency,
            discharge_efficiency: battery.discharge_efficiency,
            wear_cost_per_kwh: battery.wear_cost_per_kwh,
        },
        grid: Grid {
            import_limit_kw: home.grid.import_limit_kw,
            export_limit_kw: home.grid.export_limit_kw,
            ..Grid::OPEN
        },
        pv_curtailable: home.pv_curtailable,
        attribution: OWN,
    })
}

/// A price holds until the next one; what comes before the first is the first.
fn held(mut prices: Vec<f64>) -> Vec<f64> {
    let first = prices.iter().copied().find(|price| !price.is_nan());
    let mut last = first.unwrap_or(0.0);
    for price in &mut prices {
        if price.is_nan() {
            *price = last;
        }
        last = *price;
    }
    prices
}

#[derive(Debug, Deserialize)]
struct Building {
    electrical_storage: Storage,
    pv: Plant,
}

#[derive(Debug, Deserialize)]
struct Storage {
    capacity: f64,
    efficiency: f64,
    nominal_power: f64,
}

#[derive(Debug, Deserialize)]
struct Plant {
    nominal_power: f64,
}

/// The files of a folder of CityLearn.
#[derive(Debug, Clone, Copy)]
pub struct CityLearnTexts<'a> {
    /// `load_kwh.csv`.
    pub load: &'a str,
    /// `solar_w_per_kwp.csv`.
    pub solar: &'a str,
    /// `price_carbon.csv`.
    pub price: &'a str,
    /// `building_attributes.json`.
    pub buildings: &'a str,
}

/// Reads the homes of CityLearn. Rows are hours of local time from 2016-08-01 on, without a time of their own; the hour
/// that comes twice is recorded once.
///
/// # Errors
/// Says what is wrong, and where.
///
/// # Panics
/// If the bundled time zones lack California.
pub fn citylearn(texts: CityLearnTexts<'_>) -> Result<Vec<Source>, Wrong> {
    let buildings: BTreeMap<String, Building> = serde_json::from_str(texts.buildings)
        .map_err(|error| format!("building_attributes.json: {error}"))?;
    let zone = TimeZone::get("America/Los_Angeles").expect("the bundled zones have it");
    let first: DateTime = jiff::civil::date(2016, 8, 1).at(0, 0, 0, 0);
    let prices: Vec<&str> = texts.price.lines().skip(1).collect();
    let solar: Vec<Vec<&str>> = lines(texts.solar).map(|(_, fields)| fields).collect();
    let header: Vec<&str> = texts.load.lines().next().unwrap_or("").split(',').collect();
    let mut homes = Vec::new();
    for (column, name) in header
        .iter()
        .enumerate()
        .filter(|(_, name)| name.starts_with('b'))
    {
        let number_of = name.trim_start_matches(['b', '0']);
        let building = buildings
            .get(&format!("Building_{number_of}"))
            .ok_or_else(|| format!("building_attributes.json: no Building_{number_of}"))?;
        let mut rows = Rows::default();
        for (line, fields) in lines(texts.load) {
            let index = line - 2;
            let hours = i64::try_from(index).map_err(|_| "too long".to_owned())?;
            let Ok(local) = first.checked_add(hours.hours()) else {
                return Err(format!("line {line}: too long"));
            };
            let Ok(time) = zone.to_ambiguous_zoned(local).compatible() else {
                return Err(format!("line {line}: no time"));
            };
            let (Some(sun), Some(price)) = (solar.get(index), prices.get(index)) else {
                return Err(format!("line {line}: no sun or no price"));
            };
            // The columns of sun begin after the step, those of load after the step and four of time.
            let pv = number(sun, column - 4, line)? * building.pv.nominal_power;
            let price: Vec<&str> = price.split(',').collect();
            let buy = number(&price, 1, line)?;
            let load_w = 1e3 * number(&fields, column, line)?;
            let ts_ms = time.timestamp().as_millisecond();
            rows.push(ts_ms, [load_w, pv, buy]);
        }
        let steps = rows.into_steps()?;
        let [load_w, pv_w, buy] = steps.series;
        let storage = &building.electrical_storage;
        let one_way = storage.efficiency.sqrt();
        let sell = vec![0.0; buy.len()];
        homes.push(Source {
            name: (*name).to_owned(),
            location: "34.1,-117.4".to_owned(),
            start_ms: steps.start_ms,
            step: steps.step,
            load_w,
            pv_w,
            prices: Some((held(buy), sell)),
            prices_known: PricesKnown::Always,
            pv_capacity_kw: building.pv.nominal_power,
            battery: BatterySpec {
                capacity_kwh: storage.capacity,
                min_soc_kwh: 0.0,
                max_soc_kwh: storage.capacity,
                charge_kw: storage.nominal_power,
                discharge_kw: storage.nominal_power,
                charge_efficiency: one_way,
                discharge_efficiency: one_way,
                wear_cost_per_kwh: 0.0,
            },
            grid: Grid::OPEN,
            pv_curtailable: false,
            attribution: CITYLEARN,
        });
    }
    Ok(homes)
}

/// Reads the home of EMHASS. PV is not recorded at night.
///
/// # Errors
/// Says what is wrong, and where.
pub fn emhass(name: &str, text: &str) -> Result<Source, Wrong> {
    let mut rows = Rows::default();
    for (line, fields) in lines(text) {
        let (load_w, pv_w) = (number(&fields, 1, line)?, number(&fields, 2, line)?);
        let forecast_w = number(&fields, 3, line)?;
        let is_night = forecast_w.is_nan() || forecast_w <= 0.0;
        let pv_w = if pv_w.is_nan() && is_night { 0.0 } else { pv_w };
        // What is missing stays missing.
        let pv_w = if pv_w < 0.0 { 0.0 } else { pv_w };
        rows.push(time_ms(fields[0], line)?, [load_w, pv_w]);
    }
    let steps = rows.into_steps()?;
    let [load_w, pv_w] = steps.series;
    Ok(Source {
        name: name.to_owned(),
        location: "45.8,6.9".to_owned(),
        start_ms: steps.start_ms,
        step: steps.step,
        pv_capacity_kw: most_kw(&pv_w),
        load_w,
        pv_w,
        prices: None,
        prices_known: PricesKnown::Always,
        battery: common_battery(),
        grid: Grid::OPEN,
        pv_curtailable: false,
        attribution: EMHASS,
    })
}

/// Reads the load of a home by minutes, with the sun of another place.
///
/// # Errors
/// Says what is wrong, and where.
pub fn minutes(name: &str, text: &str, sun: &crate::sunshine::Sunshine) -> Result<Source, Wrong> {
    let mut rows = Rows::default();
    for (line, fields) in lines(text) {
        rows.push(time_ms(fields[0], line)?, [number(&fields, 1, line)?]);
    }
    let steps = rows.into_steps()?;
    let [load_w] = steps.series;
    let pv_w: Vec<f64> = (0..load_w.len())
        .map(|index| {
            let past_ms = i64::try_from(index).unwrap_or(i64::MAX) * steps.step.ms();
            sun.watts_at(steps.start_ms + past_ms)
        })
        .collect();
    Ok(Source {
        name: name.to_owned(),
        location: String::new(),
        start_ms: steps.start_ms,
        step: steps.step,
        load_w,
        pv_w,
        prices: None,
        prices_known: PricesKnown::Always,
        pv_capacity_kw: crate::sunshine::PEAK_KW,
        battery: common_battery(),
        grid: Grid::OPEN,
        pv_curtailable: false,
        attribution: MINUTES,
    })
}

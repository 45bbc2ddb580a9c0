//! The tariff that a backtest bills by.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A tariff, as it is chosen: `own`, `flat:BUY/SELL`, or `spot:FILE:MARKUP/SELL`.
#[derive(Debug, Clone, PartialEq)]
pub enum TariffChoice {
    /// The prices recorded with the home.
    Own,
    /// The same prices at all times, currency per kWh.
    Flat {
        /// Import.
        buy: f64,
        /// Export.
        sell: f64,
    },
    /// Day-ahead prices of a file, and a mark-up.
    Spot {
        /// SMARD's day-ahead prices.
        file: PathBuf,
        /// What import costs more than the market's price, per kWh.
        markup: f64,
        /// Price of export, per kWh.
        sell: f64,
    },
}

impl FromStr for TariffChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?}: expected own, flat:BUY/SELL or spot:FILE:MARKUP/SELL, prices per kWh"
            )
        };
        let pair = |text: &str| -> Option<(f64, f64)> {
            let (one, other) = text.split_once('/')?;
            Some((one.parse().ok()?, other.parse().ok()?))
        };
        if text == "own" {
            return Ok(Self::Own);
        }
        if let Some(prices) = text.strip_prefix("flat:") {
            let (buy, sell) = pair(prices).ok_or_else(expected)?;
            return Ok(Self::Flat { buy, sell });
        }
        let rest = text.strip_prefix("spot:").ok_or_else(expected)?;
        let (file, prices) = rest.rsplit_once(':').ok_or_else(expected)?;
        let (markup, sell) = pair(prices).ok_or_else(expected)?;
        let file = PathBuf::from(file);
        Ok(Self::Spot { file, markup, sell })
    }
}

/// A year's prices of a day-ahead market by UTC hour. Another year has those of its own date and hour.
#[derive(Debug, Clone)]
pub struct MarketPrices {
    /// By month, day and hour, currency per kWh.
    per_kwh: BTreeMap<(i8, i8, i8), f64>,
}

impl MarketPrices {
    /// Reads SMARD's day-ahead prices: `date,start,Deutschland/Luxemburg,…` in EUR/MWh by German local time.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    ///
    /// # Panics
    /// If the bundled time zones lack Germany.
    pub fn parse(text: &str) -> Result<Self, String> {
        let zone = TimeZone::get("Europe/Berlin").expect("the bundled zones have it");
        let mut per_kwh = BTreeMap::new();
        for (index, line) in text.lines().enumerate().skip(1) {
            let wrong = || format!("line {}: {line:?}", index + 1);
            let mut fields = line.split(',');
            let (Some(date), Some(start), Some(price)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(wrong());
            };
            let Ok(price) = price.parse::<f64>() else {
                continue;
            };
            let local = DateTime::strptime("%d.%m.%Y %H:%M", format!("{date} {start}"))
                .map_err(|_| wrong())?;
            let zoned = zone.to_ambiguous_zoned(local);
            let time = zoned.compatible().map_err(|_| wrong())?.timestamp();
            // The hour that comes twice is read as the first, and the other has its price.
            per_kwh.insert(key(time), price / 1e3);
        }
        if per_kwh.is_empty() {
            return Err("there are no prices".to_owned());
        }
        Ok(Self { per_kwh })
    }

    /// Returns the price at a moment, currency per kWh; an hour without one has that of the hour before.
    #[must_use]
    pub fn per_kwh(&self, ts_ms: i64) -> f64 {
        let Ok(time) = Timestamp::from_millisecond(ts_ms) else {
            return 0.0;
        };
        let before = self.per_kwh.range(..=key(time)).next_back();
        let found = before.or_else(|| self.per_kwh.iter().next());
        found.map_or(0.0, |(_, price)| *price)
    }
}

fn key(time: Timestamp) -> (i8, i8, i8) {
    let utc = time.to_zoned(TimeZone::UTC);
    (utc.month(), utc.day(), utc.hour())
}

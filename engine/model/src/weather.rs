//! A weather forecast, the value of the `weather-forecast` topic.

use serde::{Deserialize, Serialize};

/// One issue of a forecast for one location. Times are UTC epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeatherForecast {
    /// Key of the location, as in a household's metadata.
    pub location: String,
    /// When the provider issued it.
    pub issued_ms: i64,
    /// The forecast: ascending, at most `PERIODS_MAX` periods.
    pub periods: Vec<WeatherPeriod>,
}

/// Mean weather in `[start_ms, end_ms)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeatherPeriod {
    /// First moment.
    pub start_ms: i64,
    /// First moment after the period: after `start_ms`.
    pub end_ms: i64,
    /// Global horizontal irradiance, W/m²: 0 or more.
    pub ghi_w_per_m2: f64,
    /// Air temperature, degrees Celsius.
    pub temperature_c: f64,
}

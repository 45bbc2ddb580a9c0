//! A weather forecast, the value of the `weather-forecast` topic.

use serde::{Deserialize, Serialize};

/// One issue of a forecast for one location. Periods ascend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeatherForecast {
    /// Key of the location, as in a household's metadata.
    pub location: String,
    /// When the provider issued it.
    pub issued_ms: i64,
    pub periods: Vec<WeatherPeriod>,
}

/// Mean weather in `[start_ms, end_ms)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeatherPeriod {
    pub start_ms: i64,
    pub end_ms: i64,
    /// Global horizontal irradiance, 0 or more.
    pub ghi_w_per_m2: f64,
    pub temperature_c: f64,
}

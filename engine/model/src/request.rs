//! A request to the worker pool.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rung::Rungs;
use crate::units::HouseholdId;

/// A problem for the worker pool, the value of the `optimize-requests` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizeRequest {
    /// `{household}-{requested_ms}-{counter}`. A home that asks again at another time, for instance after a crash, gets
    /// a new id. The household's id comes before the first dash.
    pub request_id: String,
    /// The household that asks.
    pub household_id: HouseholdId,
    /// Event time of the request, UTC epoch milliseconds.
    pub requested_ms: i64,
    /// Whether commands follow from the answer.
    pub adopt: bool,
    /// The problem to solve.
    pub problem: Problem,
    /// What the forecasts in it rest on; `None` where they are not the engine's own.
    #[serde(default)]
    pub forecast: Option<Rungs>,
}

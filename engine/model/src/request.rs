//! What a home asks the worker pool.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::units::HouseholdId;

/// A problem for the worker pool, the value of the `optimize-requests` topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizeRequest {
    /// `{household}-{requested_ms}-{counter}`: a home that asks again at another time, for instance after a crash, asks
    /// another question. The household's id stands before the first dash.
    pub request_id: String,
    pub household_id: HouseholdId,
    /// Event time of the question.
    pub requested_ms: i64,
    /// Whether commands follow from the answer.
    pub adopt: bool,
    pub problem: Problem,
}

//! Requests that a later one of the same home has made pointless: after an outage every home has asked several times,
//! and only its newest question is about the present.

use std::collections::BTreeMap;

use model::request::OptimizeRequest;
use platform::log::Record;
use platform::role_context::RoleContext;

use crate::outgoing::{Outgoing, outgoing};
use crate::unsolved::unsolved;

/// Of `records` those to solve, and by offset the answers to those that are superseded. A request whose plan would not be
/// adopted is a question of its own, and is always solved; so is what does not decode, which is somebody else's to refuse.
pub(crate) fn superseded(
    context: &RoleContext,
    records: Vec<Record>,
) -> (Vec<Record>, Vec<(i64, Option<Outgoing>)>) {
    let mut of_key: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        if let Some(key) = record.key.as_deref() {
            of_key.entry(key).or_default().push(index);
        }
    }
    let mut answers: BTreeMap<usize, Option<Outgoing>> = BTreeMap::new();
    for indices in of_key.values().filter(|indices| indices.len() > 1) {
        let decoded = indices.iter().filter_map(|index| {
            let request = context.codec.decode(&records[*index].value).ok();
            let request = request.filter(|request: &OptimizeRequest| request.adopt)?;
            Some((*index, request))
        });
        let mut adoptable: Vec<(usize, OptimizeRequest)> = decoded.collect();
        adoptable.sort_by_key(|(_, request)| request.requested_ms);
        // The newest is solved.
        adoptable.pop();
        for (index, request) in adoptable {
            let schedules = &context.metrics.schedules_total;
            schedules.with_label_values(&["superseded", "none"]).inc();
            let household_id = request.household_id;
            let answer = unsolved(request, "superseded by a newer request of this home");
            let mut answer = outgoing(context, household_id, &answer);
            if let Some(answer) = &mut answer {
                answer.span = context.tracer.publish(records[index].trace, answer.topic);
            }
            answers.insert(index, answer);
        }
    }
    let (mut newest, mut superseded) = (Vec::with_capacity(records.len()), Vec::new());
    for (index, record) in records.into_iter().enumerate() {
        match answers.remove(&index) {
            Some(answer) => superseded.push((record.offset, answer)),
            None => newest.push(record),
        }
    }
    (newest, superseded)
}

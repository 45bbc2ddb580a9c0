//! The last run of each appliance. A run that has begun continues, and a finished one is not planned again in the same
//! window.

use std::collections::BTreeMap;

use model::command::{CommandProgress, CommandState};
use model::metadata::{ApplianceSpec, Metadata};

/// Start of the last run of each appliance, UTC epoch milliseconds, by the appliance's id.
pub type Runs = BTreeMap<String, i64>;

/// Returns when each appliance last began a run up to `now_ms`. A time without a command ends a run.
#[must_use]
pub fn runs(commands: &[CommandProgress], now_ms: i64) -> Runs {
    let applied = commands
        .iter()
        .filter(|progress| progress.state == CommandState::Applied);
    let mut applied: Vec<_> = applied.map(|progress| &progress.command).collect();
    applied.sort_by_key(|command| (command.issued_ms, command.from_ms()));
    let mut spans: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (index, command) in applied.iter().enumerate() {
        let later = applied[index + 1..].iter().map(|later| later.from_ms());
        let until_ms = later
            .min()
            .unwrap_or(i64::MAX)
            .min(now_ms.saturating_add(1));
        for (entry, end_ms) in command
            .spans()
            .filter(|(entry, _)| entry.from_ms < until_ms)
        {
            for (id, _) in entry.appliances.iter().filter(|(_, runs)| **runs) {
                let span = spans.entry(id).or_insert((entry.from_ms, end_ms));
                if entry.from_ms > span.1 {
                    span.0 = entry.from_ms;
                }
                span.1 = end_ms;
            }
        }
    }
    spans
        .into_iter()
        .map(|(id, (began_ms, _))| (id.to_owned(), began_ms))
        .collect()
}

/// Notes that a run begins with the slot at `start_ms`, unless a known run lasts as long or longer.
pub(crate) fn note_run(runs: &mut Runs, spec: &ApplianceSpec, start_ms: i64, slot_ms: i64) {
    let known = runs.get(&spec.id);
    if known.is_none_or(|began_ms| *began_ms + length_ms(spec, slot_ms) <= start_ms) {
        runs.insert(spec.id.clone(), start_ms);
    }
}

/// Returns whether the slot at `start_ms` lies in the appliance's last run.
pub(crate) fn is_under_way(runs: &Runs, spec: &ApplianceSpec, start_ms: i64, slot_ms: i64) -> bool {
    runs.get(&spec.id).is_some_and(|began_ms| {
        (*began_ms..began_ms + length_ms(spec, slot_ms)).contains(&start_ms)
    })
}

/// Returns the power by its profiles of the runs under way in the slot at `start_ms`, W.
pub(crate) fn power_w(runs: &Runs, metadata: &Metadata, start_ms: i64, slot_ms: i64) -> f64 {
    let powers_kw = metadata.appliances.iter().filter_map(|spec| {
        let past_ms = start_ms - runs.get(&spec.id)?;
        let index = usize::try_from(past_ms.div_euclid(slot_ms)).ok()?;
        spec.profile_kw.get(index)
    });
    1e3 * powers_kw.sum::<f64>()
}

fn length_ms(spec: &ApplianceSpec, slot_ms: i64) -> i64 {
    let slots_count = i64::try_from(spec.profile_kw.len()).expect("a profile fits a horizon");
    slots_count * slot_ms
}

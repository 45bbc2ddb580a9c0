//! The last run of each appliance. A run that has begun continues, and a finished one is not planned again in the same
//! window.

use std::collections::BTreeMap;

use model::command::{Command, CommandProgress, CommandState};
use model::metadata::{ApplianceSpec, Metadata};

/// Start of the last run of each appliance, UTC epoch milliseconds, by the appliance's id.
pub type Runs = BTreeMap<String, i64>;

/// Returns when each appliance last began a run, from commands in order of time. A slot without a command ends a run.
#[must_use]
pub fn runs(commands: &[CommandProgress]) -> Runs {
    let mut spans: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let applied = commands
        .iter()
        .filter(|progress| progress.state == CommandState::Applied);
    for CommandProgress { command, .. } in applied {
        for (id, _) in command.appliances.iter().filter(|(_, runs)| **runs) {
            let (begins_ms, ends_ms) = (command.not_before_ms, command.expires_ms);
            let span = spans.entry(id).or_insert((begins_ms, ends_ms));
            if begins_ms > span.1 {
                span.0 = begins_ms;
            }
            span.1 = ends_ms;
        }
    }
    spans
        .into_iter()
        .map(|(id, (began_ms, _))| (id.to_owned(), began_ms))
        .collect()
}

/// Notes the runs that begin with this command. A later slot of a known run does not begin another.
pub(crate) fn note_runs(runs: &mut Runs, command: &Command, metadata: &Metadata) {
    for spec in &metadata.appliances {
        let on = command.appliances.get(&spec.id) == Some(&true);
        if on && !is_under_way(runs, spec, command) {
            runs.insert(spec.id.clone(), command.not_before_ms);
        }
    }
}

/// Returns whether the command's slot lies in the appliance's last run.
pub(crate) fn is_under_way(runs: &Runs, spec: &ApplianceSpec, command: &Command) -> bool {
    let slot_ms = command.expires_ms - command.not_before_ms;
    let length = i64::try_from(spec.profile_kw.len()).expect("a profile fits a horizon");
    runs.get(&spec.id).is_some_and(|began_ms| {
        (*began_ms..began_ms + length * slot_ms).contains(&command.not_before_ms)
    })
}

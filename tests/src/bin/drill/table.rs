//! What was raised, by what, and how long it took.

use std::collections::BTreeSet;
use std::time::Duration;

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    has_failed: bool,
}

#[derive(Debug)]
struct Row {
    alert: String,
    severity: String,
    fault: String,
    /// From the fault to the alert, and from its end to the alert's.
    fired_after: Option<Duration>,
    ended_after: Option<Duration>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One alert that was waited for.
    pub(crate) fn note(
        &mut self,
        (alert, severity): (&str, &str),
        fault: &str,
        fired_after: Option<Duration>,
        ended_after: Option<Duration>,
    ) {
        let in_s = |time: Option<Duration>| {
            time.map_or_else(
                || "never".to_owned(),
                |time| format!("{:.0} s", time.as_secs_f64()),
            )
        };
        self.say(&format!(
            "{alert} ({severity}): fired after {}, ended after {}",
            in_s(fired_after),
            in_s(ended_after)
        ));
        self.rows.push(Row {
            alert: alert.to_owned(),
            severity: severity.to_owned(),
            fault: fault.to_owned(),
            fired_after,
            ended_after,
        });
    }

    /// A fault could not be brought about or mended.
    pub(crate) fn fail(&mut self, reason: &str) {
        self.say(reason);
        self.has_failed = true;
    }

    /// Names of the alerts that were raised.
    pub(crate) fn raised(&self) -> BTreeSet<String> {
        let rows = self.rows.iter().filter(|row| row.fired_after.is_some());
        rows.map(|row| row.alert.clone()).collect()
    }

    /// Whether each alert waited for came and went.
    pub(crate) fn is_good(&self) -> bool {
        let is_done = |row: &Row| row.fired_after.is_some() && row.ended_after.is_some();
        !self.has_failed && self.rows.iter().all(is_done)
    }

    #[expect(
        clippy::print_stderr,
        reason = "progress of a program that takes minutes"
    )]
    pub(crate) fn say(&self, line: &str) {
        eprintln!("{line}");
    }

    /// Prints the table, and the alerts that no fault raised.
    #[expect(clippy::print_stdout, reason = "the table is what this program is for")]
    pub(crate) fn print(&self, took: Duration, never: &[String]) {
        println!("| alert | severity | fault | fires after | ends after |");
        println!("|---|---|---|---|---|");
        let in_s = |time: Option<Duration>| {
            time.map_or_else(
                || "never".to_owned(),
                |time| format!("{:.0} s", time.as_secs_f64()),
            )
        };
        for row in &self.rows {
            println!(
                "| {} | {} | {} | {} | {} |",
                row.alert,
                row.severity,
                row.fault,
                in_s(row.fired_after),
                in_s(row.ended_after)
            );
        }
        println!(
            "\nNot raised: {}. The drill took {:.0} s.",
            never.join(", "),
            took.as_secs_f64()
        );
    }
}

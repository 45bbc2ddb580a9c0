//! The deliveries of commands whose traces are recorded: from the first attempt to the device's answer.

use std::collections::HashMap;

use model::command::{Ack, Command};
use model::units::HouseholdId;
use platform::trace::{Span, SpanKind, TraceContext, Tracer};

use super::pending::Outcome;

/// Most deliveries that are followed.
const DELIVERIES_MAX: usize = 10_000;
const OUTCOME: &str = "hearth.outcome";

/// One for each home, as it has one command.
#[derive(Debug)]
pub(super) struct Deliveries {
    tracer: Tracer,
    under_way: HashMap<HouseholdId, Delivery>,
    /// No delivery expires before.
    expiry_ms: i64,
}

#[derive(Debug)]
struct Delivery {
    command_id: String,
    issued_ms: i64,
    expires_ms: i64,
    /// The span that produced the command's record.
    cause: TraceContext,
    /// Empty until the command is sent.
    span: Span,
}

impl Deliveries {
    pub(super) fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            under_way: HashMap::new(),
            expiry_ms: i64::MAX,
        }
    }

    /// Takes a command in, whose record carries `trace`.
    pub(super) fn begin(&mut self, command: &Command, trace: Option<TraceContext>) {
        if !self.tracer.is_on() {
            return;
        }
        // A command that is read again is under way already, and one issued before is not sent.
        let is_known = |held: &Delivery| {
            held.command_id == command.command_id || held.issued_ms > command.issued_ms
        };
        if self
            .under_way
            .get(&command.household_id)
            .is_some_and(is_known)
        {
            return;
        }
        if let Some(held) = self.under_way.remove(&command.household_id) {
            held.end(Outcome::Superseded);
        }
        let Some(cause) = trace.filter(|_| self.under_way.len() < DELIVERIES_MAX) else {
            return;
        };
        let delivery = Delivery {
            command_id: command.command_id.clone(),
            issued_ms: command.issued_ms,
            expires_ms: command.expires_ms,
            cause,
            span: Span::none(),
        };
        self.expiry_ms = self.expiry_ms.min(command.expires_ms);
        self.under_way.insert(command.household_id, delivery);
    }

    /// Returns what goes along with the command, which is about to be sent. With the first attempt its span begins.
    pub(super) fn sending(&mut self, command: &Command) -> Option<TraceContext> {
        let held = self.under_way.get_mut(&command.household_id)?;
        if held.command_id != command.command_id {
            return None;
        }
        if !held.span.is_recorded() {
            let (cause, kind) = (Some(held.cause), SpanKind::Producer);
            held.span = self.tracer.child(cause, "deliver command", kind);
            held.span
                .set("hearth.household_id", command.household_id.get());
            held.span
                .set("hearth.command_id", command.command_id.clone());
        }
        held.span.context()
    }

    /// Notes that the command was handed to MQTT.
    pub(super) fn sent(&mut self, command: &Command, outcome: Outcome) {
        if let Some(held) = self.under_way.get_mut(&command.household_id)
            && held.command_id == command.command_id
        {
            held.span.event(outcome.as_str(), Vec::new());
        }
    }

    /// Takes an answer in, whose record carries `trace`. An answer to an earlier process has no outcome.
    pub(super) fn answered(
        &mut self,
        ack: &Ack,
        outcome: Option<Outcome>,
        trace: Option<TraceContext>,
    ) {
        let held = self.under_way.get(&ack.household_id);
        if held.is_none_or(|held| held.command_id != ack.command_id) {
            return;
        }
        if let Some(mut held) = self.under_way.remove(&ack.household_id)
            && let Some(outcome) = outcome
        {
            held.span.event("answered", Vec::new());
            held.span.link(trace);
            held.end(outcome);
        }
    }

    /// Ends those whose commands have expired by `now_ms`.
    pub(super) fn expire(&mut self, now_ms: i64) {
        if now_ms < self.expiry_ms {
            return;
        }
        let is_over = |_: &HouseholdId, held: &mut Delivery| held.expires_ms <= now_ms;
        for (_, held) in self.under_way.extract_if(is_over) {
            held.end(Outcome::Expired);
        }
        let left = self.under_way.values().map(|held| held.expires_ms);
        self.expiry_ms = left.min().unwrap_or(i64::MAX);
    }

    /// Forgets all: somebody else goes on.
    pub(super) fn clear(&mut self) {
        self.under_way.clear();
    }
}

impl Delivery {
    fn end(mut self, outcome: Outcome) {
        self.span.set(OUTCOME, outcome.as_str());
    }
}

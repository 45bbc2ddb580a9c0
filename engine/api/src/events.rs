//! `GET /api/events`: what happens in the fleet, as server-sent events. Nothing is kept for a client that is away or
//! slow: it is told so, and reads the rest of the API for what it has missed.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, ContentEncoding};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures::Stream;
use model::alert::Alert;
use model::command::Command;
use model::schedule::Schedule;
use model::slot::HouseholdSlot;
use model::units::HouseholdId;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::body::{AlertBody, PlanBody, SlotBody};
use crate::problem::Refused;
use crate::request::{Query, parse_id};
use schemas::time::rfc3339;

/// Most clients at once.
const CLIENTS_MAX: usize = 200;
/// Pause after which a comment shows that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a client may ask for in `types`.
const TYPES: [&str; 4] = ["slot", "schedule", "command", "alert"];

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    Happened {
        /// One of [`TYPES`].
        kind: &'static str,
        household_id: HouseholdId,
        /// The event as it goes over the wire.
        text: Bytes,
    },
    /// The server ends.
    End,
}

impl Event {
    fn happened(kind: &'static str, household_id: HouseholdId, id: &str, body: &Value) -> Self {
        let text = format!("id: {id}\nevent: {kind}\ndata: {body}\n\n");
        Self::Happened {
            kind,
            household_id,
            text: Bytes::from(text),
        }
    }

    pub(crate) fn slot(id: &str, slot: &HouseholdSlot) -> Self {
        let body = json!({
            "household_id": slot.household_id,
            "slot": SlotBody::of(&slot.slot, None, false),
        });
        Self::happened("slot", slot.household_id, id, &body)
    }

    /// The plan's figures; its slots are at `/api/schedule/{id}`.
    pub(crate) fn schedule(id: &str, schedule: &Schedule) -> Self {
        let plan = &schedule.plan;
        let (status, reason) = PlanBody::status_of(plan);
        let body = json!({
            "household_id": schedule.household_id,
            "id": schedule.schedule_id,
            "requested": rfc3339(schedule.requested_ms),
            "start": rfc3339(schedule.start_ms),
            "adopted": schedule.adopt,
            "status": status,
            "reason": reason,
            "cost": plan.metrics.cost,
            "baseline_cost": plan.baseline.cost,
        });
        Self::happened("schedule", schedule.household_id, id, &body)
    }

    pub(crate) fn command(id: &str, command: &Command) -> Self {
        let text = schemas::mqtt::command_json(command);
        let body: Value = serde_json::from_str(&text).expect("our own JSON reads");
        Self::happened("command", command.household_id, id, &body)
    }

    pub(crate) fn alert(id: &str, alert: &Alert) -> Self {
        let body = json!({
            "household_id": alert.household_id,
            "alert": AlertBody::from(alert),
        });
        Self::happened("alert", alert.household_id, id, &body)
    }
}

/// A place among the clients, given back when it goes.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients_count: &Arc<AtomicUsize>) -> Result<Self, Refused> {
        let place = Self(Arc::clone(clients_count));
        if clients_count.fetch_add(1, Ordering::AcqRel) >= CLIENTS_MAX {
            return Err(Refused::unavailable(format!(
                "{CLIENTS_MAX} clients listen already"
            )));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One client's stream.
struct Client {
    events: Receiver<Arc<Event>>,
    kinds: BTreeSet<&'static str>,
    household_id: Option<HouseholdId>,
    /// What is said first.
    greeting: Option<Bytes>,
    has_ended: bool,
    _place: Place,
}

impl Client {
    /// What goes over the wire next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        while !self.has_ended {
            let received = tokio::time::timeout(HEARTBEAT, self.events.recv()).await;
            match received {
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
                Ok(Ok(event)) => match event.as_ref() {
                    Event::Happened {
                        kind,
                        household_id,
                        text,
                    } => {
                        let is_wanted = self.kinds.contains(kind)
                            && self.household_id.is_none_or(|id| id == *household_id);
                        if is_wanted {
                            return Some(text.clone());
                        }
                    }
                    Event::End => return Some(self.end("the server stops")),
                },
                Ok(Err(RecvError::Lagged(count))) => {
                    let reason = format!("too slow: {count} events would be missing from here on");
                    return Some(self.end(&reason));
                }
                Ok(Err(RecvError::Closed)) => return Some(self.end("the server stops")),
            }
        }
        None
    }

    fn end(&mut self, reason: &str) -> Bytes {
        self.has_ended = true;
        said("end", reason)
    }
}

/// An event about the stream itself.
fn said(kind: &str, reason: &str) -> Bytes {
    let body = json!({"reason": reason});
    Bytes::from(format!("event: {kind}\ndata: {body}\n\n"))
}

/// Answers with the stream of `events`, from now on, that the query asks for.
pub(crate) fn answer(
    events: Receiver<Arc<Event>>,
    clients_count: &Arc<AtomicUsize>,
    request: &HttpRequest,
    query: &Query,
) -> Result<HttpResponse, Refused> {
    let mut kinds = BTreeSet::new();
    match query.text("types")? {
        None => kinds.extend(TYPES),
        Some(text) => {
            for name in text.split(',') {
                let known = TYPES.into_iter().find(|known| *known == name);
                let expected = "some of slot,schedule,command,alert";
                let known = known.ok_or_else(|| Refused::bad_parameter("types", expected, name))?;
                kinds.insert(known);
            }
        }
    }
    let household_id = query.text("household_id")?.map(parse_id).transpose()?;
    let place = Place::take(clients_count)?;
    let last_seen = request.headers().get("last-event-id");
    let greeting = match last_seen {
        None => Bytes::from_static(b"retry: 5000\n\n"),
        Some(_) => said(
            "gap",
            "events since Last-Event-ID are not kept: read the API for them",
        ),
    };
    let client = Client {
        events,
        kinds,
        household_id,
        greeting: Some(greeting),
        has_ended: false,
        _place: place,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        // A compressed stream would come in blocks.
        .insert_header(ContentEncoding::Identity)
        .streaming(stream(client)))
}

fn stream(client: Client) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::unfold(client, |mut client| async move {
        let text = client.next().await?;
        Some((Ok(text), client))
    })
}

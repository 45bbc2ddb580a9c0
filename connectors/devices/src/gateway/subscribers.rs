//! Who is connected, who listens to which home, and each home's last status message. Hands messages to connections'
//! queues, which are bounded; a message that does not fit, or whose device is away, is not delivered, and its publisher
//! learns so. A session that outlives its connection keeps subscriptions and the packet ids it has recorded, never messages.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::units::HouseholdId;
use tokio::sync::{mpsc, oneshot};

use super::access::{Downward, Filter, Identity};

/// Messages that wait for one connection.
const QUEUE_MAX: usize = 256;
/// Subscriptions of one connection.
const FILTERS_MAX: usize = 1_024;

/// A message to a device.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) household_id: HouseholdId,
    pub(super) downward: Downward,
    pub(super) payload: Bytes,
    /// With QoS 1 rather than 0.
    pub(super) acknowledged: bool,
    /// Kept from before the subscription.
    pub(super) retained: bool,
}

/// A connected client's place; leaving is `Subscribers::leave`.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    client: Client,
    queue: mpsc::Sender<Message>,
}

/// Under which a client is known: nobody can take over another identity's session.
type Client = (Identity, String);

/// What a client asks for when it connects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) identity: Identity,
    /// Empty where it leaves the choice to the server.
    pub(super) client_id: &'a str,
    /// Forget what was before.
    pub(super) clean: bool,
    /// How long its subscriptions outlive its connection.
    pub(super) session: Duration,
}

/// What comes to a connection from others.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) messages: mpsc::Receiver<Message>,
    /// Resolves when a client with the same id has taken over.
    pub(super) taken_over: oneshot::Receiver<()>,
}

#[derive(Debug)]
pub(super) struct Subscribers {
    state: Mutex<State>,
    retained_max: usize,
    /// Most sessions without a connection.
    idle_max: usize,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    sessions: HashMap<Client, Session>,
    /// Sessions whose client is not connected.
    idle_count: usize,
    by_home: HashMap<HouseholdId, Vec<Listener>>,
    of_all: Vec<Listener>,
    retained: HashMap<HouseholdId, Bytes>,
}

/// A client's subscriptions, with the QoS granted, and what it has not released.
#[derive(Debug)]
struct Session {
    /// Of the connection that has it, or had it last.
    id: u64,
    filters: HashMap<Filter, bool>,
    /// Packet ids of publishes with QoS 2 between PUBREC and PUBREL.
    recorded: HashSet<u16>,
    outlives: Duration,
    presence: Presence,
}

#[derive(Debug)]
enum Presence {
    Connected(oneshot::Sender<()>),
    Idle { until: Instant },
}

/// One connection under one filter.
#[derive(Debug)]
struct Listener {
    id: u64,
    filter: Filter,
    acknowledged: bool,
    queue: mpsc::Sender<Message>,
}

impl State {
    /// The session of a place, unless it was taken over.
    fn session(&mut self, place: &Place) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&place.client)?;
        (session.id == place.id).then_some(session)
    }

    fn listeners(&mut self, filter: &Filter) -> &mut Vec<Listener> {
        match filter.household_id {
            Some(household_id) => self.by_home.entry(household_id).or_default(),
            None => &mut self.of_all,
        }
    }

    fn remove(&mut self, id: u64, filter: &Filter) {
        let listeners = self.listeners(filter);
        listeners.retain(|listener| listener.id != id || listener.filter != *filter);
        if let Some(household_id) = filter.household_id.filter(|_| listeners.is_empty()) {
            self.by_home.remove(&household_id);
        }
    }
}

impl Subscribers {
    pub(super) fn new(retained_max: usize, idle_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            retained_max,
            idle_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Takes a place for a client. Where it finds its session, what that has recorded comes along. Whoever held it
    /// before is told.
    pub(super) fn enter(&self, entry: &Entry<'_>) -> (Place, Inbox, Option<HashSet<u16>>) {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (take_over, taken_over) = oneshot::channel();
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let client_id = match entry.client_id {
            "" => format!("hearth-assigned-{id}"),
            given => given.to_owned(),
        };
        let client = (entry.identity, client_id);
        let mut filters = HashMap::new();
        let mut recorded = None;
        if let Some(former) = state.sessions.remove(&client) {
            for filter in former.filters.keys() {
                state.remove(former.id, filter);
            }
            let has_expired = match former.presence {
                Presence::Connected(take_over) => {
                    // It may just be leaving.
                    let _ = take_over.send(());
                    false
                }
                Presence::Idle { until } => {
                    state.idle_count -= 1;
                    until < Instant::now()
                }
            };
            if !entry.clean && !has_expired && !former.outlives.is_zero() {
                recorded = Some(former.recorded);
                filters = former.filters;
            }
        }
        for (filter, acknowledged) in &filters {
            state.listeners(filter).push(Listener {
                id,
                filter: *filter,
                acknowledged: *acknowledged,
                queue: queue.clone(),
            });
        }
        let session = Session {
            id,
            filters,
            recorded: recorded.clone().unwrap_or_default(),
            outlives: entry.session,
            presence: Presence::Connected(take_over),
        };
        state.sessions.insert(client.clone(), session);
        let place = Place { id, client, queue };
        let inbox = Inbox {
            messages,
            taken_over,
        };
        (place, inbox, recorded)
    }

    /// Gives a place up; the session stays for a while, where the client asked for that and there is room.
    pub(super) fn leave(&self, place: &Place) {
        let mut state = self.state();
        let Some(mut session) = state.sessions.remove(&place.client) else {
            return;
        };
        if session.id != place.id {
            // Another connection has taken the session over.
            state.sessions.insert(place.client.clone(), session);
            return;
        }
        for filter in session.filters.keys() {
            state.remove(place.id, filter);
        }
        if session.outlives.is_zero() {
            return;
        }
        let now = Instant::now();
        if state.idle_count >= self.idle_max {
            state.sessions.retain(|_, kept| match kept.presence {
                Presence::Connected(_) => true,
                Presence::Idle { until } => until >= now,
            });
            let is_idle = |kept: &&Session| matches!(kept.presence, Presence::Idle { .. });
            state.idle_count = state.sessions.values().filter(is_idle).count();
        }
        if state.idle_count < self.idle_max {
            session.presence = Presence::Idle {
                until: now + session.outlives,
            };
            state.idle_count += 1;
            state.sessions.insert(place.client.clone(), session);
        }
    }

    /// A publish with QoS 2 is durable; a later connection of the session must not take it again.
    pub(super) fn record(&self, place: &Place, packet_id: u16) {
        if let Some(session) = self.state().session(place)
            && !session.outlives.is_zero()
        {
            session.recorded.insert(packet_id);
        }
    }

    /// The client knows that it is durable, and may use the packet id again.
    pub(super) fn release(&self, place: &Place, packet_id: u16) {
        if let Some(session) = self.state().session(place) {
            session.recorded.remove(&packet_id);
        }
    }

    /// Adds or replaces a subscription; false where the connection has too many. Status messages that are kept follow.
    pub(super) fn subscribe(&self, place: &Place, filter: Filter, acknowledged: bool) -> bool {
        let mut state = self.state();
        let Some(session) = state.session(place) else {
            return false;
        };
        if session.filters.len() >= FILTERS_MAX && !session.filters.contains_key(&filter) {
            return false;
        }
        session.filters.insert(filter, acknowledged);
        state.remove(place.id, &filter);
        state.listeners(&filter).push(Listener {
            id: place.id,
            filter,
            acknowledged,
            queue: place.queue.clone(),
        });
        if filter.status {
            let one = filter
                .household_id
                .and_then(|id| state.retained.get_key_value(&id));
            let all = state
                .retained
                .iter()
                .filter(|_| filter.household_id.is_none());
            for (household_id, payload) in one.into_iter().chain(all) {
                let message = Message {
                    household_id: *household_id,
                    downward: Downward::Status,
                    payload: payload.clone(),
                    acknowledged,
                    retained: true,
                };
                // A listener to more homes than its queue holds gets as many as fit.
                if place.queue.try_send(message).is_err() {
                    break;
                }
            }
        }
        true
    }

    /// Ends a subscription; false where there was none.
    pub(super) fn unsubscribe(&self, place: &Place, filter: &Filter) -> bool {
        let mut state = self.state();
        let session = state.session(place);
        let had = session.is_some_and(|session| session.filters.remove(filter).is_some());
        state.remove(place.id, filter);
        had
    }

    /// Hands a message to everybody who listens, once each. Returns how many got it.
    pub(super) fn pass(&self, message: &Message) -> usize {
        let state = self.state();
        let of_home = state
            .by_home
            .get(&message.household_id)
            .into_iter()
            .flatten();
        let mut reached: Vec<(u64, bool)> = Vec::new();
        for listener in of_home.chain(&state.of_all) {
            let seen = reached.iter().any(|(id, _)| *id == listener.id);
            if seen || !listener.filter.passes(message.downward) {
                continue;
            }
            let message = Message {
                acknowledged: message.acknowledged && listener.acknowledged,
                ..message.clone()
            };
            reached.push((listener.id, listener.queue.try_send(message).is_ok()));
        }
        reached.iter().filter(|(_, delivered)| *delivered).count()
    }

    /// Keeps a home's status for those who subscribe later; an empty one is forgotten.
    pub(super) fn retain(&self, household_id: HouseholdId, payload: Bytes) {
        let mut state = self.state();
        if payload.is_empty() {
            state.retained.remove(&household_id);
        } else if state.retained.len() < self.retained_max
            || state.retained.contains_key(&household_id)
        {
            state.retained.insert(household_id, payload);
        }
    }
}

impl Place {
    /// Under which the client is known.
    pub(super) fn client_id(&self) -> &str {
        &self.client.1
    }
}

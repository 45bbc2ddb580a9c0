//! Tracks connected clients, their subscriptions, and each home's last status message. Puts messages into the bounded
//! queues of connections. If a queue is full or the device is away, the message is not delivered, and its publisher is
//! told. A session that outlives its connection keeps subscriptions and recorded packet ids, but no messages.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::units::HouseholdId;
use platform::trace::TraceContext;
use tokio::sync::{mpsc, oneshot};

use super::access::{Downward, Filter, Identity};

/// Most messages in the queue of one connection.
const QUEUE_MAX: usize = 256;
/// Most subscriptions of one connection.
const FILTERS_MAX: usize = 1_024;

/// A message to a device.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) household_id: HouseholdId,
    pub(super) downward: Downward,
    pub(super) payload: Bytes,
    /// QoS 1 rather than 0.
    pub(super) acknowledged: bool,
    /// Retained from before the subscription.
    pub(super) retained: bool,
    /// The span that sent it.
    pub(super) trace: Option<TraceContext>,
}

/// The handle of a connected client's session. It is given up with `Subscribers::leave`.
#[derive(Debug)]
pub(super) struct SessionHandle {
    id: u64,
    client: ClientKey,
    queue: mpsc::Sender<Message>,
}

/// The key of a client's session. It contains the identity, so nobody can take over another identity's session.
type ClientKey = (Identity, String);

/// What a client asks for when it connects.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRequest<'a> {
    pub(super) identity: Identity,
    /// Empty if the server chooses.
    pub(super) client_id: &'a str,
    /// Whether to discard an earlier session.
    pub(super) clean: bool,
    /// How long the session outlives its connection.
    pub(super) session: Duration,
}

/// What a connection receives from others.
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
    sessions: HashMap<ClientKey, Session>,
    /// Number of sessions without a connection.
    idle_count: usize,
    by_home: HashMap<HouseholdId, Vec<Listener>>,
    of_all: Vec<Listener>,
    retained: HashMap<HouseholdId, Bytes>,
}

/// A client's subscriptions with their QoS, and the packet ids it has not released.
#[derive(Debug)]
struct Session {
    /// Number of the connection that has it or had it last.
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

/// A connection that subscribed to a filter.
#[derive(Debug)]
struct Listener {
    id: u64,
    filter: Filter,
    acknowledged: bool,
    queue: mpsc::Sender<Message>,
}

impl State {
    /// Returns the session of a handle, unless it was taken over.
    fn session(&mut self, handle: &SessionHandle) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&handle.client)?;
        (session.id == handle.id).then_some(session)
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

    /// Opens a session for a client. If it resumes one, the recorded packet ids are returned too. The connection that
    /// had the session is told.
    pub(super) fn enter(
        &self,
        request: &SessionRequest<'_>,
    ) -> (SessionHandle, Inbox, Option<HashSet<u16>>) {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (take_over, taken_over) = oneshot::channel();
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let client_id = match request.client_id {
            "" => format!("hearth-assigned-{id}"),
            given => given.to_owned(),
        };
        let client = (request.identity, client_id);
        let mut filters = HashMap::new();
        let mut recorded = None;
        if let Some(former) = state.sessions.remove(&client) {
            for filter in former.filters.keys() {
                state.remove(former.id, filter);
            }
            let has_expired = match former.presence {
                Presence::Connected(take_over) => {
                    // That connection may just be ending.
                    let _ = take_over.send(());
                    false
                }
                Presence::Idle { until } => {
                    state.idle_count -= 1;
                    until < Instant::now()
                }
            };
            if !request.clean && !has_expired && !former.outlives.is_zero() {
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
            outlives: request.session,
            presence: Presence::Connected(take_over),
        };
        state.sessions.insert(client.clone(), session);
        let handle = SessionHandle { id, client, queue };
        let inbox = Inbox {
            messages,
            taken_over,
        };
        (handle, inbox, recorded)
    }

    /// Gives a handle up. The session stays for a while if the client asked for that and there is room.
    pub(super) fn leave(&self, handle: &SessionHandle) {
        let mut state = self.state();
        let Some(mut session) = state.sessions.remove(&handle.client) else {
            return;
        };
        if session.id != handle.id {
            // Another connection has taken the session over.
            state.sessions.insert(handle.client.clone(), session);
            return;
        }
        for filter in session.filters.keys() {
            state.remove(handle.id, filter);
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
            state.sessions.insert(handle.client.clone(), session);
        }
    }

    /// Notes that a publish with QoS 2 is durable. A later connection of the session must not take it again.
    pub(super) fn record(&self, handle: &SessionHandle, packet_id: u16) {
        if let Some(session) = self.state().session(handle)
            && !session.outlives.is_zero()
        {
            session.recorded.insert(packet_id);
        }
    }

    /// Notes that the client knows this and may reuse the packet id.
    pub(super) fn release(&self, handle: &SessionHandle, packet_id: u16) {
        if let Some(session) = self.state().session(handle) {
            session.recorded.remove(&packet_id);
        }
    }

    /// Adds or replaces a subscription and sends the retained status messages. Returns false if there are too many.
    pub(super) fn subscribe(
        &self,
        handle: &SessionHandle,
        filter: Filter,
        acknowledged: bool,
    ) -> bool {
        let mut state = self.state();
        let Some(session) = state.session(handle) else {
            return false;
        };
        if session.filters.len() >= FILTERS_MAX && !session.filters.contains_key(&filter) {
            return false;
        }
        session.filters.insert(filter, acknowledged);
        state.remove(handle.id, &filter);
        state.listeners(&filter).push(Listener {
            id: handle.id,
            filter,
            acknowledged,
            queue: handle.queue.clone(),
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
                    trace: None,
                };
                // A subscriber to more homes than fit into its queue gets as many as fit.
                if handle.queue.try_send(message).is_err() {
                    break;
                }
            }
        }
        true
    }

    /// Ends a subscription; returns false if there was none.
    pub(super) fn unsubscribe(&self, handle: &SessionHandle, filter: &Filter) -> bool {
        let mut state = self.state();
        let session = state.session(handle);
        let had = session.is_some_and(|session| session.filters.remove(filter).is_some());
        state.remove(handle.id, filter);
        had
    }

    /// Hands a message to every subscriber once. Returns how many got it.
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

    /// Retains a home's status for later subscribers; an empty one removes it.
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

impl SessionHandle {
    /// Returns the client's id.
    pub(super) fn client_id(&self) -> &str {
        &self.client.1
    }
}

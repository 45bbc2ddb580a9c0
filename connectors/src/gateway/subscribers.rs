//! Who is connected, who listens to which home, and each home's last status message. Hands messages to connections'
//! queues, which are bounded; a message that does not fit is not delivered, and its publisher learns so.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use household::units::HouseholdId;
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

/// A client's place; leaving is `Subscribers::leave`.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    client: (Identity, String),
    queue: mpsc::Sender<Message>,
    filters: HashMap<Filter, bool>,
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
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    clients: HashMap<(Identity, String), (u64, oneshot::Sender<()>)>,
    by_home: HashMap<HouseholdId, Vec<Listener>>,
    of_all: Vec<Listener>,
    retained: HashMap<HouseholdId, Bytes>,
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
    pub(super) fn new(retained_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            retained_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Takes a place for a client. Whoever held it under the same identity and id is told. An empty id is different
    /// from every other.
    pub(super) fn enter(&self, identity: Identity, client_id: &str) -> (Place, Inbox) {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (take_over, taken_over) = oneshot::channel();
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let client_id = match client_id {
            "" => format!("hearth-assigned-{id}"),
            given => given.to_owned(),
        };
        let client = (identity, client_id);
        let former = state.clients.insert(client.clone(), (id, take_over));
        drop(state);
        if let Some((_, take_over)) = former {
            // It may just be leaving.
            let _ = take_over.send(());
        }
        let place = Place {
            id,
            client,
            queue,
            filters: HashMap::new(),
        };
        let inbox = Inbox {
            messages,
            taken_over,
        };
        (place, inbox)
    }

    /// Gives a place up, with all its subscriptions.
    pub(super) fn leave(&self, place: &Place) {
        let mut state = self.state();
        for filter in place.filters.keys() {
            state.remove(place.id, filter);
        }
        let is_holder = |held: &(u64, _)| held.0 == place.id;
        if state.clients.get(&place.client).is_some_and(is_holder) {
            state.clients.remove(&place.client);
        }
    }

    /// Adds or replaces a subscription; false where the connection has too many. Status messages that are kept follow.
    pub(super) fn subscribe(&self, place: &mut Place, filter: Filter, acknowledged: bool) -> bool {
        if place.filters.len() >= FILTERS_MAX && !place.filters.contains_key(&filter) {
            return false;
        }
        place.filters.insert(filter, acknowledged);
        let mut state = self.state();
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
    pub(super) fn unsubscribe(&self, place: &mut Place, filter: &Filter) -> bool {
        let had = place.filters.remove(filter).is_some();
        self.state().remove(place.id, filter);
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

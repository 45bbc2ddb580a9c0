//! What a connection has to deliver: every publish is kept until its PUBACK, and goes out again after a reconnect.
//! It follows packet ids by order, since the client library names an id only once a publish leaves.

use std::collections::{BTreeMap, VecDeque};

/// A publish with its number; numbers ascend in the order of publishing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outbound<T> {
    pub(crate) number: u64,
    pub(crate) letter: T,
}

/// Publishes of one connection that are not acknowledged. Its owner bounds their number.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    next_number: u64,
    /// For the next connection, ascending.
    waiting: VecDeque<Outbound<T>>,
    /// Handed to the client library, without a packet id so far, in order.
    handed: VecDeque<Outbound<T>>,
    /// On the wire, by packet id.
    flying: BTreeMap<u16, Outbound<T>>,
}

impl<T> Outbox<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next_number: 0,
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            flying: BTreeMap::new(),
        }
    }

    /// Takes a publish that is to go out on the next connection, or now through [`Self::hand_over`].
    pub(crate) fn push(&mut self, letter: T) {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(Outbound { number, letter });
    }

    /// The oldest waiting publish goes to the client library, if `give` could hand it over.
    pub(crate) fn hand_over(&mut self, give: impl FnOnce(&T) -> bool) -> bool {
        let given = self
            .waiting
            .front()
            .is_some_and(|oldest| give(&oldest.letter));
        if given {
            self.handed.extend(self.waiting.pop_front());
        }
        given
    }

    /// The client library has put the oldest handed publish on the wire.
    pub(crate) fn left(&mut self, packet_id: u16) {
        if let Some(oldest) = self.handed.pop_front() {
            self.flying.insert(packet_id, oldest);
        }
    }

    /// The peer has acknowledged `packet_id`.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<T> {
        self.flying
            .remove(&packet_id)
            .map(|outbound| outbound.letter)
    }

    /// The connection is gone: everything without PUBACK waits for the next one, in its first order.
    pub(crate) fn disconnected(&mut self) {
        let mut again: Vec<_> = std::mem::take(&mut self.flying).into_values().collect();
        again.extend(std::mem::take(&mut self.handed));
        again.extend(std::mem::take(&mut self.waiting));
        again.sort_by_key(|outbound| outbound.number);
        self.waiting = again.into();
    }

    /// Publishes without PUBACK.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.handed.len() + self.flying.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Outbox;

    fn hand_all(outbox: &mut Outbox<&'static str>) -> Vec<&'static str> {
        let mut given = Vec::new();
        while outbox.hand_over(|letter| {
            given.push(*letter);
            true
        }) {}
        given
    }

    #[test]
    fn acknowledgements_find_their_publish_in_any_order() {
        let mut outbox = Outbox::new();
        for letter in ["a", "b", "c"] {
            outbox.push(letter);
        }
        assert_eq!(hand_all(&mut outbox), ["a", "b", "c"]);
        for packet_id in [7, 8, 9] {
            outbox.left(packet_id);
        }
        assert_eq!(outbox.acknowledged(9), Some("c"));
        assert_eq!(outbox.acknowledged(7), Some("a"));
        assert_eq!(outbox.acknowledged(7), None);
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn after_a_disconnect_everything_unacknowledged_goes_out_again_in_order() {
        let mut outbox = Outbox::new();
        for letter in ["a", "b", "c", "d"] {
            outbox.push(letter);
        }
        let mut room = 3;
        while outbox.hand_over(|_| {
            room -= 1;
            room >= 0
        }) {}
        outbox.left(900);
        outbox.left(1);
        assert_eq!(outbox.acknowledged(900), Some("a"));
        outbox.disconnected();
        outbox.push("e");
        assert_eq!(hand_all(&mut outbox), ["b", "c", "d", "e"]);
        assert_eq!(outbox.acknowledged(1), None, "packet ids begin anew");
    }
}

//! The consumer groups of the embedded log.

use std::collections::BTreeMap;
use std::sync::Mutex;

use platform::log::{LogError, LogEvent, TopicPartition};
use tokio::sync::mpsc;

/// Consumer groups with their member. A group has only one, because this log does not share partitions out.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: Mutex<BTreeMap<String, Member>>,
}

#[derive(Debug)]
struct Member {
    number: u64,
    events: mpsc::WeakSender<LogEvent>,
    /// Where it began to read.
    starts: BTreeMap<TopicPartition, i64>,
}

impl Groups {
    /// Takes the group over for the consumer behind `events`, unless it has a member whose consumer is still held.
    pub(super) fn join(
        &self,
        group: &str,
        events: &mpsc::Sender<LogEvent>,
        starts: &BTreeMap<TopicPartition, i64>,
    ) -> Result<u64, LogError> {
        let mut members = self.members.lock().expect("no holder panics");
        let before = members.get(group);
        let number = before.map_or(0, |before| before.number + 1);
        let held = before
            .and_then(|before| before.events.upgrade())
            .is_some_and(|events| !events.is_closed());
        if held {
            let reason =
                format!("group {group} has a member, and the embedded log gives it all partitions");
            return Err(LogError::Setup(reason));
        }
        let events = events.downgrade();
        let starts = starts.clone();
        members.insert(
            group.to_owned(),
            Member {
                number,
                events,
                starts,
            },
        );
        Ok(number)
    }

    /// Where the groups that had a consumer in this process began to read a partition.
    pub(super) fn starts(&self, of: TopicPartition) -> BTreeMap<String, i64> {
        let members = self.members.lock().expect("no holder panics");
        let starts = members.iter();
        starts
            .filter_map(|(group, member)| Some((group.clone(), *member.starts.get(&of)?)))
            .collect()
    }

    pub(super) fn is_member(&self, group: &str, number: u64) -> bool {
        let members = self.members.lock().expect("no holder panics");
        members
            .get(group)
            .is_some_and(|member| member.number == number)
    }
}

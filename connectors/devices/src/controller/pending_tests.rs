//! The pending case by case, and against every order of records, answers, restarts and time.

use std::collections::BTreeMap;

use model::command::{Ack, AckStatus, Command, ProgramEntry};
use model::units::HouseholdId;
use proptest::prelude::*;

use super::{Outcome, Pending};

const RETRY_MS: i64 = 10;
const SLOT_MS: i64 = 100;

/// The command of a home that was issued at `issued_ms` and ends with slot `last`.
fn command(home: i64, last: i64, issued_ms: i64) -> Command {
    let schedule_id = format!("{home}-{issued_ms}-0");
    let entry = ProgramEntry {
        from_ms: 0,
        policy: None,
        appliances: BTreeMap::new(),
        evs: BTreeMap::new(),
        heat: BTreeMap::new(),
    };
    Command {
        command_id: format!("{schedule_id}-{last}"),
        household_id: HouseholdId::new(home).unwrap(),
        schedule_id,
        requested_ms: issued_ms,
        issued_ms,
        expires_ms: (last + 1) * SLOT_MS,
        battery: None,
        program: vec![entry],
    }
}

fn answer(command: &Command, status: AckStatus) -> Ack {
    Ack {
        household_id: command.household_id,
        command_id: command.command_id.clone(),
        ts_ms: 0,
        status,
        reason: String::new(),
    }
}

fn ready() -> Pending {
    let mut pending = Pending::new(RETRY_MS);
    pending.commands_caught_up();
    pending.acks_caught_up();
    pending
}

fn due_id(pending: &Pending, now_ms: i64) -> Option<String> {
    pending
        .due(now_ms)
        .map(|command| command.command_id.clone())
}

#[test]
fn sends_at_once_and_again_until_answered() {
    let mut pending = ready();
    let one = command(1, 1, 0);
    assert_eq!(pending.take_command(0, one.clone(), 100), None);
    assert_eq!(pending.wake_ms(), Some(100));
    assert_eq!(due_id(&pending, 100), Some(one.command_id.clone()));
    assert_eq!(pending.sent(&one, 100), Outcome::Sent);
    assert_eq!(due_id(&pending, 109), None);
    assert_eq!(due_id(&pending, 110), Some(one.command_id.clone()));
    assert_eq!(pending.sent(&one, 110), Outcome::Retried);
    let ack = answer(&one, AckStatus::Applied);
    assert_eq!(pending.take_ack(0, &ack), Some(Outcome::Applied));
    assert_eq!(pending.take_ack(1, &ack), None, "devices may repeat it");
    assert_eq!(due_id(&pending, 150), None);
    assert_eq!(
        pending.expire(200),
        0,
        "an answered command does not expire"
    );
    assert_eq!(pending.len(), 0);
    assert_eq!(pending.wake_ms(), None);
}

#[test]
fn an_unanswered_command_expires() {
    let mut pending = ready();
    let one = command(1, 1, 0);
    pending.take_command(0, one.clone(), 0);
    pending.sent(&one, 195);
    assert_eq!(pending.wake_ms(), Some(200), "not again after its end");
    assert_eq!(due_id(&pending, 200), None);
    assert_eq!(pending.expire(199), 0);
    assert_eq!(pending.expire(200), 1);
    let late = command(1, 0, 0);
    assert_eq!(pending.take_command(1, late, 200), Some(Outcome::Expired));
}

#[test]
fn the_command_issued_last_holds_in_any_order() {
    let (old, new) = (command(1, 1, 5), command(1, 1, 6));
    let superseded = Some(Outcome::Superseded);
    let mut pending = ready();
    pending.take_command(0, old.clone(), 0);
    pending.sent(&old, 100);
    assert_eq!(pending.take_command(1, new.clone(), 105), superseded);
    assert_eq!(due_id(&pending, 105), Some(new.command_id.clone()));
    assert_eq!(pending.take_ack(0, &answer(&old, AckStatus::Applied)), None);
    assert_eq!(due_id(&pending, 105), Some(new.command_id.clone()));

    let mut pending = ready();
    pending.take_command(0, new.clone(), 0);
    assert_eq!(pending.take_command(1, old, 0), superseded);
    assert_eq!(due_id(&pending, 100), Some(new.command_id));
    assert_eq!(pending.expire(200), 1);
}

/// The later command ends before the one that it has replaced, which may be read again.
#[test]
fn a_replaced_command_does_not_come_back() {
    let (old, new) = (command(1, 5, 1), command(1, 1, 2));
    let mut pending = ready();
    pending.take_command(0, old.clone(), 0);
    assert_eq!(
        pending.take_command(1, new.clone(), 0),
        Some(Outcome::Superseded)
    );
    assert_eq!(pending.expire(200), 1, "the later one");
    assert_eq!(pending.wake_ms(), Some(600));
    assert_eq!(
        pending.take_command(2, old.clone(), 250),
        Some(Outcome::Superseded)
    );
    assert_eq!(due_id(&pending, 250), None);
    assert_eq!(pending.positions().0, Some(0));
    assert_eq!(pending.expire(600), 0);
    assert_eq!((pending.len(), pending.positions().0), (0, Some(2)));

    // After a start, the later one is read when it has expired.
    let mut pending = ready();
    pending.take_command(0, old, 250);
    assert_eq!(pending.take_command(1, new, 250), Some(Outcome::Expired));
    assert_eq!(due_id(&pending, 250), None);
    assert_eq!(pending.expire(600), 0);
    assert_eq!(pending.len(), 0);
}

#[test]
fn a_record_written_twice_is_one_command() {
    let mut pending = ready();
    let one = command(1, 1, 0);
    pending.take_command(0, one.clone(), 0);
    pending.take_ack(0, &answer(&one, AckStatus::Rejected));
    assert_eq!(pending.take_command(1, one, 100), None);
    assert_eq!(due_id(&pending, 100), None);
}

#[test]
fn only_the_home_itself_may_answer() {
    let mut pending = ready();
    let one = command(1, 1, 0);
    pending.take_command(0, one.clone(), 0);
    let foreign = Ack {
        household_id: HouseholdId::new(2).unwrap(),
        ..answer(&one, AckStatus::Applied)
    };
    assert_eq!(pending.take_ack(0, &foreign), None);
    assert_eq!(due_id(&pending, 100), Some(one.command_id));
}

#[test]
fn nothing_is_sent_or_counted_before_both_partitions_have_caught_up() {
    let one = command(1, 1, 0);
    let mut pending = Pending::new(RETRY_MS);
    assert_eq!(pending.take_command(7, one.clone(), 100), None);
    assert_eq!(due_id(&pending, 100), None);
    pending.commands_caught_up();
    assert_eq!(due_id(&pending, 100), None);
    assert_eq!(pending.take_ack(3, &answer(&one, AckStatus::Applied)), None);
    pending.acks_caught_up();
    assert_eq!(due_id(&pending, 100), None);

    // The answer may be read first.
    let mut pending = Pending::new(RETRY_MS);
    pending.take_ack(3, &answer(&one, AckStatus::Applied));
    pending.acks_caught_up();
    pending.take_command(7, one, 100);
    pending.commands_caught_up();
    assert_eq!(due_id(&pending, 100), None);
    assert_eq!(pending.positions(), (Some(7), Some(3)));
}

#[test]
fn positions_pass_neither_a_command_that_may_be_sent_nor_its_answer_nor_the_last_record() {
    let mut pending = ready();
    assert_eq!(pending.positions(), (None, None));
    pending.take_command(10, command(1, 1, 0), 0);
    pending.take_command(11, command(2, 2, 0), 0);
    pending.take_ack(4, &answer(&command(2, 2, 0), AckStatus::Applied));
    pending.take_ack(5, &answer(&command(1, 1, 0), AckStatus::Applied));
    pending.take_ack(6, &answer(&command(9, 9, 0), AckStatus::Applied));
    assert_eq!(pending.positions(), (Some(10), Some(4)));
    pending.expire(200);
    assert_eq!(pending.positions(), (Some(11), Some(4)));
    pending.expire(300);
    assert_eq!(pending.positions(), (Some(11), Some(6)));
    pending.skip_command(12);
    pending.skip_ack(7);
    assert_eq!(pending.positions(), (Some(12), Some(7)));
}

/// One step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// The engine writes a command, perhaps one it wrote before.
    Order(i64, i64, i64),
    ReadCommands(usize),
    ReadAcks(usize),
    /// Sends what is due; the device answers where the bit is set.
    Send(u8),
    /// A device repeats its last answer.
    AnswerAgain,
    Pass(i64),
    Commit,
    /// Another process takes over, from what was committed.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..3_i64, 0..5_i64, 0..5_i64).prop_map(|(h, s, r)| Step::Order(h, s, r)),
        4 => (1..4_usize).prop_map(Step::ReadCommands),
        4 => (1..4_usize).prop_map(Step::ReadAcks),
        4 => any::<u8>().prop_map(Step::Send),
        1 => Just(Step::AnswerAgain),
        3 => (1..60_i64).prop_map(Step::Pass),
        3 => Just(Step::Commit),
        2 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..80)
}

/// The log, the devices and one controller after the other.
struct World {
    commands: Vec<Command>,
    acks: Vec<Ack>,
    pending: Pending,
    /// Next offsets to read, and the ends at the last restart.
    read: (usize, usize),
    ends: (usize, usize),
    committed: (usize, usize),
    now_ms: i64,
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Order(home, last, issued_ms) => {
                self.commands.push(command(home, last, issued_ms));
            }
            Step::ReadCommands(count) => self.read_commands(count),
            Step::ReadAcks(count) => self.read_acks(count),
            Step::Send(answers) => self.send(answers),
            Step::AnswerAgain => self.acks.extend(self.acks.last().cloned()),
            Step::Pass(ms) => {
                self.now_ms += ms;
                self.pending.expire(self.now_ms);
            }
            Step::Commit => {
                let (commands, acks) = self.pending.positions();
                let place = |position: Option<i64>, was| {
                    position.map_or(was, |offset| usize::try_from(offset).unwrap())
                };
                let next = (
                    place(commands, self.committed.0),
                    place(acks, self.committed.1),
                );
                assert!(next.0 >= self.committed.0 && next.1 >= self.committed.1);
                self.committed = next;
            }
            Step::Restart => {
                self.pending = Pending::new(RETRY_MS);
                self.read = self.committed;
                self.ends = (self.commands.len(), self.acks.len());
            }
        }
        if self.read.0 >= self.ends.0 {
            self.pending.commands_caught_up();
        }
        if self.read.1 >= self.ends.1 {
            self.pending.acks_caught_up();
        }
    }

    fn read_commands(&mut self, count: usize) {
        for _ in 0..count.min(self.commands.len() - self.read.0) {
            let offset = i64::try_from(self.read.0).unwrap();
            let command = self.commands[self.read.0].clone();
            self.pending.take_command(offset, command, self.now_ms);
            self.read.0 += 1;
        }
    }

    fn read_acks(&mut self, count: usize) {
        for _ in 0..count.min(self.acks.len() - self.read.1) {
            let offset = i64::try_from(self.read.1).unwrap();
            self.pending.take_ack(offset, &self.acks[self.read.1]);
            self.read.1 += 1;
        }
    }

    fn send(&mut self, answers: u8) {
        for bit in 0..8 {
            let Some(due) = self.pending.due(self.now_ms) else {
                break;
            };
            assert!(self.now_ms < due.expires_ms, "expired");
            let known = self.acks.iter().take(self.read.1.max(self.ends.1));
            let answered = known.filter(|ack| ack.command_id == due.command_id).count();
            assert_eq!(answered, 0, "sent again what was answered");
            // A repeated command counts from its last record on: what replaced it before may be over and forgotten.
            let is_due = |other: &Command| other.command_id == due.command_id;
            let last = self.commands[..self.read.0].iter().rposition(is_due);
            let mut read = self.commands[..self.read.0].iter().enumerate();
            let replaced = read.any(|(place, other)| {
                replaces(other, &due) && (Some(place) > last || self.now_ms < other.expires_ms)
            });
            assert!(!replaced || self.read.0 < self.ends.0, "superseded");
            self.pending.sent(&due, self.now_ms);
            if answers & (1 << bit) != 0 {
                self.acks.push(answer(&due, AckStatus::Applied));
            }
        }
    }
}

fn replaces(later: &Command, command: &Command) -> bool {
    let rank = |command: &Command| (command.issued_ms, command.command_id.clone());
    later.household_id == command.household_id && rank(later) > rank(command)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn never_too_late_superseded_or_answered_and_never_forgotten(steps in steps()) {
        let mut world = World {
            commands: Vec::new(),
            acks: Vec::new(),
            pending: ready(),
            read: (0, 0),
            ends: (0, 0),
            committed: (0, 0),
            now_ms: 0,
        };
        for step in &steps {
            world.step(step);
        }
        // Once all is read, what may be sent and was not answered is sent, and answered by the device.
        world.step(&Step::Restart);
        world.step(&Step::ReadCommands(usize::MAX));
        world.step(&Step::ReadAcks(usize::MAX));
        prop_assert!(world.pending.is_ready());
        world.step(&Step::Pass(1));
        world.step(&Step::Send(u8::MAX));
        for wanted in &world.commands {
            let valid = world.now_ms < wanted.expires_ms;
            let last = !world.commands.iter().any(|other| replaces(other, wanted));
            let answered = world.acks.iter().any(|ack| ack.command_id == wanted.command_id);
            prop_assert!(!(valid && last) || answered, "never sent: {}", wanted.command_id);
        }
    }
}

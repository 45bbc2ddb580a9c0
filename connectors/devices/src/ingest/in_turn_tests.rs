//! Slots against an ingest that fails as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Accept, Accepted, InTurn};
use crate::ingest::{NotDurable, Payload};
use crate::spool::SpoolError;

/// What was accepted, in order, and for each attempt to come how many payloads of a batch are taken.
#[derive(Debug, Default)]
struct Fake {
    taken: Vec<String>,
    attempts: Vec<usize>,
    plan: VecDeque<usize>,
    closed: bool,
}

fn accept(fake: &Arc<Mutex<Fake>>) -> Accept {
    let fake = Arc::clone(fake);
    Arc::new(move |payloads: Vec<Payload>| {
        let fake = Arc::clone(&fake);
        Box::pin(async move {
            let mut fake = fake.lock().unwrap();
            fake.attempts.push(payloads.len());
            let fit = fake.plan.pop_front().unwrap_or(usize::MAX);
            let mut failed = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                if fake.closed {
                    failed.push((index, NotDurable::Closed));
                } else if index < fit {
                    fake.taken.push(payload.topic.clone());
                } else {
                    let full = SpoolError::Full { bytes_max: 0 };
                    failed.push((index, NotDurable::Spool(full)));
                }
            }
            drop(fake);
            Accepted { payloads, failed }
        })
    })
}

fn in_turn(plan: &[usize], patience: Duration) -> (InTurn<usize>, Arc<Mutex<Fake>>) {
    let fake = Arc::new(Mutex::new(Fake {
        plan: plan.iter().copied().collect(),
        ..Fake::default()
    }));
    (InTurn::new(accept(&fake), 1_000, patience), fake)
}

fn push(in_turn: &mut InTurn<usize>, number: usize) {
    in_turn.push(number.to_string(), Bytes::new(), number);
}

async fn all(in_turn: &mut InTurn<usize>) -> Vec<(usize, bool)> {
    let mut answers = Vec::new();
    while let Some((tag, outcome)) = in_turn.next().await {
        answers.push((tag, outcome.is_ok()));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_is_tried_after_a_failure_and_all_after_a_success() {
    let (mut turn, fake) = in_turn(&[2, 0, 0, 1], Duration::from_secs(60));
    for number in 0..6 {
        push(&mut turn, number);
    }
    let expected: Vec<_> = (0..6).map(|number| (number, true)).collect();
    assert_eq!(all(&mut turn).await, expected);
    let fake = fake.lock().unwrap();
    // Two of six; the third alone, three times; the rest.
    assert_eq!(fake.attempts, [6, 1, 1, 1, 3]);
    assert_eq!(fake.taken, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_given_up_and_the_rest_goes_on() {
    let (mut turn, fake) = in_turn(&[0, 0, 0, 0, 0, 0, 0, 0], Duration::from_secs(3));
    push(&mut turn, 0);
    let (tag, outcome) = turn.next().await.unwrap();
    assert_eq!((tag, outcome.is_ok()), (0, false));
    fake.lock().unwrap().plan.clear();
    push(&mut turn, 1);
    turn.push_done(2);
    assert_eq!(all(&mut turn).await, [(1, true), (2, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_ingest_answers_at_once() {
    let (mut turn, fake) = in_turn(&[], Duration::from_secs(60));
    fake.lock().unwrap().closed = true;
    for number in 0..3 {
        push(&mut turn, number);
    }
    let expected: Vec<_> = (0..3).map(|number| (number, false)).collect();
    assert_eq!(all(&mut turn).await, expected);
    assert_eq!(fake.lock().unwrap().attempts, [3]);
}

proptest! {
    /// However attempts fail and whenever the caller stops waiting: each payload is taken once, and answered in order.
    #[test]
    fn nothing_is_lost_twice_or_out_of_turn(
        plan in prop::collection::vec(0_usize..5, 0..12),
        bursts in prop::collection::vec(1_usize..6, 1..8),
        patience_ms in 1_u64..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut turn, fake) = in_turn(&plan, Duration::from_secs(600));
            let (mut pushed, mut answers) = (0, Vec::new());
            for burst in bursts {
                for _ in 0..burst {
                    push(&mut turn, pushed);
                    pushed += 1;
                }
                let limit = Duration::from_millis(patience_ms);
                while let Ok(Some((tag, outcome))) = tokio::time::timeout(limit, turn.next()).await {
                    outcome.unwrap();
                    answers.push(tag);
                }
            }
            answers.extend(all(&mut turn).await.into_iter().map(|(tag, _)| tag));
            assert_eq!(answers, (0..pushed).collect::<Vec<_>>());
            let mut taken = fake.lock().unwrap().taken.clone();
            taken.sort_by_key(|topic| topic.parse::<usize>().unwrap());
            let expected: Vec<_> = (0..pushed).map(|number| number.to_string()).collect();
            assert_eq!(taken, expected);
        });
    }
}

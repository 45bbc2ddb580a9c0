//! Deterministic simulation of the engine: the real router and shards with their outbox, snapshots and commits, in virtual time,
//! on a log and a store that fail as a seed decides. `SIM_SEEDS` says how many seeds, `SIM_FROM` from which on; `SEED`
//! runs one again.

#[expect(unreachable_pub, reason = "the parts of one test")]
mod sim {
    pub mod draws;
    pub mod faults;
    pub mod poison;
    pub mod scenario;

    pub mod rows;
    pub mod sim_log;
    pub mod sim_store;
    pub mod state;
    pub mod world;

    pub mod outside;
    pub mod owner;

    pub mod invariants;
    pub mod offline;

    pub mod run;
}

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::faults::Counts;
use sim::run::{Outcome, through_history, try_run};
use sim::scenario::{Hosting, Scenario};

const SEEDS: u64 = 3_000;
/// Every so many seeds run twice, to see that both runs are the same.
const TWICE_EVERY: u64 = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// What is wrong with a seed.
fn failures(seed: u64, outcome: &Outcome) -> Vec<String> {
    let mut failures = outcome.violations.clone();
    if seed.is_multiple_of(TWICE_EVERY) && try_run(seed) != *outcome {
        failures.push("the second run of the seed was another one".to_owned());
    }
    failures
}

#[test]
fn seeds() {
    let (from, count) = (
        number("SIM_FROM").unwrap_or(1),
        number("SIM_SEEDS").unwrap_or(SEEDS),
    );
    let begun = Instant::now();
    let next = AtomicU64::new(from);
    let work = || {
        let (mut counts, mut failed, mut sizes) = (Counts::new(), Vec::new(), (0, 0));
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return (counts, failed, sizes);
            }
            let outcome = try_run(seed);
            for (fault, count) in &outcome.counts {
                *counts.entry(*fault).or_default() += count;
            }
            sizes.0 += outcome.readings_count;
            sizes.1 += outcome.records_count;
            let failures = failures(seed, &outcome);
            if let Some(first) = failures.first() {
                eprintln!(
                    "seed {seed} fails, {} times, first: {first}",
                    failures.len()
                );
                failed.push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (mut counts, mut failed, mut sizes) = (Counts::new(), Vec::new(), (0, 0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (more, fails, (readings, records)) = worker.join().expect("a worker ends");
            for (fault, count) in more {
                *counts.entry(fault).or_default() += count;
            }
            failed.extend(fails);
            sizes.0 += readings;
            sizes.1 += records;
        }
    });
    failed.sort_unstable();
    eprintln!(
        "{count} seeds from {from} in {:.0} s: {} readings, {} records",
        begun.elapsed().as_secs_f64(),
        sizes.0,
        sizes.1
    );
    for (fault, count) in counts {
        eprintln!("{count:>10} {fault:?}");
    }
    if let Some(seed) = failed.first() {
        panic!(
            "{} seeds fail: {failed:?}; again: SEED={seed} cargo test -p host --test sim one_seed",
            failed.len()
        );
    }
}

#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(1);
    let outcome = try_run(seed);
    let failures = failures(seed, &outcome);
    assert!(failures.is_empty(), "seed {seed}:\n{}", failures.join("\n"));
}

/// What a crash makes the next owner read again depends on settings, not on how long the log is.
#[test]
fn a_long_history_is_not_read_again() {
    let hosting = Hosting {
        checkpoint_every: Duration::from_secs(3_600),
        checkpoint_records_max: 1_000,
        passivate_after: Duration::from_secs(3_600),
        live_homes_max: 1_000,
        store_slots: true,
        publish_slots: true,
        batch_max: 100,
        tick_every: Duration::from_secs(1),
    };
    // The records that may be unsaved, as many again until that is committed, and in batches: the one in hand, those that
    // wait for the outbox, and those that it works on.
    let again_max = 2 * 1_000 + 100 * (1 + 8 + 8);
    for readings_count in [10_000, 40_000] {
        let crashes = 5;
        let (violations, repeated) =
            through_history(Scenario::plain(readings_count, hosting), crashes);
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        let each = repeated / crashes;
        eprintln!("of {readings_count} records {each} are read again after a crash");
        assert!(
            (1..=again_max).contains(&each),
            "{each} of {readings_count} records are read again after a crash"
        );
    }
}

//! Threads that answer optimize requests: decode, solve, encode. Each keeps its solver and so its working arrays; all
//! take from one bounded queue, so that a long solve holds up nobody but itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use model::request::OptimizeRequest;
use model::schedule::{Schedule, Status};
use platform::log::{Record, TopicPartition};
use scheduler::Solver;
use schemas::codec::CodecError;
use schemas::dead_letter::Reason;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{error, warn};

use crate::dead_letter::dead_letter;
use crate::outgoing::{Outgoing, outgoing_of};
use crate::unsolved::{answer_with, unsolved};
use platform::role_context::RoleContext;
use platform::trace::{Span, SpanKind};

/// Tasks waiting at most, for each worker.
const TASKS_MAX: usize = 2;

/// A running set of threads; they end once this is dropped and their tasks are done.
#[derive(Debug)]
pub struct Workers {
    tasks: mpsc::Sender<Task>,
}

/// A request for a worker.
#[derive(Debug)]
struct Task {
    from: TopicPartition,
    record: Record,
    answer: oneshot::Sender<Result<Vec<Outgoing>, CodecError>>,
}

/// Why a request has no answer, and will not have one here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkersError {
    #[error("the optimizer's threads have ended")]
    Ended,
    /// It is newer than this build.
    #[error("request {offset}: {reason}")]
    Newer { offset: i64, reason: String },
}

impl Workers {
    /// Starts `count` threads; 0 for one a core.
    pub fn start(context: &RoleContext, count: usize) -> Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let (tasks, queue) = mpsc::channel(TASKS_MAX * count);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..count {
            let (context, queue) = (context.clone(), Arc::clone(&queue));
            std::thread::Builder::new()
                .name(format!("solver-{index}"))
                .spawn(move || work(&context, &queue))
                .context("start a solver thread")?;
        }
        Ok(Self { tasks })
    }

    /// Has a request answered: with a schedule, or with a dead letter, or with both where the solver failed on it.
    pub(crate) fn solve(
        &self,
        from: TopicPartition,
        record: Record,
    ) -> impl Future<Output = Result<Vec<Outgoing>, WorkersError>> + Send + use<> {
        let (tasks, offset) = (self.tasks.clone(), record.offset);
        async move {
            let (answer, answered) = oneshot::channel();
            let task = Task {
                from,
                record,
                answer,
            };
            tasks.send(task).await.map_err(|_| WorkersError::Ended)?;
            drop(tasks);
            let answered = answered.await.map_err(|_| WorkersError::Ended)?;
            answered.map_err(|newer| WorkersError::Newer {
                offset,
                reason: newer.to_string(),
            })
        }
    }
}

fn work(context: &RoleContext, queue: &Mutex<mpsc::Receiver<Task>>) {
    let mut solver = Solver::default();
    loop {
        let next = queue.blocking_lock().blocking_recv();
        let Some(task) = next else { return };
        let answered = answer(context, &mut solver, task.from, &task.record);
        context.metrics.requests_queued.dec();
        // Nobody waits for the answers of a pool that has gone; the requests are solved again elsewhere.
        let _ = task.answer.send(answered);
    }
}

fn answer(
    context: &RoleContext,
    solver: &mut Solver,
    from: TopicPartition,
    record: &Record,
) -> Result<Vec<Outgoing>, CodecError> {
    if record.value.is_empty() {
        return Ok(Vec::new());
    }
    let TopicPartition { topic, partition } = from;
    let mut span = context
        .tracer
        .process(record.trace, topic, partition, record.offset);
    let _entered = span.enter();
    let request: OptimizeRequest = match context.codec.decode(&record.value) {
        Ok(request) => request,
        Err(newer) if newer.is_newer() => return Err(newer),
        Err(why) => {
            let reason = Reason::Undecodable;
            let letter = dead_letter(context, from, record, reason, why.to_string());
            return Ok(letter.into_iter().collect());
        }
    };
    let household_id = request.household_id;
    span.set("hearth.household_id", household_id.get());
    let solving = context
        .tracer
        .child(span.context(), "solve", SpanKind::Internal);
    let begun = Instant::now();
    let solved = catch_unwind(AssertUnwindSafe(|| solver.solve(&request.problem)));
    let (solved, letter) = match solved {
        Ok(solved) => (solved.map_err(|reason| reason.to_string()), None),
        Err(_) => {
            // Its arrays may be half written.
            *solver = Solver::default();
            error!(household = %household_id, "solver failed");
            let detail = "the solver failed on this request".to_owned();
            let letter = dead_letter(context, from, record, Reason::Poison, detail.clone());
            (Err(detail), letter)
        }
    };
    let solve_us = i64::try_from(begun.elapsed().as_micros()).expect("a solve's time fits");
    let schedule = match solved {
        Ok(plan) => answer_with(request, plan, solve_us),
        Err(reason) => {
            warn!(request = request.request_id, reason, "problem not solved");
            unsolved(request, &reason)
        }
    };
    count(context, &schedule);
    describe(solving, &schedule);
    let schedule = outgoing_of(&span, context, household_id, &schedule);
    Ok(letter.into_iter().chain(schedule).collect())
}

/// Ends the span of a solve with what came of it.
fn describe(mut span: Span, schedule: &Schedule) {
    if !span.is_recorded() {
        return;
    }
    let plan = &schedule.plan;
    span.set("hearth.request_id", schedule.request_id.clone());
    span.set("hearth.plan.status", plan.status.as_str());
    span.set("hearth.plan.method", plan.solver.clone());
    span.set("hearth.plan.gap", plan.gap);
    if plan.status == Status::Infeasible {
        span.fail(&plan.solver);
    }
}

fn count(context: &RoleContext, schedule: &Schedule) {
    let metrics = &context.metrics;
    let (status, method) = (schedule.plan.status.as_str(), schedule.plan.solver.as_str());
    metrics
        .schedules_total
        .with_label_values(&[status, method])
        .inc();
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a solve")]
    let seconds = schedule.solve_us as f64 / 1e6;
    metrics
        .solve_seconds
        .with_label_values(&[method])
        .observe(seconds);
    metrics
        .schedule_gap
        .with_label_values(&[method])
        .observe(schedule.plan.gap);
    metrics.solve_cpu_seconds_total.inc_by(seconds);
}

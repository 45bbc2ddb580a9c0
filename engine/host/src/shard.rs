//! The actor of one partition: hands it its messages one after the other, each finished before the next begins.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use platform::log::Record;
use schemas::topic::Topic;
use tracing::{info, warn};

use crate::fence::{Fence, Fenced};
use crate::partition::Partition;
use crate::setup::Setup;

/// How long a shard that leaves goes on saving homes, so that the partition soon has another owner. Reading again what
/// is left is about as quick as saving it would have been.
const SAVE_MAX: Duration = Duration::from_millis(250);

/// The actor.
#[derive(Debug)]
pub struct Shard {
    /// Away while a message is being worked on; gone once the shard is fenced off or has left.
    partition: Option<Partition>,
    mailbox_max: usize,
}

/// Records of one topic of the shard's partition, offsets ascending.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fenced>")]
pub struct Batch {
    pub topic: Topic,
    pub records: Vec<Record>,
}

/// The host's clock moved on.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fenced>")]
pub struct Tick {
    pub now_ms: i64,
}

/// Save what there is time for, and stop; resolves when the partition may go to another owner.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Fenced>")]
pub struct Leave;

type Answer = AtomicResponse<Shard, Result<(), Fenced>>;

impl Shard {
    /// A shard for partition `number`. Must be called in its arbiter.
    #[must_use]
    pub fn new(setup: Setup, number: i32, fence: Fence, mailbox_max: usize) -> Self {
        Self {
            partition: Some(Partition::new(setup, number, fence)),
            mailbox_max,
        }
    }

    /// Runs `work` with the partition while every other message waits. A fenced shard takes nothing more.
    fn exclusively<F, W>(&mut self, work: W) -> Answer
    where
        W: FnOnce(Partition) -> F,
        F: Future<Output = Result<Option<Partition>, Fenced>> + 'static,
    {
        let working = self.partition.take().map(work);
        AtomicResponse::new(Box::pin(
            async move {
                match working {
                    Some(working) => working.await,
                    None => Err(Fenced),
                }
            }
            .into_actor(self)
            .map(|worked, shard, _context| {
                shard.partition = worked?;
                Ok(())
            }),
        ))
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(self.mailbox_max);
    }
}

impl Handler<Batch> for Shard {
    type Result = Answer;

    fn handle(&mut self, batch: Batch, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(|mut partition| async move {
            if partition.is_leaving() {
                // The next owner reads it.
                return Ok(Some(partition));
            }
            let done = partition.take_in(batch.topic, &batch.records).await;
            unless_fenced(partition, done)
        })
    }
}

impl Handler<Tick> for Shard {
    type Result = Answer;

    fn handle(&mut self, tick: Tick, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(move |mut partition| async move {
            if partition.is_leaving() {
                return Ok(Some(partition));
            }
            let done = partition.tick(tick.now_ms).await;
            unless_fenced(partition, done)
        })
    }
}

impl Handler<Leave> for Shard {
    type Result = Answer;

    fn handle(&mut self, _leave: Leave, _context: &mut Self::Context) -> Self::Result {
        self.exclusively(|mut partition| async move {
            let left = partition.leave(SAVE_MAX).await;
            if left.is_err() {
                let partition = partition.number();
                warn!(partition, "left behind a fence, without a checkpoint");
            }
            partition.forget();
            left.map(|()| None)
        })
    }
}

fn unless_fenced(
    mut partition: Partition,
    done: Result<(), Fenced>,
) -> Result<Option<Partition>, Fenced> {
    if done.is_err() {
        info!(partition = partition.number(), "fenced off");
        partition.forget();
    }
    done.map(|()| Some(partition))
}

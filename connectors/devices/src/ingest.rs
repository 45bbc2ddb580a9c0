//! Takes in everything that homes send: decodes it, encodes it for the log, and writes it to the log, or to the spool
//! while the log is away. Unreadable payloads become dead letters. `accept` tells when a payload may be acknowledged.
//!
//! Payloads enter the log in the order in which they were accepted, after those in the spool. A payload that neither log
//! nor spool took is retried and may come after later ones. That is harmless: readings carry their own times, and only
//! the first answer to a command counts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use platform::clock::Clock;
use platform::lifetime::{Alive, Ended};
use platform::log::Log;
use platform::metrics::Metrics;
use platform::trace::Tracer;
use schemas::codec::Codec;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::spool::{Recovered, Spool, SpoolLimits};

mod acceptor;
mod config;
mod decoder;
mod decoding;
mod drain;
mod flow;
mod in_turn;
mod outcome;
mod sink;

use acceptor::Acceptor;
use decoder::Decoder;
use in_turn::{Accept, Accepted};
use sink::Sink;

pub use config::IngestConfig;
pub use in_turn::InTurn;
pub use outcome::{IngestError, NotDurable, Payload, RefusalNotice};

/// A running ingest.
#[derive(Debug)]
pub struct Ingest {
    acceptor: Arc<Acceptor>,
    sink: Arc<Sink>,
    tracer: Tracer,
    spool_bytes_max: u64,
    /// Most permits for payloads accepted together, so that other senders have room.
    together_max: u32,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    ended: Ended,
}

impl Ingest {
    /// Opens the spool and starts. Needs a tokio runtime. The log may be away.
    pub fn start(
        log: Arc<dyn Log>,
        codec: Codec,
        clock: Clock,
        metrics: Metrics,
        tracer: Tracer,
        config: &IngestConfig,
    ) -> Result<Arc<Self>, IngestError> {
        let in_flight_max = config.permits()?;
        let limits = SpoolLimits {
            bytes_max: config.spool_bytes_max,
            segment_bytes: config.spool_segment_bytes,
        };
        let (spool, recovered) = Spool::open(&config.spool_dir, limits)?;
        if recovered != Recovered::default() {
            let Recovered {
                records,
                torn_bytes,
                damaged,
            } = recovered;
            warn!(
                records,
                torn_bytes, damaged, "the spool has records of an earlier run"
            );
        }
        let (age_ms_max, skew_ms) = (config.age_ms_max(), config.future_skew_ms);
        let decoder = Decoder::new(codec, clock, age_ms_max, skew_ms).traced(tracer.clone());
        let produce_timeout = Duration::from_millis(config.produce_timeout_ms);
        let sink = Arc::new(Sink::new(
            log,
            spool,
            decoder.clone(),
            metrics,
            produce_timeout,
        ));
        sink.show_spool();
        let stop = watch::Sender::new(false);
        let (jobs, inbox) = mpsc::channel(in_flight_max as usize);
        let (flows, flow_ended) = Alive::new();
        let (drains, drain_ended) = Alive::new();
        let flowing = flow::run(Arc::clone(&sink), inbox, stop.subscribe());
        let draining = drain::run(Arc::clone(&sink), stop.subscribe());
        let tasks = vec![
            tokio::spawn(async move {
                let _alive = flows;
                flowing.await;
            }),
            tokio::spawn(async move {
                let _alive = drains;
                draining.await;
            }),
        ];
        Ok(Arc::new(Self {
            acceptor: Arc::new(Acceptor::new(decoder, jobs, in_flight_max)),
            ended: flow_ended.or(drain_ended).or(sink.spool.ended()),
            sink,
            tracer,
            spool_bytes_max: config.spool_bytes_max,
            together_max: in_flight_max / 4,
            stop,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Takes in one payload. Resolves once all of it is durable, in the log or the spool; only then may it be
    /// acknowledged. Calls keep the order in which their futures are first polled. Dropping the future does not withdraw
    /// the payload.
    pub async fn accept(&self, topic: &str, bytes: Bytes) -> Result<(), NotDurable> {
        let topic = topic.to_owned();
        let trace = None;
        let payload = Payload {
            topic,
            bytes,
            trace,
        };
        let mut failed = self.accept_all(&[payload]).await;
        failed.pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Takes in several payloads with one answer for all. Returns those that are not durable, by index, ascending.
    pub async fn accept_all(&self, payloads: &[Payload]) -> Vec<(usize, NotDurable)> {
        self.acceptor.accept(payloads).await
    }

    /// Makes a queue for the payloads of one sender, answered in order. A payload that is not durable is given up after
    /// `patience`.
    #[must_use]
    pub fn in_turn<T>(&self, patience: Duration) -> InTurn<T> {
        let acceptor = Arc::clone(&self.acceptor);
        let accept: Accept = Arc::new(move |payloads: Vec<Payload>| {
            let acceptor = Arc::clone(&acceptor);
            Box::pin(async move {
                let failed = acceptor.accept(&payloads).await;
                Accepted { payloads, failed }
            })
        });
        InTurn::new(accept, self.together_max, patience).traced(self.tracer.clone())
    }

    /// Returns notices of refusals from now on, by home. A listener that is too slow misses the oldest.
    #[must_use]
    pub fn refusals(&self) -> broadcast::Receiver<RefusalNotice> {
        self.acceptor.refusals()
    }

    /// Returns whether new payloads go to the spool.
    #[must_use]
    pub fn is_spooling(&self) -> bool {
        self.sink.must_spool()
    }

    /// Returns its end, which comes after [`Ingest::close`], or a panic of one of its tasks or of the spool's thread.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Tells whether payloads can be made durable now, or why not. The log may be away while the spool has room.
    pub fn readiness(&self) -> Result<(), String> {
        if self.ended.is_over() {
            return Err("the ingest has ended".to_owned());
        }
        if self.sink.must_spool() && self.sink.spool.is_full() {
            let bytes_max = self.spool_bytes_max;
            return Err(format!(
                "the log is away and the spool is full: {bytes_max} bytes"
            ));
        }
        Ok(())
    }

    /// Stops taking payloads, waits until accepted ones are durable, and closes the spool, which keeps its records.
    pub async fn close(&self) {
        self.acceptor.close().await;
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic while it is held"));
        for task in tasks {
            if let Err(error) = task.await {
                error!(%error, "a task of the ingest failed");
            }
        }
        self.sink.spool.close().await;
    }
}

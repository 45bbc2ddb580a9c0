//! All services together.

use std::time::Instant;

use tokio::sync::OnceCell;

use super::{Cassandra, CassandraFor, Kafka, Mosquitto, Registry};

/// Kafka, Cassandra, the schema registry and Mosquitto.
#[derive(Debug)]
pub struct Stack {
    pub kafka: Kafka,
    pub cassandra: Cassandra,
    pub registry: Registry,
    pub mosquitto: Mosquitto,
}

impl Stack {
    /// Starts all at once, for a test that stops or kills some of them. They end when it is dropped.
    pub async fn start(made_for: CassandraFor) -> anyhow::Result<Self> {
        // The slowest first: each does some work before it waits.
        let (cassandra, registry, kafka, mosquitto) = tokio::try_join!(
            Cassandra::start(made_for),
            Registry::start(),
            Kafka::start(),
            Mosquitto::start()
        )?;
        Ok(Self {
            kafka,
            cassandra,
            registry,
            mosquitto,
        })
    }

    /// The stack that every test of this process shares: started by the first, gone with the process. Use names of
    /// your own ([`super::unique`], [`super::unique_home`]), and stop nothing.
    #[expect(
        clippy::print_stderr,
        reason = "says how long the start took, once a process"
    )]
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Result<Stack, String>> = OnceCell::const_new();
        let shared = SHARED
            .get_or_init(|| async {
                let start = Instant::now();
                let stack = Self::start(CassandraFor::Tests)
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                eprintln!(
                    "the stack is up after {:.1} s",
                    start.elapsed().as_secs_f64()
                );
                Ok(stack)
            })
            .await;
        match shared {
            Ok(stack) => stack,
            Err(error) => panic!("the stack did not start: {error}"),
        }
    }
}

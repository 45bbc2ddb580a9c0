//! An MQTT 3.1.1 and 5 server for devices and for Hearth's own controller. PUBACK means durable: it is sent only once
//! the ingest has the reading in the log or the spool.
//!
//! It is not a general broker: devices publish readings and answers, and receive their own commands and status; nothing
//! else is passed on. Sessions keep subscriptions in memory, and wills are ignored. Devices publish with QoS 0, 1 or 2,
//! and receive with QoS 0 or 1. Refusals are counted, and logged at a bounded rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::expiry;
use crate::ingest::Ingest;
use crate::mqtt_stream::Stream;
use platform::clock::Clock;
use platform::lifetime::{Alive, Ended, Readiness, stopped};
use platform::metrics::Metrics;
use platform::settings::{BadSetting, Settings as _};
use platform::tls::TlsError;

mod access;
mod certificate;
mod config;
mod connection;
mod exactly_once;
mod incoming;
mod packets;
mod refusals;
mod shared;
mod status;
mod subscribers;

pub use config::{GatewayAuth, GatewayConfig};

use access::Identity;
use config::{OPEN_ELSEWHERE, is_loopback};
use connection::Connection;
use refusals::{End, GatewayRefusal, Refusals};
use shared::Shared;
use subscribers::Subscribers;

/// Time without traffic after which TCP probes a connection, and closes it if the probes get no answer. With MQTT 3.1.1
/// a client may have no keep-alive at all.
const TCP_IDLE_MAX: Duration = Duration::from_secs(120);
const TCP_PROBE_EVERY: Duration = Duration::from_secs(30);
const TCP_PROBES: u32 = 4;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The value of a setting is not allowed, alone or together with others.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error("TLS of the gateway")]
    Tls(#[from] TlsError),
    #[error("listen on {listen}")]
    Listen {
        listen: String,
        #[source]
        source: std::io::Error,
    },
}

impl GatewayError {
    /// Returns whether the same start may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Listen { .. } => true,
            Self::Setting(_) | Self::Tls(_) => false,
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    ended: Ended,
    ingest: Arc<Ingest>,
}

impl Gateway {
    /// Listens and serves.
    pub async fn start(
        ingest: Arc<Ingest>,
        clock: Clock,
        metrics: Metrics,
        config: GatewayConfig,
    ) -> Result<Self, GatewayError> {
        config.checked("gateway")?;
        let tls = certificate::acceptor(&config)?;
        expiry::note(&metrics, "gateway", config.cert_file.as_deref());
        let listen_error = |source| GatewayError::Listen {
            listen: config.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&config.listen)
            .await
            .map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        if config.auth == GatewayAuth::Open && !is_loopback(local_addr.ip()) {
            return Err(BadSetting::new("gateway", "auth", OPEN_ELSEWHERE).into());
        }
        let for_readiness = Arc::clone(&ingest);
        let shared = Arc::new(Shared {
            subscribers: Subscribers::new(config.retained_max, config.sessions_max),
            refusals: Refusals::new(metrics.clone()),
            ingest,
            publish_to_ack_seconds: metrics
                .publish_to_ack_seconds
                .with_label_values(&["gateway"]),
            metrics,
            config,
            tls,
        });
        let stop = watch::Sender::new(false);
        let (alive, ended) = Alive::new();
        let serving = serve(listener, shared, clock, stop.subscribe());
        let task = tokio::spawn(async move {
            let _alive = alive;
            serving.await;
        });
        Ok(Self {
            local_addr,
            stop,
            task,
            ended,
            ingest: for_readiness,
        })
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns its end, which comes after [`Gateway::close`] or after a panic of its task.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Tells whether readings can be acknowledged now, or why not. Log and store may be away while the spool has room.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (ended, ingest) = (self.ended(), Arc::clone(&self.ingest));
        Readiness::new(move || {
            if ended.is_over() {
                return Err("the gateway has ended".to_owned());
            }
            ingest.readiness()
        })
    }

    /// Stops taking connections and readings, acknowledges readings under way, and disconnects all clients.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            error!(%error, "the gateway failed");
        }
    }
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(shared.config.connections_max));
    let mut connections = JoinSet::new();
    let notices = shared.ingest.refusals();
    let status = tokio::spawn(status::run(Arc::clone(&shared), clock, notices));
    loop {
        tokio::select! {
            // Free the memory of connections that have ended.
            Some(_) = connections.join_next() => {}
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        shared.refusals.note(GatewayRefusal::ConnectionsMax, peer, "", "too many connections");
                        continue;
                    };
                    let (shared, stop) = (Arc::clone(&shared), stop.clone());
                    connections.spawn(async move {
                        shared.metrics.gateway_connections.inc();
                        let _counted = Counted(Arc::clone(&shared));
                        match welcome(stream, peer, &shared).await {
                            Ok((connection, deadline)) => {
                                Box::pin(connection.run(deadline, stop)).await;
                            }
                            Err(end) => shared.refusals.end(&end, peer, ""),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    status.abort();
    while connections.join_next().await.is_some() {}
}

/// Counts a connection until it is dropped, however it ends.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.gateway_connections.dec();
    }
}

/// Does the TLS handshake if TLS is on. Returns the connection and the deadline for its CONNECT.
async fn welcome(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> Result<(Connection, Instant), End> {
    let deadline = Instant::now() + Duration::from_millis(shared.config.connect_timeout_ms);
    set_up(&stream)?;
    let (stream, identity): (Box<dyn Stream>, Identity) = match &shared.tls {
        None => (Box::new(stream), Identity::Anyone),
        Some(acceptor) => {
            let stream = timeout_at(deadline, acceptor.accept(stream))
                .await
                .map_err(|_| End::refused(GatewayRefusal::Tls, "no TLS handshake in time"))?
                .map_err(|error| End::refused(GatewayRefusal::Tls, &error.to_string()))?;
            let identity = match shared.config.auth {
                GatewayAuth::Open => Identity::Anyone,
                GatewayAuth::Mtls => {
                    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    certificate::identity(certificates, &shared.config.service_name)
                        .map_err(|detail| End::refused(GatewayRefusal::Tls, &detail))?
                }
            };
            (Box::new(stream), identity)
        }
    };
    let connection = Connection::new(stream, peer, identity, Arc::clone(shared));
    Ok((connection, deadline))
}

/// Sets up the socket: packets are sent immediately, and a lost client is noticed whatever its keep-alive.
fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_IDLE_MAX)
        .with_interval(TCP_PROBE_EVERY)
        .with_retries(TCP_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    use super::{TCP_IDLE_MAX, set_up};

    #[tokio::test]
    async fn a_peer_that_is_gone_is_noticed_without_mqtt() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        set_up(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), TCP_IDLE_MAX);
    }
}

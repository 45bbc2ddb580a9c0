//! The gateway with client certificates: who may speak for whom.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory_log;
mod raw_mqtt;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devices::gateway::{Gateway, GatewayAuth, GatewayConfig, GatewayError};
use memory_log::{Bench, T0, reading, until};
use raw_mqtt::{BOTH, Hello, Level, Raw};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::ServerName;
use schemas::dead_letter::{DeadLetter, Reason};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An authority and what it signed, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for `common_name` in `{name}.pem` and `{name}.key`.
    fn sign(&self, name: &str, common_name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A client that shows this certificate; the handshake may still fail.
    async fn client(
        &self,
        address: SocketAddr,
        level: Level,
        name: Option<&str>,
    ) -> std::io::Result<Raw> {
        let file = |end: &str| name.map(|name| self.file(&format!("{name}.{end}")));
        let (cert, key) = (file("pem"), file("key"));
        let config = platform::tls::client_config(
            &self.file("ca.pem"),
            cert.as_deref(),
            key.as_deref().map(Path::new),
        );
        let connector = TlsConnector::from(Arc::new(config.unwrap()));
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await?;
        Ok(Raw::over(stream, level))
    }

    async fn connect(&self, address: SocketAddr, level: Level, name: &str) -> Raw {
        let mut raw = self.client(address, level, Some(name)).await.unwrap();
        raw.greet(Hello::new(level, "same id for everybody")).await;
        raw
    }

    fn config(&self) -> GatewayConfig {
        GatewayConfig {
            listen: "127.0.0.1:0".to_owned(),
            auth: GatewayAuth::Mtls,
            cert_file: Some(self.file("server.pem")),
            key_file: Some(self.file("server.key")),
            client_ca_file: Some(self.file("ca.pem")),
            ..GatewayConfig::default()
        }
    }
}

async fn start(bench: &Bench, config: GatewayConfig) -> Result<Gateway, GatewayError> {
    let ingest = Arc::clone(&bench.ingest);
    Gateway::start(ingest, bench.clock, bench.metrics.clone(), config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_speaks_for_its_home_only() {
    let authority = Authority::new();
    for (name, common_name) in [
        ("server", "gateway"),
        ("seven", "7"),
        ("eight", "8"),
        ("cloud", "hearth"),
    ] {
        authority.sign(name, common_name);
    }
    let bench = Bench::new();
    let gateway = start(&bench, authority.config()).await.unwrap();
    let address = gateway.local_addr();
    for level in BOTH {
        let denied = if level == Level::Five { 0x87 } else { 0x80 };
        let mut seven = authority.connect(address, level, "seven").await;
        let mut eight = authority.connect(address, level, "eight").await;
        assert_eq!(seven.subscribe("home/7/cmd").await, 1);
        assert_eq!(seven.subscribe("home/7/status").await, 1);
        for filter in ["home/8/cmd", "home/+/cmd", "#", "home/7/meter"] {
            assert_eq!(seven.subscribe(filter).await, denied, "{filter}");
        }
        let (topic, payload) = reading(7, T0);
        seven.publish(&topic, 1, payload.as_bytes()).await;
        assert_eq!(seven.receive().await.unwrap().puback(), (1, 0));

        let mut cloud = authority.connect(address, Level::Five, "cloud").await;
        cloud.publish("home/7/cmd", 1, b"go").await;
        assert_eq!(cloud.receive().await.unwrap().puback(), (1, 0));
        assert_eq!(seven.receive().await.unwrap().publish(level).2, b"go");
        cloud.publish(&topic, 2, payload.as_bytes()).await;
        assert_eq!(
            cloud.receive().await.unwrap().puback(),
            (2, 0x87),
            "it measures nothing"
        );

        // A payload for another home under one's own topic is a dead letter.
        eight.publish("home/8/meter", 1, payload.as_bytes()).await;
        assert_eq!(eight.receive().await.unwrap().puback(), (1, 0));
        let letters = bench.log.read::<DeadLetter>();
        assert_eq!(letters.last().unwrap().reason, Reason::HouseholdMismatch);

        for topic in ["home/7/meter", "home/8/cmd", "elsewhere"] {
            let before = bench.log.records().len();
            eight.publish(topic, 3, payload.as_bytes()).await;
            if level == Level::Five {
                assert_eq!(
                    eight.receive().await.unwrap().puback(),
                    (3, 0x87),
                    "{topic}"
                );
            } else {
                eight.ends(0).await;
                eight = authority.connect(address, level, "eight").await;
            }
            assert_eq!(bench.log.records().len(), before, "{topic}");
        }
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_let_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("server", "gateway");
    authority.sign("nobody", "somebody else");
    other.sign("forged", "7");
    for end in ["pem", "key"] {
        let file = format!("forged.{end}");
        std::fs::copy(other.file(&file), authority.file(&file)).unwrap();
    }
    let bench = Bench::new();
    let gateway = start(&bench, authority.config()).await.unwrap();
    for name in [None, Some("nobody"), Some("forged")] {
        // In TLS 1.3 the client may learn only with its first read.
        if let Ok(mut raw) = authority
            .client(gateway.local_addr(), Level::Four, name)
            .await
        {
            assert_eq!(raw.receive().await, None, "{name:?}");
        }
    }
    let mut plain = Raw::tcp(gateway.local_addr(), Level::Four).await;
    plain.send(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a").await;
    while plain
        .receive()
        .await
        .is_some_and(|packet| packet.kind != raw_mqtt::CONNACK)
    {}
    until("all are gone", || {
        bench.metrics.gateway_connections.get() == 0
    })
    .await;
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_named() {
    let authority = Authority::new();
    authority.sign("server", "gateway");
    let bench = Bench::new();
    let wrong = |change: fn(&mut GatewayConfig)| {
        let mut config = authority.config();
        change(&mut config);
        start(&bench, config)
    };
    let no_ca = wrong(|config| config.client_ca_file = None)
        .await
        .unwrap_err();
    assert!(
        matches!(&no_ca, GatewayError::Setting(bad) if bad.key == "gateway.auth"),
        "{no_ca}"
    );
    let no_key = wrong(|config| config.key_file = None).await.unwrap_err();
    assert!(
        matches!(&no_key, GatewayError::Setting(bad) if bad.key == "gateway.key_file"),
        "{no_key}"
    );
    let no_file = wrong(|config| config.cert_file = Some("nowhere.pem".into()))
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&no_file).unwrap().to_string();
    assert!(cause.contains("nowhere.pem"), "{cause}");
    assert!(!no_file.is_retryable());
}

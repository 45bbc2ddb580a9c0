//! Devices for the benchmarks: raw MQTT 5 with QoS 1 over plain sockets or TLS. To cost little beside what is measured,
//! packets are made beforehand, many are written and read at once, and only acknowledgements are parsed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use model::reading::Reading;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use schemas::codec::Codec;
use tests::harness::{MqttAccess, Stack, kafka_records};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for anything here.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// Time between two readings of a device.
const STEP_MS: i64 = 1_000;
/// Most unacknowledged publishes of a device: the gateway's default for MQTT 5.
const WINDOW: usize = 64;
const READ_BYTES: usize = 64 * 1024;
/// Devices that connect at the same time.
const CONNECTING_MAX: usize = 200;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The address to which devices connect, with or without TLS.
#[derive(Clone)]
pub(crate) struct Endpoint {
    port: u16,
    tls: Option<TlsConnector>,
}

impl Endpoint {
    pub(crate) fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    /// With the certificate authority of `access`.
    pub(crate) fn to(access: &MqttAccess) -> Result<Self> {
        let Some(ca) = &access.ca else {
            return Ok(Self::plain(access.port));
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            port: access.port,
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    /// Connects, and waits until it is accepted.
    pub(crate) async fn connect(&self, hello: &[u8]) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("127.0.0.1")?;
                Box::new(tls.connect(name, stream).await?)
            }
        };
        send(&mut stream, hello).await?;
        let (first, body) = packet(&mut stream).await?;
        ensure!(
            first == 0x20 && body.get(1) == Some(&0),
            "not accepted: {first:#x} {body:?}"
        );
        Ok(stream)
    }
}

/// A device with everything that it will send.
pub(crate) struct Device {
    home: u64,
    hello: Vec<u8>,
    packets: Vec<u8>,
    /// Where each packet ends.
    ends: Vec<usize>,
}

impl Device {
    /// `count` readings from `start_ms` on.
    pub(crate) fn new(
        home: u64,
        credentials: Option<(&str, &str)>,
        start_ms: i64,
        count: usize,
    ) -> Self {
        let topic = format!("home/{home}/meter");
        let (mut packets, mut ends) = (Vec::new(), Vec::with_capacity(count));
        for number in 0..count {
            let ts = schemas::mqtt::rfc3339(start_ms + to_i64(number) * STEP_MS);
            let watts = number % 3_000;
            let payload =
                format!(r#"{{"household_id":{home},"ts":"{ts}","consumption_w":{watts}.5}}"#);
            let id = u16::try_from(number % 65_535 + 1).expect("at most 65535");
            packets.extend(publish(&topic, id, payload.as_bytes()));
            ends.push(packets.len());
        }
        Self {
            home,
            hello: hello(&format!("device-{home}"), credentials, None),
            packets,
            ends,
        }
    }

    fn range(&self, from: usize, to: usize) -> &[u8] {
        let start = from.checked_sub(1).map_or(0, |last| self.ends[last]);
        &self.packets[start..self.ends[to - 1]]
    }

    /// Sends everything; returns once all of it is acknowledged, in order.
    async fn send_all(&self, stream: &mut Box<dyn Stream>) -> Result<()> {
        let (mut sent, mut acknowledged) = (0, 0);
        let mut read = vec![0; READ_BYTES];
        let mut filled = 0;
        while acknowledged < self.ends.len() {
            let until = (acknowledged + WINDOW).min(self.ends.len());
            if sent < until {
                send(stream, self.range(sent, until)).await?;
                sent = until;
            }
            let count = stream.read(&mut read[filled..]).await?;
            ensure!(count > 0, "closed after {acknowledged} acknowledgements");
            filled += count;
            let mut rest = &read[..filled];
            while let Some((first, body, behind)) = whole(rest) {
                ensure!(
                    first == 0x40 && body.get(2).is_none_or(|reason| *reason == 0),
                    "after {acknowledged}: {first:#x} {body:?}"
                );
                let expected = u16::try_from(acknowledged % 65_535 + 1)?;
                ensure!(body[..2] == expected.to_be_bytes(), "out of order");
                acknowledged += 1;
                rest = behind;
            }
            let left = rest.len();
            read.copy_within(filled - left..filled, 0);
            filled = left;
        }
        Ok(())
    }
}

/// Lets all devices send at once, on their own thread; returns the time until the last acknowledgement.
pub(crate) async fn drive(endpoint: &Endpoint, devices: &Arc<Vec<Device>>) -> Result<Duration> {
    let (endpoint, devices) = (endpoint.clone(), Arc::clone(devices));
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut streams = Vec::with_capacity(devices.len());
            for device in devices.iter() {
                streams.push(endpoint.connect(&device.hello).await?);
            }
            let begun = Instant::now();
            let sending = devices.iter().zip(&mut streams);
            let sending = sending.map(|(device, stream)| async {
                let sent = device.send_all(stream).await;
                sent.with_context(|| format!("device of home {}", device.home))
            });
            tokio::time::timeout(LIMIT, futures::future::try_join_all(sending)).await??;
            Ok(begun.elapsed())
        })
    })
    .await?
}

/// Connects devices that subscribe to commands, publish one reading each, and then stay idle.
pub(crate) async fn settle(
    endpoint: &Endpoint,
    homes: std::ops::Range<u64>,
) -> Result<Vec<Box<dyn Stream>>> {
    let start_ms = platform::clock::wall_ms() - 60_000;
    let settling = futures::stream::iter(homes).map(|home| async move {
        let device = Device::new(home, None, start_ms, 1);
        let mut stream = endpoint.connect(&device.hello).await?;
        send(&mut stream, &subscribe(&format!("home/{home}/cmd"))).await?;
        let (first, _) = packet(&mut stream).await?;
        ensure!(first == 0x90, "not subscribed: {first:#x}");
        send(&mut stream, &device.packets).await?;
        let (first, body) = packet(&mut stream).await?;
        ensure!(first == 0x40, "not acknowledged: {first:#x} {body:?}");
        Ok(stream)
    });
    let settled: Vec<Result<Box<dyn Stream>>> =
        settling.buffer_unordered(CONNECTING_MAX).collect().await;
    settled.into_iter().collect()
}

/// A plain subscriber with a shared subscription that acknowledges immediately: it shows the broker's own limit. Ends
/// when it has seen `count` messages.
pub(crate) struct Subscriber(tokio::task::JoinHandle<Result<()>>);

impl Subscriber {
    pub(crate) async fn start(
        endpoint: &Endpoint,
        access: &MqttAccess,
        count: usize,
    ) -> Result<Self> {
        let (user, password) = access.credentials.as_ref().context("credentials")?;
        let hello = hello("plain-subscriber", Some((user, password)), Some(1_000));
        let mut stream = endpoint.connect(&hello).await?;
        send(&mut stream, &subscribe("$share/plain/home/+/meter")).await?;
        let (first, _) = packet(&mut stream).await?;
        ensure!(first == 0x90, "not subscribed: {first:#x}");
        Ok(Self(tokio::spawn(receive(stream, count))))
    }

    pub(crate) async fn finish(self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.0).await??
    }
}

async fn receive(mut stream: Box<dyn Stream>, count: usize) -> Result<()> {
    let mut read = vec![0; READ_BYTES];
    let (mut filled, mut seen) = (0, 0);
    let mut acknowledgements = Vec::new();
    while seen < count {
        let got = stream.read(&mut read[filled..]).await?;
        ensure!(got > 0, "closed after {seen} messages");
        filled += got;
        let mut rest = &read[..filled];
        while let Some((first, body, behind)) = whole(rest) {
            ensure!(first & 0xf6 == 0x32, "no message of QoS 1: {first:#x}");
            let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let id = &body[2 + topic_bytes..4 + topic_bytes];
            acknowledgements.extend([0x40, 2, id[0], id[1]]);
            seen += 1;
            rest = behind;
        }
        let left = rest.len();
        read.copy_within(filled - left..filled, 0);
        filled = left;
        send(&mut stream, &acknowledgements).await?;
        acknowledgements.clear();
    }
    Ok(())
}

/// Returns how many of the readings that `devices` sent are missing from the topic.
pub(crate) async fn lost(
    stack: &Stack,
    topic: &str,
    devices: &[Device],
    start_ms: i64,
) -> Result<usize> {
    let mut missing: BTreeMap<i64, Vec<bool>> = devices
        .iter()
        .map(|device| (to_i64(device.home), vec![true; device.ends.len()]))
        .collect();
    let codec = Codec::single_object();
    for record in kafka_records(&stack.kafka.brokers(), topic, LIMIT).await? {
        let reading: Reading = codec.decode(record.value.as_deref().unwrap_or_default())?;
        let number = usize::try_from((reading.ts_ms - start_ms) / STEP_MS)?;
        if let Some(of_home) = missing.get_mut(&reading.household_id.get())
            && let Some(missing) = of_home.get_mut(number)
        {
            *missing = false;
        }
    }
    let all = missing.values().flatten();
    Ok(all.filter(|missing| **missing).count())
}

fn to_i64(number: impl TryInto<i64>) -> i64 {
    number.try_into().ok().expect("a small number")
}

async fn send(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await?;
    Ok(stream.flush().await?)
}

/// Returns the next packet, reading byte by byte if necessary.
async fn packet(stream: &mut Box<dyn Stream>) -> Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            bail!("a length of more than four bytes");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((first, body))
}

/// Returns first byte, body and the bytes after the packet, if it is complete.
fn whole(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, behind) = rest.split_at_checked(length)?;
    Some((*first, body, behind))
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest % 128).expect("below 128");
        rest /= 128;
        bytes.push(if rest > 0 { low | 128 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a short text");
    bytes.extend(length.to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Makes a CONNECT with a clean start.
fn hello(client_id: &str, credentials: Option<(&str, &str)>, receive_max: Option<u16>) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05".to_vec();
    body.push(if credentials.is_some() { 0xc2 } else { 2 });
    body.extend(600_u16.to_be_bytes());
    match receive_max {
        None => body.push(0),
        Some(max) => {
            body.extend([3, 0x21]);
            body.extend(max.to_be_bytes());
        }
    }
    text(&mut body, client_id);
    if let Some((user, password)) = credentials {
        text(&mut body, user);
        text(&mut body, password);
    }
    framed(0x10, &body)
}

fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 8);
    text(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.push(0);
    body.extend_from_slice(payload);
    framed(0x32, &body)
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    text(&mut body, filter);
    body.push(1);
    framed(0x82, &body)
}

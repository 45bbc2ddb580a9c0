//! A bare MQTT client for tests: sends exactly the bytes it is told to, and shows what comes back.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;

/// MQTT 3.1.1 is protocol level 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Four,
    Five,
}

pub const BOTH: [Level; 2] = [Level::Four, Level::Five];

/// How a client connects.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub level: Level,
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
}

impl<'a> Hello<'a> {
    pub fn new(level: Level, client_id: &'a str) -> Self {
        Self {
            level,
            client_id,
            clean: true,
            keep_alive_s: 30,
        }
    }
}

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
}

impl Received {
    /// Of PUBACK: packet id and reason.
    #[track_caller]
    pub fn puback(&self) -> (u16, u8) {
        self.answer(PUBACK)
    }

    /// Of an answer of this kind to a publish: packet id and reason.
    #[track_caller]
    pub fn answer(&self, kind: u8) -> (u16, u8) {
        assert_eq!(self.kind, kind, "{self:?}");
        let id = u16::from_be_bytes([self.body[0], self.body[1]]);
        (id, self.body.get(2).copied().unwrap_or(0))
    }

    /// Of PUBLISH with QoS 1: topic, packet id and payload.
    #[track_caller]
    pub fn publish(&self, level: Level) -> (String, u16, Vec<u8>) {
        assert_eq!((self.kind, self.flags & 6), (PUBLISH, 2), "{self:?}");
        let (topic, rest) = self.body[2..].split_at(usize::from(self.body[1]));
        let id = u16::from_be_bytes([rest[0], rest[1]]);
        let properties = if level == Level::Five {
            1 + usize::from(rest[2])
        } else {
            0
        };
        (
            String::from_utf8(topic.to_vec()).unwrap(),
            id,
            rest[2 + properties..].to_vec(),
        )
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub struct Raw {
    stream: Box<dyn Stream>,
    pub level: Level,
}

impl Raw {
    pub async fn tcp(address: SocketAddr, level: Level) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), level)
    }

    pub fn over(stream: impl Stream + 'static, level: Level) -> Self {
        Self {
            stream: Box::new(stream),
            level,
        }
    }

    /// Connects and is accepted.
    pub async fn connect(address: SocketAddr, level: Level, client_id: &str) -> Self {
        let mut raw = Self::tcp(address, level).await;
        raw.greet(Hello::new(level, client_id)).await;
        raw
    }

    /// Sends CONNECT and is accepted; says whether the session was there.
    pub async fn greet(&mut self, hello: Hello<'_>) -> bool {
        let mut body = b"\0\x04MQTT".to_vec();
        body.push(if hello.level == Level::Five { 5 } else { 4 });
        body.push(if hello.clean { 2 } else { 0 });
        body.extend(hello.keep_alive_s.to_be_bytes());
        if hello.level == Level::Five {
            // Session expiry: as long as the server likes, or not at all.
            let seconds: u32 = if hello.clean { 0 } else { u32::MAX };
            body.push(5);
            body.push(17);
            body.extend(seconds.to_be_bytes());
        }
        body.extend(text(hello.client_id));
        self.packet(0x10, &body).await;
        let connack = self.receive().await.unwrap();
        assert_eq!((connack.kind, connack.body[1]), (CONNACK, 0), "{connack:?}");
        connack.body[0] == 1
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn packet(&mut self, first: u8, body: &[u8]) {
        let mut bytes = vec![first];
        let mut rest = body.len();
        loop {
            let low = u8::try_from(rest % 128).unwrap();
            rest /= 128;
            bytes.push(if rest > 0 { low | 128 } else { low });
            if rest == 0 {
                break;
            }
        }
        bytes.extend(body);
        self.send(&bytes).await;
    }

    pub async fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) {
        self.publish_with(0x32, topic, id, payload).await;
    }

    /// `first` is the first byte: 0x32 is QoS 1, 0x33 with retain, 0x34 QoS 2, 0x3c the same again.
    pub async fn publish_with(&mut self, first: u8, topic: &str, id: u16, payload: &[u8]) {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        if self.level == Level::Five {
            body.push(0);
        }
        body.extend(payload);
        self.packet(first, &body).await;
    }

    /// Subscribes with QoS 1; the answer's code.
    pub async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 9];
        if self.level == Level::Five {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(1);
        self.packet(0x82, &body).await;
        let suback = self.receive().await.unwrap();
        assert_eq!(suback.kind, SUBACK, "{suback:?}");
        *suback.body.last().unwrap()
    }

    /// PUBREL.
    pub async fn release(&mut self, id: u16) {
        self.packet(0x62, &id.to_be_bytes()).await;
    }

    pub async fn acknowledge(&mut self, id: u16) {
        self.packet(0x40, &id.to_be_bytes()).await;
    }

    pub async fn ping(&mut self) {
        self.send(&[0xC0, 0]).await;
    }

    /// The next packet; `None` at the end of the connection.
    pub async fn receive(&mut self) -> Option<Received> {
        let receive = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Received {
                kind: first >> 4,
                flags: first & 15,
                body,
            })
        };
        tokio::time::timeout(Duration::from_secs(60), receive)
            .await
            .expect("an answer")
    }

    /// The connection must end, with this reason in MQTT 5 and with no packet in 3.1.1.
    #[track_caller]
    pub fn ends<'a>(&'a mut self, reason: u8) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let last = self.receive().await;
            if self.level == Level::Five {
                let last = last.unwrap_or_else(|| panic!("{at}: ended without DISCONNECT"));
                assert_eq!(
                    (last.kind, last.body.first()),
                    (DISCONNECT, Some(&reason)),
                    "{at}"
                );
                assert_eq!(self.receive().await, None, "{at}");
            } else {
                assert_eq!(last, None, "{at}");
            }
        }
    }
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

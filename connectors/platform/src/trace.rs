//! Traces: the way of one message through every process, as spans for a tracing back end (OpenTelemetry).
//!
//! The head of a trace is where a message enters Hearth; there it is decided whether the trace is recorded. Everything
//! behind it follows, by the context that records carry. Where nothing is recorded, a [`Span`] is empty and costs nothing.
//! Decisions about a home never depend on a trace.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt::{self, Display};
use std::hash::{BuildHasher as _, Hasher as _};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use schemas::topic::Topic;

pub use opentelemetry::KeyValue as Attribute;
pub use opentelemetry::trace::SpanKind;

/// Name of the header of a record, and of the user property of an MQTT 5 message, that carries a context.
pub const TRACEPARENT: &str = "traceparent";
/// Length of a context as text.
const TEXT_BYTES: usize = 55;

/// The span of a recorded trace that caused something. Traces that are not recorded have none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
}

impl TraceContext {
    /// Bytes of [`TraceContext::to_bytes`].
    pub const BYTES: usize = 24;

    /// Reads W3C `traceparent`. `None` if it is malformed, or if its trace is not recorded.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Caller::read(text).recorded()
    }

    /// Returns it in a form for disk.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        bytes
    }

    /// Reads what [`TraceContext::to_bytes`] wrote. `None` for ids that no span has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (trace_id, span_id) = bytes.split_first_chunk::<16>()?;
        let span_id = span_id.first_chunk::<8>()?;
        Self::new(*trace_id, *span_id)
    }

    fn new(trace_id: [u8; 16], span_id: [u8; 8]) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id })
    }

    fn of(span: &SpanContext) -> Self {
        Self {
            trace_id: span.trace_id().to_bytes(),
            span_id: span.span_id().to_bytes(),
        }
    }

    fn span_context(self) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.trace_id),
            SpanId::from_bytes(self.span_id),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        )
    }

    /// Id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        TraceId::from_bytes(self.trace_id).to_string()
    }

    /// Id of the span, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> String {
        SpanId::from_bytes(self.span_id).to_string()
    }
}

/// W3C `traceparent`.
impl Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (self.trace_id(), self.span_id());
        write!(f, "00-{trace_id}-{span_id}-01")
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// What whoever sends a message says of its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caller {
    /// It is recorded, and this caused the message.
    Recorded(TraceContext),
    /// Nothing behind it is to be recorded either.
    NotRecorded,
    /// Nothing that can be understood.
    #[default]
    Unknown,
}

impl Caller {
    /// Returns the cause, if its trace is recorded.
    #[must_use]
    pub const fn recorded(self) -> Option<TraceContext> {
        match self {
            Self::Recorded(context) => Some(context),
            Self::NotRecorded | Self::Unknown => None,
        }
    }

    /// Reads `traceparent` as the specification says: later versions may say more behind what is known.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let Some(text) = text.get(..TEXT_BYTES).filter(|_| is_whole(text)) else {
            return Self::Unknown;
        };
        let [version, trace_id, span_id, flags] =
            [&text[..2], &text[3..35], &text[36..52], &text[53..]];
        let is_split = [2, 35, 52].iter().all(|at| text[*at] == b'-');
        let read = || {
            let (_, [flags]) = (hex::<1>(version)?, hex::<1>(flags)?);
            Some((TraceContext::new(hex(trace_id)?, hex(span_id)?)?, flags))
        };
        match read().filter(|_| is_split && version != b"ff") {
            Some((context, flags)) if flags & 1 == 1 => Self::Recorded(context),
            Some(_) => Self::NotRecorded,
            None => Self::Unknown,
        }
    }
}

/// Whether a text ends where one of its version may.
fn is_whole(text: &[u8]) -> bool {
    match text.get(TEXT_BYTES) {
        None => true,
        Some(next) => *next == b'-' && !text.starts_with(b"00"),
    }
}

/// Reads lower-case hexadecimal digits, as many as `N` bytes have.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Starts traces and joins them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Recording>>);

#[derive(Debug)]
struct Recording {
    tracer: BoxedTracer,
    /// Heads whose random number lies below are recorded.
    threshold: u64,
    followed_per_s_max: u32,
    log_system: &'static str,
    begun: Instant,
    /// The second since then in the upper half, and how many callers were followed in it.
    followed: AtomicU64,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Share of the heads that are recorded, 0 to 1.
    pub share: f64,
    /// Most traces of devices and clients that are recorded because they say so, in a second. 0 ignores what they say.
    pub followed_per_s_max: u32,
}

impl Tracer {
    /// Records nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Records into `tracer`, which records all that it is given. `log_system` is what the log is called in spans.
    #[must_use]
    pub fn new(tracer: BoxedTracer, sampling: Sampling, log_system: &'static str) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of all numbers; 1 is all but one of them"
        )]
        let threshold = (sampling.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Self(Some(Arc::new(Recording {
            tracer,
            threshold,
            followed_per_s_max: sampling.followed_per_s_max,
            log_system,
            begun: Instant::now(),
            followed: AtomicU64::new(0),
        })))
    }

    /// Returns whether anything may be recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a trace, or follows the device's. The name is asked for only if the span is recorded.
    pub fn head(&self, kind: SpanKind, device: Caller, name: impl FnOnce() -> String) -> Span {
        let Some(recording) = &self.0 else {
            return Span::none();
        };
        let caller = if recording.followed_per_s_max == 0 {
            Caller::Unknown
        } else {
            device
        };
        let parent = match caller {
            Caller::NotRecorded => return Span::none(),
            Caller::Recorded(context) if recording.may_follow() => Some(context),
            Caller::Recorded(context) if draw() < recording.threshold => Some(context),
            Caller::Recorded(_) => return Span::none(),
            Caller::Unknown if draw() < recording.threshold => None,
            Caller::Unknown => return Span::none(),
        };
        Self::start(recording, parent, name(), kind)
    }

    /// Begins the handling of a record. Empty if the record carries no context.
    pub fn process(
        &self,
        parent: Option<TraceContext>,
        topic: Topic,
        partition: i32,
        offset: i64,
    ) -> Span {
        let (Some(recording), Some(parent)) = (&self.0, parent) else {
            return Span::none();
        };
        let name = format!("process {topic}");
        let mut span = Self::start(recording, Some(parent), name, SpanKind::Consumer);
        span.set("messaging.system", recording.log_system);
        span.set("messaging.operation.type", "process");
        span.set("messaging.destination.name", topic.as_str());
        span.set("messaging.destination.partition.id", partition.to_string());
        span.set("messaging.kafka.offset", offset);
        span
    }

    /// Begins the way of a record into the log, because of something elsewhere. Empty without a context.
    pub fn publish(&self, parent: Option<TraceContext>, topic: Topic) -> Span {
        let (Some(recording), Some(parent)) = (&self.0, parent) else {
            return Span::none();
        };
        let name = format!("publish {topic}");
        let mut span = Self::start(recording, Some(parent), name, SpanKind::Producer);
        span.set("messaging.system", recording.log_system);
        span.set("messaging.operation.type", "send");
        span.set("messaging.destination.name", topic.as_str());
        span
    }

    /// Begins anything else. Empty without a context.
    pub fn child(&self, parent: Option<TraceContext>, name: &'static str, kind: SpanKind) -> Span {
        match (&self.0, parent) {
            (Some(recording), Some(parent)) => {
                Self::start(recording, Some(parent), name.to_owned(), kind)
            }
            _ => Span::none(),
        }
    }

    fn start(
        recording: &Arc<Recording>,
        parent: Option<TraceContext>,
        name: String,
        kind: SpanKind,
    ) -> Span {
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.span_context()),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let span = recording.tracer.build_with_context(builder, &parent);
        Span(Some(Box::new(Live {
            context: TraceContext::of(span.span_context()),
            span,
            recording: Arc::clone(recording),
        })))
    }
}

impl Recording {
    /// Counts another trace of a caller, if there may be one more in this second. Without a bound whoever may send messages
    /// could have all of them recorded.
    fn may_follow(&self) -> bool {
        let second = self.begun.elapsed().as_secs() << 32;
        let next = |followed: u64| {
            let count = if followed >> 32 == second >> 32 {
                followed & u64::from(u32::MAX)
            } else {
                0
            };
            (count < u64::from(self.followed_per_s_max)).then_some(second | (count + 1))
        };
        let order = Ordering::Relaxed;
        self.followed.fetch_update(order, order, next).is_ok()
    }
}

/// Returns a random number.
fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A part of a trace. It ends when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Span(Option<Box<Live>>);

#[derive(Debug)]
struct Live {
    span: BoxedSpan,
    context: TraceContext,
    recording: Arc<Recording>,
}

impl Span {
    /// Records nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Returns whether it records.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Returns what a record that it causes carries.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|live| live.context)
    }

    /// Returns the tracer that it records with.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        Tracer(self.0.as_ref().map(|live| Arc::clone(&live.recording)))
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(live) = &mut self.0 {
            live.span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes that something happened now.
    pub fn event(&mut self, name: &'static str, attributes: Vec<Attribute>) {
        if let Some(live) = &mut self.0 {
            live.span.add_event(name, attributes);
        }
    }

    /// Notes that it has to do with another trace.
    pub fn link(&mut self, other: Option<TraceContext>) {
        if let (Some(live), Some(other)) = (&mut self.0, other) {
            live.span.add_link(other.span_context(), Vec::new());
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: impl Display) {
        if let Some(live) = &mut self.0 {
            live.span.set_status(Status::error(why.to_string()));
        }
    }

    /// Names it in the log lines of this thread until the guard is dropped.
    pub fn enter(&self) -> Entered {
        let context = self.context();
        Entered {
            before: CURRENT.replace(context.or(CURRENT.get())),
            of_thread: PhantomData,
        }
    }
}

/// Returns an attribute of an event.
pub fn attribute(key: &'static str, value: impl Into<Value>) -> Attribute {
    KeyValue::new(key, value)
}

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// Returns the span that this thread works for, for log lines.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.get()
}

/// A thread works for a span.
#[derive(Debug)]
#[must_use]
pub struct Entered {
    before: Option<TraceContext>,
    of_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::{Caller, TraceContext};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match Caller::read(text.as_bytes()) {
            Caller::Recorded(context) => context.to_string(),
            Caller::NotRecorded => "not recorded".to_owned(),
            Caller::Unknown => "unknown".to_owned(),
        };
        assert_eq!(found, expected, "{text}");
    }

    /// The cases of the W3C's own test suite for `traceparent`, and its example.
    #[test]
    fn a_caller_is_understood_as_the_specification_says() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        check(&good, &good);
        check(&format!("00-{TRACE}-{SPAN}-00"), "not recorded");
        // Other flags are ignored.
        check(&format!("00-{TRACE}-{SPAN}-ff"), &good);
        check(&format!("00-{TRACE}-{SPAN}-02"), "not recorded");
        // A later version, alone and with more behind it.
        check(&format!("cc-{TRACE}-{SPAN}-01"), &good);
        check(&format!("cc-{TRACE}-{SPAN}-01-what-the-future"), &good);
        check(&format!("cc-{TRACE}-{SPAN}-01.what-the-future"), "unknown");
        check(&format!("00-{TRACE}-{SPAN}-01-what-the-future"), "unknown");
        check(&format!("ff-{TRACE}-{SPAN}-01"), "unknown");
        for text in [
            String::new(),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}{SPAN}--01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            check(&text, "unknown");
        }
    }

    #[test]
    fn a_context_comes_back_from_text_and_from_disk() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let context = TraceContext::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (context.trace_id(), context.span_id()),
            (TRACE.to_owned(), SPAN.to_owned())
        );
        let bytes = context.to_bytes();
        assert_eq!(
            (bytes[0], bytes[15], bytes[16], bytes[23]),
            (0x4b, 0x36, 0x00, 0xb7)
        );
        assert_eq!(TraceContext::from_bytes(&bytes), Some(context));
        assert_eq!(TraceContext::from_bytes(&[0; 24]), None);
        assert_eq!(
            TraceContext::parse(format!("00-{TRACE}-{SPAN}-00").as_bytes()),
            None
        );
    }
}

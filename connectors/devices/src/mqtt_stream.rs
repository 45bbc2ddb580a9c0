//! The bytes of an MQTT connection, over TCP or TLS. Reads many at once; an idle connection needs no buffer.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one read. They are on the stack until it is known how many there are.
const READ_BYTES: usize = 32 * 1_024;

/// A TCP or TLS stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Replaces the contents of `read` by the next bytes; returns false at the end of the stream. While it waits, `read` holds
/// no memory.
pub(crate) async fn read_some(
    stream: &mut Box<dyn Stream>,
    read: &mut Vec<u8>,
) -> io::Result<bool> {
    poll_fn(|context| poll_read_some(stream, read, context)).await
}

/// Polls what [`read_some`] awaits.
pub(crate) fn poll_read_some(
    stream: &mut Box<dyn Stream>,
    read: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
    let mut bytes = ReadBuf::uninit(&mut bytes);
    let Poll::Ready(outcome) = Pin::new(stream).poll_read(context, &mut bytes) else {
        *read = Vec::new();
        return Poll::Pending;
    };
    outcome?;
    read.clear();
    read.extend_from_slice(bytes.filled());
    Poll::Ready(Ok(!read.is_empty()))
}

/// Output that waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    written: usize,
    /// Whether written bytes may not be flushed yet, as with TLS.
    is_open: bool,
}

impl Out {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as much as the stream takes; ready when everything is flushed.
    pub(crate) fn poll_write(
        &mut self,
        stream: &mut Box<dyn Stream>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            let count = ready!(Pin::new(&mut *stream).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.is_open = true;
        }
        if self.is_open {
            ready!(Pin::new(stream).poll_flush(context))?;
            self.is_open = false;
        }
        self.bytes.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

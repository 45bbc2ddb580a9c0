//! Bytes of an MQTT connection, over TCP or TLS: read many at once, and without memory for a connection that is idle.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one read. They stand on the stack until it is known how many came.
const READ_BYTES: usize = 32 * 1_024;

/// What bytes come and go through.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Replaces what is in `read` by what comes next; false at the end of the stream. While nothing comes `read` holds no
/// memory.
pub(crate) async fn read_some(
    stream: &mut Box<dyn Stream>,
    read: &mut Vec<u8>,
) -> io::Result<bool> {
    poll_fn(|context| poll_read_some(stream, read, context)).await
}

/// As `read_some`.
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

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    written: usize,
    /// Written and perhaps not passed on yet, as under TLS.
    is_open: bool,
}

impl Out {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes what the stream takes; ready when everything is out.
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

//! The times of a connection. hyper has one timer for an idle connection and for the header of a request; these are two limits.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    response::Response,
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::Limits;

/// Which requests run on a connection.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    running: usize,
    phase: Phase,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The header of the first request is awaited, or that of another one has begun.
    Header,
    /// Between two requests.
    Idle,
    /// HTTP/2, whose headers are frames among others.
    Frames,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { running: 0, phase: Phase::Header, since: Instant::now() })))
    }
}

impl Activity {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request's header is there.
    pub(super) fn begin(&self) -> Running {
        self.with(|state| state.running += 1);
        Running(self.clone())
    }

    /// Bytes have come.
    fn received(&self, bytes: &[u8], first: bool) {
        self.with(|state| {
            if first && bytes.starts_with(b"PRI ") {
                (state.phase, state.since) = (Phase::Frames, Instant::now());
            } else if state.running == 0 && state.phase == Phase::Idle {
                (state.phase, state.since) = (Phase::Header, Instant::now());
            }
        });
    }

    /// Until when the connection may stay as it is.
    fn deadline(&self, header: Duration, idle: Duration) -> Option<Instant> {
        self.with(|state| match state.phase {
            _ if state.running > 0 => None,
            Phase::Header => Some(state.since + header),
            Phase::Idle | Phase::Frames => Some(state.since + idle),
        })
    }
}

/// A request that runs, to the end of its answer.
#[derive(Debug)]
pub(super) struct Running(Activity);

impl Running {
    /// Runs as long as the answer's body.
    pub(super) fn hold(self, response: Response) -> Response {
        response.map(|body| Body::new(Held { body, _held: self }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.running -= 1;
            state.since = Instant::now();
            if state.phase == Phase::Header {
                state.phase = Phase::Idle;
            }
        });
    }
}

/// A body that keeps something as long as it is there.
pub(super) struct Held<T> {
    pub(super) body: Body,
    pub(super) _held: T,
}

impl<T: Unpin + Send + 'static> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that ends when a header is not complete in time, when nothing is asked for too long, or when its client does not
/// read what it asked for.
pub(super) struct Timed<I> {
    io: I,
    activity: Activity,
    header: Duration,
    idle: Duration,
    first: bool,
    reading: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<I> Timed<I> {
    pub(super) fn new(io: I, limits: &Limits, activity: Activity) -> Self {
        let (header, idle) = (limits.header_time(), limits.idle_time());
        let reading = Box::pin(sleep_until(Instant::now() + header));
        Self { io, activity, header, idle, first: true, reading, writing: None }
    }

    /// Whether the time of the present state is over; if not, the task is woken when it may be.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            // While a request runs the timer only looks again: its end wakes nobody.
            let deadline = self.activity.deadline(self.header, self.idle);
            let next = deadline.unwrap_or_else(|| Instant::now() + self.header.min(self.idle));
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return true;
            }
            if deadline.is_some() || self.reading.is_elapsed() {
                self.reading.as_mut().reset(next);
            }
            if self.reading.as_mut().poll(context).is_pending() {
                return false;
            }
        }
    }

    /// What a write came to; one that comes to nothing for too long fails.
    fn written<T>(&mut self, poll: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.writing = None;
            return poll;
        }
        let idle = self.idle;
        let timer = self.writing.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Timed<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            let bytes = &buffer.filled()[before..];
            if !bytes.is_empty() {
                self.activity.received(bytes, self.first);
                self.first = false;
            }
        }
        // Bytes that trickle in are no reason to wait for longer.
        if self.is_late(context) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the header did not come in time, or nothing did")));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Timed<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(poll, context)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(context);
        self.written(poll, context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_shutdown(context);
        self.written(poll, context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.written(poll, context)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

//! Bodies in both directions, passed on frame by frame.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::activity::{Activity, Phase};
use super::upstream::Exchange;

/// The body of a request on its way to a target.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// Nothing: such a request can be sent twice.
    Empty,
    /// What the visitor sends, as it comes.
    Streaming(Incoming),
    /// The same, up to so many bytes more.
    Limited(Incoming, u64),
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The visitor broke off.
    #[error(transparent)]
    Visitor(#[from] hyper::Error),
    /// It is larger than the app takes.
    #[error("the body is larger than the app takes")]
    TooLarge,
}

impl RequestBody {
    /// What a visitor sends, of which the app takes at most `limit` bytes; `None` when it is known to be more.
    pub(super) fn new(body: Incoming, limit: Option<u64>) -> Option<Self> {
        match limit {
            _ if body.is_end_stream() => Some(Self::Empty),
            None => Some(Self::Streaming(body)),
            Some(limit) if body.size_hint().lower() > limit => None,
            Some(limit) => Some(Self::Limited(body, limit)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (body, left) = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Streaming(body) => (body, None),
            Self::Limited(body, left) => (body, Some(left)),
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let (Some(left), Some(Ok(frame))) = (left, &frame)
            && let Some(data) = frame.data_ref()
        {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) | Self::Limited(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) | Self::Limited(body, _) => body.size_hint(),
        }
    }
}

/// The body of an answer on its way to a visitor.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: Source,
    /// The visitor's connection, which is idle again once this body is gone.
    visitor: Arc<Activity>,
}

#[derive(Debug)]
enum Source {
    Page(Option<Bytes>),
    Target { body: Incoming, exchange: Option<Exchange> },
}

impl ResponseBody {
    /// A page of our own.
    pub(super) fn page(page: Bytes, visitor: &Arc<Activity>) -> Self {
        Self { source: Source::Page(Some(page).filter(|page| !page.is_empty())), visitor: Arc::clone(visitor) }
    }

    /// What a target answers, as it comes.
    pub(super) fn from_target(body: Incoming, exchange: Exchange, visitor: &Arc<Activity>) -> Self {
        let exchange = if body.is_end_stream() {
            exchange.complete();
            None
        } else {
            Some(exchange)
        };
        Self { source: Source::Target { body, exchange }, visitor: Arc::clone(visitor) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().source {
            Source::Page(page) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Source::Target { body, exchange } => {
                let frame = Pin::new(&mut *body).poll_frame(context);
                let complete = match &frame {
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
                    Poll::Ready(Some(Err(_))) | Poll::Pending => false,
                };
                if complete && let Some(exchange) = exchange.take() {
                    exchange.complete();
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(page) => page.is_none(),
            Source::Target { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64)),
            Source::Target { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.visitor.enter(Phase::Idle);
    }
}

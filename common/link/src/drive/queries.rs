//! Questions and answers between planes.

use std::{collections::BTreeMap, sync::Arc};

use atoll_sync::proto::{Query, QueryPart};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::oneshot;

use crate::{QueryError, zone::Answerer};

/// Questions that are answered at the same time.
const ANSWERS_MAX: usize = 16;
/// Longest answer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Answers in the making.
#[derive(Default)]
pub(super) struct Answers(FuturesUnordered<BoxFuture<'static, (u64, Result<Bytes, String>)>>);

impl Answers {
    pub(super) fn begin(&mut self, answerer: Arc<dyn Answerer>, query: Query) {
        let id = query.id;
        if self.0.len() >= ANSWERS_MAX {
            self.0.push(async move { (id, Err("too many questions at once".to_owned())) }.boxed());
            return;
        }
        self.0.push(async move { (id, answerer.answer(&query.path, query.body).await) }.boxed());
    }

    pub(super) async fn next(&mut self) -> Option<(u64, Result<Bytes, String>)> {
        self.0.next().await
    }
}

/// Questions that wait for their answers.
#[derive(Default)]
pub(super) struct Asked {
    last_id: u64,
    waiting: BTreeMap<u64, (oneshot::Sender<Result<Bytes, QueryError>>, BytesMut)>,
}

impl Asked {
    pub(super) fn begin(&mut self, path: String, body: Bytes, reply: oneshot::Sender<Result<Bytes, QueryError>>) -> Query {
        self.last_id += 1;
        self.waiting.retain(|_, (reply, _)| !reply.is_closed());
        self.waiting.insert(self.last_id, (reply, BytesMut::new()));
        Query { id: self.last_id, path, body }
    }

    pub(super) fn take(&mut self, part: QueryPart) {
        let Some((_, body)) = self.waiting.get_mut(&part.id) else { return };
        body.extend_from_slice(&part.body);
        let too_long = body.len() > ANSWER_MAX;
        if !part.last && !too_long {
            return;
        }
        let Some((reply, body)) = self.waiting.remove(&part.id) else { return };
        let answer = match (too_long, part.error.is_empty()) {
            (true, _) => Err(QueryError::Failed(format!("the answer is longer than {ANSWER_MAX} bytes"))),
            (false, false) => Err(QueryError::Failed(part.error)),
            (false, true) => Ok(body.freeze()),
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
    }
}

//! Ends answers that stream when what let them begin does not hold any more.

use std::time::Duration;

use futures::{Stream, StreamExt};

use super::Permit;
use crate::Plane;

/// How often it is looked again.
const EVERY: Duration = Duration::from_secs(1);

/// The stream, until its caller's credential ends or is revoked, or their rights change: who comes back is judged anew.
pub(crate) fn until_withdrawn<S: Stream + Send + 'static>(
    plane: Plane,
    permit: Permit,
    stream: S,
) -> impl Stream<Item = S::Item> + Send + 'static {
    stream.take_until(Box::pin(async move {
        while holds(&plane, &permit) {
            tokio::time::sleep(EVERY).await;
        }
    }))
}

fn holds(plane: &Plane, permit: &Permit) -> bool {
    let Some(caller) = permit.caller() else { return false };
    let credential = &caller.credential;
    credential.expires.is_none_or(|expires| plane.clock.now() <= expires)
        && !plane.authenticate.is_withdrawn(credential)
        && permit.rights() == Some(&plane.roles(&plane.store.snapshot()).rights(caller))
}

//! Point 3: refused before a permission, let through after it, and cut when it is taken away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{
    scene::{CATALOG, PATIENCE, Scene, ms, refused, until, works},
    stream::Stream,
};
use crate::lab::{
    documents::{permission, permission_path},
    member::AZURE,
};

/// Within which an open connection must end.
const CUT: Duration = Duration::from_secs(15);

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let (global, client) = (scene.global()?, scene.outside(AZURE, CATALOG)?);
    let path = permission_path(AZURE);
    let outcome = async {
        global.delete(&path).await?;
        until("refused without a permission", PATIENCE, async || refused(&client).await).await?;
        global.put(&path, &permission(AZURE)).await?;
        let passes = until("the permission lets the request through", PATIENCE, async || works(&client).await).await?;
        let stream = Stream::open(&client, Duration::from_secs(60)).await.context("a stream before the permission goes")?;
        ensure!(stream.is_alive(), "the stream does not run");
        global.delete(&path).await?;
        let begin = tokio::time::Instant::now();
        let refusal = until("new requests are refused", PATIENCE, async || refused(&client).await).await?;
        let cut = stream.end_within(CUT.saturating_sub(begin.elapsed())).await.map(|_| begin.elapsed());
        let cut = cut.with_context(|| format!("the open connection lives on after {} s", CUT.as_secs()))?;
        Ok(format!(
            "refused before; first success {} after the PUT's answer; deleted: new requests refused after {}, the open connection ended \
             after {:.1} s",
            ms(passes),
            ms(refusal),
            cut.as_secs_f64()
        ))
    };
    let outcome: Result<String> = outcome.await;
    global.put(&path, &permission(AZURE)).await?;
    outcome
}

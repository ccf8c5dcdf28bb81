//! Hears that another process wrote.

use std::{sync::Arc, time::Duration};

use atoll_runtime::backoff::Backoff;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{CHANNEL, CONNECT_WITHIN};
use crate::journal::Wake;

/// Listens until `ended`. Every connection that is lost is a reason to look, because what was said meanwhile was not heard.
pub(super) async fn listen(options: PgConnectOptions, wake: Arc<Wake>, ended: CancellationToken) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(CONNECT_WITHIN)
        .connect_lazy_with(options);
    let listening = async {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            if let Ok(listener) = begin(&pool).await {
                backoff.reset();
                wake.look();
                hear(listener, &wake).await;
            }
            wake.look();
            let pause = backoff.next(&mut rand::rng());
            sleep(pause).await;
        }
    };
    ended.run_until_cancelled(listening).await;
    pool.close().await;
}

async fn begin(pool: &sqlx::PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Passes on what is heard, until the connection is lost.
async fn hear(mut listener: PgListener, wake: &Wake) {
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => wake.heard(notification.payload()),
            Ok(None) => return debug!("the connection that listens was lost"),
            Err(error) => return debug!(error = %error, "the connection that listens was lost"),
        }
    }
}

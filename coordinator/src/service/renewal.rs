//! The coordinator's own certificate: renewed while it serves, and shown from the next connection on.

use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, utc};
use tokio::sync::mpsc;
use transport::logging::chain;

use super::clock::Clock;
use crate::membership::Membership;

/// Looks for the certificate that is to follow `shown`, for ever, and tells of each.
///
/// What stands in the way is logged once a day: thirty days are left when it is first.
pub(super) async fn keep(
    membership: Arc<Membership>,
    mut shown: Arc<Identity>,
    clock: Clock,
    tell: mpsc::Sender<Arc<Identity>>,
) {
    let mut looks = tokio::time::interval(EVERY);
    for look in 0_u64.. {
        looks.tick().await;
        let (this, current, now) = (Arc::clone(&membership), Arc::clone(&shown), clock.now());
        let next = tokio::task::spawn_blocking(move || this.renew_own(&current, now));
        match next.await {
            Ok(Ok(Some(next))) => {
                let until = utc(next.expires());
                tracing::info!(until, "own certificate renewed");
                shown = Arc::new(next);
                if tell.send(Arc::clone(&shown)).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) if look.is_multiple_of(LOOKS_A_DAY) => {
                let days_left = shown.expires().since(now).as_secs() / 86_400;
                let error = chain(&error);
                tracing::warn!(
                    days_left,
                    error,
                    "own certificate not renewed: sites stay away once it is over; renew it by hand"
                );
            }
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
}

/// Also how soon a certificate that was renewed by hand is shown.
const EVERY: Duration = Duration::from_secs(3600);
const LOOKS_A_DAY: u64 = 24;

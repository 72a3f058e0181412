//! A Fetch that waits. For the device: then it is looked after on the control plane. For records: then it
//! parks on the tail of every wanted partition and looks again when one of them grows, closes or is deleted,
//! when its time is up, or when the broker stops.

use std::future::poll_fn;
use std::task::{Context, Poll};

use millstream_log::{Offset, Parked};
use millstream_protocol::messages::FetchResponse;
use tokio::time::Instant;

use super::{Fetching, Look};

/// Waits until the request can be answered, or must be. `look` is what is known already; `None` if the device
/// has to be waited for.
///
/// Cancellation: safe; whoever drops it waits no more.
pub(super) async fn wait(mut fetch: Fetching, mut look: Option<Look>) -> FetchResponse {
    let deadline = fetch.limits.deadline.map_or_else(Instant::now, Instant::from_std);
    let expired = tokio::time::sleep_until(deadline);
    let stop = fetch.call.node.stopped();
    tokio::pin!(expired, stop);
    let mut must_answer = false;
    loop {
        let seen = match look {
            Some(look) => look,
            None => {
                let found;
                (fetch, found) = look_elsewhere(fetch).await;
                found
            }
        };
        if must_answer || fetch.is_enough(&seen) {
            return fetch.reply(seen);
        }
        must_answer = tokio::select! {
            biased;
            () = &mut expired => true,
            () = &mut stop => true,
            () = news(&fetch, &seen) => false,
        };
        look = fetch.try_look();
    }
}

/// Waits for the device on the control plane.
async fn look_elsewhere(fetch: Fetching) -> (Fetching, Look) {
    let control = fetch.call.node.control.clone();
    let looking = control.spawn_blocking(move || {
        let look = fetch.look();
        (fetch, look)
    });
    looking.await.expect("looking does not panic")
}

/// Ready once a partition has moved beyond what `look` saw.
async fn news(fetch: &Fetching, look: &Look) {
    let mut parked: Option<Vec<Parked>> = None;
    poll_fn(|context| match &parked {
        None => {
            parked = Some(park_all(fetch, look, context));
            Poll::Pending
        }
        Some(_) => Poll::Ready(()),
    })
    .await;
}

/// A log that has moved in the meantime wakes at once, so nothing is missed between looking and parking.
fn park_all(fetch: &Fetching, look: &Look, context: &Context<'_>) -> Vec<Parked> {
    let snapshot = fetch.call.node.topics.snapshot();
    let mut parked = Vec::with_capacity(look.partitions.len());
    for partition in &look.partitions {
        let key = &partition.wanted.key;
        let topic = match fetch.call.version {
            ..=12 => snapshot.named(&key.topic),
            _ => snapshot.identified(key.topic_id),
        };
        let found = topic.and_then(|topic| topic.partition(key.partition));
        match found.and_then(|found| found.log().ok()) {
            Some(log) => {
                let isolation = fetch.limits.isolation;
                let beyond = Offset::new(partition.visible_to(isolation));
                parked.push(log.park(context.waker(), beyond, isolation));
            }
            // Deleted since: the next look tells.
            None => context.waker().wake_by_ref(),
        }
    }
    parked
}

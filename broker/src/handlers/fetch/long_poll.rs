//! A Fetch that waits: it parks on the tail of every wanted partition and looks again when one of them
//! grows, closes or is deleted, when its time is up, or when the broker stops.

use std::future::poll_fn;
use std::task::{Context, Poll};

use millstream_log::{Offset, Parked};
use millstream_protocol::messages::FetchResponse;
use tokio::time::Instant;

use super::{Fetching, Read};

/// Waits until the request can be answered, or must be.
///
/// Cancellation: safe; whoever drops it waits no more.
pub(super) async fn wait(fetch: Fetching, mut read: Read) -> FetchResponse {
    let deadline = fetch.limits.deadline.map_or_else(Instant::now, Instant::from_std);
    let expired = tokio::time::sleep_until(deadline);
    let stop = fetch.call.node.stopped();
    tokio::pin!(expired, stop);
    loop {
        let must_answer = tokio::select! {
            biased;
            () = &mut expired => true,
            () = &mut stop => true,
            () = news(&fetch, &read) => false,
        };
        read = fetch.read();
        if must_answer || fetch.is_enough(&read) {
            break;
        }
    }
    if !read.is_resident() {
        read = read.bring_in(&fetch.call).await;
    }
    fetch.reply(read)
}

/// Ready once a partition has moved beyond what `read` saw.
async fn news(fetch: &Fetching, read: &Read) {
    let mut parked: Option<Vec<Parked>> = None;
    poll_fn(|context| match &parked {
        None => {
            parked = Some(park_all(fetch, read, context));
            Poll::Pending
        }
        Some(_) => Poll::Ready(()),
    })
    .await;
}

/// A log that has moved in the meantime wakes at once, so nothing is missed between looking and parking.
fn park_all(fetch: &Fetching, read: &Read, context: &Context<'_>) -> Vec<Parked> {
    let snapshot = fetch.call.node.topics.snapshot();
    let mut parked = Vec::with_capacity(read.partitions.len());
    for partition in &read.partitions {
        let key = &partition.wanted.key;
        let topic = match fetch.call.version {
            ..=12 => snapshot.named(&key.topic),
            _ => snapshot.identified(key.topic_id),
        };
        match topic.and_then(|topic| topic.partition(key.partition)) {
            Some(found) => {
                let beyond = Offset::new(partition.high_watermark);
                parked.push(found.log.park(context.waker(), beyond));
            }
            // Deleted since: the next look tells.
            None => context.waker().wake_by_ref(),
        }
    }
    parked
}

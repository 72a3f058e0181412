//! What a producer takes of memory: counted by an allocator that this test binary has for itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use millstream_client::fake::{Answer, FakeBroker};
use millstream_client::protocol::ApiKey;
use millstream_client::{Address, Client, Connecting, Stream, Transport, WriteHalf};
use millstream_producer::{Delivery, Producer, Record, SendError};
use tokio::io::AsyncWrite;

/// The system's allocator, counted. Tests of this binary run one after the other, on one thread.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one passes everything on")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The way to a broker in memory, on which batches are sent and never arrive: so the broker's memory is not counted.
#[derive(Debug)]
struct Hole(Arc<FakeBroker>);

impl Transport for Hole {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let Stream { read, write } = self.0.connect(address).await?;
            Ok(Stream { read, write: Box::new(Swallowing { inner: write, swallows: false }) })
        })
    }
}

struct Swallowing {
    inner: WriteHalf,
    /// Since the first piece that is too large for anything but a batch.
    swallows: bool,
}

impl AsyncWrite for Swallowing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.swallows |= bytes.len() > 4096;
        match self.swallows {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A producer whose batches are under way for ever.
async fn producer() -> Producer {
    let broker = FakeBroker::start(4, |call| match call.api {
        ApiKey::Produce => Answer::Never,
        _ => Answer::Usual,
    });
    let client = Client::builder("fake").transport(Arc::new(Hole(broker))).connect().await.unwrap();
    let producer = Producer::builder(client).buffer_bytes(64 << 20).build();
    // The first record of a topic waits for what is known of it.
    drop(producer.send(Record::to("t").value("first")).await.unwrap());
    // Connections are open, and their memory is not counted as that of records.
    while producer.stats().requests == 0 {
        tokio::task::yield_now().await;
    }
    producer
}

/// Sends, and counts what the call itself allocates, without what the sender does meanwhile.
async fn counted(producer: &Producer, record: Record<'_>) -> (Result<Delivery, SendError>, usize) {
    let mut sending = pin!(producer.send(record));
    let mut allocated = 0;
    loop {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let polled = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
        match polled {
            Poll::Ready(sent) => return (sent, allocated),
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
}

const RECORDS: usize = 10_000;

/// Sends records of so many bytes; says how many bytes all of them hold in the end, and how often a send allocated.
async fn in_flight(bytes: usize) -> (usize, Vec<usize>) {
    let producer = producer().await;
    let value = vec![7; bytes];
    let mut counts = vec![0; RECORDS];
    let before = BYTES.load(Ordering::Relaxed);
    for count in &mut counts {
        let (sent, allocated) = counted(&producer, Record::to("t").value(&value)).await;
        drop(sent.unwrap());
        *count = allocated;
    }
    let held = BYTES.load(Ordering::Relaxed) - before;
    assert_eq!(producer.stats().buffered_records, RECORDS as u64 + 1);
    (held, counts)
}

/// One test, because the counters are the whole process's.
#[tokio::test]
async fn ten_thousand_records_in_flight_cost_little_more_than_their_bytes_and_a_send_hardly_allocates() {
    for bytes in [100, 300, 1024] {
        let (held, counts) = in_flight(bytes).await;
        let ratio = held as f64 / (RECORDS * bytes) as f64;
        let total: usize = counts.iter().sum();
        let above_one = counts.iter().filter(|count| **count > 1).count();
        println!(
            "{bytes} B: {ratio:.3} times their bytes, {total} allocations, {above_one} sends with more than one"
        );
        assert!(ratio <= 1.5, "{bytes} B cost {ratio:.2} times their bytes");
        // The first record of a batch allocates for the batch; any other finds room, or makes it at once.
        let batches = RECORDS * (bytes + 30) / (256 * 1024) + 8;
        assert!(
            above_one <= batches,
            "{bytes} B: {above_one} sends allocated more than once, {batches} batches"
        );
        assert!(total <= RECORDS / 20, "{bytes} B: {total} allocations");
    }
}

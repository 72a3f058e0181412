//! A whole broker on a socket: whatever is sent, it answers or closes, and goes on serving others.
//!
//! Frames in the input have no lengths; a byte says how long each one is, so that the fuzzer soon gets past
//! the framing.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use millstream_broker::Broker;

/// Longer than the broker takes for anything that these frames can ask for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Target {
    broker: Broker,
    _data: tempfile::TempDir,
}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let data = tempfile::tempdir().expect("there is room for a folder");
    let broker = Broker::builder().data_dir(data.path()).listen("127.0.0.1:0").no_http();
    let broker = broker.set("num.partitions", "1").start().expect("the broker starts on an empty folder");
    Target { broker, _data: data }
});

fuzz_target!(|input: &[u8]| {
    let mut stream = TcpStream::connect(TARGET.broker.kafka_address()).expect("the broker still listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let mut rest = input;
    while let Some((&length, tail)) = rest.split_first() {
        let (frame, tail) = tail.split_at(usize::from(length).min(tail.len()));
        let mut sent = Vec::from((frame.len() as u32).to_be_bytes());
        sent.extend_from_slice(frame);
        if stream.write_all(&sent).is_err() {
            break;
        }
        rest = tail;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    if let Err(error) = stream.take(1 << 20).read_to_end(&mut answers) {
        let is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(is_reset, "the broker neither answers nor closes: {error}");
    }
});

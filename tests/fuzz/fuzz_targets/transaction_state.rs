//! Records of `__transaction_state` with any key and value: a broker starts over them, whatever they say.
#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use millstream_broker::{SimBroker, SimOptions};
use millstream_fuzz::{files, put};
use millstream_log::{ManualClock, SimDisk};
use millstream_protocol::messages::FindCoordinatorRequest;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord, set_base};
use millstream_protocol::{KStr, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NOW_MS: i64 = 1_700_000_000_000;
const PARTITIONS: (&str, &str) = ("transaction.state.log.num.partitions", "1");

/// A folder in which somebody asked for the coordinator, and where its log is.
static FOLDER: LazyLock<(SimDisk, PathBuf)> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let asked = async |broker: &SimBroker| {
        let mut stream = broker.connect();
        let key = KStr::from_static("id");
        let request = FindCoordinatorRequest { key, key_type: 1, ..Default::default() };
        for id in 0..10 {
            let chunks = encode_request(2, id, Some("fuzz"), &request).expect("a form of version 2");
            let frame: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect();
            stream.write_all(&frame).await.expect("a broker reads");
            let length = stream.read_u32().await.expect("a broker answers");
            stream.read_exact(&mut vec![0; length as usize]).await.expect("a broker answers");
            settle(broker).await;
        }
    };
    run(&disk, asked);
    let path = files(&disk, "log").into_iter().next().expect("the coordinator has a log");
    (disk, path)
});

async fn settle(broker: &SimBroker) {
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while broker.flush_step() {}
    }
}

fn run(disk: &SimDisk, work: impl AsyncFnOnce(&SimBroker)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(async {
        let options = SimOptions {
            disk: disk.clone(),
            clock: Arc::new(ManualClock::at(NOW_MS)),
            settings: vec![(PARTITIONS.0.to_owned(), PARTITIONS.1.to_owned())],
            seed: 1,
        };
        let broker =
            SimBroker::start(options).expect("what a coordinator keeps keeps no broker from starting");
        work(&broker).await;
        assert!(!broker.has_panicked());
        broker.kill().await;
    });
}

fuzz_target!(|input: &[u8]| {
    let Some(([how, cut], bytes)) = input.split_first_chunk() else { return };
    let (disk, path) = (FOLDER.0.fork(), &FOLDER.1);
    let (key, value) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    // Most keys are of the kind that is looked at.
    let key = if how & 1 == 0 { [&[0, 0], key].concat() } else { key.to_vec() };
    let value = (how & 2 == 0).then_some(value);
    let mut batch = BatchBuilder::new(Compression::None);
    batch.append(&NewRecord { timestamp: NOW_MS, key: Some(&key), value, headers: &[] });
    let mut batch = Vec::from(batch.build());
    set_base(&mut batch, 0, 0);
    put(&disk, path, &batch);
    run(&disk, settle);
});

//! Starting, stopping and starting again.

use millstream_broker::{Broker, DataDirError, StartError};
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::MetadataRequest;

use super::bed::{Bed, Client, batch, produce, values};

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    client.produce("t", batch(&["written"]), 1);
    client.produce("t", batch(&["durable"]), -1);
    for clean in [true, false] {
        bed.stop();
        if !clean {
            std::fs::remove_file(bed.folder.path().join("data/clean")).unwrap();
        }
        bed.start();
        let mut client = bed.client();
        let data = client.fetch("t", 0);
        assert_eq!(values(&data), [(0, "written".to_owned()), (1, "durable".to_owned())]);
        let all = client.call(12, &MetadataRequest { topics: None, ..Default::default() });
        assert_eq!(all.topics[0].topic_id, id);
        assert_eq!(all.topics[0].partitions[0].leader_epoch, i32::from(!clean));
    }
}

#[test]
fn a_graceful_stop_leaves_a_mark_that_the_next_start_takes() {
    let mut bed = Bed::new();
    let mark = bed.folder.path().join("data/clean");
    assert!(!mark.exists());
    bed.stop();
    assert!(mark.exists());
    bed.start();
    assert!(!mark.exists());
}

#[test]
fn a_second_broker_on_the_folder_is_refused_and_told_who_has_it() {
    let bed = Bed::new();
    let refused = bed.builder().start().unwrap_err();
    assert!(matches!(refused, StartError::DataDir(DataDirError::Held { .. })), "{refused}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    assert_eq!(bed.client().call(12, &MetadataRequest::default()).brokers.len(), 1);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let kafka = Broker::builder().data_dir(folder.path()).listen(&address).start().unwrap_err().to_string();
    assert!(kafka.contains(&address) && kafka.contains("another program has this port"), "{kafka}");
    let http = Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").http(&address).start();
    let http = http.unwrap_err().to_string();
    assert!(http.contains(&address) && http.contains("http.listener"), "{http}");
    assert!(Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").start().is_ok());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("data");
    let refused = Broker::builder().data_dir(&folder).listen("127.0.0.1:0").start().unwrap_err();
    assert!(matches!(refused, StartError::DataDir(DataDirError::Unusable { .. })), "{refused}");
    assert!(refused.to_string().contains(&folder.display().to_string()), "{refused}");
}

#[test]
fn a_wrong_setting_keeps_the_broker_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, value: &str| {
        let builder = Broker::builder().data_dir(folder.path().join("data")).listen("127.0.0.1:0");
        builder.set(name, value).start().unwrap_err().to_string()
    };
    assert!(start("num.partition", "1").contains("did you mean 'num.partitions'?"));
    assert!(start("num.partitions", "none").contains("not a whole number"));
    assert!(start("log.retention.hours", "1").contains("write log.retention.ms=3600000"));
    assert!(!folder.path().join("data").exists(), "nothing was made");
}

#[test]
fn a_broker_can_be_stopped_from_asynchronous_code() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let broker = Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").start().unwrap();
        drop(broker);
        drop(Broker::builder().data_dir(folder.path()).listen("127.0.0.1:0").start().unwrap());
    });
    assert!(folder.path().join("clean").exists());
}

#[test]
fn two_brokers_of_one_process_share_nothing() {
    let (one, other) = (Bed::new(), Bed::new());
    let (mut client, _) = one.with_topic("t");
    client.produce("t", batch(&["v"]), 1);
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert!(other.client().call(12, &all).topics.is_empty());
    let id = |bed: &Bed| bed.client().call(12, &all).cluster_id;
    assert_ne!(id(&one), id(&other));
}

#[test]
fn stopping_under_load_keeps_everything_that_was_acknowledged() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let address = bed.broker().kafka_address();
    let acknowledged = std::sync::atomic::AtomicI64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Client::connect(address);
            let request = produce("t", 0, batch(&["v"]), 1);
            while writer.try_call(9, &request) {
                acknowledged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        while client.log_end("t") < 100 {
            std::thread::yield_now();
        }
        bed.stop();
    });
    bed.start();
    let end = bed.client().log_end("t");
    let acknowledged = acknowledged.into_inner();
    assert!((acknowledged..=acknowledged + 1).contains(&end), "{acknowledged} acknowledged, {end} there");
}

#[test]
fn a_broker_that_is_stopped_while_it_recovers_loses_nothing() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.produce("t", batch(&["v"]), -1);
    for _ in 0..3 {
        bed.stop();
        drop(bed.builder().begin().unwrap());
        bed.start();
        assert_eq!(bed.client().log_end("t"), 1);
    }
}

#[test]
fn a_partition_that_cannot_be_opened_does_not_keep_the_broker_from_starting() {
    let mut bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    client.produce("t", batch(&["v"]), -1);
    client.create_topic("other", 1, &[]);
    bed.stop();
    let folder = bed.folder.path().join("data/topics").join(id.to_string()).join("0");
    std::fs::rename(&folder, folder.with_extension("away")).unwrap();
    std::fs::write(&folder, "not a folder").unwrap();
    bed.start();
    let recovered = bed.broker().wait_recovered();
    assert_eq!((recovered.partitions, recovered.failed), (2, 1));
    let mut client = bed.client();
    let refused = client.produce("t", batch(&["v"]), -1);
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    assert!(refused.error_message.unwrap().contains("cannot be opened"));
    assert_eq!(client.produce("other", batch(&["v"]), -1).error_code, 0);
    bed.stop();
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(folder.with_extension("away"), &folder).unwrap();
    bed.start();
    assert_eq!(bed.client().log_end("t"), 1, "nothing of it was touched");
}

//! Fetch: what is returned, how much of it, and what is said when there is nothing.

use millstream_protocol::messages::FetchRequest;
use millstream_protocol::messages::fetch_request::FetchTopic;
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client, batch, bytes, fetch, values, want};

fn filled(client: &mut Client, batches: usize) -> usize {
    let one = batch(&["first of a batch", "second of a batch"]);
    for _ in 0..batches {
        client.produce("t", one.clone(), 1);
    }
    one.len()
}

#[test]
fn every_version_returns_the_same_records() {
    let bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    filled(&mut client, 3);
    for version in 4..=18 {
        let mut request = fetch("t", 0, 0);
        if version >= 13 {
            (request.topics[0].topic, request.topics[0].topic_id) = (KStr::default(), id);
        }
        let response = client.call(version, &request);
        let data = &response.responses[0].partitions[0];
        let offsets: Vec<i64> = values(data).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5], "version {version}");
        assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 6, 6));
        assert_eq!(data.log_start_offset, if version >= 5 { 0 } else { -1 });
    }
}

#[test]
fn an_offset_inside_a_batch_returns_the_whole_batch() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    filled(&mut client, 2);
    assert_eq!(values(&client.fetch("t", 3))[0].0, 2);
    assert_eq!(values(&client.fetch("t", 3)).len(), 2);
}

#[test]
fn the_end_is_empty_and_beyond_it_is_out_of_range() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    filled(&mut client, 1);
    let end = client.fetch("t", 2);
    assert_eq!((end.error_code, end.high_watermark, bytes(&end).len()), (0, 2, 0));
    for offset in [3, -1, i64::MAX] {
        let beyond = client.fetch("t", offset);
        assert_eq!(beyond.error_code, ErrorCode::OffsetOutOfRange.code(), "{offset}");
        assert_eq!((beyond.high_watermark, bytes(&beyond).len()), (-1, 0));
    }
}

#[test]
fn the_first_batch_is_whole_whatever_the_limits_and_later_partitions_obey_them() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 3, &[]);
    let one = batch(&["a value of some length"]);
    for partition in 1..3 {
        client.call(9, &super::bed::produce("t", partition, one.clone(), 1));
        client.call(9, &super::bed::produce("t", partition, one.clone(), 1));
    }
    let mut request = fetch("t", 0, 0);
    request.max_bytes = 1;
    request.topics[0].partitions = (0..3).map(|index| want(index, 0)).collect();
    let sizes = |client: &mut Client, request: &FetchRequest| -> Vec<usize> {
        let response = client.call(12, request);
        response.responses[0].partitions.iter().map(|data| bytes(data).len()).collect()
    };
    assert_eq!(sizes(&mut client, &request), [0, one.len(), 0], "the first that has any");
    request.max_bytes = i32::MAX;
    assert_eq!(sizes(&mut client, &request), [0, 2 * one.len(), 2 * one.len()]);
    request.topics[0].partitions[1].partition_max_bytes = 1;
    request.topics[0].partitions[2].partition_max_bytes = 1;
    assert_eq!(sizes(&mut client, &request), [0, one.len(), 0]);
    request.topics[0].partitions[2].partition_max_bytes = i32::try_from(one.len()).unwrap();
    assert_eq!(sizes(&mut client, &request), [0, one.len(), one.len()]);
}

#[test]
fn the_brokers_own_limit_holds_whatever_is_asked_for() {
    let bed = Bed::with(&[("fetch.max.bytes", "5000")]);
    let (mut client, _) = bed.with_topic("t");
    let size = filled(&mut client, 100);
    let got = bytes(&client.fetch("t", 0)).len();
    assert!(got <= 5000 && got > 5000 - size, "{got}");
}

#[test]
fn large_replies_arrive_whole() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let value = "0123456789abcdef".repeat(4000);
    let sent = batch(&[&value]);
    for _ in 0..10 {
        client.produce("t", sent.clone(), 1);
    }
    let data = client.fetch("t", 0);
    assert_eq!(bytes(&data).len(), 10 * sent.len());
    assert!(values(&data).iter().zip(0..).all(|((offset, got), at)| *offset == at && *got == value));
}

#[test]
fn records_that_have_left_memory_are_read_back() {
    let mut bed = Bed::with(&[("log.segment.bytes", "300000")]);
    let (mut client, id) = bed.with_topic("t");
    let value = "0123456789abcdef".repeat(4000);
    for _ in 0..12 {
        client.produce("t", batch(&[&value]), -1);
    }
    bed.stop();
    let folder = bed.folder.path().join("data/topics").join(id.to_string()).join("0");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    bed.start();
    let mut client = bed.client();
    for offset in 0..12 {
        assert_eq!(values(&client.fetch("t", offset))[0], (offset, value.clone()));
    }
}

#[test]
fn topics_partitions_and_epochs_that_are_unknown_are_told() {
    let bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    filled(&mut client, 1);
    let code = |client: &mut Client, version, request: &FetchRequest| {
        ErrorCode::from_code(client.call(version, request).responses[0].partitions[0].error_code).unwrap()
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(code(&mut client, 12, &fetch("other", 0, 0)), unknown);
    assert_eq!(code(&mut client, 12, &fetch("t", 1, 0)), unknown);
    let by_id = |id: Uuid| FetchRequest {
        topics: vec![FetchTopic { topic_id: id, partitions: vec![want(0, 0)], ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(code(&mut client, 13, &by_id(id)), ErrorCode::None);
    assert_eq!(code(&mut client, 13, &by_id(Uuid::from_u128(1))), ErrorCode::UnknownTopicId);
    let mut ahead = fetch("t", 0, 0);
    ahead.topics[0].partitions[0].current_leader_epoch = 7;
    assert_eq!(code(&mut client, 12, &ahead), ErrorCode::UnknownLeaderEpoch);
    ahead.topics[0].partitions[0].current_leader_epoch = 0;
    assert_eq!(code(&mut client, 12, &ahead), ErrorCode::None);
}

#[test]
fn a_log_that_parted_from_ours_is_told_where() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    filled(&mut client, 1);
    let mut request = fetch("t", 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let same = client.call(12, &request).responses[0].partitions[0].clone();
    assert_eq!((same.error_code, same.diverging_epoch.epoch), (0, -1));
    request.topics[0].partitions[0].fetch_offset = 9;
    let longer = client.call(12, &request).responses[0].partitions[0].clone();
    assert_eq!((longer.diverging_epoch.epoch, longer.diverging_epoch.end_offset), (0, 2));
    assert_eq!(bytes(&longer).len(), 0);
}

#[test]
fn aborted_transactions_are_null_or_empty_by_isolation_level() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    filled(&mut client, 1);
    let mut request = fetch("t", 0, 0);
    let aborted = |client: &mut Client, request: &FetchRequest| {
        client.call(12, request).responses[0].partitions[0].aborted_transactions.clone()
    };
    assert_eq!(aborted(&mut client, &request), None);
    request.isolation_level = 1;
    assert_eq!(aborted(&mut client, &request), Some(Vec::new()));
}

#[test]
fn a_session_asks_once_and_is_told_what_is_new() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 2, &[]);
    let mut request = fetch("t", 0, 0);
    request.session_epoch = 0;
    request.topics[0].partitions.push(want(1, 0));
    let first = client.call(12, &request);
    assert!(first.session_id > 0);
    assert_eq!(first.responses[0].partitions.len(), 2);
    let next =
        |epoch| FetchRequest { session_id: first.session_id, session_epoch: epoch, ..Default::default() };
    assert!(client.call(12, &next(1)).responses.is_empty(), "nothing is new");
    client.call(9, &super::bed::produce("t", 1, batch(&["v"]), 1));
    let third = client.call(12, &next(2));
    assert_eq!(third.responses[0].partitions.len(), 1);
    assert_eq!(third.responses[0].partitions[0].partition_index, 1);
    assert_eq!(values(&third.responses[0].partitions[0]), [(0, "v".to_owned())]);
    let wrong = client.call(12, &next(2));
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    let mut closing = next(-1);
    closing.session_epoch = -1;
    client.call(12, &closing);
    assert_eq!(client.call(12, &next(3)).error_code, ErrorCode::FetchSessionIdNotFound.code());
}

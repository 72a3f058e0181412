//! A topic that is deleted, and one that gets its name: nothing of the first is in the second.

use std::time::{Duration, Instant};

use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::{DeleteTopicsRequest, FetchRequest};
use millstream_protocol::records::Compression;
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client, batch, builder_of, fetch};

/// Far less than the wait that is asked for: whoever answers within it was woken.
const SOON: Duration = Duration::from_secs(120);

fn delete(client: &mut Client) {
    let topics = vec![DeleteTopicState { name: Some(KStr::from_static("t")), ..Default::default() }];
    let told = client.call(6, &DeleteTopicsRequest { topics, ..Default::default() });
    assert_eq!(told.responses[0].error_code, 0);
}

fn by_id(mut request: FetchRequest, id: Uuid) -> FetchRequest {
    (request.topics[0].topic, request.topics[0].topic_id) = (KStr::default(), id);
    request
}

fn codes(answer: &<FetchRequest as millstream_protocol::Request>::Response) -> Vec<i16> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

#[test]
fn who_waits_for_it_by_its_id_is_told_that_the_id_is_unknown() {
    let bed = Bed::new();
    let (mut reader, id) = bed.with_topic("t");
    let started = Instant::now();
    reader.send(17, &by_id(FetchRequest { max_wait_ms: 600_000, ..fetch("t", 0, 0) }, id));
    let mut other = bed.client();
    delete(&mut other);
    other.create_topic("t", 1, &[]);
    other.produce("t", batch(&["of another topic"]), 1);
    let (_, answer) = reader.receive::<FetchRequest>(17);
    assert_eq!(codes(&answer), [ErrorCode::UnknownTopicId.code()]);
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_fetch_session_does_not_take_the_next_topic_for_it() {
    for (version, expected) in [(12, ErrorCode::OffsetOutOfRange), (17, ErrorCode::UnknownTopicId)] {
        let bed = Bed::new();
        let (mut client, id) = bed.with_topic("t");
        for _ in 0..3 {
            client.produce("t", batch(&["a"]), 1);
        }
        let begin = FetchRequest { session_epoch: 0, ..fetch("t", 0, 3) };
        let begin = if version >= 13 { by_id(begin, id) } else { begin };
        let session_id = client.call(version, &begin).session_id;
        assert!(session_id > 0);
        delete(&mut client);
        client.create_topic("t", 1, &[]);
        client.produce("t", batch(&["b"]), 1);
        let go_on = FetchRequest {
            session_id,
            session_epoch: 1,
            max_wait_ms: 600_000,
            min_bytes: 1,
            ..Default::default()
        };
        assert_eq!(codes(&client.call(version, &go_on)), [expected.code()], "version {version}");
    }
}

#[test]
fn the_next_topic_knows_no_producer_of_the_first() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let numbered = |sequence: i32| {
        let mut builder = builder_of(Compression::None, &["v"]);
        builder.producer(7, 3, sequence);
        builder.build()
    };
    for sequence in 0..3 {
        assert_eq!(client.produce("t", numbered(sequence), -1).error_code, 0);
    }
    delete(&mut client);
    client.create_topic("t", 1, &[]);
    assert_eq!(client.log_end("t"), 0);
    for sequence in 0..3 {
        let told = client.produce("t", numbered(sequence), -1);
        assert_eq!((told.error_code, told.base_offset), (0, i64::from(sequence)));
    }
    assert_eq!(client.log_end("t"), 3, "not one was taken for a duplicate");
}

//! Committed offsets, by consumers that use no group.

use millstream_protocol::messages::create_topics_request::CreatableTopic;
use std::path::{Path, PathBuf};

use millstream_protocol::messages::list_groups_response::ListedGroup;
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::{
    CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest, FindCoordinatorRequest, ListGroupsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client, batch};

fn k(text: &str) -> KStr {
    KStr::from(text)
}

fn commit(group: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: k(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: k(topic),
            topic_id: Uuid::nil(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: 3,
                committed_metadata: Some(k("so far")),
            }],
        }],
        ..Default::default()
    }
}

/// Tries again while groups are being read.
fn committed(client: &mut Client, version: i16, request: &OffsetCommitRequest) -> ErrorCode {
    loop {
        let code = client.call(version, request).topics[0].partitions[0].error_code;
        if code != ErrorCode::CoordinatorLoadInProgress.code() {
            return ErrorCode::from_code(code).unwrap();
        }
    }
}

/// What a group has committed: topic, partition, offset, epoch, metadata.
fn all(client: &mut Client, group: &str) -> Vec<(String, i32, i64, i32, String)> {
    let groups =
        vec![OffsetFetchRequestGroup { group_id: k(group), topics: None, member_epoch: -1, member_id: None }];
    let request = OffsetFetchRequest { groups, ..Default::default() };
    let reply = loop {
        let reply = client.call(9, &request).groups.swap_remove(0);
        if reply.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            break reply;
        }
    };
    assert_eq!(reply.error_code, 0);
    let topics = reply.topics.into_iter();
    let each = topics.flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |at| {
            let metadata = at.metadata.unwrap().to_string();
            (name.clone(), at.partition_index, at.committed_offset, at.committed_leader_epoch, metadata)
        })
    });
    each.collect()
}

fn listed(client: &mut Client, request: &ListGroupsRequest) -> Vec<ListedGroup> {
    let reply = client.call(5, request);
    assert_eq!(reply.error_code, 0);
    reply.groups
}

#[test]
fn an_offset_is_there_after_a_commit_and_after_a_restart() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for version in 2..=9 {
        let request = commit("g", "t", 0, i64::from(version));
        let request = match version {
            ..=5 => {
                let mut request = request;
                request.topics[0].partitions[0].committed_leader_epoch = -1;
                request
            }
            _ => request,
        };
        assert_eq!(committed(&mut client, version, &request), ErrorCode::None, "version {version}");
    }
    let kept = vec![("t".to_owned(), 0, 9, 3, "so far".to_owned())];
    assert_eq!(all(&mut client, "g"), kept);
    for is_clean in [true, false] {
        bed.stop();
        if !is_clean {
            std::fs::remove_file(bed.folder.path().join("data/clean")).unwrap();
        }
        bed.start();
        assert_eq!(all(&mut bed.client(), "g"), kept, "clean {is_clean}");
    }
}

#[test]
fn more_than_is_read_at_a_time_is_there_after_a_restart() {
    let mut bed = Bed::with(&[("offsets.topic.num.partitions", "1")]);
    let mut client = bed.client();
    client.create_topic("t", 100, &[]);
    // Batches of about 100 KiB: they do not fill a mebibyte evenly.
    for group in 0..40 {
        let mut request = commit(&format!("group-{group}"), "t", 0, group);
        let one = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = (0..100)
            .map(|partition_index| OffsetCommitRequestPartition {
                partition_index,
                committed_metadata: Some(k(&"m".repeat(1000))),
                ..one.clone()
            })
            .collect();
        assert_eq!(committed(&mut client, 9, &request), ErrorCode::None);
    }
    bed.stop();
    bed.start();
    let mut client = bed.client();
    for group in 0..40 {
        let all = all(&mut client, &format!("group-{group}"));
        assert_eq!((all.len(), all[99].2), (100, group), "group {group}");
    }
}

#[test]
fn damage_costs_what_was_damaged_and_nothing_behind_it() {
    let mut bed = Bed::with(&[("offsets.topic.num.partitions", "1")]);
    let (mut client, _) = bed.with_topic("t");
    for group in ["before", "damaged", "behind"] {
        committed(&mut client, 9, &commit(group, "t", 0, 5));
    }
    bed.stop();
    let found = files_below(&bed.folder.path().join("data/topics"));
    let held =
        |path: &PathBuf| std::fs::read(path).unwrap().windows(7).position(|window| window == b"damaged");
    let (path, at) = found.iter().find_map(|path| Some((path, held(path)?))).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
    bed.start();
    let mut client = bed.client();
    assert_eq!(all(&mut client, "before").len(), 1);
    assert_eq!(all(&mut client, "damaged"), []);
    assert_eq!(all(&mut client, "behind").len(), 1);
    assert_eq!(committed(&mut client, 9, &commit("damaged", "t", 0, 6)), ErrorCode::None);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn commits_are_taken_when_the_disk_has_no_room_for_records() {
    let bed = Bed::with(&[("log.disk.free.min.bytes", "9223372036854775807")]);
    let (mut client, _) = bed.with_topic("t");
    assert_eq!(client.produce("t", batch(&["x"]), 1).error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(committed(&mut client, 9, &commit("g", "t", 0, 5)), ErrorCode::None);
    assert_eq!(all(&mut client, "g").len(), 1);
}

#[test]
fn topics_go_by_id_in_version_ten() {
    let bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    let mut request = commit("g", "", 0, 5);
    request.topics[0].topic_id = id;
    assert_eq!(committed(&mut client, 10, &request), ErrorCode::None);
    request.topics[0].topic_id = Uuid::from_u128(9);
    assert_eq!(committed(&mut client, 10, &request), ErrorCode::UnknownTopicId);
    let asked = |topic_id| OffsetFetchRequestTopics { name: k(""), topic_id, partition_indexes: vec![0, 1] };
    let topics = Some(vec![asked(id), asked(Uuid::from_u128(9))]);
    let group = OffsetFetchRequestGroup { group_id: k("g"), member_id: None, member_epoch: -1, topics };
    let fetch = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let reply = client.call(10, &fetch);
    let [known, unknown] = &reply.groups[0].topics[..] else { panic!("two topics") };
    assert_eq!((known.topic_id, known.partitions[0].committed_offset), (id, 5));
    assert_eq!((known.partitions[1].committed_offset, known.partitions[1].error_code), (-1, 0));
    assert_eq!(unknown.partitions[0].error_code, ErrorCode::UnknownTopicId.code());
}

#[test]
fn a_group_that_never_committed_has_no_offset_and_no_error() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for version in 1..=7 {
        let topics = Some(vec![OffsetFetchRequestTopic { name: k("t"), partition_indexes: vec![0] }]);
        let request = OffsetFetchRequest { group_id: k("nobody"), topics, ..Default::default() };
        let reply = client.call(version, &request);
        let at = &reply.topics[0].partitions[0];
        assert_eq!((reply.error_code, at.error_code, at.committed_offset), (0, 0, -1), "version {version}");
        assert_eq!((at.committed_leader_epoch, at.metadata.as_deref()), (-1, Some("")));
    }
    assert_eq!(all(&mut client, "nobody"), []);
    assert_eq!(listed(&mut client, &ListGroupsRequest::default()), [], "asking makes no group");
}

#[test]
fn what_cannot_be_committed_is_refused_with_kafkas_code() {
    let bed = Bed::with(&[("offset.metadata.max.bytes", "6")]);
    let (mut client, _) = bed.with_topic("t");
    let refused = [
        (commit("g", "missing", 0, 1), ErrorCode::UnknownTopicOrPartition),
        (commit("g", "t", 1, 1), ErrorCode::UnknownTopicOrPartition),
        (
            OffsetCommitRequest { generation_id_or_member_epoch: 1, ..commit("g", "t", 0, 1) },
            ErrorCode::GroupIdNotFound,
        ),
        (commit(&"g".repeat(40_000), "t", 0, 1), ErrorCode::InvalidGroupId),
    ];
    for (request, code) in refused {
        assert_eq!(committed(&mut client, 9, &request), code, "{request:?}");
    }
    let as_member = OffsetCommitRequest { generation_id_or_member_epoch: 1, ..commit("g", "t", 0, 1) };
    assert_eq!(committed(&mut client, 8, &as_member), ErrorCode::IllegalGeneration);
    // Characters, not bytes.
    let mut request = commit("g", "t", 0, 1);
    request.topics[0].partitions[0].committed_metadata = Some(k("äöüßäö"));
    assert_eq!(committed(&mut client, 9, &request), ErrorCode::None);
    request.topics[0].partitions[0].committed_metadata = Some(k("1234567"));
    assert_eq!(committed(&mut client, 9, &request), ErrorCode::OffsetMetadataTooLarge);
    let of_member = OffsetCommitRequest { member_id: k("m"), ..commit("g", "t", 0, 1) };
    assert_eq!(committed(&mut client, 9, &of_member), ErrorCode::None, "of no generation");
}

#[test]
fn the_offsets_of_a_deleted_topic_go_with_it() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.create_topic("u", 1, &[]);
    committed(&mut client, 9, &commit("g", "t", 0, 5));
    committed(&mut client, 9, &commit("g", "u", 0, 6));
    client.call(5, &DeleteTopicsRequest { topic_names: vec![k("t")], ..Default::default() });
    client.create_topic("t", 1, &[]);
    let left = vec![("u".to_owned(), 0, 6, 3, "so far".to_owned())];
    assert_eq!(all(&mut client, "g"), left);
    bed.stop();
    bed.start();
    assert_eq!(all(&mut bed.client(), "g"), left);
}

#[test]
fn groups_are_listed_by_state_and_kind_and_deleted_with_their_offsets() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for group in ["a", "b", "c"] {
        committed(&mut client, 9, &commit(group, "t", 0, 5));
    }
    let ids =
        |groups: Vec<ListedGroup>| groups.iter().map(|one| one.group_id.to_string()).collect::<Vec<_>>();
    let everything = listed(&mut client, &ListGroupsRequest::default());
    assert_eq!((&*everything[0].group_state, &*everything[0].group_type), ("Empty", "classic"));
    assert_eq!(ids(everything), ["a", "b", "c"]);
    let filter = |state: &str, kind: &str| ListGroupsRequest {
        states_filter: vec![k(state)],
        types_filter: vec![k(kind)],
    };
    assert_eq!(listed(&mut client, &filter("empty", "Classic")).len(), 3);
    assert_eq!(listed(&mut client, &filter("Stable", "classic")), []);
    assert_eq!(listed(&mut client, &filter("Empty", "consumer")), []);
    let delete = DeleteGroupsRequest { groups_names: vec![k("b"), k("nobody")] };
    let results = client.call(2, &delete).results;
    assert_eq!(
        results.iter().map(|one| one.error_code).collect::<Vec<_>>(),
        [0, ErrorCode::GroupIdNotFound.code()]
    );
    assert_eq!(ids(listed(&mut client, &ListGroupsRequest::default())), ["a", "c"]);
    assert_eq!(all(&mut client, "b"), []);
}

#[test]
fn single_offsets_can_be_deleted() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 3, &[]);
    for partition in 0..3 {
        committed(&mut client, 9, &commit("g", "t", partition, 5));
    }
    let delete = |group: &str, topic: &str| OffsetDeleteRequest {
        group_id: k(group),
        topics: vec![OffsetDeleteRequestTopic {
            name: k(topic),
            partitions: [1, 2, 7]
                .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                .to_vec(),
        }],
    };
    let reply = client.call(0, &delete("g", "t"));
    assert_eq!((reply.error_code, reply.topics[0].partitions[2].error_code), (0, 0));
    assert_eq!(all(&mut client, "g").len(), 1);
    let reply = client.call(0, &delete("g", "missing"));
    assert_eq!(reply.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(client.call(0, &delete("nobody", "t")).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(client.call(0, &delete("", "t")).error_code, ErrorCode::InvalidGroupId.code());
}

#[test]
fn clients_read_the_internal_topic_but_do_not_make_it_write_it_or_delete_it() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let topic = CreatableTopic {
        name: k("__consumer_offsets"),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let made =
        client.call(7, &CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false });
    assert_eq!(made.topics[0].error_code, ErrorCode::InvalidTopicException.code());
    committed(&mut client, 9, &commit("g", "t", 0, 5));
    let all = client.call(12, &MetadataRequest { topics: None, ..Default::default() });
    let flags: Vec<(String, bool)> =
        all.topics.iter().map(|topic| (topic.name.clone().unwrap().to_string(), topic.is_internal)).collect();
    assert_eq!(flags, [("__consumer_offsets".to_owned(), true), ("t".to_owned(), false)]);
    let refused = client.produce("__consumer_offsets", batch(&["x"]), 1);
    assert_eq!(refused.error_code, ErrorCode::InvalidTopicException.code());
    let delete = DeleteTopicsRequest { topic_names: vec![k("__consumer_offsets")], ..Default::default() };
    assert_eq!(client.call(5, &delete).responses[0].error_code, ErrorCode::InvalidTopicException.code());
}

#[test]
fn this_broker_coordinates_every_group_but_no_transaction() {
    let bed = Bed::new();
    let mut client = bed.client();
    for version in 0..=3 {
        let told = client.call(version, &FindCoordinatorRequest { key: k("g"), ..Default::default() });
        assert_eq!((told.error_code, told.node_id), (0, 1), "version {version}");
        assert_eq!(i32::from(bed.broker().kafka_address().port()), told.port);
    }
    for version in 4..=6 {
        let coordinator_keys = vec![k("g"), k("h")];
        let told = client.call(version, &FindCoordinatorRequest { coordinator_keys, ..Default::default() });
        let keys: Vec<&str> = told.coordinators.iter().map(|one| &*one.key).collect();
        assert_eq!(keys, ["g", "h"], "version {version}");
        assert!(told.coordinators.iter().all(|one| one.error_code == 0 && one.node_id == 1));
    }
    let transactional = FindCoordinatorRequest { key: k("tx"), key_type: 1, ..Default::default() };
    let told = client.call(1, &transactional);
    assert_eq!((told.error_code, told.node_id), (0, 1));
}

//! Against bytes that Apache Kafka 4.3.1 has written: taken from its `__consumer_offsets`.

use super::*;
use millstream_protocol::Uuid;
use millstream_protocol::messages::group_metadata_value::MemberMetadata;

fn bytes(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect::<Vec<u8>>().into()
}

/// Decodes what Kafka wrote, and writes the same again.
#[track_caller]
fn both_ways(key: &str, value: Option<&str>) -> GroupRecord {
    let (key, value) = (bytes(key), value.map(bytes));
    let record = GroupRecord::decode(&key, value.as_ref()).unwrap().unwrap();
    assert_eq!(record.encode().unwrap(), (key, value));
    record
}

fn offset(value: Option<OffsetCommitValue>) -> GroupRecord {
    let name = KStr::from_static("admin-027a0728");
    GroupRecord::Offset { group: name.clone(), topic: name, partition: 0, value }
}

const OFFSET_KEY: &str = "0001000e61646d696e2d3032376130373238000e61646d696e2d303237613037323800000000";

#[test]
fn an_offset_is_written_as_kafka_writes_it() {
    let value = "000400000000000000050000000001000001a20e4012c10100101ccf73e395924f73aa3d911264227a84";
    let held = OffsetCommitValue {
        offset: 5,
        leader_epoch: 0,
        metadata: KStr::default(),
        commit_timestamp: 1_795_535_409_857,
        expire_timestamp: -1,
        topic_id: Uuid::from_u128(0x1ccf_73e3_9592_4f73_aa3d_9112_6422_7a84),
    };
    assert_eq!(both_ways(OFFSET_KEY, Some(value)), offset(Some(held)));
    assert_eq!(both_ways(OFFSET_KEY, None), offset(None));
}

#[test]
fn metadata_is_kept_with_an_offset() {
    let value = "0004000000000000000affffffff0e736f6d655f6d65746164617461000001a20e393c37010010c1a3c41c30dc4fcebc6460af7c16f055";
    let GroupRecord::Offset { value: Some(value), .. } = both_ways(OFFSET_KEY, Some(value)) else {
        panic!("an offset");
    };
    assert_eq!((value.offset, value.leader_epoch, &*value.metadata), (10, -1, "some_metadata"));
}

#[test]
fn older_versions_of_an_offset_are_read() {
    let (offset_5, metadata, time) = ("0000000000000005", "00026d64", "000001a20e4012c1");
    let older = [
        ("0000", format!("{offset_5}{metadata}{time}"), -1, -1),
        ("0001", format!("{offset_5}{metadata}{time}000001a20e4012c2"), -1, 1_795_535_409_858),
        ("0002", format!("{offset_5}{metadata}{time}"), -1, -1),
        ("0003", format!("{offset_5}00000007{metadata}{time}"), 7, -1),
    ];
    // Two numbers stand for the same kind.
    for key in [OFFSET_KEY.to_owned(), OFFSET_KEY.replacen("0001", "0000", 1)] {
        for (version, rest, leader_epoch, expire_timestamp) in &older {
            let read = GroupRecord::decode(&bytes(&key), Some(&bytes(&format!("{version}{rest}")))).unwrap();
            let value = OffsetCommitValue {
                offset: 5,
                leader_epoch: *leader_epoch,
                metadata: KStr::from_static("md"),
                commit_timestamp: 1_795_535_409_857,
                expire_timestamp: *expire_timestamp,
                topic_id: Uuid::nil(),
            };
            assert_eq!(read, Some(offset(Some(value))), "version {version}");
        }
    }
}

#[test]
fn a_classic_group_is_written_as_kafka_writes_it() {
    let key = "0002000d666976652d6265323636613638";
    let empty = both_ways(key, Some("0003000000000000ffffffff000001a20e40460800000000"));
    let group = KStr::from_static("five-be266a68");
    let value = GroupMetadataValue { current_state_timestamp: 1_795_535_422_984, ..Default::default() };
    let value = GroupMetadataValue { protocol: None, leader: None, ..value };
    assert_eq!(empty, GroupRecord::Classic { group, value: Some(value) });
    both_ways(key, None);
}

#[test]
fn the_members_of_a_classic_group_are_kept_with_their_assignments() {
    let key = "0002000e73686172652d3632346363356630";
    let value = "00030008636f6e73756d657200000002000572616e6765002c72646b61666b612d37396664363736622d396630642d346336312d613735372d366538306262393736313763000001a20e400ea000000002002c72646b61666b612d37396664363736622d396630642d346336312d613735372d366538306262393736313763ffff000772646b61666b61000a2f3132372e302e302e31000493e00000177000000024000300000001000e73686172652d36323463633566300000000000000000ffffffff000000000026000000000001000e73686172652d363234636335663000000002000000020000000300000000002c72646b61666b612d36613739353832352d383431302d346439352d383461322d623061383834386661326537ffff000772646b61666b61000a2f3132372e302e302e31000493e00000177000000024000300000001000e73686172652d36323463633566300000000000000000ffffffff000000000026000000000001000e73686172652d363234636335663000000002000000000000000100000000";
    let GroupRecord::Classic { value: Some(value), .. } = both_ways(key, Some(value)) else {
        panic!("a classic group");
    };
    assert_eq!(
        (&*value.protocol_type, value.generation, value.protocol.as_deref()),
        ("consumer", 2, Some("range"))
    );
    let [one, _] = &value.members[..] else { panic!("two members") };
    let MemberMetadata { client_host, rebalance_timeout, session_timeout, assignment, .. } = one;
    assert_eq!((&**client_host, *rebalance_timeout, *session_timeout), ("/127.0.0.1", 300_000, 6_000));
    assert_eq!(assignment.len(), 38);
}

#[test]
fn what_is_not_known_is_left_alone_and_what_is_broken_is_an_error() {
    assert_eq!(GroupRecord::decode(&bytes("007f0001"), None), Ok(None));
    assert!(GroupRecord::decode(&bytes("00"), None).is_err());
    assert!(GroupRecord::decode(&bytes("0001000e61"), None).is_err());
    assert!(GroupRecord::decode(&bytes(OFFSET_KEY), Some(&bytes("0009"))).is_err());
}

//! The admin client against a real broker: what `clients.rs` does not cover.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use millstream_broker::Broker;
use millstream_client::{
    AbortTransactionError, BrokerId, Client, DescribeTransactionError, ElectLeaderError, Election,
    FeatureChange, NewTopic, ReassignError, Remove, RemoveMemberError, TransactionFilter,
};
use millstream_producer::{Producer, Record};

struct Peer {
    _broker: Broker,
    _data: tempfile::TempDir,
    client: Client,
}

/// A broker with topic `t` of two partitions.
async fn peer() -> Peer {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::builder().data_dir(data.path()).listen("127.0.0.1:0").no_http().start().unwrap();
    let client = Client::builder(broker.kafka_address().to_string()).connect().await.unwrap();
    client.admin().create_topic(NewTopic::new("t").partitions(2)).await.unwrap();
    Peer { _broker: broker, _data: data, client }
}

#[tokio::test]
async fn transactions_are_listed_described_fenced_and_aborted() {
    let Peer { client, _broker, _data } = peer().await;
    let admin = client.admin();
    let producer = Producer::builder(client.clone()).transactional_id("mover").build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to("t").partition(1).value("v")).await.unwrap().await.unwrap();

    let mut filter = TransactionFilter::default();
    filter.states.push("Ongoing".to_owned());
    let listed = admin.list_transactions(&filter).await.unwrap();
    assert_eq!(listed.iter().map(|one| &*one.transactional_id).collect::<Vec<_>>(), ["mover"]);
    filter.pattern = Some("remover.*".to_owned());
    assert!(admin.list_transactions(&filter).await.unwrap().is_empty());

    let described = admin.describe_transaction("mover").await.unwrap();
    assert_eq!((&*described.state, described.producer_id), ("Ongoing", listed[0].producer_id));
    assert_eq!(described.partitions.iter().map(|(topic, p)| (&**topic, *p)).collect::<Vec<_>>(), [("t", 1)]);
    assert!(described.open_since_ms.is_some() && described.timeout_ms == 60_000);
    let unknown = admin.describe_transaction("nobody").await.unwrap_err();
    assert!(matches!(unknown, DescribeTransactionError::UnknownTransactionalId { .. }), "{unknown}");

    let active = admin.describe_producers("t", 1).await.unwrap();
    assert_eq!((active.len(), active[0].open_from), (1, Some(0)));
    assert!(admin.describe_producers("t", 0).await.unwrap().is_empty());

    admin.fence_producer("mover").await.unwrap();
    assert!(transaction.commit().await.unwrap_err().is_fenced());
    let active = admin.describe_producers("t", 1).await.unwrap();
    assert_eq!(active[0].open_from, None, "it is aborted");
    // A marker for what is not open changes nothing, or is refused; it does not hang.
    match admin.abort_transaction("t", 1, &active[0]).await {
        Ok(()) | Err(AbortTransactionError::Refused(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn placement_is_what_one_node_has() {
    let Peer { client, _broker, _data } = peer().await;
    let admin = client.admin();
    let elected = admin.elect_leader("t", 0, Election::Preferred).await.unwrap_err();
    assert!(matches!(elected, ElectLeaderError::NotNeeded { partition: 0, .. }), "{elected}");
    let missing = admin.elect_leader("t", 7, Election::Preferred).await.unwrap_err();
    assert!(matches!(missing, ElectLeaderError::UnknownPartition { partition: 7, .. }), "{missing}");
    let missing = admin.reassign_partition("nowhere", 0, Some(&[BrokerId(1)])).await.unwrap_err();
    assert!(matches!(missing, ReassignError::UnknownPartition { .. }), "{missing}");
    assert!(admin.list_reassignments().await.unwrap().is_empty());
    let none = admin.reassign_partition("t", 0, None).await.unwrap_err();
    assert!(matches!(none, ReassignError::NoneInProgress { .. }), "{none}");

    let brokers = admin.describe_cluster().await.unwrap().brokers;
    let dirs = admin.describe_log_dirs(brokers[0].id).await.unwrap();
    let of_t = dirs.iter().flat_map(|dir| &dir.partitions).filter(|partition| &*partition.topic == "t");
    assert_eq!(of_t.count(), 2);
    assert!(dirs.iter().all(|dir| dir.problem.is_none() && dir.total_bytes > dir.usable_bytes));
}

#[tokio::test]
async fn features_are_described_and_changed_and_the_quorum_is_one() {
    let Peer { client, _broker, _data } = peer().await;
    let admin = client.admin();
    let level = async || {
        let features = admin.describe_features().await.unwrap();
        features.into_iter().find(|feature| &*feature.name == "transaction.version").unwrap()
    };
    assert_eq!((level().await.level, level().await.max_supported), (Some(2), 2));
    admin.update_feature("transaction.version", 0, FeatureChange::SafeDowngrade).await.unwrap();
    assert_eq!(level().await.level, None);
    let error = admin.update_feature("transaction.version", 99, FeatureChange::Upgrade).await.unwrap_err();
    assert!(!error.is_retriable() && error.had_no_effect(), "{error}");

    let quorum = admin.describe_quorum().await.unwrap();
    assert_eq!(quorum.voters, [quorum.leader.unwrap_or(BrokerId(-1))]);
}

#[tokio::test]
async fn a_member_that_is_not_there_cannot_be_taken_out() {
    let Peer { client, _broker, _data } = peer().await;
    for remove in [Remove::Member("m"), Remove::Instance("i")] {
        let error = client.admin().remove_member("g", remove).await.unwrap_err();
        assert!(matches!(error, RemoveMemberError::UnknownMember { .. }), "{error}");
    }
}

//! Cases of the client: administration, and what does not exist.

use millstream_client::protocol::ErrorCode;
use millstream_client::protocol::messages::ListOffsetsRequest;
use millstream_client::{
    ClientError, ConfigResource, CreateTopicError, DeleteTopicError, DescribeTopicError, NewTopic, OffsetAt,
    To,
};
use millstream_consumer::{Consumer, StartAt};
use millstream_producer::{Producer, Record, SendError};

use crate::bed::Bed;

suite! {
    topics_are_created_described_grown_and_deleted,
    offsets_are_found_by_every_kind_of_question,
    what_does_not_exist_is_told_at_once_and_by_name,
}

async fn topics_are_created_described_grown_and_deleted(bed: &Bed) {
    let (client, topic) = bed.topic("admin", 2).await;
    let admin = client.admin();
    let again = admin.create_topic(NewTopic::new(topic.as_str())).await.unwrap_err();
    assert!(matches!(again, CreateTopicError::AlreadyExists { .. }) && again.had_no_effect(), "{again}");
    let invalid = admin.create_topic(NewTopic::new("no/slash")).await.unwrap_err();
    let is_invalid = |r: &millstream_client::Refusal| r.code == ErrorCode::InvalidTopicException;
    assert!(matches!(&invalid, CreateTopicError::Refused(refusal) if is_invalid(refusal)), "{invalid}");

    let described = admin.describe_topic(&topic).await.unwrap();
    assert_eq!((&*described.name, described.partitions.len()), (topic.as_str(), 2));
    assert!(described.partitions[1].leader.is_some() && !described.id.is_nil());
    assert!(admin.list_topics().await.unwrap().iter().any(|listed| listed.name == topic.as_str()));
    admin.add_partitions(&topic, 5).await.unwrap();
    // Kafka's controller answers before all of its brokers know.
    while admin.describe_topic(&topic).await.unwrap().partitions.len() < 5 {
        tokio::task::yield_now().await;
    }
    assert!(admin.add_partitions(&topic, 3).await.unwrap_err().had_no_effect());

    let configs = admin.describe_configs(ConfigResource::Topic(&topic)).await.unwrap();
    let size = configs.iter().find(|config| config.name == "max.message.bytes").unwrap();
    assert_eq!(size.value.as_deref(), Some("1048588"));
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.cluster_id.is_empty() && cluster.brokers.len() == 1);
    let broker = ConfigResource::Broker(cluster.brokers[0].id);
    assert!(!admin.describe_configs(broker).await.unwrap().is_empty());

    admin.delete_topic(&topic).await.unwrap();
    let gone = admin.delete_topic(&topic).await.unwrap_err();
    assert!(matches!(gone, DeleteTopicError::UnknownTopic { .. }), "{gone}");
    let gone = admin.describe_topic(&topic).await.unwrap_err();
    assert!(matches!(gone, DescribeTopicError::UnknownTopic { .. }), "{gone}");
}

async fn offsets_are_found_by_every_kind_of_question(bed: &Bed) {
    let (client, topic) = bed.topic("offsets", 2).await;
    let producer = Producer::builder(client.clone()).build();
    for timestamp in [1000, 3000, 2000] {
        let record = Record::to(&topic).partition(1).value("x").timestamp(timestamp);
        producer.send(record).await.unwrap().await.unwrap();
    }
    let wanted = [
        (1, OffsetAt::Earliest),
        (0, OffsetAt::Latest),
        (1, OffsetAt::Latest),
        (1, OffsetAt::Timestamp(1500)),
        (1, OffsetAt::MaxTimestamp),
        (1, OffsetAt::Timestamp(9999)),
    ];
    let listed = client.admin().list_offsets(&topic, &wanted).await.unwrap();
    let offsets: Vec<_> = listed.iter().map(|listed| (listed.partition, listed.offset)).collect();
    let expected = [(1, Some(0)), (0, Some(0)), (1, Some(3)), (1, Some(1)), (1, Some(1)), (1, None)];
    assert_eq!(offsets, expected);
    assert_eq!(listed[3].timestamp, Some(3000));
}

async fn what_does_not_exist_is_told_at_once_and_by_name(bed: &Bed) {
    let client = bed.client().await;
    let error = client.metadata(&["nowhere"]).await.unwrap_err();
    assert!(matches!(&error, ClientError::UnknownTopic { topic } if topic == "nowhere"), "{error}");
    let consumer = Consumer::builder(client.clone()).assign("nowhere", 0, StartAt::Beginning);
    assert!(consumer.build().await.is_err());
    let (client, topic) = bed.topic("narrow", 1).await;
    let producer = Producer::builder(client.clone()).build();
    let error = producer.send(Record::to(&topic).partition(1).value("x")).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownPartition { partition: 1, partitions: 1, .. }), "{error}");
    let error = client.request(ListOffsetsRequest::default(), To::Leader(&topic, 7)).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { partition: 7, .. }), "{error}");
}

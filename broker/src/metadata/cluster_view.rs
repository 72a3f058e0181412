//! Who leads what. Handlers ask here instead of assuming that this node leads everything, so that the
//! refusals of a cluster exist and are tested before there is one.

use millstream_log::LeaderEpoch;
use millstream_protocol::ErrorCode;

use std::net::SocketAddr;

/// The id that this node has in Kafka's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) i32);

/// Where a client reaches a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node: NodeId,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The leadership of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) leader: NodeId,
    pub(crate) epoch: LeaderEpoch,
}

/// What this node knows of its cluster.
pub(crate) trait ClusterView: Send + Sync + std::fmt::Debug {
    /// This node.
    fn me(&self) -> NodeId;
    /// The node that takes administrative requests.
    fn controller(&self) -> NodeId;
    fn cluster_id(&self) -> &str;
    /// All brokers, as a client that dialled `dialled` should reach them.
    fn brokers(&self, dialled: SocketAddr) -> Vec<Endpoint>;
    fn leadership(&self, topic: millstream_protocol::Uuid, partition: i32) -> Leadership;
}

impl dyn ClusterView {
    /// Checks that this node leads the partition, in the epoch that the client believes in (-1: any).
    ///
    /// # Errors
    /// The code that the client is to be answered with (KIP-320).
    pub(crate) fn check_leader(
        &self,
        topic: millstream_protocol::Uuid,
        partition: i32,
        client_epoch: i32,
    ) -> Result<Leadership, ErrorCode> {
        let leadership = self.leadership(topic, partition);
        let epoch = leadership.epoch.get();
        if client_epoch >= 0 && client_epoch < epoch {
            Err(ErrorCode::FencedLeaderEpoch)
        } else if client_epoch > epoch {
            Err(ErrorCode::UnknownLeaderEpoch)
        } else if leadership.leader != self.me() {
            Err(ErrorCode::NotLeaderOrFollower)
        } else {
            Ok(leadership)
        }
    }
}

/// A cluster of one: this node leads everything, in one epoch that rises at every unclean start.
#[derive(Debug)]
pub(crate) struct SingleNode {
    pub(crate) cluster_id: String,
    pub(crate) epoch: LeaderEpoch,
    /// Told to clients instead of the address they dialled, if set.
    pub(crate) advertised: Option<(String, u16)>,
}

const SINGLE_NODE: NodeId = NodeId(1);

impl ClusterView for SingleNode {
    fn me(&self) -> NodeId {
        SINGLE_NODE
    }

    fn controller(&self) -> NodeId {
        SINGLE_NODE
    }

    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn brokers(&self, dialled: SocketAddr) -> Vec<Endpoint> {
        let (host, port) = match &self.advertised {
            Some((host, port)) => (host.clone(), *port),
            None => (dialled.ip().to_canonical().to_string(), dialled.port()),
        };
        vec![Endpoint { node: SINGLE_NODE, host, port }]
    }

    fn leadership(&self, _topic: millstream_protocol::Uuid, _partition: i32) -> Leadership {
        Leadership { leader: SINGLE_NODE, epoch: self.epoch }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use millstream_protocol::Uuid;

    /// Node 1 of two; node 2 leads every odd partition.
    #[derive(Debug)]
    pub(crate) struct TwoNodes;

    impl ClusterView for TwoNodes {
        fn me(&self) -> NodeId {
            NodeId(1)
        }
        fn controller(&self) -> NodeId {
            NodeId(2)
        }
        fn cluster_id(&self) -> &str {
            "two"
        }
        fn brokers(&self, _dialled: SocketAddr) -> Vec<Endpoint> {
            let endpoint =
                |id: u16| Endpoint { node: NodeId(i32::from(id)), host: format!("n{id}"), port: 9000 + id };
            vec![endpoint(1), endpoint(2)]
        }
        fn leadership(&self, _topic: Uuid, partition: i32) -> Leadership {
            Leadership { leader: NodeId(1 + partition % 2), epoch: LeaderEpoch::new(5) }
        }
    }

    #[test]
    fn a_partition_led_elsewhere_is_refused_after_its_epoch_is_checked() {
        let view: &dyn ClusterView = &TwoNodes;
        assert!(view.check_leader(Uuid::nil(), 0, -1).is_ok());
        assert!(view.check_leader(Uuid::nil(), 0, 5).is_ok());
        assert_eq!(view.check_leader(Uuid::nil(), 0, 4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(view.check_leader(Uuid::nil(), 0, 6), Err(ErrorCode::UnknownLeaderEpoch));
        assert_eq!(view.check_leader(Uuid::nil(), 1, 5), Err(ErrorCode::NotLeaderOrFollower));
    }

    #[test]
    fn a_client_is_told_the_address_that_it_dialled_unless_one_is_advertised() {
        let mut node = SingleNode { cluster_id: "c".into(), epoch: LeaderEpoch::new(0), advertised: None };
        let dialled = "[::ffff:127.0.0.1]:9092".parse().unwrap();
        assert_eq!(node.brokers(dialled)[0].host, "127.0.0.1");
        node.advertised = Some(("broker.example".into(), 19092));
        let told = &node.brokers(dialled)[0];
        assert_eq!((told.host.as_str(), told.port), ("broker.example", 19092));
    }
}

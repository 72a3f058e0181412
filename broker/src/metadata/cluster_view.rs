//! Who leads what. Handlers ask here instead of assuming that this node leads everything, so that the
//! refusals of a cluster exist and are tested before there is one.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_log::{LeaderEpoch, Log};
use millstream_protocol::Uuid;

use super::topics::{Partition, Unavailable};

/// The id that this node has in Kafka's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) i32);

/// The host that clients in the broker's own process are told to connect to.
pub const IN_PROCESS: &str = "in-process";

/// Kafka's port: one has to be named.
const IN_PROCESS_PORT: u16 = 9092;

/// How a client came to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// Over a socket that is bound here.
    Socket(SocketAddr),
    /// Without one, from within this process.
    InProcess,
}

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
    fn brokers(&self, dialled: Dialled) -> Vec<Endpoint>;
    /// Who leads a partition.
    fn leadership(&self, topic: Uuid, partition: &Partition) -> Leadership;
}

/// A partition that this node leads, and serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Led<'a> {
    pub(crate) log: &'a Arc<Log>,
    pub(crate) epoch: LeaderEpoch,
}

/// Why this node does not serve a partition, or not to this client (KIP-320).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotLed {
    #[error("the client believes in leader epoch {client}; {now} has begun")]
    FencedEpoch { client: i32, now: LeaderEpoch },
    #[error("the client believes in leader epoch {client}; this node knows {now}")]
    UnknownEpoch { client: i32, now: LeaderEpoch },
    #[error("another node leads this partition")]
    Elsewhere,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl dyn ClusterView {
    /// Checks that this node leads the partition, in the epoch that the client believes in (-1: any), and
    /// that its log is there. A log that is not there knows no epoch, so that comes first.
    pub(crate) fn lead<'a>(
        &self,
        topic: Uuid,
        partition: &'a Partition,
        client: i32,
    ) -> Result<Led<'a>, NotLed> {
        let Leadership { leader, epoch: now } = self.leadership(topic, partition);
        let is_ours = leader == self.me();
        let log = match is_ours {
            true => Some(partition.log()?),
            false => None,
        };
        if client >= 0 && client < now.get() {
            return Err(NotLed::FencedEpoch { client, now });
        }
        if client > now.get() {
            return Err(NotLed::UnknownEpoch { client, now });
        }
        log.map(|log| Led { log, epoch: now }).ok_or(NotLed::Elsewhere)
    }
}

/// A cluster of one: this node leads everything.
#[derive(Debug)]
pub(crate) struct SingleNode {
    pub(crate) cluster_id: String,
    /// Rises at every unclean start; the least that a log has.
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

    fn brokers(&self, dialled: Dialled) -> Vec<Endpoint> {
        let (host, port) = match (dialled, &self.advertised) {
            (Dialled::InProcess, _) => (IN_PROCESS.to_owned(), IN_PROCESS_PORT),
            (Dialled::Socket(_), Some((host, port))) => (host.clone(), *port),
            (Dialled::Socket(address), None) => (address.ip().to_canonical().to_string(), address.port()),
        };
        vec![Endpoint { node: SINGLE_NODE, host, port }]
    }

    /// A log's own epoch rises above the node's when it is reopened.
    fn leadership(&self, _topic: Uuid, partition: &Partition) -> Leadership {
        let epoch = partition.log().map_or(self.epoch, |log| log.leader_epoch());
        Leadership { leader: SINGLE_NODE, epoch }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::storage::directory::Home;
    use crate::storage::folders::Missing;

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
        fn brokers(&self, _dialled: Dialled) -> Vec<Endpoint> {
            let endpoint =
                |id: u16| Endpoint { node: NodeId(i32::from(id)), host: format!("n{id}"), port: 9000 + id };
            vec![endpoint(1), endpoint(2)]
        }
        fn leadership(&self, _topic: Uuid, partition: &Partition) -> Leadership {
            Leadership { leader: NodeId(1 + partition.index % 2), epoch: LeaderEpoch::new(5) }
        }
    }

    fn unopened(index: usize) -> Arc<Partition> {
        let missing = Missing { id: Uuid::nil(), path: "/nowhere".into(), reason: "a test".into() };
        Partition::unopened(index, Home::Missing(Arc::new(missing)))
    }

    #[test]
    fn a_partition_led_elsewhere_is_refused_after_its_epoch_is_checked() {
        let view: &dyn ClusterView = &TwoNodes;
        let there = unopened(1);
        let refused = |client| view.lead(Uuid::nil(), &there, client).unwrap_err();
        let now = LeaderEpoch::new(5);
        assert_eq!(refused(4), NotLed::FencedEpoch { client: 4, now });
        assert_eq!(refused(6), NotLed::UnknownEpoch { client: 6, now });
        assert_eq!(refused(5), NotLed::Elsewhere);
        assert_eq!(refused(-1), NotLed::Elsewhere);
    }

    #[test]
    fn whatever_epoch_a_client_names_a_partition_without_a_log_is_unavailable() {
        let view: &dyn ClusterView = &TwoNodes;
        let here = unopened(0);
        for client in [-1, 4, 5, 6] {
            let refused = view.lead(Uuid::nil(), &here, client).unwrap_err();
            assert!(matches!(refused, NotLed::Unavailable(Unavailable::Failed { .. })), "{refused}");
        }
    }

    #[test]
    fn a_client_is_told_the_address_that_it_dialled_unless_one_is_advertised() {
        let mut node = SingleNode { cluster_id: "c".into(), epoch: LeaderEpoch::new(0), advertised: None };
        let dialled = Dialled::Socket("[::ffff:127.0.0.1]:9092".parse().unwrap());
        assert_eq!(node.brokers(dialled)[0].host, "127.0.0.1");
        node.advertised = Some(("broker.example".into(), 19092));
        let told = &node.brokers(dialled)[0];
        assert_eq!((told.host.as_str(), told.port), ("broker.example", 19092));
        assert_eq!(node.brokers(Dialled::InProcess)[0].host, IN_PROCESS, "whatever others are told");
    }
}

//! A coordinator of either kind.

use tokio::time::Instant;

use super::classic_coordinator::ClassicCoordinator;
use super::modern_coordinator::ModernCoordinator;
use crate::group::member::{Answer, Ask, Farewell};
use crate::group::status::GroupProtocol;
use crate::group::subscription::TopicView;

pub(super) type Answers = Vec<(usize, Answer)>;

pub(super) enum Coordinator {
    Classic(ClassicCoordinator),
    Modern(ModernCoordinator),
}

impl Coordinator {
    pub(super) fn new(protocol: GroupProtocol) -> Self {
        match protocol {
            GroupProtocol::Classic => Self::Classic(ClassicCoordinator::default()),
            GroupProtocol::Consumer => Self::Modern(ModernCoordinator::default()),
        }
    }

    pub(super) fn on_ask(&mut self, now: Instant, (from, ask): (usize, Ask), topics: &TopicView) -> Answers {
        match (self, ask) {
            (Self::Classic(group), Ask::Join(request)) => group.on_join(now, from, request),
            (Self::Classic(group), Ask::Sync(request)) => group.on_sync(now, from, request),
            (Self::Classic(group), Ask::Heartbeat(request)) => group.on_heartbeat(now, from, &request),
            (Self::Modern(group), Ask::Consume(request)) => group.on_heartbeat(now, from, &request, topics),
            (_, ask) => panic!("the model does not know {ask:?}"),
        }
    }

    pub(super) fn on_farewell(&mut self, now: Instant, farewell: &Farewell, topics: &TopicView) -> Answers {
        match (self, farewell) {
            (Self::Classic(group), Farewell::Leave(request)) => {
                group.remove(now, &request.members[0].member_id)
            }
            (Self::Modern(group), Farewell::Consume(request)) => {
                group.remove(&request.member_id, topics);
                Vec::new()
            }
            (_, farewell) => panic!("the model does not know {farewell:?}"),
        }
    }

    pub(super) fn on_time(&mut self, now: Instant, topics: &TopicView) -> Answers {
        match self {
            Self::Classic(group) => group.on_time(now),
            Self::Modern(group) => {
                group.on_time(now, topics);
                Vec::new()
            }
        }
    }

    pub(super) fn on_topics(&mut self, topics: &TopicView) {
        match self {
            // Members see it themselves.
            Self::Classic(_) => {}
            Self::Modern(group) => group.share_out(topics),
        }
    }

    pub(super) fn restart(&mut self, now: Instant) -> Answers {
        match self {
            Self::Classic(group) => group.restart(now),
            // It answers at once, so nothing is under way; what it knows is on its disk.
            Self::Modern(_) => Vec::new(),
        }
    }
}

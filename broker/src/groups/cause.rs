//! Why groups rebalance, and who is behind it: what operators ask first, and elsewhere have to guess.

use millstream_protocol::KStr;

use crate::dispatch::Call;

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) client_id: KStr,
    /// As Kafka writes it: `/127.0.0.1`.
    pub(crate) host: KStr,
}

impl Caller {
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            client_id: call.client_id.detach(),
            host: format!("/{}", call.peer.address.ip().to_canonical()).into(),
        }
    }
}

/// Bytes of a reason that are kept: whoever looks at it is a person. Clients cut theirs at 255 characters.
const REASON_BYTES_MAX: usize = 1024;

/// The reason that a client gives, as far as it is kept; `None` if it gives none.
pub(super) fn said(reason: Option<&KStr>) -> Option<KStr> {
    let reason = reason.filter(|reason| !reason.is_empty())?;
    Some(KStr::from(&reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]))
}

/// Why a group rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    MemberJoined,
    MemberLeft,
    /// It was not heard of for its session timeout.
    SessionExpired,
    /// It joined and did not ask for its part in time.
    SyncExpired,
    MetadataChanged,
    /// It asks for a new division: it has seen partitions or topics come or go.
    LeaderRejoined,
    /// A static member came back, and the group agrees on another protocol with it.
    StaticReplaced,
    /// The group was read with more members than `group.max.size`.
    OverCapacity,
    /// The leader's assignment was too large to be stored.
    TooLarge,
    /// A topic that is read came, went, or has more partitions.
    TopicsChanged,
    /// It did not give partitions back, or join again, in time.
    DidNotFollow,
    /// The last member of the new protocol went: it is a classic group now.
    Converted,
}

impl Why {
    /// For logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MemberJoined => "member_joined",
            Self::MemberLeft => "member_left",
            Self::SessionExpired => "session_expired",
            Self::SyncExpired => "sync_expired",
            Self::MetadataChanged => "metadata_changed",
            Self::LeaderRejoined => "leader_rejoined",
            Self::StaticReplaced => "static_member_replaced",
            Self::OverCapacity => "over_capacity",
            Self::TooLarge => "assignment_too_large",
            Self::TopicsChanged => "topics_changed",
            Self::DidNotFollow => "did_not_follow",
            Self::Converted => "converted",
        }
    }
}

/// A reason, and the member behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) why: Why,
    /// Empty: nobody in particular.
    pub(crate) member: KStr,
    pub(crate) instance: Option<KStr>,
    pub(crate) caller: Caller,
    /// The reason that the client gave.
    pub(crate) said: Option<KStr>,
}

//! The task of a member: sends what the machine wants sent, and tells it the time.
//!
//! It runs in the background, so that a slow program stays in its group, and ends when the consumer is closed or
//! dropped. It has a connection of its own, because a coordinator lets those who join wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{CallOptions, Client, ClientError, To};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::{LeaveGroupRequest, MetadataRequest, MetadataResponse};
use millstream_protocol::{KStr, Uuid};
use tokio::time::Instant;

use super::member::{Answer, Ask, Farewell, Member, known};
use super::shared::Shared;
use super::status::MemberState;
use super::subscription::{Seen, TopicView, TopicsWanted};

/// What a request that joins may take on top of the time that others have to come.
const JOIN_EXTRA: Duration = Duration::from_secs(5);
/// How long the last word may take.
const FAREWELL_MOST: Duration = Duration::from_secs(5);
/// How long an answer is waited for that tells by which name to leave.
const NAME_MOST: Duration = Duration::from_secs(1);

/// Before this version of LeaveGroup one member left at a time.
const LEAVE_MANY_FROM: i16 = 3;
/// Before this version of Metadata whatever was asked for was created, if the broker was set up to.
const CHOICE_TO_CREATE_FROM: i16 = 4;

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A member and its surroundings.
pub(super) struct Task {
    pub(super) group: KStr,
    pub(super) client: Client,
    /// Connections that nobody else uses.
    pub(super) wire: Client,
    pub(super) member: Member,
    pub(super) shared: Arc<Shared>,
    pub(super) rebalance_timeout: Duration,
    pub(super) max_poll_interval: Option<Duration>,
}

impl Task {
    /// Runs until it is told to leave, and leaves.
    pub(super) async fn run(mut self) -> Result<(), ClientError> {
        let mut request: Option<Doing<Answer>> = None;
        let mut look: Option<Doing<Result<TopicView, ClientError>>> = None;
        loop {
            let now = Instant::now();
            if self.obey(now) {
                break;
            }
            if request.is_none() {
                request = self.member.next(now).map(|ask| self.ask(ask));
            }
            if look.is_none() {
                look = self.member.topics_wanted(now).map(|wanted| self.look(wanted));
            }
            self.shared.show(&mut self.member, &self.group);
            let alarm = self.alarm(now);
            tokio::select! {
                answer = doing(&mut request) => {
                    request = None;
                    if answer.doubts_coordinator() {
                        self.client.forget_coordinator(&self.group);
                    }
                    self.member.on_answer(Instant::now(), answer);
                }
                view = doing(&mut look) => {
                    look = None;
                    self.member.on_topics(Instant::now(), view);
                }
                () = self.shared.ordered() => {}
                () = alarm => {}
            }
        }
        self.shared.end();
        if let Some(request) = request
            && self.member.farewell().is_none()
            && let Ok(answer) = tokio::time::timeout(NAME_MOST, request).await
        {
            self.member.on_answer(Instant::now(), answer);
        }
        match self.member.farewell() {
            Some(farewell) => leave(self.client, self.group, farewell).await,
            None => Ok(()),
        }
    }

    /// Does what it was told, and takes note of the time. Whether it is to leave.
    fn obey(&mut self, now: Instant) -> bool {
        let orders = self.shared.take_orders();
        if orders.leaves {
            return true;
        }
        self.member.on_time(now);
        if !orders.released.is_empty() {
            self.member.on_released(now, &orders.released);
        }
        if orders.is_suspicious {
            self.member.on_suspicion(now);
        }
        let is_away = self.member.state() == MemberState::Away;
        match (self.shared.busy_since(), self.max_poll_interval) {
            (None, Some(_)) if is_away => self.member.on_return(),
            (Some(since), Some(most)) if !is_away && since + most <= now => {
                tracing::warn!(group = %self.group, after = ?most, "the program does not come back for more: leaving");
                if let Some(farewell) = self.member.on_lapse(now.duration_since(since)) {
                    tokio::spawn(leave(self.client.clone(), self.group.clone(), farewell));
                }
            }
            _ => {}
        }
        false
    }

    /// When to look again, if nothing happens before.
    fn alarm(&self, now: Instant) -> impl Future<Output = ()> + use<> {
        let lapse = match (self.shared.busy_since(), self.max_poll_interval) {
            (Some(since), Some(most)) => Some(since + most).filter(|at| *at > now),
            (None, _) | (_, None) => None,
        };
        // The program may become busy without a word, so its time is looked at again in any case.
        let look = self.max_poll_interval.map(|most| now + most);
        let at = [self.member.deadline(now), lapse, look].into_iter().flatten().min();
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    fn ask(&self, ask: Ask) -> Doing<Answer> {
        let (wire, group) = (self.wire.clone(), self.group.clone());
        let may_wait = self.rebalance_timeout + JOIN_EXTRA;
        Box::pin(async move { answer(&wire, &group, ask, may_wait).await.unwrap_or_else(Answer::Failed) })
    }

    fn look(&self, wanted: TopicsWanted) -> Doing<Result<TopicView, ClientError>> {
        let client = self.client.clone();
        Box::pin(async move { look(&client, wanted).await })
    }
}

/// Waits for what is under way; for ever if nothing is.
async fn doing<T>(doing: &mut Option<Doing<T>>) -> T {
    match doing {
        Some(doing) => doing.await,
        None => std::future::pending().await,
    }
}

async fn answer(wire: &Client, group: &KStr, ask: Ask, may_wait: Duration) -> Result<Answer, ClientError> {
    let connection = wire.connection(To::Coordinator(group)).await?;
    let patient = CallOptions { broker_may_take: may_wait, ..Default::default() };
    let usual = CallOptions::default();
    Ok(match ask {
        Ask::Join(request) => Answer::Join(connection.send(&request, patient).await?.await?),
        Ask::Sync(request) => Answer::Sync(connection.send(&request, patient).await?.await?),
        Ask::Heartbeat(request) => Answer::Heartbeat(connection.send(&request, usual).await?.await?),
        Ask::Consume(request) => Answer::Consume(connection.send(&request, usual).await?.await?),
    })
}

/// Leaves, once, within some time. A coordinator that does not hear of it finds out by itself.
async fn leave(client: Client, group: KStr, farewell: Farewell) -> Result<(), ClientError> {
    let sent = async {
        let connection = client.connection(To::Coordinator(&group)).await?;
        match farewell {
            Farewell::Leave(mut request) => {
                let options = CallOptions::default();
                if connection.version_of::<LeaveGroupRequest>(options)? < LEAVE_MANY_FROM {
                    let member = request.members.pop().unwrap_or_default();
                    request.member_id = member.member_id;
                }
                connection.send(&request, options).await?.await.map(drop)
            }
            Farewell::Consume(request) => {
                connection.send(&request, CallOptions::default()).await?.await.map(drop)
            }
        }
    };
    match tokio::time::timeout(FAREWELL_MOST, sent).await {
        Ok(left) => left,
        Err(_) => {
            tracing::debug!(%group, "the coordinator did not answer that we leave");
            Ok(())
        }
    }
}

/// Looks at topics, once. Those that do not exist are left out.
async fn look(client: &Client, wanted: TopicsWanted) -> Result<TopicView, ClientError> {
    let connection = client.connection(To::Any).await?;
    let options = CallOptions::default();
    let always_creates = connection.version_of::<MetadataRequest>(options)? < CHOICE_TO_CREATE_FROM;
    let named = |name: KStr| MetadataRequestTopic { name: Some(name), ..Default::default() };
    let of_id = |topic_id: Uuid| MetadataRequestTopic { topic_id, name: None };
    let request = MetadataRequest {
        topics: match wanted {
            TopicsWanted::All => None,
            TopicsWanted::Named(names) => Some(names.into_iter().map(named).collect()),
            TopicsWanted::Ids(ids) => Some(ids.into_iter().map(of_id).collect()),
        },
        allow_auto_topic_creation: always_creates,
        ..Default::default()
    };
    let answer: MetadataResponse = connection.send(&request, options).await?.await?;
    let exists = |code: i16| known(code) == millstream_protocol::ErrorCode::None;
    let topics = answer.topics.into_iter().filter(|topic| exists(topic.error_code));
    let seen = topics.filter_map(|topic| {
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let seen = Seen { id: topic.topic_id, partitions, is_internal: topic.is_internal };
        Some((topic.name?.detach(), seen))
    });
    Ok(TopicView(seen.collect()))
}

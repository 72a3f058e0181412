//! Claims about fetch sessions.

use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

use super::*;

fn request(session_id: i32, session_epoch: i32, offsets: &[(i32, i64)]) -> FetchRequest {
    let partitions = offsets.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        ..Default::default()
    });
    let topic = FetchTopic { topic: "t".into(), partitions: partitions.collect(), ..Default::default() };
    let topics = if offsets.is_empty() { Vec::new() } else { vec![topic] };
    FetchRequest { session_id, session_epoch, topics, ..Default::default() }
}

const IDLE: Found = Found { high_watermark: 10, log_start: 0, has_records: false, is_remarkable: false };

/// Plays one request; returns the session id and the partitions that the reply carries.
fn play(
    sessions: &FetchSessions,
    request: &FetchRequest,
    find: impl Fn(i32) -> Found,
) -> Result<(i32, Vec<i32>), ErrorCode> {
    let now = Instant::now();
    let (context, wanted) = sessions.begin(request, 11, now)?;
    let mut found: Vec<_> = wanted.into_iter().map(|w| (find(w.key.partition), w)).collect();
    let id = sessions.finish(context, &mut found, now, |(found, wanted)| (wanted, *found));
    Ok((id, found.iter().map(|(_, wanted)| wanted.key.partition).collect()))
}

#[test]
fn an_incremental_reply_carries_only_what_is_new() {
    let sessions = FetchSessions::new(10);
    let (id, told) = play(&sessions, &request(0, 0, &[(0, 5), (1, 5), (2, 5)]), |_| IDLE).unwrap();
    assert_eq!((id, told), (1, vec![0, 1, 2]));
    assert_eq!(play(&sessions, &request(id, 1, &[]), |_| IDLE).unwrap().1, Vec::<i32>::new());
    let moved = |p| if p == 1 { Found { high_watermark: 11, ..IDLE } } else { IDLE };
    assert_eq!(play(&sessions, &request(id, 2, &[]), moved).unwrap().1, vec![1]);
    let failed = |p| if p == 2 { Found { is_remarkable: true, ..moved(p) } } else { moved(p) };
    assert_eq!(play(&sessions, &request(id, 3, &[]), failed).unwrap().1, vec![2]);
    assert_eq!(play(&sessions, &request(id, 4, &[]), moved).unwrap().1, vec![2], "healed: told once more");
    assert_eq!(play(&sessions, &request(id, 5, &[]), moved).unwrap().1, Vec::<i32>::new());
}

#[test]
fn a_partition_that_gave_records_goes_to_the_end_of_the_line() {
    let sessions = FetchSessions::new(10);
    let full = |_| Found { has_records: true, ..IDLE };
    let first = |p| if p == 0 { full(p) } else { IDLE };
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5), (1, 5), (2, 5)]), first).unwrap();
    assert_eq!(play(&sessions, &request(id, 1, &[]), full).unwrap().1, vec![1, 2, 0]);
}

#[test]
fn offsets_change_and_partitions_leave_by_name() {
    let sessions = FetchSessions::new(10);
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5), (1, 5)]), |_| IDLE).unwrap();
    let mut next = request(id, 1, &[(1, 9)]);
    next.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), partitions: vec![0], ..Default::default() }];
    let (_, wanted) = sessions.begin(&next, 11, Instant::now()).unwrap();
    assert_eq!(wanted.iter().map(|w| (w.key.partition, w.fetch_offset)).collect::<Vec<_>>(), [(1, 9)]);
}

#[test]
fn a_wrong_session_epoch_or_kind_is_refused() {
    let sessions = FetchSessions::new(10);
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5)]), |_| IDLE).unwrap();
    let now = Instant::now();
    let begin = |id, epoch, version| sessions.begin(&request(id, epoch, &[]), version, now).unwrap_err();
    assert_eq!(begin(id + 1, 1, 11), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(begin(id, 2, 11), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(begin(id, 1, 13), ErrorCode::FetchSessionTopicIdError);
}

#[test]
fn the_epoch_wraps_to_one() {
    let sessions = FetchSessions::new(10);
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5)]), |_| IDLE).unwrap();
    sessions.sessions.lock().by_id.get_mut(&id).unwrap().epoch = i32::MAX;
    play(&sessions, &request(id, i32::MAX, &[]), |_| IDLE).unwrap();
    assert!(play(&sessions, &request(id, 1, &[]), |_| IDLE).is_ok());
}

#[test]
fn full_slots_refuse_new_sessions_until_one_is_closed_or_old() {
    let sessions = FetchSessions::new(1);
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5)]), |_| IDLE).unwrap();
    assert_eq!(play(&sessions, &request(0, 0, &[(0, 5)]), |_| IDLE).unwrap().0, 0);
    play(&sessions, &request(id, -1, &[]), |_| IDLE).unwrap();
    assert_eq!(sessions.len(), 0);
    let (id, _) = play(&sessions, &request(0, 0, &[(0, 5)]), |_| IDLE).unwrap();
    let later = Instant::now() + EVICTABLE_AFTER + Duration::from_secs(1);
    let (context, wanted) = sessions.begin(&request(0, 0, &[(0, 5)]), 11, later).unwrap();
    let mut found = wanted;
    let newer = sessions.finish(context, &mut found, later, |wanted| (wanted, IDLE));
    assert!(newer != 0 && newer != id);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn a_list_that_is_too_long_is_not_remembered() {
    let sessions = FetchSessions::new(10);
    let many = |count: usize| (0..count).map(|at| (i32::try_from(at).unwrap(), 0)).collect::<Vec<_>>();
    let (none, told) = play(&sessions, &request(0, 0, &many(PARTITIONS_MAX + 1)), |_| IDLE).unwrap();
    assert_eq!((none, told.len()), (0, PARTITIONS_MAX + 1));
    let (id, _) = play(&sessions, &request(0, 0, &many(PARTITIONS_MAX)), |_| IDLE).unwrap();
    assert_ne!(id, 0);
    let grown = play(&sessions, &request(id, 1, &[(-1, 0)]), |_| IDLE);
    assert_eq!(grown.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(sessions.len(), 0);
}

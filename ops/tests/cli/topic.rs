//! `millstream topic`.

use crate::server::{Server, millstream, run};

#[test]
fn topics_are_made_listed_described_widened_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    assert!(server.run(&["topic", "list"]).ok().stdout.contains("no topics yet"));
    let made = server.run(&["topic", "create", "orders", "-p", "2", "--config", "segment.bytes=65536"]).ok();
    assert_eq!(made.stdout, "created topic orders with 2 partitions\n");
    server.run(&["topic", "create", "orders"]).failed(1, &["orders", "--if-not-exists"]);
    server.run(&["topic", "create", "orders", "--if-not-exists"]).ok();

    server.run_with_input(&["produce", "orders", "--partition", "1"], b"a\nb\n").ok();
    let described = server.run(&["topic", "describe", "orders", "--json"]).ok().json().remove(0);
    assert_eq!(described["partitions"][1]["end"], 2);
    assert_eq!(described["partitions"][0]["end"], 0);
    assert_eq!(described["configs"]["segment.bytes"]["value"], "65536");
    assert_eq!(described["configs"]["segment.bytes"]["set_on_topic"], true);
    let described = server.run(&["topic", "describe", "orders"]).ok().stdout;
    assert!(described.contains("segment.bytes") && !described.contains("max.message.bytes"), "{described}");

    server.run(&["topic", "add-partitions", "orders", "--partitions", "4"]).ok();
    let listed = server.run(&["topic", "list", "--json"]).ok().json();
    assert_eq!((&listed[0]["topic"], &listed[0]["partitions"]), (&"orders".into(), &4.into()));
    server.run(&["topic", "add-partitions", "orders", "--partitions", "4"]).failed(1, &["orders"]);

    server.run(&["topic", "delete", "orders"]).ok();
    assert!(server.run(&["topic", "list", "--json"]).ok().stdout.is_empty());
    server.run(&["topic", "delete", "orders"]).failed(1, &["no topic \"orders\""]);
    server.run(&["topic", "delete", "orders", "--if-exists"]).ok();
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.run(&["topic", "create", "a/b"]).failed(1, &["a/b", "'/'"]);
    server
        .run(&["topic", "create", "a", "--config", "segment.byts=1"])
        .failed(1, &["did you mean 'segment.bytes'"]);
    server
        .run(&["topic", "create", "a", "--config", "retention.ms=-2"])
        .failed(1, &["retention.ms", "between -1 and"]);
    server.run(&["topic", "create", "a", "-p", "0"]).failed(2, &["0 is not in"]);
    server
        .run(&["topic", "describe", "missing"])
        .failed(1, &["no topic \"missing\"", "topic create missing"]);
    assert!(server.run(&["topic", "list", "--json"]).ok().stdout.is_empty());
}

#[test]
fn without_a_broker_every_client_command_says_how_to_start_one() {
    // So low that no broker of another test is given it.
    let free = "127.0.0.1:1";
    for arguments in
        [&["topic", "list"][..], &["produce", "t"], &["consume", "t"], &["topic", "describe", "t"]]
    {
        let mut command = millstream();
        command.args(arguments).args(["--bootstrap", free]);
        run(command, b"").failed(1, &[free, "is one running? start one with `millstream`"]);
    }
}

#[test]
fn a_description_tells_size_age_and_what_goes_next() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.run(&["topic", "create", "t", "-p", "1", "--config", "retention.ms=3600000"]).ok();
    server.run_with_input(&["produce", "t"], b"a\nb\n").ok();
    let text = server.run(&["topic", "describe", "t"]).ok().stdout;
    for part in ["SIZE", "OLDEST RECORD", "NEXT DELETION", "in 59 minutes"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(text.contains("just now") || text.contains(" seconds ago"), "{text}");
    let text = server.run(&["topic", "describe", "t", "--storage"]).ok().stdout;
    for part in ["ON DEVICE TO", "ok", "takes records", folder.path().to_str().unwrap()] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    let described = server.run(&["topic", "describe", "t", "--json"]).ok().json().remove(0);
    let partition = &described["storage"]["partitions"][0];
    assert_eq!(
        (&partition["durable"], &partition["log_end"], &partition["segments"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert!(partition["next_deletion_ms"].as_i64().unwrap() > 1_700_000_000_000, "{partition}");
    server.run(&["topic", "create", "kept", "--config", "retention.ms=-1"]).ok();
    let text = server.run(&["topic", "describe", "kept"]).ok().stdout;
    assert!(text.contains("never"), "{text}");
}

#[test]
fn a_topic_is_compacted_now_and_the_command_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let create = [
        "topic",
        "create",
        "c",
        "-p",
        "1",
        "--config",
        "cleanup.policy=compact",
        "--config",
        "segment.bytes=65536",
    ];
    server.run(&create).ok();
    let round = |round: usize| -> String {
        (0..1000).map(|key| format!("k{key}:{round}-{}\n", "v".repeat(100))).collect()
    };
    for number in 0..3 {
        server.run_with_input(&["produce", "c", "--key-separator", ":"], round(number).as_bytes()).ok();
    }
    let done = server.run(&["topic", "compact", "c"]).ok().stdout;
    assert!(done.contains("partition 0: done") && done.contains("compacted c in"), "{done}");
    let storage = server.run(&["topic", "describe", "c", "--json"]).ok().json().remove(0);
    let partition = &storage["storage"]["partitions"][0];
    assert_eq!(partition["is_compacted"], true);
    assert!(partition["last_compaction_ms"].as_i64().unwrap() > 0, "{partition}");
    let read = server.run(&["consume", "c", "--exit-at-end", "--format", "%k %v\n"]).ok().stdout;
    assert!(read.lines().count() < 2500, "{} records are left", read.lines().count());
    let again = server.run(&["topic", "compact", "c", "--partition", "0", "--json"]).ok().json();
    assert_eq!((&again[0]["partition"], &again[0]["failed"]), (&0.into(), &false.into()));
    server.run(&["topic", "create", "plain"]).ok();
    server.run(&["topic", "compact", "plain"]).failed(1, &["plain"]);
    server.run(&["topic", "compact", "missing"]).failed(1, &["no topic \"missing\""]);
    server.run(&["topic", "compact", "c", "--partition", "7"]).failed(1, &["has no partition 7"]);
}

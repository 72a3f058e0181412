//! `millstream group`.

use std::path::Path;

use crate::server::Server;

/// A broker with a topic of ten records in partition 0, five in partition 1, none in partition 2.
fn with_orders(folder: &Path) -> Server {
    let server = Server::start(folder);
    server.run(&["topic", "create", "orders", "-p", "3"]).ok();
    for (partition, count) in [("0", 10), ("1", 5)] {
        server.run_with_input(&["produce", "orders", "--partition", partition], &b"x\n".repeat(count)).ok();
    }
    server
}

#[test]
fn a_group_is_made_moved_described_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_orders(folder.path());
    assert!(server.run(&["group", "list"]).ok().stdout.contains("no groups yet"));
    let made = server.run(&["group", "seek", "billing", "--to", "start", "--topic", "orders", "--new"]).ok();
    assert!(made.stdout.contains("moved 3 partitions of group billing"), "{}", made.stdout);

    let dry = server.run(&["group", "seek", "billing", "--by", "4", "--topic", "orders:0", "--dry-run"]).ok();
    assert!(dry.stdout.contains("+4") && dry.stdout.contains("nothing was changed"), "{}", dry.stdout);
    let described = || server.run(&["group", "describe", "billing", "--json"]).ok().json().remove(0);
    assert_eq!(described()["partitions"][0]["committed"], 0);
    server.run(&["group", "seek", "billing", "--by", "4", "--topic", "orders:0"]).ok();
    let steps =
        server.run(&["group", "seek", "billing", "--by=-9", "--topic", "orders:0", "--json"]).ok().json();
    assert_eq!((&steps[0]["before"], &steps[0]["after"]), (&4.into(), &0.into()));
    assert!(steps[0]["note"].as_str().unwrap().contains("before its start"), "{}", steps[0]);
    server.run(&["group", "seek", "billing", "--to", "end", "--topic", "orders:0"]).ok();

    let group = described();
    assert_eq!(
        (&group["state"], &group["type"], &group["lag"]),
        (&"Empty".into(), &"classic".into(), &5.into())
    );
    assert_eq!(group["stuck"], false);
    let partition = &group["partitions"][1];
    assert_eq!(
        (&partition["committed"], &partition["end"], &partition["lag"]),
        (&0.into(), &5.into(), &5.into())
    );
    assert!(partition["lag_ms"].as_i64().unwrap() < 600_000, "{partition}");
    assert!(partition["last_commit_ms"].as_i64().unwrap() > 1_700_000_000_000, "{partition}");
    let text = server.run(&["group", "describe", "billing"]).ok().stdout;
    for part in ["classic group, empty", "0 members", "lag 5", "BEHIND", "LAST COMMIT"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    let listed = server.run(&["group", "list", "--json"]).ok().json();
    assert_eq!((&listed[0]["group"], &listed[0]["lag"]), (&"billing".into(), &5.into()));
    assert!(server.run(&["group", "list", "--state", "stable"]).ok().stdout.contains("no such groups"));
    server.run(&["group", "list", "--state", "steady"]).failed(2, &["PreparingRebalance", "Stable"]);
    server.run(&["group", "list", "--type", "clasic"]).failed(2, &["'classic'"]);

    server.run(&["group", "delete", "billing", "--topic", "orders:2"]).ok();
    assert_eq!(described()["partitions"].as_array().unwrap().len(), 2);
    server.run(&["group", "delete", "billing"]).ok();
    server.run(&["group", "delete", "billing"]).failed(1, &["no group \"billing\"", "--if-exists"]);
    server.run(&["group", "delete", "billing", "--if-exists"]).ok();
    assert!(server.run(&["group", "list", "--json"]).ok().stdout.is_empty());
}

#[test]
fn a_slip_is_answered_with_the_group_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_orders(folder.path());
    server.run(&["group", "seek", "billing", "--to", "end", "--topic", "orders", "--new"]).ok();
    for command in [&["group", "describe", "biling"][..], &["group", "seek", "biling", "--to", "start"]] {
        server.run(command).failed(1, &["no group \"biling\"", "did you mean \"billing\"?"]);
    }
    server.run(&["group", "describe", "search"]).failed(1, &["group list"]);
    let listed = server.run(&["group", "list", "--json"]).ok().json();
    assert_eq!(listed.len(), 1, "a slip makes no group");
}

#[test]
fn what_cannot_be_is_refused_before_anything_moves() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_orders(folder.path());
    server.run(&["group", "seek", "g"]).failed(2, &["--to", "--by"]);
    server.run(&["group", "seek", "g", "--to", "start", "--by", "1"]).failed(2, &["cannot be used with"]);
    server.run(&["group", "seek", "g", "--to", "yesterday"]).failed(2, &["start, end, an offset"]);
    server.run(&["group", "seek", "g", "--to", "end", "--new"]).failed(2, &["--topic"]);
    server
        .run(&["group", "seek", "g", "--to", "end", "--topic", "orders:0,x", "--new"])
        .failed(2, &["\"x\" is no partition"]);
    server
        .run(&["group", "seek", "g", "--to", "end", "--topic", "orders:7", "--new"])
        .failed(1, &["has 3 partitions", "no partition 7"]);
    server
        .run(&["group", "seek", "g", "--to", "end", "--topic", "order", "--new"])
        .failed(1, &["no topic \"order\""]);
    server
        .run(&["group", "seek", "g", "--by", "1", "--topic", "orders:0", "--new"])
        .failed(1, &["nothing to count from", "--to"]);
    assert!(server.run(&["group", "list", "--json"]).ok().stdout.is_empty());
}

#[test]
fn a_group_goes_back_to_a_time_and_what_is_after_all_records_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = with_orders(folder.path());
    let to = |place: &str| {
        let moved = ["group", "seek", "g", "--to", place, "--topic", "orders:0", "--new", "--json"];
        server.run(&moved).ok().json().remove(0)
    };
    assert_eq!(to("1h")["after"], 0);
    assert_eq!(to("2001-09-09")["after"], 0);
    let future = to("2100-01-01");
    assert_eq!(future["after"], 10);
    assert!(future["note"].as_str().unwrap().contains("no record is that new"), "{future}");
    assert_eq!(to("3")["after"], 3);
    assert_eq!(to("99")["after"], 10);
}

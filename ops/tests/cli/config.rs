//! `millstream config`.

use crate::server::{Server, millstream, run};

#[test]
fn settings_of_a_running_broker_are_shown_set_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.run(&["topic", "create", "orders"]).ok();
    let get = |arguments: &[&str]| {
        let shown = server.run(&[&["config", "get", "--json"], arguments].concat()).ok().json();
        let value = |one: &serde_json::Value| format!("{}={} ({})", one["name"], one["value"], one["origin"]);
        shown.iter().map(value).collect::<Vec<_>>().join(" ").replace('"', "")
    };
    assert_eq!(get(&["--topic", "orders"]), "");
    let set = ["config", "set", "--topic", "orders", "retention.ms=60000", "cleanup.policy+=compact"];
    assert_eq!(server.run(&set).ok().stdout, "2 settings changed, in force now\n");
    assert_eq!(
        get(&["--topic", "orders"]),
        "cleanup.policy=delete,compact (the topic) retention.ms=60000 (the topic)"
    );
    server.run(&["config", "set", "--topic", "orders", "cleanup.policy-=compact"]).ok();
    server.run(&["config", "unset", "--topic", "orders", "retention.ms"]).ok();
    assert_eq!(get(&["--topic", "orders"]), "cleanup.policy=delete (the topic)");
    assert_eq!(get(&["--topic", "orders", "retention.ms"]), "retention.ms=604800000 (default)");

    server.run(&["config", "set", "--all-brokers", "num.partitions=2"]).ok();
    server.run(&["config", "set", "--broker", "1", "num.partitions=3"]).ok();
    let dry = ["config", "set", "--broker", "1", "num.partitions=4", "--dry-run"];
    assert_eq!(server.run(&dry).ok().stdout, "1 setting could be changed\n");
    assert_eq!(get(&["--all-brokers"]), "num.partitions=2 (set for all brokers)");
    let none = server.run(&["config", "get", "--group", "readers"]).ok().stdout;
    assert_eq!(none, "all settings are at their defaults; --all shows them\n");
    server.run(&["config", "unset", "--all-brokers", "num.partitions"]).ok();
    let none = server.run(&["config", "get", "--all-brokers"]).ok().stdout;
    assert_eq!(none, "nothing is set for all brokers\n");
    assert_eq!(get(&["--broker", "1", "num.partitions"]), "num.partitions=3 (set for this broker)");

    let wrong = |arguments: &[&str], code, reasons: &[&str]| {
        server.run(&[&["config"], arguments].concat()).failed(code, reasons);
    };
    wrong(&["get", "--topic", "orders", "retention"], 1, &["'retention'", "config list"]);
    wrong(&["get", "--topic", "missing"], 1, &["missing"]);
    wrong(&["set", "--topic", "orders", "retention.m=1"], 1, &["did you mean 'retention.ms'?"]);
    wrong(&["unset", "--topic", "orders", "retention.m"], 1, &["'retention.m'", "config list"]);
    wrong(&["unset", "--group", "readers", "retention.ms"], 1, &["'retention.ms'"]);
    wrong(&["set", "--all-brokers", "listeners=127.0.0.1:1"], 1, &["settings of all brokers", "restart"]);
    wrong(&["set", "--broker", "1", "listeners=127.0.0.1:1"], 1, &["restart"]);
    wrong(&["set", "num.partitions=1"], 2, &["--topic"]);
    wrong(&["set", "--topic", "orders", "--broker", "1", "flush.ms=1"], 2, &["cannot be used with"]);
    wrong(&["set", "--topic", "orders", "flush.ms"], 2, &["KEY=VALUE"]);
}

#[test]
fn what_a_broker_would_be_started_with_is_shown_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.toml");
    std::fs::write(&path, "num.partitions = 2\nlog.retention.ms = 5000\n").unwrap();
    let mut command = millstream();
    command.args(["config", "show", "--origin", "--set", "fetch.max.bytes=9000", "--config"]).arg(&path);
    command.env("MILLSTREAM_NUM_PARTITIONS", "3");
    let shown = run(command, b"").ok().stdout;
    let line = |key: &str| {
        let line =
            shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("num.partitions"), "num.partitions 3 the environment variable MILLSTREAM_NUM_PARTITIONS");
    assert_eq!(line("log.retention.ms"), format!("log.retention.ms 5000 the file {}", path.display()));
    assert_eq!(line("fetch.max.bytes"), "fetch.max.bytes 9000 the command line");
    assert!(!shown.contains("num.network.threads"), "{shown}");
    let mut command = millstream();
    command.args(["config", "show", "--set", "num.partition=1"]);
    run(command, b"").failed(2, &["did you mean 'num.partitions'?"]);
}

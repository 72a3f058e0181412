//! `millstream serve`: banner, settings, signals, and what it says when it cannot start.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rustix::process::Signal;

use crate::server::{Server, millstream, run, spawn};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn banner_names_the_addresses_the_folder_and_three_commands() {
    let folder = folder();
    let (mut child, _) = spawn(folder.path(), &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut banner = String::new();
    for line in &mut lines {
        let line = line.unwrap();
        banner += &format!("{line}\n");
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(banner.starts_with(concat!("Millstream ", env!("CARGO_PKG_VERSION"))), "{banner}");
    for part in
        ["  Data        /", "  Kafka       127.0.0.1:", "  HTTP        http://127.0.0.1:", "fdatasync"]
    {
        assert!(banner.contains(part), "{part:?} is not in: {banner}");
    }
    for part in ["topic create hello", "produce hello", "consume hello", " -b 127.0.0.1:"] {
        assert!(banner.contains(part), "{part:?} is not in: {banner}");
    }
    assert!(banner.lines().count() <= 24, "more than one screen: {banner}");
}

#[test]
fn a_file_that_may_not_grow_does_not_end_the_broker() {
    let folder = folder();
    let server = Server::start(folder.path());
    // What the kernel sends when a write would pass RLIMIT_FSIZE.
    server.signal(Signal::XFSZ);
    server.run(&["topic", "create", "after"]).ok();
    server.stop();
}

#[test]
fn http_port_answers_and_can_be_switched_off() {
    let first = folder();
    let server = Server::start(first.path());
    let http = server.banner["http"].as_str().unwrap();
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "millstream_")] {
        let answer = http_get(http, path);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(part), "{path}: {answer}");
    }
    let second = folder();
    let server = Server::start_with(second.path(), &["--http", "off"]);
    assert!(server.banner["http"].is_null());
}

#[test]
fn settings_come_from_file_environment_and_command_line() {
    let folder = folder();
    let config = folder.path().join("millstream.toml");
    std::fs::write(&config, "num.partitions = 5\n").unwrap();
    let server = Server::start_with(folder.path(), &["--config", config.to_str().unwrap()]);
    server.run(&["topic", "create", "by-file"]).ok();
    let listed = server.run(&["topic", "list", "--json"]).ok().json();
    assert_eq!(listed[0]["partitions"], 5);
    drop(server);
    let server = Server::start_with(
        folder.path(),
        &["--config", config.to_str().unwrap(), "--set", "num.partitions=7"],
    );
    server.run(&["topic", "create", "by-command-line"]).ok();
    let listed = server.run(&["topic", "list", "--json"]).ok().json();
    assert_eq!((&listed[0]["topic"], &listed[0]["partitions"]), (&"by-command-line".into(), &7.into()));
}

#[test]
fn records_outlive_sigterm_and_sigkill() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.run_with_input(&["produce", "kept"], b"one\ntwo\n").ok();
    let said = server.stop();
    assert!(said.contains("stopped"), "{said}");
    let server = Server::start(folder.path());
    assert_eq!(server.run(&["consume", "kept", "--exit-at-end"]).ok().stdout, "one\ntwo\n");
    server.run_with_input(&["produce", "kept", "--acks", "1"], b"three\n").ok();
    server.kill();
    let server = Server::start(folder.path());
    assert_eq!(server.run(&["consume", "kept", "--exit-at-end"]).ok().stdout, "one\ntwo\nthree\n");
    server.run_with_input(&["produce", "kept"], b"four\n").ok();
    let shown = server.run(&["consume", "kept", "--exit-at-end", "--format", "%o=%v,"]).ok().stdout;
    assert_eq!(shown, "0=one,1=two,2=three,3=four,");
}

#[test]
fn an_address_that_others_reach_is_warned_of() {
    let folder = folder();
    let server = Server::start_with(folder.path(), &["--listen", "0.0.0.0:0"]);
    let said = server.stop();
    assert_eq!(said.matches("no authentication").count(), 1, "{said}");
}

#[test]
fn an_address_of_this_machine_alone_is_not_warned_of() {
    let folder = folder();
    let said = Server::start(folder.path()).stop();
    assert!(!said.contains("no authentication"), "{said}");
}

#[test]
fn interrupt_from_a_terminal_is_a_clean_end() {
    let folder = folder();
    let server = Server::start(folder.path());
    assert!(server.stop_by(Signal::INT).contains("SIGINT"));
}

#[test]
fn port_in_use_is_named() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = millstream();
    command.args(["--listen", &address, "--http", "off", "--data-dir"]).arg(folder.path());
    run(command, b"").failed(1, &[&address, "in use", "HOST:PORT"]);
    let mut command = millstream();
    command.args(["--listen", "127.0.0.1:0", "--http", &address, "--data-dir"]).arg(folder.path());
    run(command, b"").failed(1, &[&address, "in use", "HOST:PORT"]);
}

#[test]
fn folder_of_another_broker_is_refused() {
    let folder = folder();
    let server = Server::start(folder.path());
    let data = server.banner["data_dir"].as_str().unwrap();
    let mut command = millstream();
    command.args(["--listen", "127.0.0.1:0", "--http", "off", "--data-dir", data]);
    let pid = server.banner["pid"].to_string();
    run(command, b"").failed(1, &[data, "in use by another broker", &pid]);
}

#[test]
fn folder_that_cannot_be_had_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    // Nobody may make folders in /proc, not even root.
    for path in [file.as_path(), Path::new("/proc/millstream-data")] {
        let mut command = millstream();
        command.args(["--listen", "127.0.0.1:0", "--http", "off", "--data-dir"]).arg(path);
        run(command, b"").failed(1, &[path.to_str().unwrap(), "--data-dir"]);
    }
}

#[test]
fn wrong_settings_are_refused_with_a_suggestion() {
    let mut command = millstream();
    command.args(["--set", "num.partitons=3"]);
    run(command, b"").failed(2, &["num.partitons", "did you mean 'num.partitions'"]);
    let mut command = millstream();
    command.env("MILLSTREAM_NUM_PARTITIONS", "many");
    run(command, b"").failed(1, &["MILLSTREAM_NUM_PARTITIONS", "'many'"]);
    let mut command = millstream();
    command.args(["--set", "log.retention.hours=1"]);
    run(command, b"").failed(2, &["log.retention.hours", "write log.retention.ms=3600000"]);
    let mut command = millstream();
    command.args(["--set", "log.cleaner.threads=1"]);
    run(command, b"").failed(2, &["log.cleaner.threads", "not served"]);
    let mut command = millstream();
    command.args(["--listen", "nonsense"]);
    run(command, b"").failed(2, &["nonsense", "HOST:PORT"]);
}

#[test]
fn slips_on_the_command_line_exit_with_2_and_a_hint() {
    let mut command = millstream();
    command.arg("prodce");
    run(command, b"").failed(2, &["produce"]);
    let mut command = millstream();
    command.args(["consume", "t", "--formt", "%v"]);
    run(command, b"").failed(2, &["--format"]);
    let mut command = millstream();
    command.args(["consume", "t", "--format", "%q"]);
    run(command, b"").failed(2, &["unknown %q"]);
    let mut command = millstream();
    command.args(["consume", "t", "--from", "yesterday"]);
    run(command, b"").failed(2, &["start, end, an offset"]);
}

//! Claims about `resolve`.

use clap::Parser;

use super::*;
use crate::cli::Cli;

fn resolved(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Resolved> {
    let cli = Cli::parse_from([&["millstream"], args].concat());
    resolve(
        &cli.serve.settings,
        environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn value_of(resolved: &Resolved, key: &str) -> String {
    resolved.written(key).map(|(value, _)| value.to_owned()).unwrap_or_default()
}

fn refusal(args: &[&str], environment: &[(&str, &str)]) -> String {
    format!("{:#}", resolved(args, environment).unwrap_err())
}

#[test]
fn command_line_wins_over_environment_over_file_over_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millstream.toml");
    std::fs::write(
        &path,
        "listeners = \"127.0.0.1:1\"\n[num]\npartitions = 2\n[auto.create]\ntopics.enable = false\n",
    )
    .unwrap();
    let file = ["--config", path.to_str().unwrap()];
    let environment =
        [("MILLSTREAM_LISTEN", "127.0.0.1:2"), ("MILLSTREAM_NUM_PARTITIONS", "3"), ("PATH", "/bin")];

    let from_file = resolved(&file, &[]).unwrap();
    assert_eq!(value_of(&from_file, "listeners"), "127.0.0.1:1");
    assert_eq!(value_of(&from_file, "num.partitions"), "2");
    assert_eq!(value_of(&from_file, "auto.create.topics.enable"), "false");
    assert_eq!(value_of(&from_file, "http.listener"), HTTP_DEFAULT);

    let over_file = resolved(&file, &environment).unwrap();
    assert_eq!(value_of(&over_file, "listeners"), "127.0.0.1:2");
    assert_eq!(value_of(&over_file, "num.partitions"), "3");

    let options = ["--set", "num.partitions=4", "--set", "listeners=127.0.0.1:3", "--listen", "127.0.0.1:4"];
    let over_all = resolved(&[&file[..], &options].concat(), &environment).unwrap();
    assert_eq!(value_of(&over_all, "num.partitions"), "4");
    assert_eq!(value_of(&over_all, "listeners"), "127.0.0.1:4");
    let origin = |key: &str| over_all.written(key).unwrap().1.to_string();
    assert_eq!(origin("num.partitions"), "the command line");
    assert_eq!(origin("auto.create.topics.enable"), format!("the file {}", path.display()));
    assert_eq!(origin("http.listener"), "the binary's default");
    let origin = over_file.written("num.partitions").unwrap().1.to_string();
    assert_eq!(origin, "the environment variable MILLSTREAM_NUM_PARTITIONS");
}

#[test]
fn http_can_be_switched_off_from_anywhere() {
    for off in [
        resolved(&["--http", "off"], &[]),
        resolved(&[], &[("MILLSTREAM_HTTP", "off")]),
        resolved(&["--set", "http.listener=off"], &[]),
    ] {
        assert_eq!(value_of(&off.unwrap(), "http.listener"), "");
    }
}

#[test]
fn a_wrong_setting_is_told_with_the_place_where_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong.toml");
    std::fs::write(&path, "[num]\npartitons = 2\n").unwrap();
    let text = refusal(&["--config", path.to_str().unwrap()], &[]);
    assert!(text.contains("wrong.toml") && text.contains("did you mean 'num.partitions'"), "{text}");

    let text = refusal(&[], &[("MILLSTREAM_NUM_PARTITIONS", "many")]);
    assert!(text.contains("MILLSTREAM_NUM_PARTITIONS") && text.contains("whole number"), "{text}");

    let text = refusal(&[], &[("MILLSTREAM_NUM_PARTITION", "3")]);
    assert!(text.contains("MILLSTREAM_NUM_PARTITION") && text.contains("num.partitions"), "{text}");

    std::fs::write(&path, "num.partitions = [1]").unwrap();
    assert!(refusal(&["--config", path.to_str().unwrap()], &[]).contains("'num.partitions' is array"));
    assert!(refusal(&["--config", "/nowhere.toml"], &[]).contains("/nowhere.toml cannot be read"));
}

#[test]
fn variables_that_kubernetes_sets_are_no_settings() {
    let foreign = [
        ("MILLSTREAM_SERVICE_HOST", "10.0.0.1"),
        ("MILLSTREAM_SERVICE_PORT_KAFKA", "9092"),
        ("MILLSTREAM_PORT", "tcp://10.0.0.1:9092"),
        ("MILLSTREAM_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("MILLSTREAM_KAFKA_SERVICE_HOST", "10.0.0.1"),
        ("MILLSTREAM_NUM_PARTITIONS", ""),
    ];
    let resolved = resolved(&[], &foreign).unwrap();
    assert_eq!(resolved.0.keys().collect::<Vec<_>>(), ["http.listener"]);
}

//! The rooms of the workspace and the edges between them: what a package may depend on is a decision, so a new
//! edge fails here until the table (and ARCHITECTURE.md) says that it is meant.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each package and the packages of this workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("millstream-protocol", &[]),
    ("millstream-protocol-gen", &[]),
    ("millstream-log", &["millstream-protocol"]),
    ("millstream-client", &["millstream-protocol", "millstream-broker"]),
    ("millstream-producer", &["millstream-client", "millstream-protocol"]),
    ("millstream-consumer", &["millstream-client", "millstream-protocol"]),
    ("millstream-broker", &["millstream-protocol", "millstream-log"]),
    (
        "millstream-ops",
        &[
            "millstream-broker",
            "millstream-client",
            "millstream-producer",
            "millstream-consumer",
            "millstream-log",
            "millstream-protocol",
        ],
    ),
    (
        "millstream-examples",
        &[
            "millstream-broker",
            "millstream-producer",
            "millstream-consumer",
            "millstream-client",
            "millstream-protocol",
        ],
    ),
    (
        "millstream-bench",
        &[
            "millstream-broker",
            "millstream-producer",
            "millstream-consumer",
            "millstream-client",
            "millstream-protocol",
        ],
    ),
];

/// Edges that are there only for those who ask for them by a feature.
const OPTIONAL: &[(&str, &str)] =
    &[("millstream-client", "millstream-broker"), ("millstream-bench", "millstream-broker")];

/// The package that may depend on all others.
const TESTS: &str = "millstream-tests";

/// Crates that a package must not bring in, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    (
        "tokio",
        &["millstream-protocol", "millstream-log"],
        "these two are run by simulations that own the time",
    ),
    ("tracing", &["millstream-protocol"], "the codec answers errors, it does not log"),
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes this workspace")
}

/// What a package really is built with; development dependencies are a test's business.
fn built_with(package: &Package) -> BTreeSet<&str> {
    let normal = package.dependencies.iter().filter(|edge| edge.kind != DependencyKind::Development);
    normal.map(|edge| edge.name.as_str()).collect()
}

#[test]
fn a_package_depends_only_on_the_rooms_below_it() {
    let metadata = workspace();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.name.as_str() != TESTS) {
        let Some(may) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{} has no row in this test", package.name));
            continue;
        };
        // Test code of a package keeps to the same rooms, or a cycle would grow through it.
        for edge in package.dependencies.iter().filter(|edge| members.contains(edge.name.as_str())) {
            if !may.contains(&edge.name.as_str()) {
                wrong.push(format!("{} -> {} is not an edge of the design", package.name, edge.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_edge_for_those_who_ask_is_a_feature_and_off_by_default() {
    let metadata = workspace();
    for (from, to) in OPTIONAL {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == *from).unwrap();
        let edge = package.dependencies.iter().find(|edge| edge.name == *to).unwrap();
        assert!(edge.optional, "{from} -> {to} has to be optional");
        let default = package.features.get("default").into_iter().flatten();
        assert_eq!(default.collect::<Vec<_>>(), Vec::<&String>::new(), "{from} has default features");
    }
}

/// What a program is built with that depends on these packages with these features.
fn tree_of(packages: &[&str], features: &[&str]) -> BTreeSet<String> {
    let mut tree = std::process::Command::new(env!("CARGO"));
    tree.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    tree.args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none"])
        .args(features);
    for package in packages {
        tree.args(["--package", package]);
    }
    let told = tree.output().expect("cargo is there");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let names = String::from_utf8_lossy(&told.stdout);
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn producer_and_consumer_are_pure_rust_but_for_a_codec_that_can_be_left_out() {
    let packages = ["millstream-producer", "millstream-consumer"];
    let is_c = |name: &&String| *name == "cc" || *name == "cmake" || name.ends_with("-sys");
    let without = tree_of(&packages, &["--no-default-features"]);
    assert!(without.contains("tokio"), "{without:?}");
    assert_eq!(without.iter().filter(is_c).collect::<Vec<_>>(), Vec::<&String>::new());
    let with = tree_of(&packages, &[]);
    assert_eq!(with.iter().filter(is_c).collect::<Vec<_>>(), ["cc", "zstd-sys"]);
    assert!(!with.iter().any(|name| name == "millstream-broker" || name == "axum"), "{with:?}");
}

#[test]
fn every_row_of_the_table_is_a_package() {
    let metadata = workspace();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let gone: Vec<&str> =
        ALLOWED.iter().map(|(name, _)| *name).filter(|name| !members.contains(name)).collect();
    assert_eq!(gone, Vec::<&str>::new());
}

#[test]
fn the_oracle_of_the_protocol_tests_is_no_part_of_the_product() {
    let metadata = workspace();
    let users: Vec<&str> = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() != TESTS && built_with(package).contains("kafka-protocol"))
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(users, Vec::<&str>::new(), "six hostile bytes abort kafka-protocol: it is a test oracle only");
}

#[test]
fn a_package_does_without_the_crates_that_its_purpose_forbids() {
    let metadata = workspace();
    for (banned, packages, reason) in BANNED {
        for package in metadata.packages.iter().filter(|package| packages.contains(&package.name.as_str())) {
            assert!(!built_with(package).contains(banned), "{} depends on {banned}: {reason}", package.name);
        }
    }
}

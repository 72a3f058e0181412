//! Our definitions of the messages against Kafka's own, which lie as JSON inside the Java client's jar: each field,
//! its type, versions, tag, default and nullability. Kafka's files are read where they are and not kept.
//!
//! `KAFKA_CLIENTS_JAR` names the jar (`.ci/run` sets it); without it the newest one of Maven's repository is taken,
//! and where there is none the test says so and compares nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_protocol_gen::rust::snake;
use millstream_protocol_gen::schema::{self, Field, Message, Scalar, Struct, Type, Versions};
use serde_json::Value;

/// One field in a form that both sides can be brought to.
#[derive(Debug, PartialEq)]
struct Facts {
    name: String,
    kind: String,
    versions: Option<(i16, i16)>,
    nullable: Option<(i16, i16)>,
    tag: Option<(u64, (i16, i16))>,
    default: String,
    ignorable: bool,
}

/// A jar of kafka-clients, if the machine has one.
fn jar() -> Option<PathBuf> {
    if let Some(named) = env::var_os("KAFKA_CLIENTS_JAR") {
        let path = PathBuf::from(named);
        assert!(path.exists(), "KAFKA_CLIENTS_JAR names {}, which does not exist", path.display());
        return Some(path);
    }
    let versions = Path::new(&env::var_os("HOME")?).join(".m2/repository/org/apache/kafka/kafka-clients");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(versions).ok()?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let version = folders.last()?.file_name()?.to_string_lossy().into_owned();
    let path = folders.last()?.join(format!("kafka-clients-{version}.jar"));
    path.exists().then_some(path)
}

/// Unpacks the jar with Python's standard library, so that the workspace needs no crate for it.
fn unpack(jar: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let status = Command::new("python3").args(["-m", "zipfile", "-e"]).arg(jar).arg(folder.path()).status();
    assert!(status.expect("python3 runs").success(), "python3 could not unpack {}", jar.display());
    folder
}

/// Kafka's JSON has comments, which JSON has not.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut end = line.len();
        for (at, c) in line.char_indices() {
            quoted ^= c == '"';
            if !quoted && line[at..].starts_with("//") {
                end = at;
                break;
            }
        }
        kept.push_str(&line[..end]);
        kept.push('\n');
    }
    kept
}

/// "3-13", "9+", "4" or "none", within the limits of what is around it.
fn range(text: &str, within: (i16, i16)) -> Option<(i16, i16)> {
    let number = |text: &str| text.parse::<i16>().expect("a version is a number");
    let (first, last) = match (text, text.split_once('-'), text.strip_suffix('+')) {
        ("none", _, _) => return None,
        (_, Some((first, last)), _) => (number(first), number(last)),
        (_, _, Some(first)) => (number(first), i16::MAX),
        (single, ..) => (number(single), number(single)),
    };
    intersect((first, last), within)
}

fn intersect(one: (i16, i16), other: (i16, i16)) -> Option<(i16, i16)> {
    let both = (one.0.max(other.0), one.1.min(other.1));
    (both.0 <= both.1).then_some(both)
}

fn pair(versions: Versions) -> (i16, i16) {
    (versions.first, versions.last)
}

/// A default in one spelling; nothing for zero, empty and false, which go without saying.
fn plain_default(text: &str) -> String {
    let text = text.trim_matches('"');
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).expect("a hexadecimal default").to_string();
    }
    if ["0", "false", "0.0"].contains(&text) { String::new() } else { text.to_owned() }
}

fn theirs(field: &Value, within: (i16, i16)) -> Option<Facts> {
    let text = |key: &str| field[key].as_str();
    let versions = range(text("versions").expect("a field has versions"), within)?;
    let default = match &field["default"] {
        Value::Null => String::new(),
        Value::String(text) => plain_default(text),
        other => plain_default(&other.to_string()),
    };
    let tagged = text("taggedVersions").and_then(|tagged| range(tagged, versions));
    Some(Facts {
        name: snake(text("name").expect("a field has a name")),
        kind: text("type").expect("a field has a type").to_owned(),
        versions: Some(versions),
        nullable: text("nullableVersions").and_then(|nullable| range(nullable, versions)),
        tag: tagged.map(|tagged| (field["tag"].as_u64().expect("a tagged field has a tag"), tagged)),
        default,
        ignorable: field["ignorable"].as_bool().unwrap_or(false),
    })
}

fn kind(of: &Type) -> String {
    match of {
        Type::Array(element) => format!("[]{}", kind(element)),
        Type::Struct(name) => name.clone(),
        Type::Scalar(scalar) => match scalar {
            Scalar::Bool => "bool",
            Scalar::I8 => "int8",
            Scalar::I16 => "int16",
            Scalar::U16 => "uint16",
            Scalar::I32 => "int32",
            Scalar::I64 => "int64",
            Scalar::F64 => "float64",
            Scalar::Uuid => "uuid",
            Scalar::String => "string",
            Scalar::Bytes => "bytes",
            Scalar::Records => "records",
        }
        .to_owned(),
    }
}

fn ours(field: &Field, within: (i16, i16)) -> Facts {
    let versions = intersect(pair(field.versions), within);
    let inside = |range: Versions| versions.and_then(|versions| intersect(pair(range), versions));
    Facts {
        name: field.name.trim_end_matches('_').to_owned(),
        kind: kind(&field.kind),
        versions,
        nullable: field.nullable.and_then(inside),
        tag: field.tag.and_then(|(tag, tagged)| Some((u64::from(tag), inside(tagged)?))),
        default: field.default.as_deref().map(plain_default).unwrap_or_default(),
        ignorable: field.ignorable,
    }
}

/// Compares one structure of a message and those below it; every difference becomes a sentence.
struct Comparison<'a> {
    message: &'a Message,
    json: &'a Value,
    fields: usize,
    differences: Vec<String>,
}

impl Comparison<'_> {
    fn structure(&mut self, place: &str, own: &Struct, their: &[Value], within: (i16, i16)) {
        let their: Vec<(Facts, &Value)> =
            their.iter().filter_map(|field| Some((theirs(field, within)?, field))).collect();
        if own.fields.len() != their.len() {
            let names: Vec<&str> = their.iter().map(|(facts, _)| facts.name.as_str()).collect();
            self.differences.push(format!("{place}: Kafka has the fields {}", names.join(", ")));
        }
        for (field, (facts, json)) in own.fields.iter().zip(&their) {
            self.fields += 1;
            let own_facts = ours(field, within);
            if own_facts != *facts {
                self.differences.push(format!("{place}: ours\n  {own_facts:?}\n  Kafka's\n  {facts:?}"));
                continue;
            }
            let element = facts.kind.trim_start_matches("[]");
            if let Some(below) = self.message.structs.get(element) {
                let fields = json["fields"].as_array().cloned().unwrap_or_else(|| self.shared(element));
                let versions = facts.versions.expect("a field that Kafka has in these versions");
                self.structure(&format!("{place}.{}", facts.name), below, &fields, versions);
            }
        }
    }

    /// The fields of a structure that several fields of the message share.
    fn shared(&self, name: &str) -> Vec<Value> {
        let shared = self.json["commonStructs"].as_array().into_iter().flatten();
        let named = shared.filter(|shared| shared["name"] == name);
        named.flat_map(|shared| shared["fields"].as_array().cloned().unwrap_or_default()).collect()
    }
}

fn compare(message: &Message, key: i16, folder: &Path) -> (usize, Vec<String>) {
    let path = folder.join("common/message").join(format!("{}.json", message.name));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: Value = serde_json::from_str(&without_comments(&text)).expect("the definition is JSON");
    let mut differences = Vec::new();
    let mut expect = |what: &str, own: String, their: String| {
        if own != their {
            differences.push(format!("{}: {what} is {own}, Kafka's {their}", message.name));
        }
    };
    let everything = (0, i16::MAX);
    let mut valid =
        range(json["validVersions"].as_str().expect("versions"), everything).expect("some versions");
    let request =
        folder.join("common/message").join(format!("{}.json", message.name.replace("Response", "Request")));
    // An unstable last version is not one that a broker advertises; only the request says so.
    if fs::read_to_string(request).expect("a request").contains("\"latestVersionUnstable\": true") {
        valid.1 -= 1;
    }
    let flexible = range(json["flexibleVersions"].as_str().expect("flexible versions"), everything);
    expect("the number", key.to_string(), json["apiKey"].to_string());
    expect("the range of versions", format!("{:?}", pair(message.versions)), format!("{valid:?}"));
    expect(
        "the first flexible version",
        format!("{:?}", message.flexible_from),
        format!("{:?}", flexible.map(|range| range.0).filter(|first| *first <= valid.1)),
    );
    let fields = json["fields"].as_array().expect("fields");
    let mut comparison = Comparison { message, json: &json, fields: 0, differences };
    comparison.structure(&message.name, &message.body, fields, pair(message.versions));
    (comparison.fields, comparison.differences)
}

#[test]
fn our_messages_have_the_fields_of_kafkas() {
    let Some(jar) = jar() else {
        println!(
            "not compared: no kafka-clients jar here (mvn dependency:get fetches one, or set KAFKA_CLIENTS_JAR)"
        );
        return;
    };
    let kafka = unpack(&jar);
    let schema = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/schema"));
    let apis = schema::read_folder(schema).expect("our schema is readable");
    let (mut fields, mut differences) = (0, Vec::new());
    for api in apis.iter().filter(|api| !api.is_own()) {
        for message in [&api.request, &api.response] {
            let (count, found) = compare(message, api.key, kafka.path());
            fields += count;
            differences.extend(found);
        }
    }
    println!("{fields} fields of {} APIs compared with {}", apis.len(), jar.display());
    assert!(fields > 700, "only {fields} fields were compared");
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_field_that_drifts_is_found() {
    let Some(jar) = jar() else { return };
    let kafka = unpack(&jar);
    let schema = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/schema"));
    let mut apis = schema::read_folder(schema).expect("our schema is readable");
    for api in apis.iter_mut().filter(|api| !api.is_own()) {
        let Some(field) = api.request.body.fields.first_mut() else { continue };
        field.ignorable = !field.ignorable;
        let (_, differences) = compare(&api.request, api.key, kafka.path());
        assert_eq!(differences.len(), 1, "{}: {differences:?}", api.name);
    }
}

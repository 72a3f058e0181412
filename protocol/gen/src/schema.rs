//! The definitions of messages, and the small language they are written in.
//!
//! ```text
//! # What the API is for.
//! api Fetch = 1
//!
//! request 4-18 flexible 12+            versions of the message; flexible from 12 on (KIP-482)
//!   struct Cursor 5+                   a structure that several fields share
//!     topic_name  string
//!   replica_id  i32      4-14 = -1     only in versions 4 to 14; -1 by default
//!   cluster_id  string?  12+ tag 0     may be null; a tagged field
//!   topics      [Topic]                an array; its elements are described by the lines below it
//!     topic_id  uuid     13+ ignorable ignorable: dropped silently where a version lacks it
//! ```
//!
//! What a coordinator keeps in a topic is described likewise, in a `.record` file: `record OffsetCommit = 1`, then
//! a `key` and a `value`. The number stands in front of the key, the version in front of the value.
//!
//! A field without versions has those of the structure around it. `null 2+` after a nullable type says that
//! null is possible only from version 2 on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// An inclusive range of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The first.
    pub first: i16,
    /// The last; `i16::MAX` for an open end.
    pub last: i16,
}

impl Versions {
    /// Whether `version` is one of them.
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    fn intersect(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }
}

/// A scalar of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kafka's")]
pub enum Scalar {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A scalar.
    Scalar(Scalar),
    /// A structure, by its name in [`Message::structs`].
    Struct(String),
    /// An array of scalars or structures.
    Array(Box<Type>),
}

/// One field of a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name in snake case.
    pub name: String,
    /// What it holds.
    pub kind: Type,
    /// Versions that have it.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Option<Versions>,
    /// Tag, and the versions in which it is tagged.
    pub tag: Option<(u32, Versions)>,
    /// Default, where it is not zero, empty or false. "null" for null.
    pub default: Option<String>,
    /// Dropped silently where a version lacks it.
    pub ignorable: bool,
}

/// A structure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Struct {
    /// Its fields in the order in which they are written.
    pub fields: Vec<Field>,
    /// Versions in which it can occur.
    pub versions: Option<Versions>,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Name, such as `FetchRequest`.
    pub name: String,
    /// Versions of it.
    pub versions: Versions,
    /// First flexible version, if there is one.
    pub flexible_from: Option<i16>,
    /// Its own fields.
    pub body: Struct,
    /// The structures inside, by name.
    pub structs: BTreeMap<String, Struct>,
}

/// One API: a request and its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// What it is for.
    pub about: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub key: i16,
    /// The request.
    pub request: Message,
    /// The response.
    pub response: Message,
}

/// One kind of record that a coordinator keeps in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKind {
    /// What it is for.
    pub about: String,
    /// Its number.
    pub number: i16,
    /// What it is found by.
    pub key: Message,
    /// What is kept.
    pub value: Message,
}

/// From here on numbers are Millstream's own: Kafka's are far below, and clients ignore what they do not know.
const OWN_FROM: i16 = 0x4000;

impl Api {
    /// Whether it is Millstream's own, and Kafka has no such API.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.key >= OWN_FROM
    }
}

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// File and line.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for SchemaError {}

/// Reads every `.api` file of a folder; the result is in the order of the API numbers.
pub fn read_folder(folder: &Path) -> Result<Vec<Api>, SchemaError> {
    let mut apis = read_all(folder, "api", parse)?;
    apis.sort_by_key(|api| api.key);
    Ok(apis)
}

/// Reads every `.record` file of a folder; the result is in the order of their numbers.
pub fn read_records(folder: &Path) -> Result<Vec<RecordKind>, SchemaError> {
    let mut kinds = read_all(folder, "record", parse_record)?;
    kinds.sort_by_key(|kind| kind.number);
    Ok(kinds)
}

fn read_all<T>(
    folder: &Path,
    wanted: &str,
    read: fn(&str, &str) -> Result<T, SchemaError>,
) -> Result<Vec<T>, SchemaError> {
    let unreadable = |path: &Path, error: std::io::Error| SchemaError {
        place: path.display().to_string(),
        problem: error.to_string(),
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.extension().is_some_and(|extension| extension == wanted) {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            all.push(read(&text, &path.display().to_string())?);
        }
    }
    Ok(all)
}

/// Reads the definition of one API; `file` is for error messages.
pub fn parse(text: &str, file: &str) -> Result<Api, SchemaError> {
    Parser::over(text, file).api()
}

/// Reads the definition of one kind of record; `file` is for error messages.
pub fn parse_record(text: &str, file: &str) -> Result<RecordKind, SchemaError> {
    Parser::over(text, file).record()
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    content: &'a str,
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    file: &'a str,
}

impl<'a> Parser<'a> {
    fn over(text: &'a str, file: &'a str) -> Self {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let content = line.trim();
            if !content.is_empty() {
                let indent = line.len() - line.trim_start().len();
                lines.push(Line { number: number + 1, indent, content });
            }
        }
        Self { lines, at: 0, file }
    }

    fn error(&self, problem: impl Into<String>) -> SchemaError {
        let at = self.at.min(self.lines.len().saturating_sub(1));
        let number = self.lines.get(at).map_or(0, |line| line.number);
        SchemaError { place: format!("{}:{number}", self.file), problem: problem.into() }
    }

    fn next(&mut self) -> Option<Line<'a>> {
        let line = self.lines.get(self.at).copied()?;
        self.at += 1;
        Some(line)
    }

    fn api(&mut self) -> Result<Api, SchemaError> {
        let (about, name, key) = self.head("api ")?;
        let request = self.message("request", format!("{name}Request"))?;
        let response = self.message("response", format!("{name}Response"))?;
        self.end()?;
        Ok(Api { about, name: name.to_owned(), key, request, response })
    }

    fn record(&mut self) -> Result<RecordKind, SchemaError> {
        let (about, name, number) = self.head("record ")?;
        let key = self.message("key", format!("{name}Key"))?;
        let value = self.message("value", format!("{name}Value"))?;
        self.end()?;
        Ok(RecordKind { about, number, key, value })
    }

    /// What it is for, its name and its number.
    fn head(&mut self, kind: &str) -> Result<(String, &'a str, i16), SchemaError> {
        let about = self.next().and_then(|line| line.content.strip_prefix("# "));
        let about = about.ok_or_else(|| self.error("the first line says what it is for: # ..."))?.to_owned();
        let head = self.next().and_then(|line| line.content.strip_prefix(kind));
        let (name, number) = head
            .and_then(|head| head.split_once(" = "))
            .ok_or_else(|| self.error(format!("expected: {kind}Name = number")))?;
        let number = number.parse().map_err(|_| self.error("what stands after '=' is not a number"))?;
        Ok((about, name, number))
    }

    fn end(&mut self) -> Result<(), SchemaError> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(self.error("nothing is expected from here on")),
        }
    }

    fn message(&mut self, kind: &str, name: String) -> Result<Message, SchemaError> {
        let line = self.next().ok_or_else(|| self.error(format!("the {kind} is missing")))?;
        let words: Vec<&str> = line.content.split_whitespace().collect();
        let (versions, flexible) = match words[..] {
            [word, versions] if word == kind => (versions, None),
            [word, versions, "flexible", from] if word == kind => (versions, Some(from)),
            _ => return Err(self.error(format!("expected: {kind} VERSIONS [flexible VERSION+]"))),
        };
        let versions = self.versions(versions)?;
        let flexible_from = flexible.map(|from| self.versions(from)).transpose()?.map(|from| from.first);
        let mut structs = BTreeMap::new();
        let body = self.structure(line.indent, versions, &mut structs)?;
        Ok(Message { name, versions, flexible_from, body, structs })
    }

    /// The lines that are indented deeper than `indent`.
    fn structure(
        &mut self,
        indent: usize,
        versions: Versions,
        structs: &mut BTreeMap<String, Struct>,
    ) -> Result<Struct, SchemaError> {
        let mut fields = Vec::new();
        while let Some(line) = self.lines.get(self.at).copied().filter(|line| line.indent > indent) {
            self.at += 1;
            let words: Vec<&str> = line.content.split_whitespace().collect();
            let (name, held) = match words[..] {
                ["struct", name] => (Some(name.to_owned()), versions),
                ["struct", name, held] => (Some(name.to_owned()), self.versions(held)?.intersect(versions)),
                _ => {
                    let field = self.field(&words, versions)?;
                    let held = field.versions;
                    let name = struct_name(&field.kind).map(str::to_owned);
                    fields.push(field);
                    (name, held)
                }
            };
            let is_described = self.lines.get(self.at).is_some_and(|next| next.indent > line.indent);
            if is_described {
                let name = name.ok_or_else(|| self.error("only a structure has fields of its own"))?;
                let inner = self.structure(line.indent, held, structs)?;
                if structs.insert(name, inner).is_some() {
                    return Err(self.error("this structure is described twice"));
                }
            }
        }
        Ok(Struct { fields, versions: Some(versions) })
    }

    fn field(&self, words: &[&str], around: Versions) -> Result<Field, SchemaError> {
        let [name, kind, rest @ ..] = words else {
            return Err(self.error("expected: name type [versions] [tag N] [= default] [ignorable]"));
        };
        let (kind, is_nullable) = kind.strip_suffix('?').map_or((*kind, false), |kind| (kind, true));
        let mut rest = rest.iter().copied().peekable();
        let starts_with_digit = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let versions = match rest.next_if(starts_with_digit) {
            Some(word) => self.versions(word)?.intersect(around),
            None => around,
        };
        let mut field = Field {
            name: (*name).to_owned(),
            kind: parse_type(kind),
            versions,
            nullable: is_nullable.then_some(versions),
            tag: None,
            default: None,
            ignorable: false,
        };
        while let Some(word) = rest.next() {
            match word {
                "ignorable" => field.ignorable = true,
                "=" => field.default = Some(self.after(rest.next(), "=")?.to_owned()),
                "null" => {
                    let held = self.versions(self.after(rest.next(), "null")?)?;
                    field.nullable = Some(held.intersect(versions));
                }
                "tag" => {
                    let tag = self.after(rest.next(), "tag")?;
                    let tag = tag.parse().map_err(|_| self.error("a tag is a number"))?;
                    let held = match rest.next_if(starts_with_digit) {
                        Some(word) => self.versions(word)?.intersect(versions),
                        None => versions,
                    };
                    field.tag = Some((tag, held));
                }
                other => return Err(self.error(format!("'{other}' is not understood here"))),
            }
        }
        Ok(field)
    }

    fn after<'w>(&self, word: Option<&'w str>, what: &str) -> Result<&'w str, SchemaError> {
        word.ok_or_else(|| self.error(format!("something is missing after '{what}'")))
    }

    fn versions(&self, word: &str) -> Result<Versions, SchemaError> {
        let number = |text: &str| text.parse().map_err(|_| self.error(format!("'{word}' are no versions")));
        if let Some(first) = word.strip_suffix('+') {
            return Ok(Versions { first: number(first)?, last: i16::MAX });
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Ok(Versions { first: number(first)?, last: number(last)? })
    }
}

fn parse_type(word: &str) -> Type {
    if let Some(element) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
        return Type::Array(Box::new(parse_type(element)));
    }
    Type::Scalar(match word {
        "bool" => Scalar::Bool,
        "i8" => Scalar::I8,
        "i16" => Scalar::I16,
        "u16" => Scalar::U16,
        "i32" => Scalar::I32,
        "i64" => Scalar::I64,
        "f64" => Scalar::F64,
        "uuid" => Scalar::Uuid,
        "string" => Scalar::String,
        "bytes" => Scalar::Bytes,
        "records" => Scalar::Records,
        name => return Type::Struct(name.to_owned()),
    })
}

fn struct_name(kind: &Type) -> Option<&str> {
    match kind {
        Type::Scalar(_) => None,
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Does a thing.\napi Thing = 7\n\nrequest 1-5 flexible 4+\n  id  i32  2+ = -1 ignorable\n  \
                        parts  [Part]?  null 3+\n    name  string?  4+ tag 0 = null\n\nresponse 1-5 flexible 4+\n  code  i16\n";

    #[test]
    fn a_definition_is_read_as_it_is_written() {
        let api = parse(TEXT, "thing").unwrap();
        assert_eq!((api.name.as_str(), api.key), ("Thing", 7));
        let [id, parts] = &api.request.body.fields[..] else { panic!("two fields") };
        assert_eq!(id.versions, Versions { first: 2, last: 5 });
        assert_eq!((id.default.as_deref(), id.ignorable), (Some("-1"), true));
        assert_eq!(parts.nullable, Some(Versions { first: 3, last: 5 }));
        let name = &api.request.structs["Part"].fields[0];
        assert_eq!(name.tag, Some((0, Versions { first: 4, last: 5 })));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = parse(&TEXT.replace("ignorable", "ignoreable"), "thing").unwrap_err();
        assert!(error.place.starts_with("thing:"), "{error}");
        assert!(error.problem.contains("ignoreable"), "{error}");
    }
}

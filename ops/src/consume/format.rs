//! How `consume` prints a record: a template as in kcat, or one JSON object a line.

use std::io::{self, Write};

use millstream_consumer::ConsumerRecord;
use millstream_protocol::records::RecordHeader;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::text::{base64, unescape};
use crate::timestamp::Timestamp;

/// What the help says about templates.
pub(crate) const HELP: &str = "\
Template:
  %k key      %K its size in bytes, -1 if null    %o offset     %T timestamp in ms
  %v value    %S its size in bytes, -1 if null    %p partition  %D timestamp as a date
  %s value    %h headers: name=value,name=value   %t topic      %% a percent sign
  and the escapes \\n \\t \\r \\0 \\\\ \\xNN";

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Key,
    KeySize,
    Value,
    ValueSize,
    Headers,
    Offset,
    Partition,
    Topic,
    Timestamp,
    Date,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Names the directive that does not exist, and those that do.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut parts = text.split('%');
        literal.extend(unescape(parts.next().unwrap_or_default())?);
        while let Some(part) = parts.next() {
            let mut chars = part.chars();
            let piece = match chars.next() {
                Some(directive) => directive_of(directive, text)?,
                // Two percent signs in a row leave an empty part between them; what follows is literal.
                None => match parts.next() {
                    Some(after) => {
                        literal.push(b'%');
                        literal.extend(unescape(after)?);
                        continue;
                    }
                    None => return Err(format!("{text:?} ends with a lone %; write %% for a percent sign")),
                },
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
            literal.extend(unescape(chars.as_str())?);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// Appends one record to `out`.
    ///
    /// # Errors
    /// What `out` says.
    pub(crate) fn write(&self, record: &ConsumerRecord, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.write_all(bytes)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::KeySize => write!(out, "{}", size(record.key.as_deref()))?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::ValueSize => write!(out, "{}", size(record.value.as_deref()))?,
                Piece::Headers => write_headers(record, out)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Partition => write!(out, "{}", record.partition)?,
                Piece::Topic => out.write_all(record.topic.as_bytes())?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Date => write!(out, "{}", Timestamp(record.timestamp).to_rfc3339())?,
            }
        }
        Ok(())
    }
}

fn directive_of(directive: char, text: &str) -> Result<Piece, String> {
    Ok(match directive {
        'k' => Piece::Key,
        'K' => Piece::KeySize,
        'v' | 's' => Piece::Value,
        'S' => Piece::ValueSize,
        'h' => Piece::Headers,
        'o' => Piece::Offset,
        'p' => Piece::Partition,
        't' => Piece::Topic,
        'T' => Piece::Timestamp,
        'D' => Piece::Date,
        other => {
            return Err(format!(
                "unknown %{other} in {text:?}; there are %k %K %v %s %S %h %o %p %t %T %D %%"
            ));
        }
    })
}

fn size(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

/// `a=1,b=2`; a null value is written NULL, as kcat does.
fn write_headers(record: &ConsumerRecord, out: &mut impl Write) -> io::Result<()> {
    for (at, header) in record.headers.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write!(out, "{}=", header.key)?;
        out.write_all(header.value.as_deref().unwrap_or(b"NULL"))?;
    }
    Ok(())
}

/// Appends one record as a line of JSON.
///
/// # Errors
/// What `out` says.
pub(crate) fn write_json(record: &ConsumerRecord, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &RecordAsJson(record))?;
    out.write_all(b"\n")
}

struct RecordAsJson<'a>(&'a ConsumerRecord);

impl Serialize for RecordAsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("topic", &*record.topic)?;
        object.serialize_entry("partition", &record.partition)?;
        object.serialize_entry("offset", &record.offset)?;
        object.serialize_entry("timestamp", &record.timestamp)?;
        serialize_bytes(&mut object, ["key", "key_base64"], record.key.as_deref())?;
        serialize_bytes(&mut object, ["value", "value_base64"], record.value.as_deref())?;
        object.serialize_entry("headers", &HeadersAsJson(&record.headers))?;
        object.end()
    }
}

/// Headers in their order, with duplicates.
pub(crate) struct HeadersAsJson<'a>(pub(crate) &'a [RecordHeader]);

impl Serialize for HeadersAsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(HeaderAsJson))
    }
}

struct HeaderAsJson<'a>(&'a RecordHeader);

impl Serialize for HeaderAsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("key", &*self.0.key)?;
        serialize_bytes(&mut object, ["value", "value_base64"], self.0.value.as_deref())?;
        object.end()
    }
}

/// UTF-8 goes under the first name as it is, anything else under the second as base64; null stays null.
pub(crate) fn serialize_bytes<M: SerializeMap>(
    object: &mut M,
    [as_text, as_base64]: [&'static str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(std::str::from_utf8) {
        None => object.serialize_entry(as_text, &()),
        Some(Ok(text)) => object.serialize_entry(as_text, text),
        Some(Err(_)) => object.serialize_entry(as_base64, &base64(bytes.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream_protocol::KStr;

    use super::*;

    fn record() -> ConsumerRecord {
        ConsumerRecord {
            topic: KStr::from_static("orders"),
            partition: 2,
            offset: 42,
            timestamp: 1_000_000_000_123,
            key: None,
            value: Some(Bytes::from_static(b"\xff100%")),
            headers: vec![
                RecordHeader { key: KStr::from_static("a"), value: Some(Bytes::from_static(b"1")) },
                RecordHeader { key: KStr::from_static("a"), value: None },
            ],
            leader_epoch: 0,
        }
    }

    fn shown(template: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Template::parse(template).unwrap().write(&record(), &mut out).unwrap();
        out
    }

    #[test]
    fn every_directive_prints_its_field() {
        assert_eq!(
            shown(r"%t[%p]@%o\t%T %D %K/%S\n"),
            b"orders[2]@42\t1000000000123 2001-09-09T01:46:40.123Z -1/5\n"
        );
        assert_eq!(shown("%k|%v|%s|%h"), b"|\xff100%|\xff100%|a=1,a=NULL");
        assert_eq!(shown("%%%o%%%%x%%"), b"%42%%x%");
        assert_eq!(shown(""), b"");
    }

    #[test]
    fn what_is_no_directive_is_named() {
        assert!(Template::parse("%q").unwrap_err().contains("unknown %q"));
        assert!(Template::parse("%v%").unwrap_err().contains("lone %"));
        assert!(Template::parse("a%%%").unwrap_err().contains("lone %"));
        assert!(Template::parse("\\q").unwrap_err().contains("unknown escape"));
    }

    #[test]
    fn json_keeps_order_and_duplicates_of_headers_and_marks_binary() {
        let mut out = Vec::new();
        write_json(&record(), &mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert!(line.starts_with("{\"topic\":\"orders\",\"partition\":2,") && line.ends_with("}\n"));
        let expected = serde_json::json!({
            "topic": "orders", "partition": 2, "offset": 42, "timestamp": 1_000_000_000_123_i64,
            "key": null, "value_base64": "/zEwMCU=",
            "headers": [{"key": "a", "value": "1"}, {"key": "a", "value": null}],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
    }
}

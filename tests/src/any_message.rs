//! Random bytes of any message, written from `protocol/schema` and not by the code that is under test.
//!
//! What comes out is canonical: a tagged field is there only when it says something else than its default, so
//! that decoding and encoding must give the same bytes again.

use millstream_protocol_gen::schema::{Field, Message, Scalar, Struct, Type};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The bytes of a `message` at `version`; the same for the same seed.
#[must_use]
pub fn any_message(message: &Message, version: i16, seed: u64) -> Vec<u8> {
    let flexible = message.flexible_from.is_some_and(|from| version >= from);
    let rng = StdRng::seed_from_u64(seed);
    let mut author = Author { message, version, flexible, rng, is_tagged: false, out: Vec::new() };
    author.structure(&message.body);
    author.out
}

struct Author<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    rng: StdRng,
    /// Inside a tagged field, where nothing may be a default.
    is_tagged: bool,
    out: Vec<u8>,
}

impl Author<'_> {
    fn structure(&mut self, structure: &Struct) {
        let held = structure.fields.iter().filter(|field| field.versions.contains(self.version));
        let (mut tagged, plain): (Vec<_>, Vec<_>) = held.partition(|field| self.tag(field).is_some());
        for field in plain {
            self.field(field);
        }
        if self.flexible {
            tagged.sort_by_key(|field| self.tag(field));
            tagged.retain(|_| self.rng.random_bool(0.5));
            self.unsigned_varint(tagged.len());
            for field in tagged {
                self.tagged_field(field);
            }
        }
    }

    fn tag(&self, field: &Field) -> Option<u32> {
        let (tag, versions) = field.tag?;
        versions.contains(self.version).then_some(tag)
    }

    fn tagged_field(&mut self, field: &Field) {
        let outside = std::mem::take(&mut self.out);
        let was_tagged = std::mem::replace(&mut self.is_tagged, true);
        self.field(field);
        self.is_tagged = was_tagged;
        let content = std::mem::replace(&mut self.out, outside);
        self.unsigned_varint(self.tag(field).expect("only tagged fields come here") as usize);
        self.unsigned_varint(content.len());
        self.out.extend_from_slice(&content);
    }

    fn field(&mut self, field: &Field) {
        let may_be_null = field.nullable.is_some_and(|versions| versions.contains(self.version));
        let is_null = may_be_null && !self.is_tagged && self.rng.random_bool(0.25);
        match &field.kind {
            Type::Scalar(kind) => self.scalar(*kind, is_null),
            Type::Struct(name) => {
                if may_be_null {
                    self.out.push(if is_null { 0xff } else { 1 });
                }
                if !is_null {
                    self.structure(&self.message.structs[name]);
                }
            }
            Type::Array(element) => self.array(element, is_null),
        }
    }

    fn array(&mut self, element: &Type, is_null: bool) {
        if is_null {
            return self.length(4, None);
        }
        let count = self.rng.random_range(usize::from(self.is_tagged)..=3);
        self.length(4, Some(count));
        for _ in 0..count {
            match element {
                Type::Scalar(kind) => self.scalar(*kind, false),
                Type::Struct(name) => self.structure(&self.message.structs[name]),
                Type::Array(_) => unreachable!("Kafka has no arrays of arrays"),
            }
        }
    }

    fn scalar(&mut self, kind: Scalar, is_null: bool) {
        match kind {
            Scalar::Bool => {
                let value = self.is_tagged || self.rng.random_bool(0.5);
                self.out.push(u8::from(value));
            }
            Scalar::I8 => self.number(1),
            Scalar::I16 | Scalar::U16 => self.number(2),
            Scalar::I32 => self.number(4),
            Scalar::I64 => self.number(8),
            Scalar::F64 => {
                let value: f64 = self.rng.random_range(-1e9..1e9);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
            Scalar::Uuid => {
                let value: [u8; 16] = self.rng.random();
                self.out.extend_from_slice(&value);
            }
            Scalar::String => {
                let text = self.text();
                self.length(2, (!is_null).then_some(text.len()));
                if !is_null {
                    self.out.extend_from_slice(text.as_bytes());
                }
            }
            Scalar::Bytes | Scalar::Records => {
                let count = self.rng.random_range(usize::from(self.is_tagged)..200);
                self.length(4, (!is_null).then_some(count));
                if !is_null {
                    let bytes: Vec<u8> = (0..count).map(|_| self.rng.random()).collect();
                    self.out.extend_from_slice(&bytes);
                }
            }
        }
    }

    /// Small and positive, which no default is, or anything.
    fn number(&mut self, width: usize) {
        let value = match self.rng.random_range(0..4) {
            _ if self.is_tagged => self.rng.random_range(1..100),
            0 => self.rng.random(),
            1 => -1,
            _ => self.rng.random_range(0..100),
        };
        let value: i64 = value;
        self.out.extend_from_slice(&value.to_be_bytes()[8 - width..]);
    }

    fn text(&mut self) -> String {
        let most = if self.rng.random_bool(0.05) { 300 } else { 8 };
        let count = self.rng.random_range(usize::from(self.is_tagged)..most);
        (0..count)
            .map(|_| {
                ['a', 'Z', '0', '.', '-', '\u{e9}', '\u{20ac}', '\u{1f980}'][self.rng.random_range(0..8)]
            })
            .collect()
    }

    /// The length of a string, bytes or array: `width` bytes, or a varint of one more.
    fn length(&mut self, width: usize, length: Option<usize>) {
        if self.flexible {
            self.unsigned_varint(length.map_or(0, |length| length + 1));
        } else {
            let length = length.map_or(-1, |length| length as i64);
            self.out.extend_from_slice(&length.to_be_bytes()[8 - width..]);
        }
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

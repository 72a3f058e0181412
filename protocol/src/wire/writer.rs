//! Writes fields into a list of chunks, so that records are never copied.

use std::fs::File;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::{EncodeError, Form};

/// Records up to this size are copied behind the fields before them: cheaper than a chunk of their own.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// The length that precedes every frame.
const LENGTH_BYTES: usize = 4;

/// A part of a message: bytes in memory, or a slice of a file that is sent without being read.
#[derive(Debug, Clone)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File(FileSlice),
}

impl Chunk {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(slice) => slice.length,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a decoded message.
    ///
    /// # Panics
    /// On a file slice: those are made for sending and never come out of a decoder.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::File(_) => panic!("a file slice is sent, not decoded"),
        }
    }
}

/// Equal if they name the same bytes; two file slices are compared by place, not by content.
impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::File(a), Self::File(b)) => {
                Arc::ptr_eq(&a.file, &b.file) && (a.offset, a.length) == (b.offset, b.length)
            }
            (Self::Bytes(_), Self::File(_)) | (Self::File(_), Self::Bytes(_)) => false,
        }
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// `length` bytes of a file from `offset`. Holds the file open: it stays readable after it is deleted.
#[derive(Debug, Clone)]
pub struct FileSlice {
    /// The file.
    pub file: Arc<File>,
    /// Where the slice starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: usize,
}

/// Writes one message from front to back.
#[derive(Debug, Default)]
pub struct Writer {
    done: Vec<Chunk>,
    done_bytes: usize,
    current: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self { done: Vec::new(), done_bytes: 0, current: Vec::with_capacity(128) }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done_bytes + self.current.len()
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, in order. Chunks are not empty.
    #[must_use]
    pub fn into_chunks(mut self) -> Vec<Chunk> {
        self.close_current();
        self.done
    }

    /// A writer whose first bytes are kept free for the length of the frame.
    pub(crate) fn framed() -> Self {
        let mut writer = Self::new();
        writer.current.extend_from_slice(&[0; LENGTH_BYTES]);
        writer
    }

    /// What was written into a `framed` writer, its length filled in.
    pub(crate) fn into_frame(self) -> Result<Vec<Chunk>, EncodeError> {
        let length = self.len() - LENGTH_BYTES;
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?.to_be_bytes();
        let mut chunks = self.into_chunks();
        let Chunk::Bytes(first) = &mut chunks[0] else { unreachable!("a frame starts with its length") };
        let mut bytes = BytesMut::from(std::mem::take(first));
        bytes[..LENGTH_BYTES].copy_from_slice(&prefix);
        *first = bytes.freeze();
        Ok(chunks)
    }

    fn close_current(&mut self) {
        if !self.current.is_empty() {
            let full = std::mem::take(&mut self.current);
            self.push(Chunk::Bytes(full.into()));
        }
    }

    fn push(&mut self, chunk: Chunk) {
        self.done_bytes += chunk.len();
        self.done.push(chunk);
    }

    /// One signed byte.
    pub fn i8(&mut self, value: i8) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self, value: i16) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// Two unsigned bytes, big-endian.
    pub fn u16(&mut self, value: u16) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self, value: i32) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self, value: i64) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes, IEEE 754, big-endian.
    pub fn f64(&mut self, value: f64) {
        self.current.extend_from_slice(&value.to_be_bytes());
    }

    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.current.extend_from_slice(value.as_bytes());
    }

    /// An unsigned varint.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.current.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.current.push(value as u8);
    }

    fn compact_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let plus_one = length.map_or(0, |length| length + 1);
        let written = u32::try_from(plus_one).map_err(|_| EncodeError::TooLong { length: plus_one - 1 })?;
        self.unsigned_varint(written);
        Ok(())
    }

    fn length32(&mut self, form: Form, length: Option<usize>) -> Result<(), EncodeError> {
        match (form, length) {
            (Form::Flexible, _) => return self.compact_length(length),
            (Form::Classic, None) => self.i32(-1),
            (Form::Classic, Some(length)) => {
                self.i32(i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
            }
        }
        Ok(())
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, form: Form, value: Option<&str>) -> Result<(), EncodeError> {
        match (form, value) {
            (Form::Flexible, _) => self.compact_length(value.map(str::len))?,
            (Form::Classic, None) => self.i16(-1),
            (Form::Classic, Some(text)) => {
                self.i16(i16::try_from(text.len()).map_err(|_| EncodeError::TooLong { length: text.len() })?);
            }
        }
        self.current.extend_from_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// A string.
    pub fn string(&mut self, form: Form, value: &str) -> Result<(), EncodeError> {
        self.nullable_string(form, Some(value))
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, form: Form, value: Option<&[u8]>) -> Result<(), EncodeError> {
        self.length32(form, value.map(<[u8]>::len))?;
        self.current.extend_from_slice(value.unwrap_or_default());
        Ok(())
    }

    /// Bytes.
    pub fn bytes(&mut self, form: Form, value: &[u8]) -> Result<(), EncodeError> {
        self.nullable_bytes(form, Some(value))
    }

    /// Record batches: not copied unless they are small, files not read.
    pub fn records(&mut self, form: Form, value: Option<&Chunk>) -> Result<(), EncodeError> {
        self.length32(form, value.map(Chunk::len))?;
        match value {
            None => {}
            Some(Chunk::Bytes(bytes)) if bytes.len() <= COPY_BYTES_MAX => {
                self.current.extend_from_slice(bytes);
            }
            Some(chunk) if chunk.is_empty() => {}
            Some(chunk) => {
                self.close_current();
                self.push(chunk.clone());
            }
        }
        Ok(())
    }

    /// An array that may be null.
    pub fn nullable_array<T>(
        &mut self,
        form: Form,
        elements: Option<&[T]>,
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length32(form, elements.map(<[T]>::len))?;
        elements.unwrap_or_default().iter().try_for_each(|one| element(self, one))
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        form: Form,
        elements: &[T],
        element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.nullable_array(form, Some(elements), element)
    }

    /// A structure that may be null.
    pub fn nullable_struct<T>(
        &mut self,
        value: Option<&T>,
        encode: impl FnOnce(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.i8(if value.is_some() { 1 } else { -1 });
        value.map_or(Ok(()), |value| encode(self, value))
    }

    /// How many tagged fields follow at the end of a structure.
    pub fn tag_count(&mut self, form: Form, count: u32) {
        if form == Form::Flexible {
            self.unsigned_varint(count);
        }
    }

    /// One tagged field; tags are written in rising order.
    pub fn tag(
        &mut self,
        tag: u32,
        content: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut inner = Self::new();
        content(&mut inner)?;
        let length = inner.len();
        self.unsigned_varint(tag);
        self.unsigned_varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
        for chunk in inner.into_chunks() {
            match chunk {
                Chunk::Bytes(bytes) => self.current.extend_from_slice(&bytes),
                file @ Chunk::File(_) => {
                    self.close_current();
                    self.push(file);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_records_are_a_chunk_of_their_own_that_shares_their_memory() {
        let records = Bytes::from(vec![7; COPY_BYTES_MAX + 1]);
        let mut writer = Writer::framed();
        writer.i32(1);
        writer.records(Form::Classic, Some(&Chunk::Bytes(records.clone()))).unwrap();
        writer.i32(2);
        let chunks = writer.into_frame().unwrap();
        assert_eq!(chunks.iter().map(Chunk::len).collect::<Vec<_>>(), [12, records.len(), 4]);
        let Chunk::Bytes(sent) = &chunks[1] else { panic!("bytes went in") };
        assert_eq!(sent.as_ptr(), records.as_ptr());
    }

    #[test]
    fn a_frame_starts_with_the_length_of_what_follows() {
        let mut writer = Writer::framed();
        writer.string(Form::Classic, "abc").unwrap();
        let chunks = writer.into_frame().unwrap();
        assert_eq!(chunks[0].clone().into_bytes(), &[0, 0, 0, 5, 0, 3, b'a', b'b', b'c'][..]);
    }

    #[test]
    fn what_a_length_field_cannot_say_is_an_error() {
        let long = "x".repeat(40_000);
        let mut writer = Writer::new();
        let refused = Err(EncodeError::TooLong { length: 40_000 });
        assert_eq!(writer.string(Form::Classic, &long), refused);
        assert_eq!(writer.string(Form::Flexible, &long), Ok(()));
    }
}

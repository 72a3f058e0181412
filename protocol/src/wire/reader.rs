//! Reads fields off a frame.

use bytes::Bytes;
use uuid::Uuid;

use super::{Chunk, DecodeError, Form};
use crate::KStr;

/// Memory that decoded arrays may take for each byte of the frame: real messages need less than eight.
const MEMORY_PER_BYTE: usize = 16;

/// Memory that arrays may take however short the frame is.
const MEMORY_MIN: usize = 64 * 1024;

/// Reads one frame from front to back. Strings, bytes and records come out as slices of the frame.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
    memory_left: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `frame`.
    #[must_use]
    pub fn new(frame: &'a Bytes) -> Self {
        let memory_left = MEMORY_MIN.saturating_add(frame.len().saturating_mul(MEMORY_PER_BYTE));
        Self { frame, at: 0, end: frame.len(), memory_left }
    }

    /// Bytes that have not been read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Ends the reading: anything left over is an error.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.remaining();
        if length > left {
            return Err(DecodeError::TooShort { missing: length - left, left });
        }
        let bytes = &self.frame[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take returns as many bytes as were asked for"))
    }

    fn take_slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.take(length)?;
        Ok(self.frame.slice(start..start + length))
    }

    /// One signed byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.take_array().map(i8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.take_array().map(i16::from_be_bytes)
    }

    /// Two unsigned bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take_array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.take_array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.take_array().map(i64::from_be_bytes)
    }

    /// Eight bytes, IEEE 754, big-endian.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.take_array().map(f64::from_be_bytes)
    }

    /// One byte; anything but zero is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Sixteen bytes; all zero stands for "none".
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.take_array().map(Uuid::from_bytes)
    }

    /// An unsigned varint of at most five bytes.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take_array()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A length or count, `None` for null; never more than the bytes that are left.
    fn length(
        &mut self,
        form: Form,
        classic: impl Fn(&mut Self) -> Result<i64, DecodeError>,
    ) -> LengthResult {
        let length = match form {
            Form::Flexible => i64::from(self.unsigned_varint()?) - 1,
            Form::Classic => classic(self)?,
        };
        let left = self.remaining();
        match usize::try_from(length) {
            Ok(length) if length <= left => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(DecodeError::Length { length, left }),
        }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, form: Form) -> Result<Option<KStr>, DecodeError> {
        let Some(length) = self.length(form, |reader| reader.i16().map(i64::from))? else { return Ok(None) };
        let bytes = self.take_slice(length)?;
        KStr::from_utf8(bytes).map(Some).map_err(|_| DecodeError::Utf8)
    }

    /// A string.
    pub fn string(&mut self, form: Form) -> Result<KStr, DecodeError> {
        self.nullable_string(form)?.ok_or(DecodeError::Null)
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, form: Form) -> Result<Option<Bytes>, DecodeError> {
        match self.length(form, |reader| reader.i32().map(i64::from))? {
            Some(length) => self.take_slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, form: Form) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(form)?.ok_or(DecodeError::Null)
    }

    /// Record batches: a slice of the frame, not looked into.
    pub fn records(&mut self, form: Form) -> Result<Option<Chunk>, DecodeError> {
        Ok(self.nullable_bytes(form)?.map(Chunk::Bytes))
    }

    /// An array that may be null. Its count is bounded by the bytes left, its memory by the frame's size.
    pub fn nullable_array<T>(
        &mut self,
        form: Form,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(form, |reader| reader.i32().map(i64::from))? else { return Ok(None) };
        let memory = count.saturating_mul(size_of::<T>());
        let limit = self.memory_left;
        self.memory_left = limit.checked_sub(memory).ok_or(DecodeError::Memory { limit })?;
        // Grows as elements really arrive: what the peer claims is not allocated up front.
        let plausible = count.min(1 + self.remaining() / size_of::<T>().max(1));
        let mut elements = Vec::with_capacity(plausible);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        form: Form,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(form, element)?.ok_or(DecodeError::Null)
    }

    /// A structure that may be null: one byte, negative for null, comes before it.
    pub fn nullable_struct<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.i8()? {
            ..0 => Ok(None),
            0.. => decode(self).map(Some),
        }
    }

    /// A structure in a tag that may be null: 0 for null comes before it, or 1.
    pub fn nullable_tagged_struct<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.unsigned_varint()? {
            0 => Ok(None),
            1.. => decode(self).map(Some),
        }
    }

    /// The tagged fields at the end of a structure. `known` reads the tags it knows and says whether it
    /// did; others are skipped.
    pub fn tags(
        &mut self,
        form: Form,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if form == Form::Classic {
            return Ok(());
        }
        let mut last = None;
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            if last.is_some_and(|last| last >= tag) {
                return Err(DecodeError::Tag { tag });
            }
            last = Some(tag);
            let length = self.unsigned_varint()? as usize;
            let left = self.remaining();
            if length > left {
                return Err(DecodeError::TooShort { missing: length - left, left });
            }
            let (outer_end, tag_end) = (self.end, self.at + length);
            self.end = tag_end;
            let was_known = known(tag, self)?;
            if was_known && self.at != tag_end {
                return Err(DecodeError::Tag { tag });
            }
            (self.at, self.end) = (tag_end, outer_end);
        }
        Ok(())
    }
}

type LengthResult = Result<Option<usize>, DecodeError>;

#[cfg(test)]
mod tests {
    use super::*;

    fn reading<T>(bytes: &[u8], read: impl Fn(&mut Reader<'_>) -> T) -> T {
        let frame = Bytes::copy_from_slice(bytes);
        read(&mut Reader::new(&frame))
    }

    #[test]
    fn counts_beyond_the_bytes_at_hand_are_refused_before_anything_is_allocated() {
        let huge = i32::MAX.to_be_bytes();
        let refused = reading(&huge, |r| r.array(Form::Classic, |r| r.i8()));
        assert_eq!(refused, Err(DecodeError::Length { length: i64::from(i32::MAX), left: 0 }));
        let refused = reading(&[0xff, 0xff, 0xff, 0xff, 0x0f], |r| r.array(Form::Flexible, |r| r.i8()));
        assert_eq!(refused, Err(DecodeError::Length { length: i64::from(u32::MAX) - 1, left: 0 }));
    }

    #[test]
    fn small_bytes_cannot_become_large_memory() {
        let mut bytes = vec![0u8; 4 + 100_000];
        bytes[..4].copy_from_slice(&100_000i32.to_be_bytes());
        let refused = reading(&bytes, |r| r.array(Form::Classic, |r| r.i8().map(|_| [0u64; 100])));
        assert!(matches!(refused, Err(DecodeError::Memory { .. })), "{refused:?}");
    }

    #[test]
    fn lengths_below_minus_one_are_refused() {
        let refused = reading(&(-2i16).to_be_bytes(), |r| r.nullable_string(Form::Classic));
        assert_eq!(refused, Err(DecodeError::Length { length: -2, left: 0 }));
        assert_eq!(reading(&[0xff, 0xff], |r| r.string(Form::Classic)), Err(DecodeError::Null));
    }

    #[test]
    fn a_varint_ends_within_five_bytes() {
        assert_eq!(reading(&[0xff, 0xff, 0xff, 0xff, 0x0f], |r| r.unsigned_varint()), Ok(u32::MAX));
        let refused = Err(DecodeError::Varint);
        assert_eq!(reading(&[0xff, 0xff, 0xff, 0xff, 0x1f], |r| r.unsigned_varint()), refused);
        assert_eq!(reading(&[0x80; 6], |r| r.unsigned_varint()), refused);
    }

    #[test]
    fn tags_rise_and_are_as_long_as_they_say() {
        let tags = |bytes: &[u8]| {
            let mut seen = Vec::new();
            let result = reading(bytes, |r| {
                r.tags(Form::Flexible, |tag, r| match tag {
                    3 => r.i8().map(|_| true),
                    _ => Ok(false),
                })
                .map(|()| r.remaining())
            });
            seen.push(result);
            seen.remove(0)
        };
        assert_eq!(tags(&[2, 3, 1, 9, 7, 2, 0, 0]), Ok(0));
        assert_eq!(tags(&[2, 3, 1, 9, 3, 1, 9]), Err(DecodeError::Tag { tag: 3 }));
        assert_eq!(tags(&[1, 3, 2, 9, 9]), Err(DecodeError::Tag { tag: 3 }));
        assert_eq!(tags(&[1, 3, 0, 9]), Err(DecodeError::TooShort { missing: 1, left: 0 }));
        assert_eq!(tags(&[1, 9, 200, 1]), Err(DecodeError::TooShort { missing: 200, left: 0 }));
    }
}

//! Big-endian fields, one behind the other, out of bytes that nobody vouches for.

/// Why a file is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Another kind of file, or garbage.
    #[error("it does not begin with {mark:?}")]
    Mark {
        /// How such a file begins.
        mark: &'static str,
    },
    /// Another version wrote it.
    #[error("it has version {found}, and this program knows {known}")]
    Version {
        /// What it says.
        found: u16,
        /// What there is.
        known: u16,
    },
    /// Bytes are other than they were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// It ends too early.
    #[error("it ends within a field, at byte {at}")]
    Short {
        /// Where the field begins.
        at: usize,
    },
    /// It does not end where it should.
    #[error("{bytes} bytes follow its last field")]
    Rest {
        /// How many.
        bytes: usize,
    },
}

/// What is left of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let field = self.rest().get(..count).ok_or(Fault::Short { at: self.at })?;
        self.at += count;
        Ok(field)
    }

    fn take<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Fault> {
        let field = self.rest().first_chunk().ok_or(Fault::Short { at: self.at })?;
        self.at += BYTES;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.take().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Fault> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Fault> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Fault> {
        self.take().map(i64::from_be_bytes)
    }

    /// The fields of a file that begins with a mark of four bytes, a version, and the CRC-32C of all that
    /// follows.
    pub(super) fn sealed(bytes: &'a [u8], mark: &'static str, known: u16) -> Result<Self, Fault> {
        let mut fields = Self::of(bytes);
        if fields.bytes(mark.len()).ok() != Some(mark.as_bytes()) {
            return Err(Fault::Mark { mark });
        }
        let found = fields.u16()?;
        if found != known {
            return Err(Fault::Version { found, known });
        }
        let crc = fields.u32()?;
        match millstream_protocol::records::crc32c(fields.rest()) == crc {
            true => Ok(fields),
            false => Err(Fault::Checksum),
        }
    }

    /// As many entries as a count says. Nothing is allocated for those that are not there.
    pub(super) fn list<T>(
        &mut self,
        count: u32,
        entry: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        (0..count).map(|_| entry(self)).collect()
    }

    /// # Errors
    /// When bytes are left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        match self.rest().len() {
            0 => Ok(()),
            bytes => Err(Fault::Rest { bytes }),
        }
    }
}

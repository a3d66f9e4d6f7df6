//! Walks over the bytes of a header without ever passing their end.

use std::ops::Range;

/// The format's limit on the names of keys. Runtimes read tensor names of 64 bytes, or of a few more.
const MAX_NAME: usize = u16::MAX as usize;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub offset: usize,
    pub problem: String,
}

impl Fault {
    pub fn of(self, what: &str) -> Self {
        Self {
            problem: format!("{what} {}", self.problem),
            ..self
        }
    }
}

/// A position in little-endian bytes that never passes their end.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault {
            offset: self.at,
            problem: problem.into(),
        }
    }

    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(n).ok().and_then(|n| rest.get(..n));
        let Some(taken) = taken else {
            return Err(self.fault(format!("{n} bytes are needed, {} are left", rest.len())));
        };
        self.at += taken.len();
        Ok(taken)
    }

    pub fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?;
        Ok(bytes.try_into().map_or(0, u32::from_le_bytes))
    }

    pub fn u64(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    pub fn string(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.u64()?;
        self.take(len)
    }

    /// Refuses a count that the rest of the bytes cannot hold, before anything is done with it.
    pub fn expect_room(&self, count: u64, least_size: u64, what: &str) -> Result<(), Fault> {
        let left = self.bytes.len().saturating_sub(self.at) as u64;
        if count > left / least_size.max(1) {
            return Err(self.fault(format!("{count} {what} cannot be in the {left} bytes left")));
        }
        Ok(())
    }

    /// The span of a string that names something: UTF-8, not empty, and without NUL, at which
    /// runtimes written in C would end it.
    pub fn name(&mut self, what: &str) -> Result<Range<usize>, Fault> {
        let bytes = self.string()?;
        let span = self.at - bytes.len()..self.at;
        let fault = |problem: &str| Fault {
            offset: span.start,
            problem: format!("{what} {problem}"),
        };
        match std::str::from_utf8(bytes) {
            Err(_) => Err(fault("is not UTF-8")),
            Ok("") => Err(fault("is empty")),
            Ok(name) if name.len() > MAX_NAME => {
                Err(fault(&format!("is longer than {MAX_NAME} bytes")))
            }
            Ok(name) if name.contains('\0') => Err(fault("holds a NUL character")),
            Ok(_) => Ok(span),
        }
    }
}

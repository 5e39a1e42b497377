//! Positioned reads and writes of a section's numbers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use protocol::layout::Section;

/// Bytes that can be read at any position, by several threads.
pub trait ReadAt: Sync {
    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// If that many bytes cannot be read there.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// If it cannot be found out.
    fn size(&self) -> io::Result<u64>;
}

/// Bytes that can be written at any position.
pub trait WriteAt {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// If not everything could be written.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset as usize..offset as usize + bytes.len();
        bytes.copy_from_slice(self.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl WriteAt for &File {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(*self, bytes, offset)
    }
}

impl WriteAt for Vec<u8> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + bytes.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        self[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// Replaces `values` by a range of a section.
pub(super) fn read_section(
    blob: &dyn ReadAt,
    section: &Section,
    elements: Range<u64>,
    values: &mut Vec<f32>,
) -> io::Result<()> {
    let range = section.bytes(elements.clone());
    let mut bytes = vec![0; (range.end - range.start) as usize];
    blob.read_exact_at(&mut bytes, range.start)?;
    values.resize((elements.end - elements.start) as usize, 0.0);
    section
        .encoding
        .decode(&bytes, values)
        .map_err(io::Error::other)
}

/// Writes `values` from element `first` of a section on.
pub(super) fn write_section(
    blob: &mut dyn WriteAt,
    section: &Section,
    first: u64,
    values: &[f32],
) -> io::Result<()> {
    let mut bytes = Vec::new();
    // Models are written exactly, so there is nothing for a seed to steer.
    section.encoding.encode(values, first, 0, &mut bytes);
    blob.write_all_at(&bytes, section.bytes(first..first).start)
}

/// Copies a section as it is.
pub(super) fn copy_section(
    from: &dyn ReadAt,
    section: &Section,
    to: &mut dyn WriteAt,
) -> io::Result<()> {
    let mut bytes = vec![0; COPY_BYTES];
    let mut offset = section.offset;
    while offset < section.end() {
        let length = (section.end() - offset).min(COPY_BYTES as u64) as usize;
        from.read_exact_at(&mut bytes[..length], offset)?;
        to.write_all_at(&bytes[..length], offset)?;
        offset += length as u64;
    }
    Ok(())
}

/// Dot product in float64, in an order that only the length decides.
pub(super) fn dot<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane].into() * b[lane].into();
        }
    }
    let rest: f64 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&a, &b)| a.into() * b.into())
        .sum();
    lanes.iter().sum::<f64>() + rest
}

const LANES: usize = 8;

const COPY_BYTES: usize = 1 << 20;

//! Memory for values that vector registers are loaded from.

use std::ops::{Deref, DerefMut};

use crate::Float;

/// Bytes of a cache line, and of the widest registers.
const LINE: usize = 64;

/// Values that begin on a cache line, kept from one use to the next. A register that is loaded from two lines takes twice as
/// long, and what the allocator gives large vectors begins sixteen bytes after a line.
///
/// # Memory
/// That of as many values as were ever asked for, and of half as many again where requests grow. It is asked for unaligned, with
/// a line to spare: an allocator that is asked for aligned blocks of many sizes rounds them apart, and the process grows.
#[derive(Debug)]
pub struct Buffer<F> {
    values: Vec<F>,
    /// The first value on a cache line. It moves only when memory is allocated anew.
    first: usize,
    len: usize,
}

impl<F> Buffer<F> {
    /// Values of a line.
    const OF_LINE: usize = LINE / size_of::<F>();
}

impl<F: Float> Buffer<F> {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.fit(len);
        buffer
    }

    /// As many values as are asked for, with anything in them; in a new buffer, 0.
    pub fn fit(&mut self, len: usize) -> &mut [F] {
        if self.first + len > self.values.len() {
            let len = len.max(self.values.len() / 2 * 3);
            // Given back before more is asked for.
            self.values = Vec::new();
            self.values = vec![F::ZERO; len + Self::OF_LINE];
            self.first = line_begins(&self.values);
        }
        self.len = len;
        self
    }
}

/// Values before the first that begins on a line, in memory that begins with these.
fn line_begins<F>(values: &[F]) -> usize {
    values.as_ptr().align_offset(LINE).min(Buffer::<F>::OF_LINE)
}

impl<F> Default for Buffer<F> {
    fn default() -> Self {
        Self { values: Vec::new(), first: 0, len: 0 }
    }
}

impl<F: Clone> Clone for Buffer<F> {
    fn clone(&self) -> Self {
        // Only `F: Clone` may be asked for, or types that hold buffers could not derive it: there is no zero to begin with.
        let Some(any) = self.iter().next() else { return Self::default() };
        let mut values = Vec::with_capacity(self.len + Self::OF_LINE);
        let first = line_begins(&values);
        values.resize(first, any.clone());
        values.extend_from_slice(self);
        Self { values, first, len: self.len }
    }
}

impl<F> Deref for Buffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.values[self.first..][..self.len]
    }
}

impl<F> DerefMut for Buffer<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut self.values[self.first..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_on_a_line<F: Float>() {
        let mut buffer = Buffer::<F>::default();
        for len in [0, 1, 5, 100_000, 3, 70_000, 0, 200_000] {
            let values = buffer.fit(len);
            assert_eq!(values.len(), len);
            assert!(len == 0 || values.as_ptr().align_offset(LINE) == 0);
            values.fill(F::ONE);
            let copy = buffer.clone();
            assert!(len == 0 || copy.as_ptr().align_offset(LINE) == 0);
            assert_eq!(copy[..], buffer[..]);
        }
    }

    #[test]
    fn values_begin_on_a_line_whatever_was_asked_for_before() {
        begins_on_a_line::<f32>();
        begins_on_a_line::<f64>();
    }

    #[test]
    fn memory_is_asked_for_anew_only_when_it_is_too_small_and_then_grows_by_half() {
        let mut buffer = Buffer::<f32>::zeros(400);
        assert_eq!(buffer[..], [0.0; 400]);
        let at = buffer.as_ptr();
        assert_eq!(buffer.fit(8).as_ptr(), at);
        assert_eq!(buffer.fit(400).as_ptr(), at);
        let at = buffer.fit(450).as_ptr();
        assert_eq!(buffer.fit(600).as_ptr(), at);
    }
}

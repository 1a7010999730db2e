//! One tensor of a checkpoint: where it lies in a mapped file, and how to get its rows out as f32.

use std::ops::Range;
use std::sync::Arc;

use super::decode::{self, STRIP};
use super::dtype::DType;
use super::hub;
use super::mapping::Mapping;
use crate::SourceError;

/// A named tensor in a mapped weight file. Cloning copies no weights.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: Arc<str>,
    dtype: DType,
    shape: Arc<[usize]>,
    mapping: Arc<Mapping>,
    /// First byte in the file.
    start: usize,
}

impl Tensor {
    /// A tensor of `shape`, outermost dimension first, at byte `start` of the file. The caller has checked that
    /// the row length is a whole number of blocks, that the count of values does not overflow, and that the bytes lie
    /// within the file.
    pub(crate) fn new(name: &str, dtype: DType, shape: Vec<usize>, mapping: Arc<Mapping>, start: usize) -> Self {
        Self { name: name.into(), dtype, shape: shape.into(), mapping, start }
    }

    /// The name as stored.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the values are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first: (out, in) for a projection of `y = W x`, in GGUF files too.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of rows: the product of all dimensions but the last, 1 for a vector.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The number of values in a row: the last dimension.
    pub fn row_len(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.rows() * self.row_len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size in the file, in bytes.
    pub fn stored_bytes(&self) -> usize {
        self.len() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// Decodes `rows` into `out`.
    ///
    /// # Shapes
    /// `out`: rows.len() x row_len, row-major.
    ///
    /// # Errors
    /// If `rows` is not within the tensor, `out` has another length, or a value is NaN or infinite (named by row and
    /// column).
    pub fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        let row_len = self.row_len();
        if rows.start > rows.end || rows.end > self.rows() {
            return Err(self.error(format!("rows {}..{} asked of {}", rows.start, rows.end, self.rows())));
        }
        if out.len() != rows.len() * row_len {
            return Err(self.error(format!(
                "room for {} values given for {} rows of {row_len}",
                out.len(),
                rows.len()
            )));
        }
        let range = self.byte_range(&rows);
        let bytes =
            self.mapping.bytes().get(range).ok_or_else(|| self.error("lies beyond the end of the file".into()))?;
        let strip_bytes = STRIP / self.dtype.block_len() * self.dtype.block_bytes();
        for (index, (stored, values)) in bytes.chunks(strip_bytes).zip(out.chunks_mut(STRIP)).enumerate() {
            if !decode::strip(self.dtype, stored, values) {
                return Err(hub::or_damaged(self.not_finite(&rows, index * STRIP, values)));
            }
        }
        Ok(())
    }

    /// Decodes the whole tensor: for vectors and small matrices.
    ///
    /// # Memory
    /// Four bytes a value.
    ///
    /// # Errors
    /// If a value is NaN or infinite.
    pub fn decode(&self) -> Result<Vec<f32>, SourceError> {
        let mut out = vec![0.0; self.len()];
        self.decode_rows(0..self.rows(), &mut out)?;
        Ok(out)
    }

    /// Tells the kernel that the pages of this tensor need not stay resident, so that examining a model takes little
    /// memory. They are read from the file again when needed.
    pub fn release(&self) {
        self.release_rows(0..self.rows());
    }

    /// As [`Tensor::release`], for some of the rows.
    pub fn release_rows(&self, rows: Range<usize>) {
        self.mapping.release(self.byte_range(&rows));
    }

    fn byte_range(&self, rows: &Range<usize>) -> Range<usize> {
        let row_bytes = self.row_len() / self.dtype.block_len() * self.dtype.block_bytes();
        let (first, last) = (rows.start.min(self.rows()), rows.end.min(self.rows()));
        self.start + first * row_bytes..self.start + last * row_bytes
    }

    /// The error for the first bad value of a strip that starts `offset` values after the first of `rows`.
    fn not_finite(&self, rows: &Range<usize>, offset: usize, values: &[f32]) -> SourceError {
        let bad = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let value = values.get(bad).copied().unwrap_or(f32::NAN);
        let (row, column) = (rows.start + (offset + bad) / self.row_len(), (offset + bad) % self.row_len());
        self.error(format!("the value at row {row}, column {column} is {value}; weights must be finite"))
    }

    fn error(&self, reason: String) -> SourceError {
        SourceError::tensor(self.mapping.path(), &*self.name, reason)
    }
}

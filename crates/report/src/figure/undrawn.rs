//! A build without the feature `figures`: no figure can be drawn on paper.

use super::Figure;
use crate::ReportError;

/// Whether this build draws figures.
///
/// # Errors
/// [`ReportError::NoFigures`], always.
pub fn ready() -> Result<(), ReportError> {
    Err(ReportError::NoFigures)
}

/// No SVG.
///
/// # Errors
/// [`ReportError::NoFigures`], always.
pub fn svg(_: &Figure) -> Result<String, ReportError> {
    Err(ReportError::NoFigures)
}

/// No PDF.
///
/// # Errors
/// [`ReportError::NoFigures`], always.
pub fn pdf(_: &Figure) -> Result<Vec<u8>, ReportError> {
    Err(ReportError::NoFigures)
}

//! A build without the feature `figures`: no figure can be drawn on paper.

use super::Figure;
use crate::ReportError;

/// Whether this build draws figures.
pub fn ready() -> Result<(), ReportError> {
    Err(ReportError::NoFigures)
}

/// No SVG.
pub fn svg(_: &Figure) -> Result<String, ReportError> {
    Err(ReportError::NoFigures)
}

/// No PDF.
pub fn pdf(_: &Figure) -> Result<Vec<u8>, ReportError> {
    Err(ReportError::NoFigures)
}

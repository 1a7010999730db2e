//! How it is shown: the JSON envelope every command writes, tidy tables as Parquet and CSV, readable tables for the
//! terminal, figures, and a page to look at.
//!
//! - [`envelope`] is the frame of every JSON file: which model, which data, which definitions, how long it took.
//! - [`files`] puts files on disk whole or not at all.
//! - [`tidy`] writes one table as both Parquet and CSV; [`anatomy_tables`], [`causes_tables`], [`census_tables`],
//!   [`probe_tables`], [`operate_tables`] and [`study_tables`] lay out the tables of a command.
//! - [`outputs`] reads back what commands left; [`figures`] makes figures of it, each a [`figure::Figure`], and [`page`] one
//!   page of everything, on which they are drawn in the browser. [`figure::drawing`] draws them on paper.
//! - [`terminal`] turns an envelope into text for people, [`markdown`] a study into text for a page.
//!
//! Nothing here knows how a result was computed. Tables fail as [`ReportError::Table`] says: if results contradict each other.
//!
//! ```
//! use sinkscope_report::tidy::{Column, Table, Values};
//!
//! let table = Table::new("heads", vec![
//!     Column::new("layer", Values::Integers(vec![Some(0), Some(1)])),
//!     Column::new("entropy", Values::Floats(vec![Some(1.5), None])),
//! ])?;
//! assert_eq!(String::from_utf8_lossy(&table.to_csv()?), "layer,entropy\n0,1.5\n1,\n");
//! # Ok::<(), sinkscope_report::ReportError>(())
//! ```

#![expect(clippy::missing_errors_doc, reason = "said above, once for all that make tables")]

pub mod anatomy_tables;
pub mod causes_tables;
pub mod census_tables;
pub mod envelope;
pub mod figure;
pub mod figures;
pub mod files;
pub mod markdown;
pub mod operate_tables;
pub mod outputs;
pub mod page;
pub mod probe_tables;
pub mod study_tables;
pub mod terminal;
pub mod tidy;

mod error;
mod number;
mod text;

pub use error::ReportError;
pub use text::escape_control;

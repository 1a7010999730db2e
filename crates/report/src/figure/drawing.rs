//! A figure on paper: SVG, and PDF made from it.

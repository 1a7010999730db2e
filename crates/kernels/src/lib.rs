//! How it is computed: the operations of a transformer, on slices.

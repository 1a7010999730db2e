//! What a user may have meant by a name that is not there.

/// Least likeness of two names for one to be a slip of the other.
const ALIKE: f64 = 0.75;

/// Of `known`, the one whose name, as `name_of` gives it, is most like `name`; `None` if none is like it at all.
pub fn nearest<'k, T>(name: &str, known: &'k [T], name_of: impl Fn(&T) -> &str) -> Option<&'k T> {
    let likeness = |known: &T| strsim::jaro_winkler(name, name_of(known));
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|known| likeness(known) >= ALIKE)
}

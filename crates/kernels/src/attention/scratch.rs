//! Memory that a thread's calls share: asked for anew in every call, it costs more than the packing that fills it.

use std::any::Any;
use std::cell::RefCell;

thread_local! {
    /// One for each kind of scratch: forward and backward, f32 and f64.
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Runs with the thread's scratch of this kind, which holds what the call before left in it.
pub(super) fn with_scratch<S: Default + 'static, R>(run: impl FnOnce(&mut S) -> R) -> R {
    let kept = KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|scratch| scratch.is::<S>())?;
        kept.swap_remove(at).downcast::<S>().ok()
    });
    let mut scratch = kept.unwrap_or_default();
    let result = run(&mut scratch);
    KEPT.with_borrow_mut(|kept| {
        // A call within this one has left its own.
        if !kept.iter().any(|scratch| scratch.is::<S>()) {
            kept.push(scratch);
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_keeps_its_own_also_within_another() {
        with_scratch(|outer: &mut Vec<u8>| {
            outer.push(1);
            with_scratch(|inner: &mut Vec<u16>| inner.push(2));
            with_scratch(|inner: &mut Vec<u16>| assert_eq!(inner, &[2]));
        });
        with_scratch(|kept: &mut Vec<u8>| assert_eq!(kept, &[1]));
        with_scratch(|outer: &mut Vec<u8>| {
            with_scratch(|inner: &mut Vec<u8>| {
                assert!(inner.is_empty());
                inner.push(2);
            });
            assert_eq!(outer, &[1]);
        });
        with_scratch(|kept: &mut Vec<u8>| assert_eq!(kept, &[2]));
    }
}

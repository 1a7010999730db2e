//! Turning a panic inside a library into an error.
//!
//! The Parquet reader checks much of a file, but some damaged pages still trip its assertions. A damaged file is bad
//! input, which must give a message and not a panic. Calls into it therefore run here; the panic is not reported
//! twice, because the hook is silent for a thread that is inside [`contain`] and unchanged for all others.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `call`; `None` if it panicked. What `call` was changing must not be used after that.
pub(super) fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                usual(info);
            }
        }));
    });
    let before = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_nothing_and_a_result_stays() {
        assert_eq!(contain(|| 3), Some(3));
        let empty: &[u8] = &[];
        assert_eq!(contain(|| empty[std::hint::black_box(1)]), None);
        assert_eq!(contain(|| 4), Some(4));
        assert!(!INSIDE.get());
    }
}

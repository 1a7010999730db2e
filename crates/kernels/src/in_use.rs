//! For tests: which kernels of products the instruction set in use has. What it has not, tests say that they skip.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::matmul::Precision;
use crate::{Float, InstructionSet};

/// The precisions whose products of `F` differ. Says what is skipped where those of f32 are all the same.
pub(crate) fn precisions<F: Float>() -> &'static [Precision] {
    if F::as_f32(&[]).is_none() {
        return &Precision::ALL[..1];
    }
    if Precision::High.rounds::<F>() {
        return &Precision::ALL;
    }
    say("skipped: no AMX, so products of less than the highest precision are those of the highest");
    &Precision::ALL[..1]
}

/// Whether products of f32 are our own. Says what is skipped where they are not.
pub(crate) fn own_kernel(what: &str) -> bool {
    let there = InstructionSet::in_use() >= InstructionSet::Avx512;
    if !there {
        say(&format!("skipped: no AVX-512, so no test of {what}"));
    }
    there
}

/// Prints a line once a test, which has a thread of its own.
fn say(line: &str) {
    thread_local! {
        static SAID: RefCell<BTreeSet<String>> = RefCell::default();
    }
    if SAID.with_borrow_mut(|said| said.insert(line.to_owned())) {
        println!("{line}");
    }
}

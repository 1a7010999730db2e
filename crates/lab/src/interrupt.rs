//! Stopping when asked: SIGINT (Ctrl-C) and SIGTERM.
//!
//! The first signal sets a flag; the trainer finishes its step, saves, and the program exits with
//! [`Signal::exit_code`]. A second signal of the same kind ends the process at once, as if nothing were installed: for those
//! who cannot wait, and no checkpoint is lost by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::LabError;

/// A signal that asks for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C in a terminal.
    Interrupt,
    /// SIGTERM: a batch system whose time is up, or `kill`.
    Terminate,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }

    /// Exit status of a program that a signal ended, as shells show it: 130 or 143.
    pub fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }

    /// Name, as `kill -l` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Whether the process has been asked to end.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// One for each of [`Signal::ALL`].
    asked: [Arc<AtomicBool>; 2],
}

/// Signals belong to the process, so all runs in it share one.
static INSTALLED: Mutex<Option<Interrupt>> = Mutex::new(None);

impl Interrupt {
    /// Heeds the two signals from now on, for the rest of the process. Called again, it gives the same flags.
    ///
    /// # Errors
    /// [`LabError::Request`] if the operating system does not let the process heed them.
    pub fn install() -> Result<Self, LabError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interrupt) = &*installed {
            return Ok(interrupt.clone());
        }
        let interrupt = Self { asked: Default::default() };
        for (signal, asked) in Signal::ALL.into_iter().zip(&interrupt.asked) {
            let refused = |error| LabError::Request(format!("{} cannot be heeded: {error}", signal.name()));
            // In this order, so that a signal first looks whether it is the second.
            flag::register_conditional_default(signal.number(), Arc::clone(asked)).map_err(refused)?;
            flag::register(signal.number(), Arc::clone(asked)).map_err(refused)?;
        }
        *installed = Some(interrupt.clone());
        Ok(interrupt)
    }

    /// The signal that asked for an end, if one did.
    pub fn requested(&self) -> Option<Signal> {
        let both = Signal::ALL.into_iter().zip(&self.asked);
        both.filter(|(_, asked)| asked.load(Ordering::SeqCst)).map(|(signal, _)| signal).next()
    }
}

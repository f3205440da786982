//! Ctrl-C: the first one stops the answer, another one (or one between answers) the program.

use crate::failure::{Failure, Outcome};
use std::{
    process,
    sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
};

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);
static WAS_STOPPED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that Ctrl-C ended, by convention: 128 and the number of SIGINT.
pub const EXIT_CODE: u8 = 130;

/// Takes over Ctrl-C.
pub fn install() -> Outcome {
    ctrlc::set_handler(|| {
        if STATE.compare_exchange(ANSWERING, STOPPING, SeqCst, SeqCst).is_err() {
            process::exit(EXIT_CODE.into());
        }
    })
    .map_err(|error| Failure::Message(format!("cannot listen for Ctrl-C: {error}")))
}

/// Runs `answer`, during which Ctrl-C makes [`requested`] true.
pub fn during<T>(answer: impl FnOnce() -> T) -> T {
    STATE.store(ANSWERING, SeqCst);
    let answered = answer();
    WAS_STOPPED.store(STATE.swap(IDLE, SeqCst) == STOPPING, SeqCst);
    answered
}

/// Whether Ctrl-C came during the last [`during`].
#[cfg(feature = "distill")]
pub fn was_requested() -> bool {
    WAS_STOPPED.load(SeqCst)
}

/// Whether the answer shall end.
pub fn requested() -> bool {
    STATE.load(SeqCst) == STOPPING
}

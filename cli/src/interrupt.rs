//! Ctrl-C: the first one stops the answer, another one (or one between answers) the program.

use crate::failure::{Failure, Outcome};
use std::{
    process,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
};

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

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
    STATE.store(IDLE, SeqCst);
    answered
}

/// Whether the answer shall end.
pub fn requested() -> bool {
    STATE.load(SeqCst) == STOPPING
}

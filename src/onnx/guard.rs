//! Calls into tract, which may panic on what it does not expect.

use crate::error::one_line;
use std::{
    any::Any,
    cell::Cell,
    fmt::Display,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `call` gives, or one line about what went wrong in it. A panic says nothing on stderr.
pub fn guarded<T, E: Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                others(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(format!("{error:#}"))),
        Err(panic) => Err(one_line(what(&*panic))),
    }
}

fn what(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors() {
        let error = guarded(|| -> Result<(), String> { panic!("no\n {}", "way") });
        assert_eq!(error.unwrap_err(), "no way");
        assert_eq!(guarded(|| Err::<(), _>("x".repeat(400))).unwrap_err().chars().count(), 301);
        assert_eq!(guarded(|| Ok::<_, String>(1)), Ok(1));
    }
}

//! The C ABI: opaque handles, status codes, no panic that crosses.
//!
//! Every function says in its comment, which is also the header's, what it expects. `cross/include/pupil.h` is made of
//! this module by cbindgen. What is common to all of them:
//!
//! - A function that can fail returns a [`pupil_status`]; the message is [`pupil_last_error`].
//! - Text goes in as a pointer and a length in bytes, and comes out the same way; it is UTF-8. Paths end with a NUL.
//! - Structures of options and results begin with their own size, so that a program that was compiled against an older
//!   header goes on working with a newer library.
//! - Handles may move from thread to thread, but only one thread at a time uses one. Models are the exception: any number
//!   of threads may make chats of one.
//! - Where a comment does not say that a pointer may be NULL, it points to what the comment says: to as many bytes as
//!   its length, to a structure as large as its `size`, to a place that may be written. A handle came from this library
//!   and is not freed. This is what "the caller says" in the safety comments below.

#![allow(unsafe_code, non_camel_case_types)]
// One rule for all exported functions stands above.
#![allow(clippy::missing_safety_doc)]

mod chat;
#[cfg(feature = "image")]
mod detect;
mod translate;

pub use chat::*;
#[cfg(feature = "image")]
pub use detect::*;
pub use translate::*;

use crate::error::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// How a call went.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum pupil_status {
    /// It did what it says.
    PUPIL_OK = 0,
    /// The operating system refused to read or write something.
    PUPIL_ERROR_IO = 1,
    /// A file is damaged, truncated, or not what its format promises.
    PUPIL_ERROR_FORMAT = 2,
    /// A file is sound, but asks for something this version does not do.
    PUPIL_ERROR_UNSUPPORTED = 3,
    /// An argument makes no sense.
    PUPIL_ERROR_INPUT = 4,
    /// The conversation no longer fits into the model's context.
    PUPIL_ERROR_CONTEXT_FULL = 5,
    /// A fault of the library itself. The handle that was used must only be freed.
    PUPIL_ERROR_INTERNAL = 6,
}

use pupil_status::*;

impl From<ErrorKind> for pupil_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Io => PUPIL_ERROR_IO,
            ErrorKind::Format => PUPIL_ERROR_FORMAT,
            ErrorKind::Unsupported => PUPIL_ERROR_UNSUPPORTED,
            ErrorKind::Input => PUPIL_ERROR_INPUT,
            ErrorKind::ContextFull => PUPIL_ERROR_CONTEXT_FULL,
        }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn set_last_error(message: String) {
    // Messages have no control characters but may quote a file that has a NUL.
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has lost it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
}

/// The message of this thread's last call that failed: one line that ends with a NUL, empty if none did. It stays where
/// it is until the next call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn pupil_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The library's version, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn pupil_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Runs `call`, and makes a status of its outcome or of its panic.
fn guard(call: impl FnOnce() -> Result<()>) -> pupil_status {
    // Whatever a panic leaves behind belongs to a handle, which the caller is told to free.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => PUPIL_OK,
        Ok(Err(error)) => {
            set_last_error(error.to_string());
            error.kind().into()
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            set_last_error(format!("a fault of the library: {text}"));
            PUPIL_ERROR_INTERNAL
        }
    }
}

/// Frees what [`give`] gave; a panic in doing so ends here.
///
/// # Safety
/// `handle` is null or came from [`give`] and was not freed.
unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: as the caller says.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(handle) })));
    }
}

/// Puts a new handle where `out` points.
///
/// # Safety
/// `out` is null or may be written.
unsafe fn give<T>(out: *mut *mut T, make: impl FnOnce() -> Result<T>) -> pupil_status {
    guard(|| {
        if out.is_null() {
            return Err(null("the place for the handle"));
        }
        // SAFETY: `out` is not null, and may be written as the caller says. It is set even if nothing can be made.
        unsafe { out.write(std::ptr::null_mut()) };
        let handle = Box::into_raw(Box::new(make()?));
        // SAFETY: as above.
        unsafe { out.write(handle) };
        Ok(())
    })
}

fn null(what: &str) -> Error {
    Error::input(format!("{what} is NULL"))
}

/// # Safety
/// `handle` is null or came from [`give`], is not freed, and nobody else uses it during `'a`.
unsafe fn handle<'a, T>(handle: *mut T) -> Result<&'a mut T> {
    // SAFETY: as the caller says.
    unsafe { handle.as_mut() }.ok_or_else(|| null("the handle"))
}

/// # Safety
/// `data` is null or points to `len` elements that stay as they are during `'a`.
unsafe fn slice<'a, T>(data: *const T, len: usize, what: &str) -> Result<&'a [T]> {
    // Such lengths are numbers below 0 that became a size_t.
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Error::input(format!("the length of {what} is {len}: no memory has as much")));
    }
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(null(what)),
        // SAFETY: `data` is not null, and there may be as much; the rest is as the caller says.
        _ => Ok(unsafe { std::slice::from_raw_parts(data, len) }),
    }
}

/// # Safety
/// As [`slice`].
unsafe fn utf8<'a>(data: *const c_char, len: usize, what: &str) -> Result<&'a str> {
    // SAFETY: as the caller says.
    let bytes = unsafe { slice(data.cast::<u8>(), len, what) }?;
    std::str::from_utf8(bytes).map_err(|e| Error::input(format!("{what} is no UTF-8 at byte {}", e.valid_up_to())))
}

/// # Safety
/// `path` is null or ends with a NUL.
unsafe fn c_path(path: *const c_char) -> Result<PathBuf> {
    if path.is_null() {
        return Err(null("the path"));
    }
    // SAFETY: `path` is not null, and ends with a NUL as the caller says.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Ok(std::ffi::OsStr::from_bytes(bytes).into())
    }
    #[cfg(not(unix))]
    match std::str::from_utf8(bytes) {
        Ok(path) => Ok(path.into()),
        Err(_) => Err(Error::input("the path is no UTF-8")),
    }
}

/// A structure that begins with its own size, and of which every pattern of bits is a value.
///
/// # Safety
/// The first field is `size: usize`, and the type is plain old data without padding that matters.
unsafe trait Versioned: Copy {
    /// What holds for fields that an older caller does not have.
    const DEFAULT: Self;
}

/// The options that a caller gives, which may be of an older version and so shorter; null stands for the default.
///
/// # Safety
/// `options` is null or points to as many bytes as its first field says.
unsafe fn versioned<T: Versioned>(options: *const T) -> Result<T> {
    let mut known = T::DEFAULT;
    if !options.is_null() {
        // SAFETY: the first field is the size, and at least that is there.
        let size = unsafe { options.cast::<usize>().read() };
        check_size::<T>(size)?;
        // SAFETY: `size` bytes are there and not more than `known` has; every pattern of bits is a `T`.
        unsafe { std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut known).cast::<u8>(), size) };
    }
    Ok(known)
}

/// Writes a result into what a caller provides, as much as fits by its size field; null is left alone.
///
/// # Safety
/// `out` is null or points to as many bytes as its first field says.
unsafe fn put<T: Versioned>(out: *mut T, result: T) -> Result<()> {
    // SAFETY: as the caller says.
    let Some(size) = (unsafe { room(out) })? else { return Ok(()) };
    let skip = size_of::<usize>();
    // SAFETY: `size` bytes may be written, not more than `result` has; the size itself stays.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const result).cast::<u8>().add(skip),
            out.cast::<u8>().add(skip),
            size - skip,
        );
    }
    Ok(())
}

/// Fills options with the defaults, of which an older caller has room for fewer.
///
/// # Safety
/// `options` is null or `size` bytes may be written there.
unsafe fn init<T: Versioned>(options: *mut T, size: usize) -> pupil_status {
    guard(|| {
        if options.is_null() {
            return Err(null("options"));
        }
        check_size::<T>(size)?;
        let defaults = T::DEFAULT;
        // SAFETY: `size` bytes may be written, at least those of the first field, and the defaults have as many.
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), options.cast::<u8>(), size);
            options.cast::<usize>().write(size);
        }
        Ok(())
    })
}

/// The size of a place for a result, or `None` if there is none. What takes long asks before it begins.
///
/// # Safety
/// As for [`put`].
unsafe fn room<T: Versioned>(out: *const T) -> Result<Option<usize>> {
    if out.is_null() {
        return Ok(None);
    }
    // SAFETY: the first field is the size, and at least that is there.
    let size = unsafe { out.cast::<usize>().read() };
    check_size::<T>(size)?;
    Ok(Some(size))
}

fn check_size<T>(size: usize) -> Result<()> {
    if (size_of::<usize>()..=size_of::<T>()).contains(&size) {
        return Ok(());
    }
    let (least, most) = (size_of::<usize>(), size_of::<T>());
    Err(Error::input(format!(
        "a structure's size is {size}, expected {least} to {most}: was its `size` set, and is the library as new as the \
         header?"
    )))
}

#[cfg(test)]
mod tests;

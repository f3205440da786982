//! Detectors.

use super::{Versioned, c_path, free, give, guard, handle, init, null, pupil_status, slice, versioned};
use crate::bytes::Bytes;
use crate::{DetectOptions, Detector, Error, Picture};
use std::ffi::{CString, c_char};

/// A detector: one file, mapped, and all that it computes with.
pub struct pupil_detector {
    detector: Detector,
    classes: Vec<CString>,
}

/// What a detector is to do otherwise than its file says. Fill it with `pupil_detect_options_init`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pupil_detect_options {
    /// The size of this structure.
    pub size: usize,
    /// The classes to look for, by number; NULL for all.
    pub classes: *const u32,
    /// How many there are.
    pub class_count: usize,
    /// The most objects in a picture; 0: as the file says.
    pub max: usize,
    /// Threads to compute with; 0: one for each core.
    pub threads: usize,
    /// The least score, from 0 to 1; below 0: as the file says.
    pub confidence: f32,
    /// By how much boxes of a class may overlap, from 0 to 1; below 0: as the file says.
    pub iou: f32,
}

// SAFETY: plain old data whose first field is its size.
unsafe impl Versioned for pupil_detect_options {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        classes: std::ptr::null(),
        class_count: 0,
        max: 0,
        threads: 0,
        confidence: -1.0,
        iou: -1.0,
    };
}

/// One object: a box from its top left corner (x0, y0) to its bottom right corner (x1, y1), in the picture's pixels.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the coordinates are what the first line says")]
pub struct pupil_detection {
    pub x0: f32,
    pub y0: f32,
    pub x1: f32,
    pub y1: f32,
    /// How sure the model is, usually from 0 to 1.
    pub score: f32,
    /// Which of the model's classes.
    pub class_id: u32,
}

/// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detect_options_init(options: *mut pupil_detect_options, size: usize) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { init(options, size) }
}

/// Maps the GGUF file at `path`. `options` may be NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detector_open(
    path: *const c_char,
    options: *const pupil_detect_options,
    detector: *mut *mut pupil_detector,
) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { give(detector, || configured(Detector::open(c_path(path)?)?, options)) }
}

/// A detector whose file is in memory. It is used in place: the bytes must stay as they are until the detector is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detector_open_memory(
    data: *const u8,
    len: usize,
    options: *const pupil_detect_options,
    detector: *mut *mut pupil_detector,
) -> pupil_status {
    // SAFETY: as the caller says, who also keeps the bytes for as long as anything refers to them.
    unsafe {
        give(detector, || {
            let bytes: &'static [u8] = slice(data, len, "the file's bytes")?;
            configured(Detector::from_bytes(Bytes::Static(bytes), "the file in memory")?, options)
        })
    }
}

/// # Safety
/// `options` is null or as its size says.
unsafe fn configured(mut detector: Detector, options: *const pupil_detect_options) -> crate::Result<pupil_detector> {
    // SAFETY: as the caller says.
    let options = unsafe { versioned(options) }?;
    // SAFETY: as the caller says.
    let classes = unsafe { slice(options.classes, options.class_count, "the classes") }?;
    // Not a number is not below 0, and is refused.
    let given = |x: f32| (x.is_nan() || x >= 0.0).then_some(x);
    detector.configure(&DetectOptions {
        confidence: given(options.confidence),
        iou: given(options.iou),
        max: (options.max > 0).then_some(options.max),
        classes: classes.iter().map(|&class| class as usize).collect(),
    })?;
    if options.threads > 0 {
        detector = detector.with_threads(options.threads)?;
    }
    let name = |name: &String| CString::new(name.replace('\0', " ")).unwrap_or_default();
    let classes = detector.spec().classes.iter().map(name).collect();
    Ok(pupil_detector { detector, classes })
}

/// How many classes the model knows; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detector_class_count(detector: *const pupil_detector) -> usize {
    // SAFETY: as the caller says.
    unsafe { detector.as_ref() }.map_or(0, |detector| detector.classes.len())
}

/// The name of a class, which ends with a NUL and lives as long as the detector; NULL if there is no such class.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detector_class_name(detector: *const pupil_detector, class_id: u32) -> *const c_char {
    // SAFETY: as the caller says.
    let detector = unsafe { detector.as_ref() };
    let name = detector.and_then(|detector| detector.classes.get(class_id as usize));
    name.map_or(std::ptr::null(), |name| name.as_ptr())
}

/// What is in a picture in memory: `height` rows of `width` pixels of three bytes, red first, row after row `stride`
/// bytes. The objects of the highest scores go to `found`, at most `capacity` of them; `count` becomes how many there are
/// in all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detect_rgb(
    detector: *mut pupil_detector,
    rgb: *const u8,
    width: usize,
    height: usize,
    stride: usize,
    found: *mut pupil_detection,
    capacity: usize,
    count: *mut usize,
) -> pupil_status {
    guard(|| {
        let row = width.checked_mul(3).filter(|&row| row <= stride);
        let len = row.and_then(|row| height.checked_sub(1)?.checked_mul(stride)?.checked_add(row));
        let (Some(row), Some(len)) = (row, len) else {
            return Err(Error::input(format!(
                "a picture of {width} x {height} pixels, {stride} bytes a row: expected at least a pixel, and rows of at \
                 least three bytes a pixel"
            )));
        };
        // SAFETY: as the caller says.
        let rows = unsafe { slice(rgb, len, "the picture") }?;
        let mut pixels = Vec::with_capacity(row * height);
        rows.chunks(stride.max(1)).for_each(|bytes| pixels.extend_from_slice(&bytes[..row]));
        let picture = Picture::from_rgb(width, height, pixels)?;
        // SAFETY: as the caller says.
        unsafe { detect(detector, &picture, found, capacity, count) }
    })
}

/// As `pupil_detect_rgb`, of a JPEG, PNG, BMP or WebP file in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detect_encoded(
    detector: *mut pupil_detector,
    data: *const u8,
    len: usize,
    found: *mut pupil_detection,
    capacity: usize,
    count: *mut usize,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let picture = Picture::decode(unsafe { slice(data, len, "the picture") }?)?;
        // SAFETY: as the caller says.
        unsafe { detect(detector, &picture, found, capacity, count) }
    })
}

/// As `pupil_detect_rgb`, of a JPEG, PNG, BMP or WebP file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detect_file(
    detector: *mut pupil_detector,
    path: *const c_char,
    found: *mut pupil_detection,
    capacity: usize,
    count: *mut usize,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let picture = Picture::open(unsafe { c_path(path) }?)?;
        // SAFETY: as the caller says.
        unsafe { detect(detector, &picture, found, capacity, count) }
    })
}

/// # Safety
/// As `pupil_detect_rgb`.
unsafe fn detect(
    detector: *mut pupil_detector,
    picture: &Picture,
    found: *mut pupil_detection,
    capacity: usize,
    count: *mut usize,
) -> crate::Result<()> {
    // SAFETY: as the caller says.
    let detector = unsafe { handle(detector) }?;
    if count.is_null() || (found.is_null() && capacity > 0) {
        return Err(null("the place for what is found"));
    }
    let objects = detector.detector.detect(picture)?;
    for (i, object) in objects.iter().take(capacity).enumerate() {
        let rect = object.rect;
        let object = pupil_detection {
            x0: rect.x0,
            y0: rect.y0,
            x1: rect.x1,
            y1: rect.y1,
            score: object.score,
            class_id: object.class as u32,
        };
        // SAFETY: not null, as checked, and `i` is below `capacity`.
        unsafe { found.add(i).write(object) };
    }
    // SAFETY: not null, as checked.
    unsafe { count.write(objects.len()) };
    Ok(())
}

/// Frees a detector.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_detector_free(detector: *mut pupil_detector) {
    // SAFETY: as the caller says.
    unsafe { free(detector) }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;

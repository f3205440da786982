//! Detectors through the C ABI: pictures in memory as callers hand them over, options, and what is refused.

use super::super::pupil_status::*;
use super::super::tests::last_error;
use super::*;
use std::ffi::CStr;
use std::fs;
use std::ptr::{null, null_mut};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/lights.gguf");
/// The sides of the picture, and the bytes of its rows.
const SIDE: usize = 64;
const ROW: usize = 3 * SIDE;

const WHITE: [f32; 4] = [8.0, 16.0, 16.0, 24.0];
const RED: [f32; 4] = [40.0, 48.0, 48.0, 56.0];

/// A dark picture with a white cell in column 1 of row 2 and a red one in column 5 of row 6. After each row come as many
/// bytes as `stride` has more; they are white, and would be seen if they were taken for pixels.
fn picture(stride: usize) -> Vec<u8> {
    let mut rows = vec![255; stride * SIDE];
    for (y, row) in rows.chunks_mut(stride).enumerate() {
        for (x, pixel) in row[..ROW].chunks_mut(3).enumerate() {
            pixel.copy_from_slice(match (x / 8, y / 8) {
                (1, 2) => &[255; 3],
                (5, 6) => &[255, 0, 0],
                _ => &[10; 3],
            });
        }
    }
    // The last row ends with its last pixel: whoever reads on reads what is not there.
    rows.truncate(stride * (SIDE - 1) + ROW);
    rows
}

fn open(options: pupil_detect_options) -> Result<*mut pupil_detector, String> {
    let path = CString::new(FILE).unwrap();
    let mut detector = null_mut();
    // SAFETY: the path ends with a NUL, and the options are as their size says.
    let status = unsafe { pupil_detector_open(path.as_ptr(), &raw const options, &raw mut detector) };
    assert_eq!(status == PUPIL_OK, !detector.is_null());
    if status == PUPIL_OK { Ok(detector) } else { Err(last_error()) }
}

/// Has `call` look with room for `capacity` objects: the classes and boxes that it writes, and the number that it tells.
fn look(
    capacity: usize,
    call: impl FnOnce(*mut pupil_detection, usize, *mut usize) -> pupil_status,
) -> (Vec<(u32, [f32; 4])>, usize) {
    let nothing = pupil_detection { x0: 0.0, y0: 0.0, x1: 0.0, y1: 0.0, score: -1.0, class_id: 0 };
    let (mut found, mut count) = ([nothing; 4], usize::MAX);
    assert_eq!(call(found.as_mut_ptr(), capacity, &raw mut count), PUPIL_OK, "{}", last_error());
    let (written, rest) = found.split_at(capacity.min(count));
    assert!(written.iter().all(|found| found.score > 0.5 && found.score <= 1.0), "{written:?}");
    assert!(rest.iter().all(|rest| *rest == nothing), "written beyond the room: {rest:?}");
    (written.iter().map(|found| (found.class_id, [found.x0, found.y0, found.x1, found.y1])).collect(), count)
}

/// What is in the picture, in the order of classes.
fn detect(detector: *mut pupil_detector) -> Vec<(u32, [f32; 4])> {
    let rgb = picture(ROW);
    // SAFETY: the picture lives through the call, and the detector is not freed.
    let (mut found, count) = look(4, |found, capacity, count| unsafe {
        pupil_detect_rgb(detector, rgb.as_ptr(), SIDE, SIDE, ROW, found, capacity, count)
    });
    assert_eq!(found.len(), count);
    found.sort_by_key(|(class, _)| *class);
    found
}

#[test]
fn rows_may_have_more_bytes_than_pixels() {
    let detector = open(pupil_detect_options::DEFAULT).unwrap();
    for stride in [ROW, ROW + 1, 2 * ROW] {
        let rgb = picture(stride);
        // SAFETY: as many bytes as these rows have, and the detector is not freed.
        let (mut found, count) = look(4, |found, capacity, count| unsafe {
            pupil_detect_rgb(detector, rgb.as_ptr(), SIDE, SIDE, stride, found, capacity, count)
        });
        found.sort_by_key(|(class, _)| *class);
        assert_eq!((found, count), (vec![(0, WHITE), (1, RED)], 2), "rows of {stride} bytes");
    }
    // SAFETY: it is not used any more.
    unsafe { pupil_detector_free(detector) };
}

#[test]
fn files_in_memory_and_on_the_disk_are_the_same() {
    let model = fs::read(FILE).unwrap();
    let path = std::env::temp_dir().join(format!("pupil-capi-{}.png", std::process::id()));
    Picture::from_rgb(SIDE, SIDE, picture(ROW)).unwrap().save(&path).unwrap();
    let (png, c_path) = (fs::read(&path).unwrap(), CString::new(path.to_str().unwrap()).unwrap());
    let mut detector = null_mut();
    // SAFETY: the bytes of the model outlive the detector, those of the picture and its path the calls.
    unsafe {
        let status = pupil_detector_open_memory(model.as_ptr(), model.len(), null(), &raw mut detector);
        assert_eq!(status, PUPIL_OK, "{}", last_error());
        let expected = detect(detector);
        assert_eq!(expected.len(), 2);
        let encoded =
            |found, capacity, count| pupil_detect_encoded(detector, png.as_ptr(), png.len(), found, capacity, count);
        let (mut found, count) = look(4, encoded);
        found.sort_by_key(|(class, _)| *class);
        assert_eq!((&found, count), (&expected, 2));
        let (from_file, count) =
            look(4, |found, capacity, count| pupil_detect_file(detector, c_path.as_ptr(), found, capacity, count));
        assert_eq!((from_file.len(), count), (2, 2));
        pupil_detector_free(detector);
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn no_more_is_written_than_there_is_room_for() {
    let detector = open(pupil_detect_options::DEFAULT).unwrap();
    let rgb = picture(ROW);
    let with_room = |capacity| {
        // SAFETY: the picture lives through the call, and the detector is not freed.
        look(capacity, |found, capacity, count| unsafe {
            pupil_detect_rgb(detector, rgb.as_ptr(), SIDE, SIDE, ROW, found, capacity, count)
        })
    };
    let (all, _) = with_room(4);
    assert_eq!(with_room(1), (all[..1].to_vec(), 2));
    assert_eq!(with_room(0), (vec![], 2));
    let mut count = 0;
    // SAFETY: without room, nothing is written there.
    unsafe {
        let status = pupil_detect_rgb(detector, rgb.as_ptr(), SIDE, SIDE, ROW, null_mut(), 0, &raw mut count);
        assert_eq!((status, count), (PUPIL_OK, 2));
        pupil_detector_free(detector);
    }
}

#[test]
fn options_choose() {
    let with = |options| {
        let detector = open(options).unwrap();
        let found = detect(detector);
        // SAFETY: it is not used any more.
        unsafe { pupil_detector_free(detector) };
        found
    };
    let defaults = pupil_detect_options::DEFAULT;
    let red = [1];
    assert_eq!(with(defaults), [(0, WHITE), (1, RED)]);
    assert_eq!(with(pupil_detect_options { classes: red.as_ptr(), class_count: 1, ..defaults }), [(1, RED)]);
    assert_eq!(with(pupil_detect_options { max: 1, threads: 2, ..defaults }).len(), 1);
    assert_eq!(with(pupil_detect_options { confidence: 1.0, ..defaults }), []);
    assert_eq!(with(pupil_detect_options { confidence: 0.0, iou: 1.0, max: 1, ..defaults }).len(), 1);
}

#[test]
fn options_without_sense_are_refused() {
    let refused = |options| open(options).unwrap_err();
    let defaults = pupil_detect_options::DEFAULT;
    let stranger = [0, 2];
    let classes = pupil_detect_options { classes: stranger.as_ptr(), class_count: 2, ..defaults };
    assert_eq!(refused(classes), "class 2, expected less than 2");
    assert_eq!(refused(pupil_detect_options { class_count: 2, ..defaults }), "the classes is NULL");
    for confidence in [1.5, f32::NAN, f32::INFINITY] {
        assert!(refused(pupil_detect_options { confidence, ..defaults }).starts_with("confidence: "));
    }
    assert!(refused(pupil_detect_options { iou: f32::NAN, ..defaults }).starts_with("IoU: "));
    assert!(refused(pupil_detect_options { max: 1001, ..defaults }).starts_with("at most: "));
    assert!(refused(pupil_detect_options { threads: 1025, ..defaults }).contains("1025 threads"));
    assert!(refused(pupil_detect_options { size: 0, ..defaults }).contains("size is 0"));
}

#[test]
fn classes_have_names_up_to_their_number() {
    let detector = open(pupil_detect_options::DEFAULT).unwrap();
    // SAFETY: names end with a NUL and live as long as the detector.
    unsafe {
        assert_eq!(pupil_detector_class_count(detector), 2);
        let names = [0, 1].map(|class| CStr::from_ptr(pupil_detector_class_name(detector, class)));
        assert_eq!(names, [c"white light", c"red light"]);
        assert!(pupil_detector_class_name(detector, 2).is_null());
        assert!(pupil_detector_class_name(null(), 0).is_null());
        assert_eq!(pupil_detector_class_count(null()), 0);
        pupil_detector_free(detector);
        pupil_detector_free(null_mut());
    }
}

#[test]
fn pictures_that_cannot_be_are_refused() {
    let detector = open(pupil_detect_options::DEFAULT).unwrap();
    let rgb = picture(ROW);
    let refused = |width, height, stride| {
        let mut count = 7;
        // SAFETY: sizes that do not fit the picture are refused before it is read.
        let status =
            unsafe { pupil_detect_rgb(detector, rgb.as_ptr(), width, height, stride, null_mut(), 0, &raw mut count) };
        assert_eq!((status, count), (PUPIL_ERROR_INPUT, 7), "{width} x {height}, {stride}");
        last_error()
    };
    // No pixels, rows shorter than their pixels, and more bytes than can be counted or than memory can have.
    for (width, height, stride) in [(SIDE, 0, ROW), (SIDE, SIDE, ROW - 1), (usize::MAX / 2, 1, 9), (1, usize::MAX, 3)] {
        let message = refused(width, height, stride);
        assert!(message.contains(&format!("{width} x {height} pixels, {stride} bytes a row")), "{message}");
    }
    assert!(refused(0, 1, 0).contains("0 x 1"), "{}", last_error());
    assert!(refused(1, usize::MAX / 4, 3).starts_with("the length of the picture is "), "{}", last_error());
    // SAFETY: it is not used any more.
    unsafe { pupil_detector_free(detector) };
}

#[test]
fn places_that_are_missing_are_named() {
    let detector = open(pupil_detect_options::DEFAULT).unwrap();
    let rgb = picture(ROW);
    let (rgb, mut count) = (rgb.as_ptr(), 0);
    // SAFETY: null is refused everywhere here, and all else lives through the calls.
    unsafe {
        let count = &raw mut count;
        assert_eq!(pupil_detect_rgb(null_mut(), rgb, SIDE, SIDE, ROW, null_mut(), 0, count), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the handle is NULL");
        assert_eq!(pupil_detect_rgb(detector, null(), SIDE, SIDE, ROW, null_mut(), 0, count), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the picture is NULL");
        assert_eq!(pupil_detect_rgb(detector, rgb, SIDE, SIDE, ROW, null_mut(), 1, count), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the place for what is found is NULL");
        assert_eq!(pupil_detect_rgb(detector, rgb, SIDE, SIDE, ROW, null_mut(), 0, null_mut()), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the place for what is found is NULL");
        assert_eq!(pupil_detect_encoded(detector, null(), 9, null_mut(), 0, count), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the picture is NULL");
        assert_eq!(pupil_detect_encoded(detector, rgb, 9, null_mut(), 0, count), PUPIL_ERROR_FORMAT);
        assert_eq!(pupil_detect_file(detector, null(), null_mut(), 0, count), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the path is NULL");
        assert_eq!(pupil_detect_file(detector, c"no/such.png".as_ptr(), null_mut(), 0, count), PUPIL_ERROR_IO);
        pupil_detector_free(detector);

        let mut detector = std::ptr::dangling_mut();
        assert_eq!(pupil_detector_open(null(), null(), &raw mut detector), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the path is NULL");
        assert_eq!(pupil_detector_open_memory(null(), 9, null(), &raw mut detector), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the file's bytes is NULL");
        assert_eq!(pupil_detector_open_memory(rgb, 9, null(), &raw mut detector), PUPIL_ERROR_FORMAT);
        assert!(last_error().starts_with("the file in memory: "), "{}", last_error());
        assert!(detector.is_null());
        assert_eq!(pupil_detector_open_memory(rgb, 9, null(), null_mut()), PUPIL_ERROR_INPUT);
    }
}

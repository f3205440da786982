use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// A picture whose corners all differ: red, green, blue and yellow quarters.
fn quarters(width: usize, height: usize) -> Picture {
    let pixel = |i: usize| match (i % width < width / 2, i / width < height / 2) {
        (true, true) => RED,
        (false, true) => GREEN,
        (true, false) => BLUE,
        (false, false) => YELLOW,
    };
    Picture::from_rgb(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

const RED: [u8; 3] = [250, 10, 10];
const GREEN: [u8; 3] = [10, 250, 10];
const BLUE: [u8; 3] = [10, 10, 250];
const YELLOW: [u8; 3] = [250, 250, 10];

/// The quarter's colour nearest to the pixel in the middle of each quarter: top left, top right, bottom left and right.
fn corners(picture: &Picture) -> [[u8; 3]; 4] {
    let (w, h) = (picture.width(), picture.height());
    [(w / 4, h / 4), (w * 3 / 4, h / 4), (w / 4, h * 3 / 4), (w * 3 / 4, h * 3 / 4)].map(|(x, y)| {
        let pixel = &picture.rgb()[(y * w + x) * 3..][..3];
        let distance = |c: &[u8; 3]| c.iter().zip(pixel).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        [RED, GREEN, BLUE, YELLOW].into_iter().min_by_key(distance).unwrap()
    })
}

fn encoded(picture: &Picture, format: ImageFormat) -> Vec<u8> {
    picture.encode(format).unwrap()
}

fn encoded_as(pixels: &[u8], width: u32, height: u32, kind: ExtendedColorType) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    ::image::write_buffer_with_format(&mut bytes, pixels, width, height, kind, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn refusal(bytes: &[u8]) -> String {
    let message = Picture::decode(bytes).expect_err("refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pupil-picture-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lossless_formats_come_back_exactly() {
    let picture = quarters(20, 14);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        assert!(Picture::decode(&encoded(&picture, format)).unwrap() == picture, "{format:?}");
    }
    assert!(Picture::decode(&picture.encode_png()).unwrap() == picture);
    assert_eq!(corners(&Picture::decode(&encoded(&picture, ImageFormat::Jpeg)).unwrap()), corners(&picture));
}

#[test]
fn rejects_wrong_lengths_and_sides() {
    assert!(Picture::from_rgb(2, 2, vec![0; 12]).is_ok());
    for (width, height, length) in [(2, 2, 11), (2, 2, 13), (0, 2, 0), (2, 0, 0), (100_000, 1, 300_000)] {
        let error = Picture::from_rgb(width, height, vec![0; length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{width} x {height}: {error}");
    }
    assert!(Picture::from_rgb(usize::MAX, usize::MAX, Vec::new()).is_err());
}

/// A JPEG whose EXIF block names an orientation, in either byte order.
fn oriented(jpeg: &[u8], orientation: u8, little: bool) -> Vec<u8> {
    let mut exif = b"Exif\0\0".to_vec();
    if little {
        exif.extend(b"II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0");
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    } else {
        exif.extend(b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01");
        exif.extend([0, orientation, 0, 0, 0, 0, 0, 0]);
    }
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], b"\xFF\xE1", &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn exif_orientation_is_applied() {
    let jpeg = encoded(&quarters(48, 32), ImageFormat::Jpeg);
    let expected = [
        [RED, GREEN, BLUE, YELLOW],
        [GREEN, RED, YELLOW, BLUE],
        [YELLOW, BLUE, GREEN, RED],
        [BLUE, YELLOW, RED, GREEN],
        [RED, BLUE, GREEN, YELLOW],
        [BLUE, RED, YELLOW, GREEN],
        [YELLOW, GREEN, BLUE, RED],
        [GREEN, YELLOW, RED, BLUE],
    ];
    for (orientation, expected) in (1..).zip(expected) {
        for little in [true, false] {
            let picture = Picture::decode(&oriented(&jpeg, orientation, little)).unwrap();
            assert_eq!(corners(&picture), expected, "orientation {orientation}");
            let sides = if orientation < 5 { (48, 32) } else { (32, 48) };
            assert_eq!((picture.width(), picture.height()), sides, "orientation {orientation}");
        }
    }
    let senseless = Picture::decode(&oriented(&jpeg, 77, true)).unwrap();
    assert_eq!(corners(&senseless), expected[0]);
}

#[test]
fn other_kinds_of_pixels_become_rgb() {
    let first = |bytes: &[u8]| Picture::decode(bytes).unwrap().rgb().to_vec();
    assert_eq!(first(&encoded_as(&[7, 200], 2, 1, ExtendedColorType::L8)), [7, 7, 7, 200, 200, 200]);
    let deep: Vec<u8> = [0x1234_u16, 0xFFFF, 0].iter().flat_map(|value| value.to_ne_bytes()).collect();
    assert_eq!(first(&encoded_as(&deep, 1, 1, ExtendedColorType::Rgb16)), [0x12, 255, 0]);
    let clear = [100, 0, 50, 0, 100, 0, 50, 255, 0, 0, 0, 51];
    assert_eq!(first(&encoded_as(&clear, 3, 1, ExtendedColorType::Rgba8)), [255, 255, 255, 100, 0, 50, 204, 204, 204]);
    assert_eq!(first(&encoded_as(&[0, 128], 1, 1, ExtendedColorType::La8)), [127; 3]);
}

#[test]
fn rejects_what_is_no_picture() {
    assert_eq!(refusal(b""), "is empty: expected a JPEG, PNG, BMP or WebP picture");
    assert_eq!(refusal(b"Dear diary"), "is no picture: expected the first bytes of a JPEG, PNG, BMP or WebP");
    assert_eq!(refusal(b"GIF89a\0\0\0\0"), "is a GIF: expected a JPEG, PNG, BMP or WebP picture");
}

#[test]
fn rejects_every_truncation() {
    let picture = quarters(24, 16);
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let bytes = encoded(&picture, format);
        // Of a PNG the last chunk is empty, and of a WebP the last byte may be padding.
        let needed = bytes.len() - if format == ImageFormat::Png { 12 } else { 1 };
        for cut in (0..needed).step_by(7).chain([needed - 1]) {
            refusal(&bytes[..cut]);
        }
    }
    let jpeg = encoded(&picture, ImageFormat::Jpeg);
    let cut = jpeg.len() - 20;
    assert_eq!(refusal(&jpeg[..cut]), format!("truncated JPEG: no end of image within its {cut} bytes"));
}

/// Sets the sides in the header of a PNG or a BMP, and mends the checksum.
fn resized(picture: &Picture, format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(picture, format);
    if format == ImageFormat::Png {
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    } else {
        bytes[18..22].copy_from_slice(&width.to_le_bytes());
        bytes[22..26].copy_from_slice(&height.to_le_bytes());
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

#[test]
fn rejects_senseless_sides() {
    let picture = quarters(8, 8);
    for format in [ImageFormat::Png, ImageFormat::Bmp] {
        for (width, height) in [(0, 8), (8, 0), (100_000, 100_000), (20_000, 8), (16_384, 16_384)] {
            refusal(&resized(&picture, format, width, height));
        }
    }
    let message = refusal(&resized(&picture, ImageFormat::Png, 20_000, 8));
    assert_eq!(message, "a picture of 20000 x 8: expected 1 to 16384 pixels a side");
    let message = refusal(&resized(&picture, ImageFormat::Bmp, 16_384, 16_000));
    assert_eq!(message, "a picture of 16384 x 16000 is 750 MiB decoded: expected at most 256");
}

#[test]
fn files_are_named_in_errors() {
    let scratch = Scratch::new("errors");
    let text = scratch.path("text.jpg");
    fs::write(&text, "not a picture").unwrap();
    let huge = scratch.path("huge.jpg");
    File::create(&huge).unwrap().set_len(2 << 30).unwrap();
    for (path, expected) in [
        (text, "is no picture: expected the first bytes of a JPEG, PNG, BMP or WebP"),
        (huge, "a file of 2048 MiB: expected a picture of at most 256 MiB"),
        (scratch.0.clone(), "is no regular file: expected a picture"),
    ] {
        let error = Picture::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
    }
    let missing = scratch.path("missing.png");
    let error = Picture::open(&missing).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().starts_with(&missing.display().to_string()));
}

#[test]
fn saves_by_extension_and_leaves_nothing_else() {
    let scratch = Scratch::new("save");
    let picture = quarters(20, 14);
    for name in ["a.png", "b.JPG", "c.jpeg", "d.bmp", "e.webp", "a.png"] {
        picture.save(scratch.path(name)).unwrap();
        assert_eq!(corners(&Picture::open(scratch.path(name)).unwrap()), corners(&picture), "{name}");
    }
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 5);
    for name in ["f.gif", "png", "f"] {
        let error = picture.save(scratch.path(name)).unwrap_err().to_string();
        assert!(error.ends_with("expected a name that ends in .png, .jpg, .jpeg, .bmp or .webp"), "{error}");
    }
    let nowhere = picture.save(scratch.path("no/such/a.png")).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Io);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_do_not_panic(
        kind in 0..4_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        mend: bool,
    ) {
        let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::WebP];
        let mut bytes = encoded(&quarters(24, 16), formats[kind]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if kind == 0 && mend {
            let sum = crc32(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        }
        if let Err(error) = Picture::decode(&bytes) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

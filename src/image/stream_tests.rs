use std::io;

use proptest::prelude::*;

use super::*;

fn jpeg(seed: u8) -> Vec<u8> {
    let rgb = (0..16 * 16 * 3_usize).map(|i| (i * 7 + i / 48 * usize::from(seed)) as u8).collect();
    let mut bytes = Vec::new();
    let encoder = ::image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    let picture: Picture = Picture::from_rgb(16, 16, rgb).unwrap();
    ::image::ImageEncoder::write_image(encoder, picture.rgb(), 16, 16, ::image::ExtendedColorType::Rgb8).unwrap();
    // A comment that holds both markers, as a thumbnail would.
    bytes.splice(2..2, *b"\xFF\xFE\x00\x08\xFF\xD8\xFF\xD9\xFF\xD8");
    bytes
}

fn frames(reader: impl Read) -> Vec<Result<Frame, String>> {
    Frames::mjpeg(reader).map(|frame| frame.map_err(|error| error.to_string())).collect()
}

fn good(bytes: &[u8]) -> Result<Frame, String> {
    Ok(Frame::Jpeg(bytes.to_vec()))
}

/// Hands out at most `step` bytes at once.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = self.1.min(buffer.len());
        self.0.read(&mut buffer[..step])
    }
}

#[test]
fn splits_at_every_chunk_boundary() {
    let (a, b) = (jpeg(1), jpeg(2));
    let both = [&a[..], &b].concat();
    for cut in 0..both.len() {
        let (first, second) = both.split_at(cut);
        assert_eq!(frames(first.chain(second)), [good(&a), good(&b)], "cut at {cut}");
    }
    assert_eq!(frames(Slow(&both, 1)), [good(&a), good(&b)]);
}

#[test]
fn frames_decode() {
    let picture = Frame::Jpeg(jpeg(3)).decode().unwrap();
    assert_eq!((picture.width(), picture.height()), (16, 16));
}

#[test]
fn skips_what_lies_between() {
    let a = jpeg(1);
    let head = b"--ffmpeg\r\nContent-type: image/jpeg\r\n\r\n";
    let stream = [head, &a[..], b"\r\n", head, &a, b"\r\n\xFF"].concat();
    assert_eq!(frames(&stream[..]), [good(&a), good(&a)]);
}

/// Where a cut comment or thumbnail happens to end at a marker of the next frame, the two make one JPEG that is sound to a
/// walk. No other segment may hold the start of a frame.
#[test]
fn a_frame_that_was_cut_costs_no_other() {
    let (a, b) = (jpeg(1), jpeg(2));
    for cut in 3..a.len() - 1 {
        let got = frames(&[&b[..], &a[..cut], &b, &b].concat()[..]);
        assert_eq!((&got[0], got.last().unwrap()), (&good(&b), &good(&b)), "cut at {cut}");
        match &got[1] {
            Ok(Frame::Jpeg(merged)) => assert!(merged.starts_with(&a[..cut]) && cut < 12, "cut at {cut}"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(error.starts_with("frame 2: ") && got[2] == good(&b), "cut at {cut}: {error}"),
        }
    }
}

#[test]
fn a_truncated_last_frame_is_reported() {
    let a = jpeg(1);
    for cut in 3..a.len() {
        let got = frames(&[&a[..], &a[..cut]].concat()[..]);
        assert_eq!(got, [good(&a), Err("frame 2: the stream ends inside of it".into())], "cut at {cut}");
    }
}

#[test]
fn an_empty_stream_has_no_frames_and_no_error() {
    assert_eq!(frames(&b""[..]), []);
}

#[test]
fn another_format_is_named() {
    let error =
        "no JPEG in the 300000 bytes of the stream: expected a JPEG, PNG, BMP or WebP picture, or `ffmpeg -f mjpeg`";
    assert_eq!(frames(&[7; 300_000][..]), [Err(error.into())]);
}

#[test]
fn an_endless_frame_is_given_up() {
    let start = &b"\xFF\xD8\xFF\xDA\x00\x02"[..];
    let a = jpeg(1);
    let endless = io::repeat(0).take(MAX_FRAME as u64 + 100);
    let got = frames(start.chain(endless).chain(&a[..]));
    assert_eq!(got, [Err("frame 1: longer than 64 MiB".into()), good(&a)]);
}

#[test]
fn many_false_starts_take_linear_time() {
    let evil = b"\xFF\xD8\xFF\xE1\xFF\xFF".repeat(500_000);
    assert_eq!(frames(&evil[..]).len(), 1);
}

#[test]
fn an_unreadable_stream_ends() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("pulled out"))
        }
    }
    let expected = [Err("frame 1: the stream cannot be read: pulled out".to_string())];
    assert_eq!(frames(Broken), expected);
    let raw = Frames::rgb24(Broken, 2, 2).unwrap();
    assert_eq!(raw.map(|frame| frame.map_err(|error| error.to_string())).collect::<Vec<_>>(), expected);
}

#[test]
fn raw_frames() {
    let bytes: Vec<u8> = (0..40).collect();
    let got: Vec<_> = Frames::rgb24(Slow(&bytes, 5), 3, 2).unwrap().collect();
    let [Ok(first), Ok(second), Err(error)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(first.clone().decode().unwrap().rgb(), &bytes[..18]);
    assert_eq!(second.clone().decode().unwrap().rgb(), &bytes[18..36]);
    assert_eq!(error.to_string(), "frame 3: the stream ends after 4 of 18 bytes (3 x 2)");
}

#[test]
fn raw_sizes_are_checked() {
    for (width, height) in [(0, 4), (4, 0), (100_000, 4), (16_384, 16_384)] {
        assert!(Frames::rgb24(io::empty(), width, height).is_err(), "{width} x {height}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end(words in prop::collection::vec(0..12_usize, 0..300), step in 1..50_usize) {
        // Pieces of markers, so that chance builds headers.
        let pieces: [&[u8]; 12] = [b"\xFF", b"\xD8", b"\xFF\xD8\xFF", b"\xFF\xDA\x00\x02", b"\xFF\xD9", b"\x00",
            b"\xFF\xE0\x00\x05", b"\xFF\x00", b"\xFF\xD0", b"abc", b"\xFF\xC0\x01\x00", b"\xFF\xE0\x00\x01"];
        let bytes: Vec<u8> = words.iter().flat_map(|&word| pieces[word]).copied().collect();
        let whole = frames(&bytes[..]);
        prop_assert_eq!(&whole, &frames(Slow(&bytes, step)), "chunks do not matter");
        for frame in whole.into_iter().flatten() {
            let Frame::Jpeg(jpeg) = frame else { unreachable!() };
            prop_assert!(jpeg.starts_with(b"\xFF\xD8\xFF") && jpeg.ends_with(b"\xFF\xD9"));
        }
    }
}

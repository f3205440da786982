//! Frames of a video, as `ffmpeg` writes them to a pipe.

use std::io::{ErrorKind as IoErrorKind, Read};

use super::Picture;
use super::jpeg::{End, Walk};
use super::picture::{MAX_BYTES, MAX_SIDE};
use crate::{Error, ErrorKind, Result};

/// The longest JPEG that is taken for a frame.
const MAX_FRAME: usize = 64 << 20;
const CHUNK: usize = 64 << 10;
/// How often in a row a broken frame may send the search back, so that no stream takes more than linear time.
const MAX_RETRIES: u32 = 16;

/// A frame as it came, not decoded yet: one that is late can be dropped at no cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole JPEG file.
    Jpeg(Vec<u8>),
    /// Raw pixels.
    #[expect(missing_docs, reason = "as those of a picture")]
    Rgb { width: usize, height: usize, rgb: Vec<u8> },
}

impl Frame {
    /// The frame as a picture.
    ///
    /// # Errors
    /// What [`Picture::decode`] refuses.
    pub fn decode(self) -> Result<Picture> {
        match self {
            Frame::Jpeg(bytes) => Picture::decode(&bytes),
            Frame::Rgb { width, height, rgb } => Picture::from_rgb(width, height, rgb),
        }
    }
}

/// The frames of a byte stream, one after the other, each as soon as its last byte has come.
///
/// An error about a frame does not end the stream: the next item is the next sound frame. Only a stream that cannot be
/// read or has come to its end yields `None`.
///
/// ```no_run
/// # use pupil::image::Frames;
/// // ffmpeg -i video.mp4 -f mjpeg - | this program
/// for frame in Frames::mjpeg(std::io::stdin().lock()) {
///     match frame.and_then(|frame| frame.decode()) {
///         Ok(picture) => println!("{} x {}", picture.width(), picture.height()),
///         Err(error) => eprintln!("{error}"),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Frames<R> {
    reader: R,
    kind: Kind,
    /// How many frames were begun, for messages.
    count: u64,
    done: bool,
}

#[derive(Debug)]
enum Kind {
    Mjpeg(Splitter),
    Rgb { width: usize, height: usize },
}

impl<R: Read> Frames<R> {
    /// JPEGs one after the other (`ffmpeg -f mjpeg -`).
    ///
    /// What lies between them is skipped, so multipart streams of network cameras (`-f mpjpeg`) work too.
    pub fn mjpeg(reader: R) -> Self {
        Self { reader, kind: Kind::Mjpeg(Splitter::default()), count: 0, done: false }
    }

    /// Raw pixels, three bytes each (`ffmpeg -f rawvideo -pix_fmt rgb24 -`).
    ///
    /// # Errors
    /// A side of 0 or of more than 16,384 pixels, or a frame of more than 256 MiB.
    pub fn rgb24(reader: R, width: usize, height: usize) -> Result<Self> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || (width * height * 3) as u64 > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            let message =
                format!("frames of {width} x {height}: expected 1 to {MAX_SIDE} pixels a side and {most} MiB");
            return Err(Error::input(message));
        }
        Ok(Self { reader, kind: Kind::Rgb { width, height }, count: 0, done: false })
    }

    fn next_jpeg(&mut self) -> Option<Result<Frame>> {
        let Kind::Mjpeg(splitter) = &mut self.kind else { return None };
        loop {
            match splitter.step() {
                Step::Frame(bytes) => {
                    self.count += 1;
                    return Some(Ok(Frame::Jpeg(bytes)));
                }
                Step::Lost(why) => {
                    self.count += 1;
                    return Some(Err(Error::format(format!("frame {}: {why}", self.count))));
                }
                Step::End => return splitter.verdict(self.count).map(Err),
                Step::More => {}
            }
            if let Err(error) = splitter.fill(&mut self.reader) {
                self.done = true;
                return Some(Err(unreadable(self.count + 1, &error)));
            }
        }
    }

    fn next_rgb(&mut self, width: usize, height: usize) -> Option<Result<Frame>> {
        let size = width * height * 3;
        self.count += 1;
        let mut rgb = Vec::with_capacity(size);
        let read = self.reader.by_ref().take(size as u64).read_to_end(&mut rgb);
        self.done = rgb.len() < size;
        match read {
            Err(error) => Some(Err(unreadable(self.count, &error))),
            Ok(0) => None,
            Ok(got) if got < size => Some(Err(Error::format(format!(
                "frame {}: the stream ends after {got} of {size} bytes ({width} x {height})",
                self.count
            )))),
            Ok(_) => Some(Ok(Frame::Rgb { width, height, rgb })),
        }
    }
}

impl<R: Read> Iterator for Frames<R> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = match self.kind {
            Kind::Mjpeg(_) => self.next_jpeg(),
            Kind::Rgb { width, height } => self.next_rgb(width, height),
        };
        self.done |= next.is_none();
        next
    }
}

fn unreadable(frame: u64, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("frame {frame}: the stream cannot be read: {error}"))
}

/// Cuts a stream into JPEGs.
#[derive(Debug, Default)]
struct Splitter {
    buffer: Vec<u8>,
    /// How much of the buffer is done with; a frame that was begun starts here.
    head: usize,
    /// The frame that was begun.
    walk: Option<Walk>,
    /// Frames in a row that led nowhere.
    retries: u32,
    /// Whether the present loss was reported.
    lost: bool,
    /// Bytes that were no part of a frame.
    skipped: u64,
    /// Bytes of the stream before the buffer.
    dropped: u64,
    ended: bool,
}

enum Step {
    Frame(Vec<u8>),
    Lost(String),
    More,
    End,
}

impl Splitter {
    fn fill(&mut self, reader: &mut impl Read) -> std::io::Result<()> {
        self.buffer.drain(..std::mem::take(&mut self.head));
        let held = self.buffer.len();
        self.buffer.resize(held + CHUNK, 0);
        let got = loop {
            match reader.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(held + *got.as_ref().unwrap_or(&0));
        self.ended = got? == 0;
        Ok(())
    }

    fn step(&mut self) -> Step {
        loop {
            if self.walk.is_none() && !self.seek() {
                return if self.ended { Step::End } else { Step::More };
            }
            let mut walk = self.walk.take().unwrap_or(Walk::new(0));
            let bytes = &self.buffer[self.head..];
            let held = bytes.len();
            let lost = match walk.go(bytes) {
                End::At(end) if end <= MAX_FRAME => return Step::Frame(self.cut(end)),
                End::Missing if !self.ended && held <= MAX_FRAME => {
                    self.walk = Some(walk);
                    return Step::More;
                }
                End::Missing if self.ended => self.lose(&walk, held, "the stream ends inside of it".into()),
                End::Missing | End::At(_) => {
                    self.lose(&walk, walk.at(), format!("longer than {} MiB", MAX_FRAME >> 20))
                }
                End::Damaged(at) => {
                    let byte = self.dropped + at as u64;
                    self.lose(&walk, at, format!("damaged JPEG at byte {byte} of the stream"))
                }
            };
            if let Some(why) = lost {
                return Step::Lost(why);
            }
        }
    }

    /// Drops what comes before a start-of-image marker and the FF of the marker that must follow it.
    fn seek(&mut self) -> bool {
        let bytes = &self.buffer[self.head..];
        let start = bytes.windows(3).position(|bytes| bytes == [0xFF, 0xD8, 0xFF]);
        // The last two bytes may be the beginning of a marker.
        let spare = if self.ended { 0 } else { 2 };
        let garbage = start.unwrap_or(bytes.len().saturating_sub(spare));
        self.skip(garbage);
        start.is_some()
    }

    fn cut(&mut self, length: usize) -> Vec<u8> {
        let frame = self.buffer[self.head..][..length].to_vec();
        self.head += length;
        self.dropped += length as u64;
        (self.retries, self.lost) = (0, false);
        frame
    }

    /// Gives the begun frame up. Its last segment may have been cut and have skipped into the next frame, so that is
    /// where the search begins.
    fn lose(&mut self, walk: &Walk, at: usize, why: String) -> Option<String> {
        let again = self.retries < MAX_RETRIES;
        self.retries = if again { self.retries + 1 } else { 0 };
        let held = self.buffer.len() - self.head;
        self.skip(if again { walk.doubtful() } else { at }.clamp(2, held));
        let first = !self.lost;
        self.lost = true;
        first.then_some(why)
    }

    fn skip(&mut self, bytes: usize) {
        self.head += bytes;
        self.skipped += bytes as u64;
        self.dropped += bytes as u64;
    }

    /// What to say at the end: a stream of something else should not pass for an empty one.
    fn verdict(&mut self, frames: u64) -> Option<Error> {
        let skipped = std::mem::take(&mut self.skipped);
        (frames == 0 && skipped > 0)
            .then(|| Error::format(format!("no JPEG in the {skipped} bytes of the stream: expected a JPEG, PNG, BMP or WebP picture, or `ffmpeg -f mjpeg`")))
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;

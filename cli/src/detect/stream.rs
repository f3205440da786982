//! Frames of a video on stdin, or a single picture.

use super::{
    files::Output,
    queue::{Next, Queue},
    show::{self, Found},
    stills,
};
use crate::{
    args::DetectArgs,
    counted::counted,
    failure::{Failure, Outcome},
    interrupt,
};
use pupil::{
    Detector, Picture, Result,
    image::{Frame, Frames, is_picture},
};
use serde_json::json;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The largest picture that is read from stdin.
const MAX_BYTES: u64 = 256 << 20;
/// How many broken frames are reported one by one.
const REPORTED: u64 = 10;

/// A frame as it came: its number, and when.
struct Arrival {
    number: u64,
    time: Duration,
    frame: Result<Frame>,
}

/// Looks at what comes on stdin.
pub fn run(args: &DetectArgs, detector: &mut Detector) -> Outcome {
    if args.inputs.len() > 1 {
        return Err(Failure::Message("- is stdin and stands alone, expected no other files".into()));
    }
    if let Some(path) = args.output.as_deref().filter(|path| is_picture(path) && args.size.is_some()) {
        return Err(Failure::Message(format!("{}: one file for a video, expected a folder", path.display())));
    }
    let mut start = [0; 12];
    let mut stdin = io::stdin();
    let mut len = 0;
    while args.size.is_none() && len < start.len() {
        match stdin.read(&mut start[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Message(format!("stdin: {error}"))),
        }
    }
    if args.size.is_none() && len == 0 {
        return Err(Failure::Message("stdin is empty, expected a picture or a stream of JPEG frames".into()));
    }
    let input = io::Cursor::new(start[..len].to_vec()).chain(stdin);
    if is_still(&start[..len]) {
        return still(args, detector, input);
    }
    let frames: Box<dyn Iterator<Item = Result<Frame>> + Send> = match args.size {
        Some(size) => Box::new(Frames::rgb24(input, size.width, size.height)?),
        None => Box::new(Frames::mjpeg(input)),
    };
    video(args, detector, frames)
}

/// Whether bytes begin a PNG, BMP or WebP file, of which there is only one. JPEGs may be frames.
fn is_still(start: &[u8]) -> bool {
    let webp = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    start.starts_with(b"\x89PNG") || start.starts_with(b"BM") || webp
}

fn still(args: &DetectArgs, detector: &mut Detector, input: impl Read) -> Outcome {
    let mut bytes = Vec::new();
    let read = input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Message(format!("stdin: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::Message(format!("stdin: a picture of more than {} MiB", MAX_BYTES >> 20)));
    }
    let picture = Picture::decode(&bytes).map_err(|error| Failure::Message(format!("stdin: {error}")))?;
    single(args, detector, &picture)
}

fn single(args: &DetectArgs, detector: &mut Detector, picture: &Picture) -> Outcome {
    let file = [PathBuf::from("-")];
    let output = Output::new(args.output.as_deref(), &file)?;
    stills::one(args, detector, &output, Path::new("stdin.png"), picture, false)
}

fn video(
    args: &DetectArgs,
    detector: &mut Detector,
    frames: Box<dyn Iterator<Item = Result<Frame>> + Send>,
) -> Outcome {
    let start = Instant::now();
    let queue = Arc::new(Queue::new(!args.every_frame && is_live()));
    let sender = queue.clone();
    // Not joined: it may wait for stdin for ever.
    thread::spawn(move || {
        for (number, frame) in (1..).zip(frames) {
            if !sender.push(Arrival { number, time: start.elapsed(), frame }) {
                break;
            }
        }
        sender.close();
    });
    let outcome = watch(args, detector, &queue, start);
    queue.close();
    outcome
}

fn watch(args: &DetectArgs, detector: &mut Detector, queue: &Queue<Arrival>, start: Instant) -> Outcome {
    let (mut seen, mut broken) = (0_u64, 0_u64);
    let mut output = None;
    // The first frame waits for the second one: without that it is a picture.
    let mut least = 2;
    let outcome = loop {
        if interrupt::requested() {
            break Err(Failure::Interrupted);
        }
        let Arrival { number, time, frame } = match queue.next(least) {
            Next::Item(arrival) => arrival,
            Next::Waiting => continue,
            Next::End => break Ok(()),
        };
        let alone = least == 2 && number == 1 && args.size.is_none() && queue.is_over();
        least = 1;
        let picture = match frame.and_then(Frame::decode) {
            Ok(picture) => picture,
            Err(error) if alone => return Err(Failure::Message(format!("stdin: {error}"))),
            Err(error) => {
                broken += 1;
                if broken <= REPORTED {
                    eprintln!("pupil: stdin: {error}");
                }
                continue;
            }
        };
        if alone {
            return single(args, detector, &picture);
        }
        if output.is_none() {
            output = Some(folder(args)?);
        }
        let place = output.iter().flatten().next().map(|folder| folder.join(format!("frame-{number:06}.jpg")));
        frame_shown(args, detector, &picture, number, time, place.as_deref())?;
        seen += 1;
    };
    let (seconds, dropped) = (start.elapsed().as_secs_f64(), queue.dropped());
    let fps = seen as f64 / seconds.max(1e-9);
    let broken_too = if broken > 0 { format!(", {broken} broken") } else { String::new() };
    eprintln!("{}, {dropped} dropped{broken_too}, {fps:.1} fps", counted(seen as usize, "frame"));
    match outcome {
        Ok(()) if broken > 0 => Err(Failure::Partly),
        outcome => outcome,
    }
}

fn frame_shown(
    args: &DetectArgs,
    detector: &mut Detector,
    picture: &Picture,
    number: u64,
    time: Duration,
    place: Option<&Path>,
) -> Outcome {
    let objects = detector.detect(picture)?;
    let found = Found { detector, picture, objects: &objects };
    let seconds = (1000.0 * time.as_secs_f64()).round() / 1000.0;
    show::print(&match args.json {
        true => found.json(json!({ "frame": number, "time": seconds })) + "\n",
        false => format!("frame {number} at {seconds:.2} s\n{}", found.text("  ")),
    })?;
    if args.verbose {
        eprintln!("frame {number}: {}", show::times(detector.times()));
    }
    place.map_or(Ok(()), |place| found.save(place))
}

/// The folder for frames with boxes drawn, made.
fn folder(args: &DetectArgs) -> Outcome<Option<PathBuf>> {
    match args.output.as_deref() {
        Some(path) if is_picture(path) => {
            Err(Failure::Message(format!("{}: one file for a video, expected a folder", path.display())))
        }
        path => match Output::new(path, &[])? {
            Output::Folder(folder) => Ok(Some(folder)),
            _ => Ok(None),
        },
    }
}

/// Whether stdin goes on whether it is read or not: anything but a file.
#[cfg(unix)]
fn is_live() -> bool {
    use std::{fs::File, os::fd::AsFd};
    let metadata = io::stdin().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    !metadata.is_ok_and(|metadata| metadata.is_file())
}

/// Whether stdin goes on whether it is read or not.
#[cfg(not(unix))]
fn is_live() -> bool {
    true
}

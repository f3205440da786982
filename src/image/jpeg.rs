//! Where a JPEG ends: a walk along its markers and segments (ITU-T T.81, annex B).

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The JPEG ends before this position.
    At(usize),
    /// The bytes end first; the walk can go on when there are more.
    Missing,
    /// At this position is something that no JPEG has there.
    Damaged(usize),
}

/// A walk through one JPEG, which stops and goes on as its bytes arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    at: usize,
    state: State,
    /// Where the last segment that was skipped begins.
    segment: usize,
    /// Whether that segment is still to be searched for the start of another JPEG, which it cannot hold.
    unsearched: bool,
    past_header: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before FF D8.
    Start,
    /// Before a marker.
    Marker,
    /// Within entropy-coded data, where FF 00 stands for a byte FF.
    Entropy,
}

const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
/// The first of the segments that may hold a thumbnail, which is a JPEG; behind it come those of APP1 to APP15.
const JFIF: u8 = 0xE0;
const LAST_APP: u8 = 0xEF;
const COMMENT: u8 = 0xFE;
/// Of a JFIF segment without a thumbnail.
const JFIF_LENGTH: u16 = 16;
/// Of four components.
const LONGEST_SCAN_HEADER: u16 = 14;

impl Walk {
    /// A walk from the start-of-image marker at `start`.
    pub(super) fn new(start: usize) -> Self {
        Self { at: start, state: State::Start, segment: start, unsearched: false, past_header: false }
    }

    /// How far the walk has come; a segment that is skipped may end behind the bytes there are.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where to search for another JPEG when this one leads nowhere: within the last segment, whose length may lie.
    pub(super) fn doubtful(&self) -> usize {
        self.segment + 2
    }

    /// Goes on as far as `bytes` allow. They begin where they began in earlier calls, and there may be more of them.
    pub(super) fn go(&mut self, bytes: &[u8]) -> End {
        loop {
            if self.unsearched {
                // With its length and the marker behind it, which may be parts of the other start.
                let Some(segment) = bytes.get(self.segment + 2..self.at + 2) else { return End::Missing };
                if segment.windows(3).any(|bytes| bytes == [0xFF, START, 0xFF]) {
                    return End::Damaged(self.segment);
                }
                self.unsearched = false;
            }
            let rest = bytes.get(self.at..).unwrap_or_default();
            let step = match self.state {
                State::Start => self.start(rest),
                State::Marker => self.marker(rest),
                State::Entropy => self.entropy(rest),
            };
            if let Some(end) = step {
                return end;
            }
        }
    }

    fn start(&mut self, rest: &[u8]) -> Option<End> {
        match rest {
            [0xFF, START, ..] => {
                (self.at, self.state) = (self.at + 2, State::Marker);
                None
            }
            [] | [0xFF] => Some(End::Missing),
            _ => Some(End::Damaged(self.at)),
        }
    }

    fn marker(&mut self, rest: &[u8]) -> Option<End> {
        match rest {
            // Any number of FF may stand before a marker.
            [0xFF, 0xFF, ..] => self.at += 1,
            [0xFF, END, ..] if self.past_header => return Some(End::At(self.at + 2)),
            // TEM and restarts stand alone.
            [0xFF, 0x01 | 0xD0..=0xD7, ..] => self.at += 2,
            [0xFF, 0x00 | 0x02..=0xBF | START | END, ..] => return Some(End::Damaged(self.at)),
            [0xFF, code, high, low, ..] => {
                let length = u16::from_be_bytes([*high, *low]);
                if length < 2 || (*code == SCAN && length > LONGEST_SCAN_HEADER) {
                    return Some(End::Damaged(self.at));
                }
                let thumbnail = match *code {
                    JFIF => length > JFIF_LENGTH,
                    code => (JFIF..=LAST_APP).contains(&code) || code == COMMENT,
                };
                (self.segment, self.unsearched) = (self.at, !thumbnail);
                self.at += 2 + usize::from(length);
                if *code == SCAN {
                    (self.state, self.past_header) = (State::Entropy, true);
                }
            }
            [] | [0xFF, ..] => return Some(End::Missing),
            _ => return Some(End::Damaged(self.at)),
        }
        None
    }

    fn entropy(&mut self, rest: &[u8]) -> Option<End> {
        let Some(marker) = rest.iter().position(|&byte| byte == 0xFF) else {
            self.at += rest.len();
            return Some(End::Missing);
        };
        self.at += marker;
        match rest[marker..] {
            [_] => return Some(End::Missing),
            [_, 0x00 | 0xD0..=0xD7, ..] => self.at += 2,
            // The next scan of a progressive JPEG, its tables, or the end.
            _ => self.state = State::Marker,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two scans, a comment that holds the marker of an end, stuffed bytes, restarts and fill bytes.
    const INTRICATE: &[u8] = b"\xFF\xD8\xFF\xFE\x00\x06\xFF\xD9\xFF\xD8\xFF\xFF\xFF\xDA\x00\x03\x01\
        ab\xFF\x00\xFF\xD0c\xFF\xD7\xFF\xC4\x00\x04\xFF\xD9\xFF\xDA\x00\x02d\xFF\x00\xFF\xFF\xD9";

    fn walk(bytes: &[u8]) -> End {
        Walk::new(0).go(bytes)
    }

    #[test]
    fn ends_at_the_real_end() {
        assert_eq!(walk(INTRICATE), End::At(INTRICATE.len()));
        let more = [INTRICATE, b"\xFF\xD9more"].concat();
        assert_eq!(walk(&more), End::At(INTRICATE.len()));
    }

    #[test]
    fn every_beginning_is_unfinished_and_can_go_on() {
        for cut in 0..INTRICATE.len() {
            let mut walk = Walk::new(0);
            assert_eq!(walk.go(&INTRICATE[..cut]), End::Missing, "cut at {cut}");
            assert_eq!(walk.go(INTRICATE), End::At(INTRICATE.len()), "cut at {cut}");
        }
    }

    /// A table that was cut, and its length reaches into the next JPEG.
    #[test]
    fn no_table_holds_another_jpeg() {
        for inside in [&b"ab\xFF\xD8\xFFcd"[..], b"abcd\xFF\xD8\xFF", b"abcde\xFF\xD8\xFF\xE0"] {
            let table = [b"\xFF\xD8\xFF\xDB\x00\x09", inside].concat();
            assert_eq!(walk(&[&table, &INTRICATE[2..]].concat()), End::Damaged(2), "{inside:?}");
        }
        let thumbnail = [b"\xFF\xD8\xFF\xE1\x00\x09ab\xFF\xD8\xFFcd", &INTRICATE[2..]].concat();
        assert_eq!(walk(&thumbnail), End::At(thumbnail.len()));
    }

    #[test]
    fn damage_is_located() {
        assert_eq!(walk(b"\x89PNG"), End::Damaged(0));
        assert_eq!(walk(b"\xFF\xD8text"), End::Damaged(2));
        assert_eq!(walk(b"\xFF\xD8\xFF\xE0\x00\x01"), End::Damaged(2));
        assert_eq!(walk(b"\xFF\xD8\xFF\xD8"), End::Damaged(2));
        assert_eq!(walk(b"\xFF\xD8\xFF\xD9"), End::Damaged(2), "a JPEG has a scan");
        assert_eq!(walk(b"\xFF\xD8\xFF\xDA\x00\x02ab\xFF\xD8\xFF"), End::Damaged(8));
    }
}

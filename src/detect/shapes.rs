//! Heads of well-known exports, found in the shapes of the outputs.

use super::anchors::{Anchor, AnchorLevel, Anchors, Sizes};
use super::boxes::{Boxes, Form};
use super::distances::{DistanceLevel, Distances};
use super::finals::Final;
use super::grid::{Grid, GridLevel};
use super::head::{Head, cells};
use super::part::Part;
use super::scores::Scores;
use crate::nets::convnet::program::Shape;

/// The network's outputs by name and shape, and the input.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) outputs: &'a [(String, Shape)],
    pub(super) input: Shape,
}

/// The grids that detectors have, by the sides of their cells.
const PYRAMIDS: [&[usize]; 5] = [&[8, 16, 32], &[8, 16, 32, 64], &[16, 32], &[8, 16, 32, 64, 128], &[4, 8, 16, 32]];

/// The anchors of Yolo-FastestV2, trained on COCO with pictures of 352 × 352.
const FASTEST_ANCHORS: [[[f32; 2]; 3]; 2] =
    [[[12.64, 19.39], [37.88, 51.48], [55.71, 138.31]], [[126.91, 78.23], [131.57, 214.55], [279.92, 258.87]]];

/// The anchors of YOLOv5, trained on COCO with pictures of 640 × 640.
const YOLOV5_ANCHORS: [[[f32; 2]; 3]; 3] = [
    [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
    [[30.0, 61.0], [62.0, 45.0], [59.0, 119.0]],
    [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]],
];

/// The sides of the cells of some grids, and what belongs to each.
type Levels<T> = Vec<(usize, T)>;

impl<'a> Seen<'a> {
    fn cells(self, stride: usize) -> usize {
        cells(self.input, stride).len()
    }

    /// The grids that have this many places together, with `each` in a cell: strides, and the place where each begins.
    fn pyramid(self, places: usize, each: usize) -> Option<Levels<usize>> {
        let all =
            PYRAMIDS.iter().find(|strides| strides.iter().map(|s| each * self.cells(*s)).sum::<usize>() == places)?;
        let start = |i: usize| all[..i].iter().map(|s| each * self.cells(*s)).sum();
        Some(all.iter().enumerate().map(|(i, stride)| (*stride, start(i))).collect())
    }

    /// Each output: its part, places and channels. Those that are no maps but tables can be read both ways round.
    fn parts(self) -> impl Iterator<Item = (Part, usize, usize)> {
        self.outputs.iter().enumerate().flat_map(|(i, (_, shape))| {
            let turned = Part { transposed: true, ..Part::of(i) };
            let turned = (shape.h == 1).then_some((turned, shape.c, shape.pixels()));
            [(Part::of(i), shape.pixels(), shape.c)].into_iter().chain(turned)
        })
    }

    /// The outputs with this many places, and their channels.
    fn with_places(self, places: usize) -> Vec<(Part, usize)> {
        let fitting = self.parts().filter(|(_, has, _)| *has == places).map(|(part, _, channels)| (part, channels));
        let mut found: Vec<(Part, usize)> = Vec::new();
        // A square one fits both ways round.
        fitting.for_each(|now| {
            if found.iter().all(|(part, _)| part.output != now.0.output) {
                found.push(now)
            }
        });
        found
    }

    /// One output that holds all grids, at least `channels` wide: its part, its channels and the grids.
    fn whole(self, each: usize, channels: usize) -> Option<(Part, usize, Levels<usize>)> {
        self.parts()
            .filter(|(_, _, has)| *has >= channels)
            .find_map(|(part, places, has)| Some((part, has, self.pyramid(places, each)?)))
    }

    /// Outputs for each of the grids, if there are `each` for every one and no others.
    fn by_level(self, each: usize) -> Option<Levels<Vec<(Part, usize)>>> {
        PYRAMIDS.iter().filter(|strides| strides.len() * each == self.outputs.len()).find_map(|strides| {
            let levels = strides.iter().map(|&stride| (stride, self.with_places(self.cells(stride))));
            let levels: Vec<_> = levels.collect();
            levels.iter().all(|(_, parts)| parts.len() == each).then_some(levels)
        })
    }

    /// Whether an output's name has one of these words in it.
    fn called(self, part: Part, words: &[&str]) -> bool {
        let name = self.outputs[part.output].0.to_lowercase();
        words.iter().any(|word| name.contains(word))
    }
}

/// Cells of box, objectness and classes, in one output or in one for each grid.
pub(super) fn grid(seen: Seen) -> Option<Head> {
    let levels = match seen.whole(1, 6) {
        Some((part, _, levels)) if seen.outputs.len() == 1 => {
            levels.into_iter().map(|(stride, place)| GridLevel { cells: part.from_place(place), stride }).collect()
        }
        _ => {
            let levels = seen.by_level(1)?;
            let channels = levels[0].1[0].1;
            let same = levels.iter().all(|(_, parts)| parts[0].1 == channels);
            (same && channels >= 6).then_some(())?;
            levels.into_iter().map(|(stride, parts)| GridLevel { cells: parts[0].0, stride }).collect()
        }
    };
    Some(Head::Grid(Grid { levels, scores: Scores::Probability, every: false }))
}

/// NanoDet's heads: the original one, of up to three grids, measures from the middle of a cell; that of Plus, which added
/// the grid of 64 pixels, from its corner.
pub(super) fn nanodet(seen: Seen) -> Option<Head> {
    let plus = |levels: &[DistanceLevel]| levels.iter().any(|level| level.stride == 64);
    distances(seen, |levels| if plus(levels) { 0.0 } else { 0.5 })
}

/// PicoDet's heads, which measure from the middle of a cell.
pub(super) fn picodet(seen: Seen) -> Option<Head> {
    distances(seen, |_| 0.5)
}

/// Classes and four distributions for each cell, together or apart. The `centre` of the cells follows from their grids.
fn distances(seen: Seen, centre: impl Fn(&[DistanceLevel]) -> f32) -> Option<Head> {
    /// What these detectors have.
    const BINS: usize = 8;
    let whole = seen.whole(1, 4 * BINS + 1).filter(|_| seen.outputs.len() == 1);
    let (levels, bins): (Vec<_>, _) = match whole {
        Some((part, channels, levels)) => {
            let distances = part.from_channel(channels - 4 * BINS);
            let level = |(stride, place)| DistanceLevel {
                classes: part.from_place(place),
                distances: distances.from_place(place),
                stride,
            };
            (levels.into_iter().map(level).collect(), BINS)
        }
        None => {
            let levels = seen.by_level(2)?;
            // The distances usually come second.
            let [(_, a), (_, b)] = levels[0].1[..] else { return None };
            let second = b == 4 * BINS || a != 4 * BINS;
            let sides = if second { b } else { a };
            (sides >= 8 && sides.is_multiple_of(4)).then_some(())?;
            let (classes, distances) = if second { (0, 1) } else { (1, 0) };
            let same = |channels: usize, which: usize| levels.iter().all(|(_, parts)| parts[which].1 == channels);
            (same(a, 0) && same(b, 1)).then_some(())?;
            let level = |(stride, parts): (usize, Vec<(Part, usize)>)| DistanceLevel {
                classes: parts[classes].0,
                distances: parts[distances].0,
                stride,
            };
            (levels.into_iter().map(level).collect(), sides / 4)
        }
    };
    let centre = centre(&levels);
    Some(Head::Distances(Distances { levels, bins, centre, scores: Scores::Probability, every: true }))
}

/// Whether the outputs are called after classes and distributions.
pub(super) fn names_distances(seen: Seen) -> bool {
    seen.outputs.iter().enumerate().all(|(i, _)| seen.called(Part::of(i), &["cls", "dis"]))
}

/// Two grids of three anchors with common classes: apart and without sigmoid, or together and with all applied.
pub(super) fn common_classes(seen: Seen) -> Option<Head> {
    let (levels, scores): (Levels<[Part; 3]>, _) = if let Some(levels) = seen.by_level(3) {
        let parts = |(stride, parts): (usize, Vec<(Part, usize)>)| {
            let boxes = parts.iter().find(|(_, channels)| *channels == 12)?.0;
            let objectness = parts.iter().find(|(part, channels)| *channels == 3 && *part != boxes)?.0;
            let classes = parts.iter().find(|(part, _)| *part != boxes && *part != objectness)?.0;
            Some((stride, [boxes, objectness, classes]))
        };
        (levels.into_iter().map(parts).collect::<Option<_>>()?, Scores::Softmax)
    } else {
        let levels = seen.by_level(1).filter(|levels| levels.iter().all(|(_, parts)| parts[0].1 > 15))?;
        let parts = |(stride, parts): (usize, Vec<(Part, usize)>)| {
            let part = parts[0].0;
            (stride, [part, part.from_channel(12), part.from_channel(15)])
        };
        (levels.into_iter().map(parts).collect(), Scores::Probability)
    };
    levels.iter().map(|(stride, _)| *stride).eq([16, 32]).then_some(())?;
    let level = |((stride, [boxes, objectness, classes]), sizes): ((usize, [Part; 3]), [[f32; 2]; 3])| {
        let anchor = |(i, size): (usize, [f32; 2])| Anchor {
            size,
            boxes: boxes.from_channel(boxes.channel + 4 * i),
            objectness: objectness.from_channel(objectness.channel + i),
            classes,
        };
        AnchorLevel { stride, anchors: sizes.into_iter().enumerate().map(anchor).collect() }
    };
    let levels = levels.into_iter().zip(FASTEST_ANCHORS).map(level).collect();
    Some(Head::Anchors(Anchors { levels, sizes: Sizes::Square, scores, every: true }))
}

/// Decoded boxes with objectness, or the maps before their decoding.
pub(super) fn with_objectness(seen: Seen) -> Option<Head> {
    if let Some(head) = raw_anchors(seen) {
        return Some(head);
    }
    let decoded = seen.whole(3, 6).map(|(part, ..)| part);
    let only = || {
        seen.outputs
            .iter()
            .position(|(_, shape)| shape.c >= 6 && shape.pixels() > shape.c)
            .filter(|_| seen.outputs.len() == 1)
    };
    let boxes = decoded.or_else(|| only().map(Part::of))?;
    Some(Head::Boxes(Boxes {
        boxes,
        classes: boxes.from_channel(5),
        objectness: Some(boxes.from_channel(4)),
        form: Form::Centre,
        normalised: false,
        background: None,
        scores: Scores::Probability,
        every: false,
    }))
}

/// Three grids of three anchors, each with classes of its own, without sigmoid.
fn raw_anchors(seen: Seen) -> Option<Head> {
    (seen.outputs.len() == 3).then_some(())?;
    let level = |(stride, sizes): (usize, [[f32; 2]; 3])| {
        let cells = seen.cells(stride);
        // Side by side in the channels, or one after the other in the places.
        let wide = seen.with_places(cells).into_iter().find(|(_, channels)| channels % 3 == 0 && *channels >= 18);
        let long = || seen.with_places(3 * cells).into_iter().find(|(_, channels)| *channels >= 6);
        let at = |i: usize| {
            let from = |(part, channels): (Part, usize)| part.from_channel(i * channels / 3);
            wide.map(from).or_else(|| long().map(|(part, _)| part.from_place(i * cells)))
        };
        let anchor = |(i, size): (usize, [f32; 2])| {
            let part = at(i)?;
            let (objectness, classes) = (part.from_channel(part.channel + 4), part.from_channel(part.channel + 5));
            Some(Anchor { size, boxes: part, objectness, classes })
        };
        let anchors = sizes.into_iter().enumerate().map(anchor).collect::<Option<_>>()?;
        Some(AnchorLevel { stride, anchors })
    };
    let levels = [8, 16, 32].into_iter().zip(YOLOV5_ANCHORS).map(level).collect::<Option<_>>()?;
    Some(Head::Anchors(Anchors { levels, sizes: Sizes::Square, scores: Scores::Sigmoid, every: false }))
}

/// Decoded boxes and classes in one output.
pub(super) fn without_objectness(seen: Seen) -> Option<Head> {
    (seen.outputs.len() == 1).then_some(())?;
    let boxes = match seen.whole(1, 5) {
        Some((part, ..)) => part,
        // Of unknown grids there are more places than channels.
        None => seen.parts().filter(|(_, places, channels)| *channels >= 5 && places > channels).map(|p| p.0).next()?,
    };
    Some(Head::Boxes(Boxes {
        boxes,
        classes: boxes.from_channel(4),
        objectness: None,
        form: Form::Centre,
        normalised: false,
        background: None,
        scores: Scores::Probability,
        every: false,
    }))
}

/// Decoded boxes in one output and scores in another: as fractions with a background, or as pixels without.
pub(super) fn apart(seen: Seen, fractions: bool) -> Option<Head> {
    (seen.outputs.len() == 2).then_some(())?;
    let least = if fractions { 2 } else { 1 };
    let boxes = seen.parts().filter(|(_, _, channels)| *channels == 4);
    let pairs = boxes.flat_map(|(boxes, places, _)| {
        let others = seen.with_places(places).into_iter();
        others.filter(move |(part, _)| part.output != boxes.output).map(move |other| (boxes, other))
    });
    let mut fitting: Vec<_> = pairs.filter(|(_, (_, channels))| *channels >= least).collect();
    // Where the scores are of four classes too, the names decide.
    fitting.sort_by_key(|(boxes, _)| !seen.called(*boxes, &["box", "loc"]));
    let (boxes, (classes, _)) = *fitting.first()?;
    Some(Head::Boxes(Boxes {
        boxes,
        classes,
        objectness: None,
        form: Form::Corners,
        normalised: fractions,
        background: fractions.then_some(0),
        scores: Scores::Probability,
        every: true,
    }))
}

/// Whether the places of two outputs are those of UltraFace: three, two, two and three boxes in the cells of four grids.
pub(super) fn has_ultraface_places(seen: Seen) -> bool {
    let places: usize =
        [(8, 3), (16, 2), (32, 2), (64, 3)].map(|(stride, each)| each * seen.cells(stride)).iter().sum();
    seen.with_places(places).len() == 2 && seen.outputs.len() == 2
}

/// Objects after the graph's own NMS.
pub(super) fn listed(seen: Seen) -> Option<Head> {
    let at = |boxes, scores, labels| {
        Some(Head::Final(Final { boxes, scores, labels, first: 0, form: Form::Corners, normalised: false }))
    };
    if let [(_, shape)] = seen.outputs {
        let row = Part::of(0);
        return match shape.c {
            6 => at(row, row.from_channel(4), row.from_channel(5)),
            // The first number is that of the picture in its batch.
            7 => at(row.from_channel(1), row.from_channel(6), row.from_channel(5)),
            _ => None,
        };
    }
    let (boxes, rows, _) = seen.parts().find(|(_, _, channels)| *channels == 4)?;
    let single = seen.with_places(rows).into_iter().filter(|(_, channels)| *channels == 1).map(|(part, _)| part);
    let single: Vec<Part> = single.filter(|part| part.output != boxes.output).collect();
    let [a, b] = single[..] else { return None };
    let labels_first = seen.called(a, &["label", "class"]) || seen.called(b, &["score", "conf"]);
    if labels_first { at(boxes, b, a) } else { at(boxes, a, b) }
}

/// How many places of one output belong to each cell of its grids, if it has that many.
pub(super) fn places_in_cell(seen: Seen) -> Option<usize> {
    [1, 3].into_iter().find(|each| seen.whole(*each, 5).is_some())
}

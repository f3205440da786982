//! What is known of well-known detectors: pictures, thresholds and heads. Converters put it into the file, so that the
//! runtime need not know any of it.

use super::coco::COCO;
use super::head::Head;
use super::shapes::{self, Seen};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::image::{Fit, Geometry};
use crate::nets::convnet::program::Shape;

/// The most objects of a picture, unless a file says otherwise: the limit of COCO's evaluation.
const MAX: usize = 100;

/// A well-known kind of detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name, for `--head`.
    pub name: &'static str,
    /// What its outputs are, in a few words.
    pub about: &'static str,
    /// How pictures are brought to the input's size.
    pub fit: Fit,
    /// Whether the network sees blue, green, red.
    pub bgr: bool,
    /// Subtracted from each channel, in the order in which the network sees them.
    pub mean: [f32; 3],
    /// Divides the difference.
    pub std: [f32; 3],
    /// The least score of an object.
    pub confidence: f32,
    /// By how much boxes of a class may overlap.
    pub iou: f32,
}

const LETTERBOX: Fit = Fit::Letterbox { centre: true };
const TOP_LEFT: Fit = Fit::Letterbox { centre: false };
const ZERO: [f32; 3] = [0.0; 3];
const BYTE: [f32; 3] = [255.0; 3];
/// Mean and deviation of ImageNet's red, green and blue.
const IMAGENET: ([f32; 3], [f32; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
/// The same for blue, green and red.
const IMAGENET_BGR: ([f32; 3], [f32; 3]) = ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]);

/// All presets.
#[rustfmt::skip]
pub const PRESETS: [Preset; 9] = [
    Preset { name: "yolox", about: "box, objectness and classes of each cell, relative to it",
             fit: TOP_LEFT, bgr: true, mean: ZERO, std: [1.0; 3], confidence: 0.3, iou: 0.45 },
    Preset { name: "nanodet",
             about: "classes and distance distributions of each cell, from its middle, or in Plus from its corner",
             fit: Fit::Stretch, bgr: true, mean: IMAGENET_BGR.0, std: IMAGENET_BGR.1, confidence: 0.3, iou: 0.6 },
    Preset { name: "picodet", about: "classes and distance distributions of each cell, from its middle",
             fit: Fit::Stretch, bgr: false, mean: IMAGENET.0, std: IMAGENET.1, confidence: 0.3, iou: 0.6 },
    Preset { name: "yolov5", about: "centre, size, objectness and classes of each anchor",
             fit: LETTERBOX, bgr: false, mean: ZERO, std: BYTE, confidence: 0.25, iou: 0.45 },
    Preset { name: "yolov8", about: "centre, size and classes of each cell",
             fit: LETTERBOX, bgr: false, mean: ZERO, std: BYTE, confidence: 0.25, iou: 0.7 },
    Preset { name: "fastestv2", about: "boxes and objectness of three anchors, with common classes, in two grids",
             fit: Fit::Stretch, bgr: true, mean: ZERO, std: BYTE, confidence: 0.3, iou: 0.4 },
    Preset { name: "ssd", about: "corners as fractions, and classes of which the first is the background",
             fit: Fit::Stretch, bgr: false, mean: [127.0; 3], std: [128.0; 3], confidence: 0.7, iou: 0.3 },
    Preset { name: "boxes", about: "corners in pixels, and classes without a background",
             fit: Fit::Stretch, bgr: false, mean: ZERO, std: BYTE, confidence: 0.3, iou: 0.5 },
    Preset { name: "final", about: "corners in pixels, score and class of each object, after NMS",
             fit: LETTERBOX, bgr: false, mean: ZERO, std: BYTE, confidence: 0.25, iou: 0.5 },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// `Input`, with the names that there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            Error::input(format!("there is no head called '{name}', expected one of {}", names.join(", ")))
        })
    }

    /// The head for these outputs.
    ///
    /// # Errors
    /// `Input` if the outputs are not those of such a detector.
    pub fn head(&self, outputs: &[(String, Shape)], input: Shape) -> Result<Head> {
        self.find(Seen { outputs, input }).ok_or_else(|| {
            let (name, about, outputs) = (self.name, self.about, listed(outputs));
            Error::input(format!("the head {name} ({about}) does not fit the outputs {outputs} of an input of {input}"))
        })
    }

    fn find(&self, seen: Seen) -> Option<Head> {
        match self.name {
            "yolox" => shapes::grid(seen),
            "nanodet" => shapes::nanodet(seen),
            "picodet" => shapes::picodet(seen),
            "yolov5" => shapes::with_objectness(seen),
            "yolov8" => shapes::without_objectness(seen),
            "fastestv2" => shapes::common_classes(seen),
            "ssd" => shapes::apart(seen, true),
            "boxes" => shapes::apart(seen, false),
            "final" => shapes::listed(seen),
            _ => None,
        }
    }

    /// What the network is shown.
    fn geometry(&self, head: &Head, input: Shape) -> Geometry {
        let Self { fit, bgr, mean, std, .. } = *self;
        let plain = Geometry { width: input.w, height: input.h, fit, fill: 114, bgr, mean, std };
        match head {
            // Pictures were not stretched before Plus, but set into black.
            Head::Distances(head) if self.name == "nanodet" && head.centre > 0.0 => {
                Geometry { fit: LETTERBOX, fill: 0, ..plain }
            }
            _ => plain,
        }
    }

    /// Everything a detector's file says, but for its network. Without `classes` they are COCO's if there are as many,
    /// else numbered.
    pub fn spec(&self, head: Head, outputs: &[(String, Shape)], input: Shape, classes: Option<Vec<String>>) -> Spec {
        let shapes: Vec<Shape> = outputs.iter().map(|(_, shape)| *shape).collect();
        let count = head.classes(&shapes).unwrap_or(COCO.len());
        let classes = classes.unwrap_or_else(|| class_names(count));
        let Self { confidence, iou, .. } = *self;
        Spec { geometry: self.geometry(&head, input), head, classes, confidence, iou, max: MAX }
    }
}

/// The names of COCO's classes if there are as many, else numbers.
pub fn class_names(count: usize) -> Vec<String> {
    match count {
        80 => COCO.map(String::from).to_vec(),
        _ => (0..count).map(|class| format!("class {class}")).collect(),
    }
}

/// The preset and the head that belong to outputs of these names and shapes, where those leave no doubt.
///
/// # Errors
/// `Input`, with a list of the heads that fit, if there is doubt.
pub fn guess(outputs: &[(String, Shape)], input: Shape) -> Result<(&'static Preset, Head)> {
    let seen = Seen { outputs, input };
    let fitting: Vec<_> = PRESETS.iter().filter_map(|preset| Some((preset, preset.find(seen)?))).collect();
    if let Some(name) = sure(seen, &fitting) {
        return fitting.into_iter().find(|(preset, _)| preset.name == name).ok_or_else(|| unsure(outputs, &[]));
    }
    Err(unsure(outputs, &fitting))
}

/// Which of the fitting heads it is, if there is no doubt.
fn sure(seen: Seen, fitting: &[(&Preset, Head)]) -> Option<&'static str> {
    let fits = |name: &str| fitting.iter().find(|(preset, _)| preset.name == name).map(|(_, head)| head);
    let shapes: Vec<Shape> = seen.outputs.iter().map(|(_, shape)| *shape).collect();
    let classes = |name: &str| fits(name)?.classes(&shapes);
    let single = seen.outputs.len() == 1;
    if fits("fastestv2").is_some() && (seen.outputs.len() == 6 || classes("fastestv2") == Some(80)) {
        return Some("fastestv2");
    }
    if fits("nanodet").is_some() && !single {
        return shapes::names_distances(seen).then_some("nanodet");
    }
    if fits("ssd").is_some() && shapes::has_ultraface_places(seen) {
        return Some("ssd");
    }
    if !single {
        return None;
    }
    // One place for each cell: with objectness, distributions, or neither; 80 classes tell them apart.
    let coco = ["yolox", "yolov8", "nanodet"].into_iter().find(|name| classes(name) == Some(80));
    let turned = matches!(fits("yolov8"), Some(Head::Boxes(head)) if head.boxes.transposed);
    match shapes::places_in_cell(seen)? {
        1 if turned => Some("yolov8"),
        1 => coco,
        3 => Some("yolov5"),
        _ => None,
    }
}

fn unsure(outputs: &[(String, Shape)], fitting: &[(&Preset, Head)]) -> Error {
    let outputs = listed(outputs);
    if fitting.is_empty() {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let names = names.join(", ");
        return Error::input(format!("the outputs {outputs} fit none of the heads that are known: {names}"));
    }
    let fitting: Vec<_> = fitting.iter().map(|(preset, _)| format!("{} ({})", preset.name, preset.about)).collect();
    let fitting = fitting.join("; ");
    Error::input(format!("the outputs {outputs} do not say for sure which head they are: --head may be {fitting}"))
}

/// Outputs for messages.
fn listed(outputs: &[(String, Shape)]) -> String {
    const SHOWN: usize = 12;
    let mut list: Vec<_> = outputs.iter().take(SHOWN).map(|(name, shape)| format!("`{name}` {shape}")).collect();
    if outputs.len() > SHOWN {
        list.push(format!("and {} more", outputs.len() - SHOWN));
    }
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(list: &[(&str, [usize; 3])]) -> Vec<(String, Shape)> {
        list.iter().map(|(name, shape)| ((*name).into(), Shape::from(*shape))).collect()
    }

    fn guessed(side: usize, list: &[(&str, [usize; 3])]) -> Result<(&'static str, Option<usize>)> {
        let (outputs, input) = (shapes(list), Shape::new(side, side, 3));
        let (preset, head) = guess(&outputs, input)?;
        let shapes: Vec<Shape> = outputs.iter().map(|(_, shape)| *shape).collect();
        let classes = head.classes(&shapes);
        head.check(&shapes, input, classes.unwrap_or(80)).unwrap();
        Ok((preset.name, classes))
    }

    #[test]
    fn heads_follow_from_shapes() {
        let nanodet = [
            ("cls8", [52, 52, 80]),
            ("cls16", [26, 26, 80]),
            ("cls32", [13, 13, 80]),
            ("cls64", [7, 7, 80]),
            ("dis64", [7, 7, 32]),
            ("dis32", [13, 13, 32]),
            ("dis16", [26, 26, 32]),
            ("dis8", [52, 52, 32]),
        ];
        assert_eq!(guessed(416, &nanodet).unwrap(), ("nanodet", Some(80)));
        assert_eq!(guessed(416, &[("output", [1, 3598, 112])]).unwrap(), ("nanodet", Some(80)));
        assert_eq!(guessed(416, &[("output", [1, 3549, 85])]).unwrap(), ("yolox", Some(80)));
        let fastest = [
            ("753", [22, 22, 12]),
            ("754", [22, 22, 3]),
            ("755", [22, 22, 80]),
            ("756", [11, 11, 12]),
            ("757", [11, 11, 3]),
            ("758", [11, 11, 80]),
        ];
        assert_eq!(guessed(352, &fastest).unwrap(), ("fastestv2", Some(80)));
        assert_eq!(guessed(640, &[("output0", [1, 25200, 85])]).unwrap(), ("yolov5", Some(80)));
        assert_eq!(guessed(640, &[("output0", [1, 25200, 6])]).unwrap(), ("yolov5", Some(1)));
        assert_eq!(guessed(640, &[("output0", [1, 84, 8400])]).unwrap(), ("yolov8", Some(80)));
        assert_eq!(guessed(640, &[("output0", [1, 8400, 84])]).unwrap(), ("yolov8", Some(80)));
        assert_eq!(guessed(640, &[("output0", [1, 7, 8400])]).unwrap(), ("yolov8", Some(3)));
    }

    #[test]
    fn nanodet_measures_from_the_middle_before_plus() {
        let apart = [
            ("cls_pred_stride_8", [40, 40, 80]),
            ("cls_pred_stride_16", [20, 20, 80]),
            ("cls_pred_stride_32", [10, 10, 80]),
            ("dis_pred_stride_8", [40, 40, 32]),
            ("dis_pred_stride_16", [20, 20, 32]),
            ("dis_pred_stride_32", [10, 10, 32]),
        ];
        let tables = apart.map(|(name, [h, w, c])| (name, [1, h * w, c]));
        for (outputs, centre, fit) in [
            (&apart[..], 0.5, LETTERBOX),
            (&tables, 0.5, LETTERBOX),
            (&[("output", [1, 2100, 112])], 0.5, LETTERBOX),
            (&[("output", [1, 2125, 112])], 0.0, Fit::Stretch),
        ] {
            let (outputs, input) = (shapes(outputs), Shape::new(320, 320, 3));
            let (preset, head) = guess(&outputs, input).unwrap();
            let Head::Distances(distances) = &head else { panic!("{head:?}") };
            assert_eq!((preset.name, distances.centre), ("nanodet", centre));
            assert_eq!(preset.spec(head, &outputs, input, None).geometry.fit, fit);
            let Head::Distances(pico) = Preset::named("picodet").unwrap().head(&outputs, input).unwrap() else {
                panic!()
            };
            assert_eq!(pico.centre, 0.5);
        }
    }

    #[test]
    fn faces_are_found_in_fractions() {
        let outputs = shapes(&[("scores", [1, 4420, 2]), ("boxes", [1, 4420, 4])]);
        let (preset, head) = guess(&outputs, Shape::new(240, 320, 3)).unwrap();
        let Head::Boxes(boxes) = &head else { panic!("{head:?}") };
        assert_eq!((preset.name, boxes.boxes.output, boxes.background), ("ssd", 1, Some(0)));
        assert_eq!(head.classes(&[outputs[0].1, outputs[1].1]), Some(1));
    }

    #[test]
    fn doubt_is_an_error_that_lists_the_choices() {
        for (side, outputs, choices) in [
            (
                640,
                &[("out", [1, 8400, 25])][..],
                "yolox (box, objectness and classes of each cell, relative to it); yolov",
            ),
            (
                416,
                &[
                    ("a", [52, 52, 80]),
                    ("b", [26, 26, 80]),
                    ("c", [13, 13, 80]),
                    ("d", [52, 52, 32]),
                    ("e", [26, 26, 32]),
                    ("f", [13, 13, 32]),
                ],
                "--head may be nanodet (",
            ),
            (
                300,
                &[("boxes", [1, 3000, 4]), ("scores", [1, 3000, 21])],
                "ssd (corners as fractions, and classes of which \
                    the first is the background); boxes",
            ),
            (640, &[("out", [1, 300, 6])], "final (corners"),
            (640, &[("a", [80, 80, 255]), ("b", [40, 40, 255]), ("c", [20, 20, 255])], "yolov5 ("),
        ] {
            let message = guessed(side, outputs).unwrap_err().to_string();
            assert!(message.contains(choices), "{message}");
        }
        let message = guessed(640, &[("logits", [1, 1, 1000])]).unwrap_err().to_string();
        assert_eq!(
            message,
            "the outputs `logits` 1x1x1000 fit none of the heads that are known: yolox, nanodet, picodet, yolov5, yolov8, \
             fastestv2, ssd, boxes, final"
        );
    }

    #[test]
    fn maps_are_not_read_the_other_way_round() {
        // Five channels, and five cells in the grids of such a picture.
        let outputs = shapes(&[("conv", [8, 6, 5])]);
        assert!(guess(&outputs, Shape::new(10, 8, 3)).unwrap_err().to_string().contains("for sure"));
    }

    #[test]
    fn names_choose_heads() {
        let input = Shape::new(640, 640, 3);
        let raw = shapes(&[("a", [80, 80, 255]), ("b", [40, 40, 255]), ("c", [20, 20, 255])]);
        let head = Preset::named("yolov5").unwrap().head(&raw, input).unwrap();
        let all: Vec<Shape> = raw.iter().map(|(_, shape)| *shape).collect();
        assert_eq!(head.classes(&all), Some(80));
        head.check(&all, input, 80).unwrap();
        let long = shapes(&[("a", [1, 19200, 85]), ("b", [1, 4800, 85]), ("c", [1, 1200, 85])]);
        let head = Preset::named("yolov5").unwrap().head(&long, input).unwrap();
        let all: Vec<Shape> = long.iter().map(|(_, shape)| *shape).collect();
        head.check(&all, input, 80).unwrap();
        let listed = shapes(&[("boxes", [1, 100, 4]), ("labels", [1, 1, 100]), ("scores", [1, 1, 100])]);
        let Head::Final(list) = Preset::named("final").unwrap().head(&listed, input).unwrap() else { panic!() };
        assert_eq!((list.boxes.output, list.scores.output, list.labels.output), (0, 2, 1));
        let message = Preset::named("yolov9").unwrap_err().to_string();
        assert!(message.starts_with("there is no head called 'yolov9', expected one of yolox, nanodet"));
        let message = Preset::named("ssd").unwrap().head(&raw, input).unwrap_err().to_string();
        assert!(message.contains("does not fit the outputs `a` 80x80x255, "), "{message}");
    }
}

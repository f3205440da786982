//! ONNX graphs against ONNX Runtime and tract. `vectors/graphs.bin` was made by `vectors/graphs.py`; the real models and
//! photos are read from `../shared`, and skipped if that is missing. What is to be found in them is in
//! `vectors/shared_detectors.json`, made by `vectors/shared_detectors.py`.
#![cfg(feature = "onnx")]

#[path = "vectors/graphs.rs"]
mod graphs;

use graphs::{Case, blocks, case, cases, floats};
use pupil::{
    Detection, Detector, ErrorKind, Picture,
    bytes::Bytes,
    detect::boxes::Form,
    gguf::{Gguf, Writer},
    nets::convnet::{ConvNet, Session, program::Activation, program::Op},
    onnx::{ConvertOptions, Converted, Engine, Graph, Lowered, Runner, Suppression, convert, lower, read_file},
};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

fn session(lowered: &Lowered, threads: usize) -> Session {
    let mut writer = Writer::new();
    lowered.draft.write(&mut writer);
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    let file = Gguf::from_bytes(Bytes::from(&bytes[..]), "lowered").unwrap();
    Session::new(Arc::new(ConvNet::load(&file).unwrap()), threads).unwrap()
}

/// Numbers from -1 to 1.
fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A picture with the channels of a pixel side by side.
fn picture(graph: &Graph, values: &[f32]) -> Vec<f32> {
    let (input, channels) = (graph.input(), graph.input().channels);
    if input.channels_last {
        return values.to_vec();
    }
    let pixels = input.height * input.width;
    (0..values.len()).map(|i| values[i % channels * pixels + i / channels]).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |max: f32, x| if max.is_nan() || x <= max { max } else { x })
}

#[test]
fn every_operation_is_lowered_and_gives_what_onnx_runtime_and_tract_give() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for Case { name, graph, outputs } in cases().into_iter().filter(|case| !case.name.starts_with('!')) {
        let graph = Graph::read(&graph, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lowered = match lower(&graph) {
            Ok(lowered) => lowered,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        let mut session = session(&lowered, 2);
        let picture = picture(&graph, &noise(session.input().len()));
        session.input().copy_from_slice(&picture);
        session.run();
        let tract = Runner::new(graph, Some(lowered.outputs.clone())).unwrap().run(&picture);
        let tract = tract.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(lowered.outputs.len(), outputs.len(), "{name}");
        for (i, output) in lowered.outputs.iter().enumerate() {
            let ort = difference(session.output(i), &output.to_program(&outputs[i]));
            let oracle = difference(session.output(i), &tract[i]);
            if ort.is_nan() || ort > 1e-4 || oracle > 1e-4 {
                wrong.push(format!("{name}: output {i} is off by {ort:e}, and from tract by {oracle:e}"));
            }
        }
        checked += 1;
    }
    println!("{checked} graphs");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever the operations, all memory is there before the second frame.
#[test]
fn frames_allocate_nothing() {
    for Case { name, graph, .. } in cases().into_iter().filter(|case| !case.name.starts_with('!')) {
        let mut session = session(&lower(&Graph::read(&graph, None).unwrap()).unwrap(), 1);
        session.run();
        assert_eq!(allocation_counter::measure(|| session.run()).count_total, 0, "{name}");
    }
}

#[test]
fn what_is_written_as_several_operations_becomes_one() {
    let ops = |name: &str| {
        let graph = Graph::read(&case(name).graph, None).unwrap();
        lower(&graph).unwrap().draft.program.ops().to_vec()
    };
    let then = |name: &str| match &ops(name)[..] {
        [Op::Conv { then, .. }] => *then,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(then("act_silu"), Activation::Silu);
    assert_eq!(then("batch_norm"), Activation::Relu);
    assert_eq!(then("act_clip"), Activation::Clip(0.0, 6.0));
    assert_eq!(then("conv_after_pad"), Activation::None);
    for form in ["hardswish_mul_div", "hardswish_div_mul", "hardswish_hard_sigmoid", "act_hardswish"] {
        assert_eq!(then(form), Activation::HardSwish, "{form}");
    }
    assert!(matches!(ops("shuffle")[..], [Op::Conv { .. }, Op::Shuffle { groups: 2, .. }, Op::Conv { .. }]));
    assert!(!ops("shuffle_gather").iter().any(|op| matches!(op, Op::Transpose { .. } | Op::Shuffle { .. })));
    assert!(!ops("yolov8_head").iter().any(|op| matches!(op, Op::Transpose { .. })));
}

#[test]
fn heads_see_places_and_channels() {
    let shape = |name: &str, i: usize| {
        let lowered = lower(&Graph::read(&case(name).graph, None).unwrap()).unwrap();
        (lowered.outputs[i].shape.to_string(), lowered.outputs[i].order.clone())
    };
    assert_eq!(shape("conv", 0), ("8x6x5".into(), vec![0, 2, 3, 1]));
    assert_eq!(shape("yolov8_head", 0), ("1x60x9".into(), vec![0, 2, 1]));
    assert_eq!(shape("yolox_head", 0), ("1x60x10".into(), vec![0, 1, 2]));
    assert_eq!(shape("nms", 0), ("1x48x4".into(), vec![0, 1, 2]));
    assert_eq!(shape("nms", 1), ("1x48x5".into(), vec![0, 2, 1]));
}

#[test]
fn what_cannot_be_lowered_says_why() {
    let refused = |name: &str| lower(&Graph::read(&case(name).graph, None).unwrap()).unwrap_err().to_string();
    let gelu = refused("!gelu");
    assert!(gelu.contains("node `Erf") && gelu.contains("(Erf)"), "{gelu}");
    let cubic = refused("!cubic");
    assert!(cubic.contains("node `Resize") && cubic.contains("cubic"), "{cubic}");
}

#[test]
fn what_takes_no_single_picture_in_f32_is_refused() {
    for (name, expected) in [
        ("!!bytes", "the input `x` is uint8, expected float32"),
        ("!!two_inputs", r#"the graph has the inputs ["x", "y"], expected one picture"#),
        ("!!batch", "the input `x` is 2x3x8x6, expected a batch of 1"),
    ] {
        let refused = Graph::read(&case(name).graph, None).err().unwrap();
        assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Unsupported, expected));
    }
}

/// Sizes that are computed count as well as those that are written down.
#[test]
fn small_files_that_ask_for_much_memory_are_refused() {
    for (name, expected) in [
        ("!!sum", "(Add) makes 100000x100000 elements, expected at most 67108864"),
        ("!!filled", "(ConstantOfShape) makes 100000x100000 elements"),
        ("!!tiled", "(Tile) makes 100000x100000 elements"),
        ("!!expanded", "makes 100000x100000 elements"),
        ("!!joined", "(ConstantOfShape) makes 100000x100000 elements"),
        ("!!from_input", "(ConstantOfShape) makes 100x300x800x600 elements"),
        ("!!range", "(Range) makes "),
        ("!!map", "(Tile) makes 1000x3000x8000x6000 elements, expected at most 268435456"),
    ] {
        let refused = Graph::read(&case(name).graph, None).err().unwrap().to_string();
        assert!(refused.contains(expected), "{name}: {refused}");
    }
}

#[test]
fn open_sizes_are_asked_for() {
    let bytes = case("!dynamic_size").graph;
    let error = Graph::read(&bytes, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("--size"), "{error}");
    let graph = Graph::read(&bytes, Some([16, 24])).unwrap();
    assert_eq!((graph.input().height, graph.input().width), (16, 24));
    lower(&graph).unwrap();
    let fixed = Graph::read(&case("conv").graph, Some([16, 24])).err().unwrap();
    assert!(fixed.to_string().contains("no other size"), "{fixed}");
}

/// Files that are damaged give a line, whatever the damage is.
#[test]
fn damaged_files_are_refused_or_work() {
    for name in ["conv", "shuffle_gather", "ssd_head", "resize_to_size", "nms", "!!sum", "!!tiled"] {
        let graph = case(name).graph;
        for len in (0..graph.len()).step_by(graph.len() / 25 + 1) {
            let _ = attempt(&graph[..len]);
        }
        let mut random = 0x9e37_79b9_u32;
        for _ in 0..60 {
            let mut damaged = graph.clone();
            for _ in 0..4 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 8) as usize % damaged.len();
                damaged[at] ^= 1 << (random & 7);
            }
            let _ = attempt(&damaged);
        }
    }
    assert!(attempt(b"").is_err_and(|e| e.contains("not an ONNX file")));
    assert!(attempt(b"GGUF, not that").is_err_and(|e| e.contains("not an ONNX file")));
}

/// Everything short of running what came out; an error has one line.
fn attempt(bytes: &[u8]) -> Result<(), String> {
    let outcome =
        Graph::read(bytes, Some([8, 6])).or_else(|_| Graph::read(bytes, None)).and_then(|graph| lower(&graph));
    outcome.map(drop).map_err(|e| {
        let line = e.to_string();
        assert!(!line.contains('\n') && line.chars().count() < 600, "{line}");
        line
    })
}

#[test]
fn a_detector_is_converted_in_memory() {
    let classes = Some(["a", "b", "c", "d", "e"].map(String::from).to_vec());
    let options = ConvertOptions { head: Some("boxes".into()), classes, half: true, ..Default::default() };
    let converted = convert(&case("nms").graph, "nms.onnx", &options).unwrap();
    assert_eq!((converted.cut, form(&converted)), (Some(Suppression { centres: false }), Some(Form::Corners)));
    let bytes = converted.to_bytes().unwrap();
    Detector::from_bytes(Bytes::from(&bytes[..]), "nms").unwrap();
}

fn form(converted: &Converted) -> Option<Form> {
    converted.spec.head.form()
}

/// Suppression says whether boxes are centres and sizes; in which order their corners come, only its user knows.
#[test]
fn boxes_are_what_the_graph_or_its_user_says() {
    let options = |boxes| ConvertOptions { head: Some("boxes".into()), boxes, ..Default::default() };
    let made = |name: &str, boxes| form(&convert(&case(name).graph, name, &options(boxes)).unwrap());
    assert_eq!(made("nms_centres", None), Some(Form::Centre));
    assert_eq!(made("nms_centres", Some(Form::Corners)), Some(Form::Corners));
    assert_eq!(made("nms", None), Some(Form::Corners));
    assert_eq!(made("nms", Some(Form::CornersYx)), Some(Form::CornersYx));
}

/// A graph that cannot be lowered is a detector all the same.
#[test]
fn a_graph_for_tract_is_a_detector_too() {
    let options = ConvertOptions { head: Some("boxes".into()), ..Default::default() };
    let converted = convert(&case("!boxes").graph, "boxes.onnx", &options).unwrap();
    assert!(matches!(&converted.engine, Engine::Graph { why, .. } if why.contains("Erf")));
    let bytes = converted.to_bytes().unwrap();
    let mut detector = Detector::from_bytes(Bytes::from(&bytes[..]), "boxes").unwrap();
    let runner = Runner::load(&Gguf::from_bytes(Bytes::from(&bytes[..]), "boxes").unwrap()).unwrap();
    assert_eq!(runner.outputs()[0].shape.to_string(), "1x48x4");
    let picture = Picture::from_rgb(6, 8, vec![100; 6 * 8 * 3]).unwrap();
    detector.detect(&picture).unwrap();
}

fn shared(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/onnx").join(name);
    if path.exists() {
        return Some(read_file(&path).unwrap());
    }
    println!("skipped: {} not found", path.display());
    None
}

/// On noise, and on a photo as the detector sees it.
#[test]
fn real_detectors_are_lowered_and_agree_with_tract() {
    let models = ["yolofastestv2", "ultraface_rfb320", "yolox_nano", "nanodet_plus_m_416", "nanodet_plus_m_1.5x_416"];
    let photo = photo();
    for model in models {
        let Some(bytes) = shared(&format!("{model}.onnx")) else { continue };
        let graph = Graph::read(&bytes, None).unwrap();
        let lowered = lower(&graph).unwrap();
        let mut session = session(&lowered, 2);
        let mut pictures = vec![noise(session.input().len())];
        if let Some(photo) = &photo {
            let mut input = vec![0.0; session.input().len()];
            convert(&bytes, model, &ConvertOptions::default()).unwrap().spec.geometry.place(photo, &mut input);
            pictures.push(input);
        }
        let tract = Runner::new(graph, Some(lowered.outputs.clone())).unwrap();
        for picture in pictures {
            session.input().copy_from_slice(&picture);
            session.run();
            let expected = tract.run(&picture).unwrap();
            let worst = (0..expected.len()).map(|i| difference(session.output(i), &expected[i])).fold(0.0, f32::max);
            println!("{model}: {} operations, off by {worst:e}", lowered.draft.program.ops().len());
            assert!(worst < 1e-3, "{model}: {worst}");
        }
    }
}

/// A real photo, if there is one.
fn photo() -> Option<Picture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/detect/vehicles_openimages/val/images");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} not found", folder.display());
        return None;
    };
    let first = files.map(|file| file.unwrap().path()).min();
    Some(Picture::open(first.unwrap()).unwrap())
}

/// A detector of `../shared/models/onnx`, and what ONNX Runtime finds with it.
#[derive(Deserialize)]
struct Oracle {
    model: String,
    photos: Vec<Seen>,
}

/// A photo in `../shared`; the part that is looked at, as left, top, width and height; and the objects in it, as class,
/// score and corners.
#[derive(Deserialize)]
struct Seen {
    photo: String,
    window: [usize; 4],
    found: Vec<(usize, f32, f32, f32, f32, f32)>,
}

/// What the networks make of the same photos, before any decoding. `vectors/shared_outputs.bin` was made by
/// `vectors/shared_outputs.py`: a hash of the pixels, and some numbers of each output.
#[test]
fn real_detectors_make_what_onnx_runtime_makes() {
    const SAMPLES: usize = 256;
    const SCATTER: u64 = 2_654_435_761;
    let oracles: Vec<Oracle> = serde_json::from_str(include_str!("vectors/shared_detectors.json")).unwrap();
    let mut parts = blocks(include_bytes!("vectors/shared_outputs.bin"));
    for Oracle { model, photos } in oracles {
        let mut converted = shared(&format!("{model}.onnx")).map(|bytes| {
            let converted = convert(&bytes, &model, &ConvertOptions::default()).unwrap();
            let lowered = lower(&Graph::read(&bytes, None).unwrap()).unwrap();
            (converted.spec.geometry, session(&lowered, 2), lowered.outputs)
        });
        let mut worst = 0.0_f32;
        for Seen { photo, window: part, .. } in photos {
            let (hash, samples) = (parts.next().unwrap(), floats(parts.next().unwrap()));
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(&photo);
            let Some((geometry, session, outputs)) = converted.as_mut().filter(|_| path.exists()) else { continue };
            let seen = window(&Picture::open(&path).unwrap(), part);
            let hashed = seen.rgb().iter().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
            assert_eq!(
                hashed.to_le_bytes(),
                hash,
                "{photo} is decoded otherwise than when shared_outputs.bin was made"
            );
            geometry.place(&seen, session.input());
            session.run();
            assert_eq!(samples.len(), outputs.len() * SAMPLES);
            for (i, (output, samples)) in outputs.iter().zip(samples.chunks(SAMPLES)).enumerate() {
                let mut expected = vec![f32::NAN; output.dims.iter().product()];
                for (k, sample) in samples.iter().enumerate() {
                    let place = ((k as u64 * SCATTER % (1 << 32)) * expected.len() as u64) >> 32;
                    expected[place as usize] = *sample;
                }
                let expected = output.to_program(&expected);
                let known = session.output(i).iter().zip(expected).filter(|(_, expected)| !expected.is_nan());
                let (found, expected): (Vec<f32>, Vec<f32>) = known.unzip();
                let off = difference(&found, &expected);
                assert!(off < 1e-3, "{model}, {photo}: output {i} is off by {off:e}");
                worst = worst.max(off);
            }
        }
        if converted.is_some() {
            println!("{model}: off by {worst:e}");
        }
    }
}

/// All the way from a file's pixels to boxes, with default options. Windows have the input's size, so that resampling plays
/// no part; but JPEG decoders differ by a few levels.
#[test]
fn real_detectors_find_what_onnx_runtime_finds() {
    let oracles: Vec<Oracle> = serde_json::from_str(include_str!("vectors/shared_detectors.json")).unwrap();
    for Oracle { model, photos } in oracles {
        let Some(bytes) = shared(&format!("{model}.onnx")) else { continue };
        let bytes = convert(&bytes, &model, &ConvertOptions::default()).unwrap().to_bytes().unwrap();
        let mut detector = Detector::from_bytes(Bytes::from(&bytes[..]), &model).unwrap();
        for Seen { photo, window: part, found: expected } in photos {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(&photo);
            if !path.exists() {
                println!("skipped: {} not found", path.display());
                continue;
            }
            let found = detector.detect(&window(&Picture::open(&path).unwrap(), part)).unwrap();
            assert_eq!(found.len(), expected.len(), "{model}, {photo}: {found:?}");
            let (mut left, mut worst) = (found.clone(), [0.0_f32; 2]);
            for (class, score, x0, y0, x1, y1) in expected {
                let off = |Detection { score: other, rect, .. }: &Detection| {
                    let corners = [rect.x0 - x0, rect.y0 - y0, rect.x1 - x1, rect.y1 - y1];
                    [(other - score).abs(), corners.into_iter().map(f32::abs).fold(0.0, f32::max)]
                };
                let near = |found: &Detection| found.class == class && off(found)[0] < 0.01 && off(found)[1] < 1.0;
                // Both are sorted, so the first that fits is the one; of nearly equal scores the order may differ.
                let i = left.iter().position(near).unwrap_or_else(|| {
                    panic!("{model}, {photo}: no class {class}, {score} at {:?} in {found:?}", [x0, y0, x1, y1])
                });
                let off = off(&left.remove(i));
                worst = [worst[0].max(off[0]), worst[1].max(off[1])];
            }
            println!("{model}, {photo}: scores are off by {:.4}, corners by {:.2} pixels", worst[0], worst[1]);
        }
    }
}

/// A part of a picture.
fn window(picture: &Picture, [left, top, width, height]: [usize; 4]) -> Picture {
    let rows = picture.rgb().chunks_exact(3 * picture.width()).skip(top).take(height);
    let pixels = rows.flat_map(|row| &row[3 * left..][..3 * width]).copied().collect();
    Picture::from_rgb(width, height, pixels).unwrap()
}

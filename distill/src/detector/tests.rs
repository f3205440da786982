use super::assign::{Target, assign};
use super::loss::loss;
use super::program::draft;
use super::*;
use crate::data::detect::Truth;
use crate::nn::check::{close, list, weighted};
use crate::nn::maps::Activation;
use candle_core::{Device, Tensor, Var};
use pupil::bytes::Bytes;
use pupil::gguf::{Gguf, Writer};
use pupil::nets::convnet::{ConvNet, Session};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A network of every kind of layer.
pub(super) fn small() -> Config {
    let config = Config::of_width(4, 3, [64, 32]);
    Config { stages: config.stages.map(|stage| Stage { units: 1, ..stage }), bins: 5, ..config }
}

fn pictures(n: usize, [width, height]: [usize; 2]) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let numbers: Vec<f32> = (0..n * width * height * 3).map(|_| random.random_range(-2.0..2.0)).collect();
    Tensor::from_vec(numbers, (n * width * height, 3), &Device::Cpu).unwrap()
}

/// Gives variables whose name ends like this numbers from −spread to 2 · spread.
fn set(student: &Detector, end: &str, spread: f32) {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    for (_, variable) in student.variables().iter().filter(|(name, _)| name.ends_with(end)) {
        let numbers = (0..variable.elem_count()).map(|_| random.random_range(-spread..2.0 * spread)).collect();
        variable.set(&Tensor::from_vec(numbers, variable.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

fn parameters(config: Config) -> usize {
    let student = Detector::new(config, 1, &Device::Cpu).unwrap();
    student.variables().values().map(|variable| variable.elem_count()).sum()
}

#[test]
fn sizes_span_what_devices_want() {
    let sizes = [12, 24, 40].map(|width| parameters(Config::of_width(width, 4, [320, 320])));
    println!("{sizes:?}");
    assert!((150_000..350_000).contains(&sizes[0]), "{sizes:?}");
    assert!((700_000..1_100_000).contains(&sizes[1]), "{sizes:?}");
    assert!((2_000_000..3_000_000).contains(&sizes[2]), "{sizes:?}");
}

/// Weights and moments as they might be after a training, with four levels or three, and each activation.
#[test]
fn files_compute_what_the_student_does() {
    for (activation, levels) in
        [(Activation::HardSwish, 3), (Activation::Relu, 4), (Activation::LeakyRelu, 3), (Activation::Silu, 4)]
    {
        let config = Config { activation, levels, height: 64, width: 128, ..small() };
        let mut student = Detector::new(config, 3, &Device::Cpu).unwrap();
        set(&student, "norm.weight", 1.0);
        set(&student, "norm.bias", 1.0);
        set(&student, "out.weight", 1.0);
        let pictures = pictures(1, [128, 64]);
        for _ in 0..20 {
            student.train(&pictures, [128, 64]).unwrap();
        }
        let outputs = student.infer(&pictures, [128, 64]).unwrap();
        let ours = list(&outputs.rows);
        assert!(ours.iter().fold(0.0_f64, |max, x| max.max(x.abs())) > 0.5, "numbers that say something");

        let mut writer = Writer::new();
        draft(&student, None).unwrap().write(&mut writer);
        let mut bytes = Vec::new();
        writer.write(&mut bytes).unwrap();
        let net = ConvNet::load(&Gguf::from_bytes(Bytes::from(&bytes[..]), "test").unwrap()).unwrap();
        let mut session = Session::new(Arc::new(net), 1).unwrap();
        session.input().copy_from_slice(&pictures.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        session.run();
        let theirs: Vec<f64> = (0..levels)
            .flat_map(|level| session.output(level).iter().map(|&x| x.into()).collect::<Vec<f64>>())
            .collect();
        close(&format!("{activation:?}"), &theirs, &ours, 1e-3);
    }
}

#[test]
fn averaged_weights_and_statistics_are_exported() {
    let mut student = Detector::new(small(), 3, &Device::Cpu).unwrap();
    student.train(&pictures(2, [64, 32]), [64, 32]).unwrap();
    let mut averages: BTreeMap<String, Tensor> =
        student.variables().iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
    let filters = |averages: Option<&BTreeMap<String, Tensor>>| draft(&student, averages).unwrap().filters;
    assert_eq!(filters(Some(&averages)), filters(None));
    averages.extend(Detector::new(small(), 3, &Device::Cpu).unwrap().statistics().unwrap());
    assert_ne!(filters(Some(&averages)), filters(None));
    assert!(draft(&student, Some(&Default::default())).unwrap_err().to_string().contains("no weights"));
}

#[test]
fn statistics_are_taken_over() {
    let mut student = Detector::new(small(), 3, &Device::Cpu).unwrap();
    let other = Detector::new(small(), 3, &Device::Cpu).unwrap();
    let pictures = pictures(2, [64, 32]);
    let rows = |student: &Detector| list(&student.infer(&pictures, [64, 32]).unwrap().rows);
    assert_eq!(rows(&student), rows(&other));
    student.train(&pictures, [64, 32]).unwrap();
    assert_ne!(rows(&student), rows(&other));
    let mut copy = other;
    copy.set_statistics(&student.statistics().unwrap()).unwrap();
    assert_eq!(rows(&student), rows(&copy));
    assert!(copy.set_statistics(&Default::default()).unwrap_err().to_string().contains("no statistics"));
}

#[test]
fn pictures_of_other_sizes_are_refused() {
    let mut student = Detector::new(small(), 3, &Device::Cpu).unwrap();
    assert!(student.train(&pictures(1, [64, 48]), [64, 48]).is_err());
    assert!(student.train(&pictures(1, [32, 32]), [64, 32]).is_err());
    // Another size that fits is no other network.
    assert_eq!(student.infer(&pictures(1, [32, 32]), [32, 32]).unwrap().anchors.len(), 16 + 4 + 1);
}

/// Every gradient of a whole step against central differences, for some numbers of each variable.
#[test]
fn gradients_of_the_whole_network() {
    let config = Config { activation: Activation::Silu, ..small() };
    let mut student = Detector::new(config, 3, &Device::Cpu).unwrap();
    let pictures = pictures(3, [64, 32]);
    set(&student, "out.weight", 0.5);
    let value = |student: &mut Detector| {
        let outputs = student.train(&pictures, [64, 32]).unwrap();
        (weighted(&outputs.rows), outputs)
    };
    let (loss, outputs) = value(&mut student);
    let gradients = student.gradients(&outputs, &loss.backward().unwrap()).unwrap();
    let variables: Vec<(String, Var)> = student.variables().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    for (name, variable) in variables {
        let gradient = list(&gradients[&name]);
        let size = gradient.iter().fold(0.0_f64, |max, g| max.max(g.abs()));
        assert!(size > 0.0, "{name}");
        let numbers: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
        for place in (0..numbers.len()).step_by(numbers.len().div_ceil(2)) {
            let mut at = |step: f32| {
                let mut moved = numbers.clone();
                moved[place] += step;
                variable.set(&Tensor::from_vec(moved, variable.shape(), &Device::Cpu).unwrap()).unwrap();
                f64::from(value(&mut student).0.to_scalar::<f32>().unwrap())
            };
            let difference = (at(2e-3) - at(-2e-3)) / 4e-3;
            at(0.0);
            let found = gradient[place];
            assert!((difference - found).abs() < 2e-2 * size.max(0.2), "{name} at {place}: {found}, {difference}");
        }
    }
}

/// Rows, gradients and running moments of a step.
fn step(config: &Config) -> Vec<(String, Vec<f64>)> {
    let mut student = Detector::new(config.clone(), 3, &Device::Cpu).unwrap();
    student.give_features();
    set(&student, "out.weight", 0.5);
    let outputs = student.train(&pictures(3, [64, 32]), [64, 32]).unwrap();
    assert_eq!(outputs.features.len(), config.levels);
    let loss = outputs.features.iter().fold(weighted(&outputs.rows), |sum, level| (sum + weighted(level)).unwrap());
    let gradients = student.gradients(&outputs, &loss.backward().unwrap()).unwrap();
    assert_eq!(gradients.len(), student.variables().len());
    let named =
        gradients.iter().chain(student.statistics().unwrap().iter()).map(|(n, t)| (n.clone(), list(t))).collect();
    let levels = outputs.features.iter().map(|level| ("features".to_string(), list(level))).collect();
    [vec![("rows".to_string(), list(&outputs.rows))], levels, named].concat()
}

#[test]
fn devices_agree() {
    for activation in [Activation::HardSwish, Activation::Silu] {
        let config = Config { activation, levels: 4, ..small() };
        let (here, there) = (step(&config), crate::nn::only_composed(|| step(&config)));
        assert_eq!(here.len(), there.len());
        for ((name, here), (_, there)) in here.iter().zip(&there) {
            let size = there.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
            close(name, here, there, 2e-4 * size.max(1.0));
        }
    }
}

#[test]
fn threads_change_nothing() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(&small()))
    };
    let one = on(1);
    assert!([2, 3, 7].into_iter().all(|threads| on(threads) == one));
}

/// Outputs of random numbers over a picture of 32 x 32, with two classes and four bins.
fn outputs(pictures: usize, spread: f32) -> (Var, Outputs) {
    let anchors = Arc::new(anchors::anchors([32, 32], &[8, 16], 0.5));
    let (rows, width) = (pictures * anchors.len(), 2 + 4 * 4);
    let mut random = ChaCha8Rng::seed_from_u64(23);
    let numbers: Vec<f32> = (0..rows * width).map(|_| random.random_range(-spread..spread)).collect();
    let variable = Var::from_vec(numbers, (rows, width), &Device::Cpu).unwrap();
    let rows = variable.as_tensor().clone();
    (variable, Outputs { rows, pictures, anchors, classes: 2, bins: 4, features: vec![], parameters: None })
}

#[test]
fn each_object_finds_its_cells() {
    let (_, outputs) = outputs(3, 1.0);
    let truths = [
        Truth::new(1, [2.0, 2.0, 22.0, 26.0]),
        Truth::new(0, [13.0, 29.0, 15.0, 30.0]), // holds no centre
        Truth { crowd: true, ..Truth::new(0, [24.0, 0.0, 32.0, 32.0]) },
    ];
    let targets = assign(&outputs, &[Some(&truths), None, Some(&[])]).unwrap();
    let per = outputs.anchors.len();
    assert_eq!(targets.len(), 3 * per);
    assert!(targets[per..2 * per].iter().all(|target| *target == Target::Ignored));
    assert!(targets[2 * per..].iter().all(|target| *target == Target::Background));
    let mut found = [0, 0];
    for (target, anchor) in targets.iter().zip(&*outputs.anchors) {
        match target {
            Target::Object { class, rect, quality } => {
                found[*class] += 1;
                assert!((0.0..=1.0).contains(quality));
                assert_eq!(*rect, truths[1 - class].rect);
            }
            Target::Ignored => assert!(anchor.x > 24.0),
            Target::Background => assert!(anchor.x <= 24.0),
        }
    }
    assert!(found[0] == 1 && found[1] >= 1, "{found:?}");
    // The nearest of the finest cells: the one around (12, 28).
    assert!(matches!(targets[13], Target::Object { class: 0, .. }));
    assert!(assign(&outputs, &[None]).is_err());
    assert!(assign(&outputs, &[Some(&[Truth::new(2, [0.0, 0.0, 1.0, 1.0])]), None, None]).is_err());
}

#[test]
fn better_predictions_take_more_cells() {
    // All cells see the same box of 24 x 24 pixels around the middle, as well as their bins allow.
    let (_, mut outputs) = outputs(1, 1e-3);
    let truth = [Truth::new(0, [4.0, 4.0, 28.0, 28.0])];
    let count = |outputs: &Outputs| {
        let targets = assign(outputs, &[Some(&truth)]).unwrap();
        targets.iter().filter(|target| matches!(target, Target::Object { .. })).count()
    };
    let before = count(&outputs);
    let mut rows = Vec::new();
    for anchor in &*outputs.anchors {
        rows.extend([0.0; 2]);
        for (centre, edge, sign) in
            [(anchor.x, 4.0, -1.0), (anchor.y, 4.0, -1.0), (anchor.x, 28.0, 1.0), (anchor.y, 28.0, 1.0)]
        {
            let distance = (sign * (edge - centre) / anchor.stride).clamp(0.0, 3.0);
            rows.extend((0..4).map(|bin| -8.0 * (bin as f32 - distance).powi(2)));
        }
    }
    outputs.rows = Tensor::from_vec(rows, outputs.rows.shape(), &Device::Cpu).unwrap();
    assert!(count(&outputs) > before, "{} after {before}", count(&outputs));
}

/// Labels and each kind of teacher: the gradient against central differences of the loss.
#[test]
fn gradients_of_the_loss() {
    let truths = [Truth::new(1, [2.0, 2.0, 22.0, 26.0]), Truth::new(0, [9.0, 11.0, 20.0, 31.0])];
    let (variable, outputs) = outputs(2, 1.5);
    let targets = assign(&outputs, &[Some(&truths), None]).unwrap();
    let rows = targets.len();
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| random.random_range(-3.0..2.0)).collect() };
    let classes = numbers(rows * 2);
    let rects = numbers(rows * 2).chunks_exact(2).map(|x| [3.0 + x[0], 5.0 + x[1], 20.0 - x[1], 28.0 + x[0]]).collect();
    // One that does not know class 1.
    let stranger: Vec<f32> = classes.chunks_exact(2).flat_map(|row| [row[0], f32::NAN]).collect();
    let teachers = [
        (&classes, None),
        (&classes, Some(SoftBoxes::None)),
        (&stranger, Some(SoftBoxes::None)),
        (&classes, Some(SoftBoxes::Bins(numbers(rows * 16)))),
        (&classes, Some(SoftBoxes::Rects(rects))),
    ];
    let objective = Objective { temperature: 3.0, beta: 1.5, ..Objective::default() };
    for (classes, boxes) in teachers {
        let soft = boxes.map(|boxes| Soft { classes: classes.clone(), boxes });
        let run = |outputs: &Outputs| loss(outputs, &targets, soft.as_ref(), &objective).unwrap();
        let (total, lost) = run(&outputs);
        let parts = lost.classes + 2.0 * lost.boxes + 0.25 * lost.bins + 8.0 * lost.kd_classes + 0.5 * lost.kd_boxes;
        close("total", &list(&total), &[parts], 1e-5);
        assert!(lost.objects > 0 && lost.boxes > 0.0 && lost.bins > 0.0);
        let gradient = list(total.backward().unwrap().get(&variable).unwrap());
        let numbers: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
        for place in 0..numbers.len() {
            let at = |step: f32| {
                let mut moved = numbers.clone();
                moved[place] += step;
                let rows = Tensor::from_vec(moved, outputs.rows.shape(), &Device::Cpu).unwrap();
                let (_, lost) = run(&Outputs { rows, ..outputs.clone() });
                lost.classes + 2.0 * lost.boxes + 0.25 * lost.bins + 8.0 * lost.kd_classes + 0.5 * lost.kd_boxes
            };
            let difference = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((difference - gradient[place]).abs() < 5e-4, "{place}: {}, {difference}", gradient[place]);
        }
    }
}

#[test]
fn what_does_not_fit_the_outputs_is_refused() {
    let (_, outputs) = outputs(1, 1.0);
    let rows = outputs.anchors.len();
    let targets = vec![Target::Background; rows];
    let run = |targets: &[Target], soft: Option<Soft>, objective: Objective| {
        loss(&outputs, targets, soft.as_ref(), &objective).map(|_| ())
    };
    run(&targets, None, Objective::default()).unwrap();
    assert!(run(&targets[1..], None, Objective::default()).is_err());
    assert!(run(&targets, None, Objective { beta: 0.5, ..Objective::default() }).is_err());
    assert!(run(&targets, None, Objective { boxes: f64::NAN, ..Objective::default() }).is_err());
    let soft = |classes: usize, boxes| Some(Soft { classes: vec![0.0; classes], boxes });
    run(&targets, soft(rows * 2, SoftBoxes::None), Objective::default()).unwrap();
    assert!(run(&targets, soft(rows, SoftBoxes::None), Objective::default()).is_err());
    assert!(run(&targets, soft(rows * 2, SoftBoxes::Bins(vec![0.0; rows * 12])), Objective::default()).is_err());
    assert!(run(&targets, soft(rows * 2, SoftBoxes::Rects(vec![])), Objective::default()).is_err());
}

#[test]
fn a_detector_begins_with_one_of_its_shape() {
    let mut first = Detector::new(small(), 3, &Device::Cpu).unwrap();
    first.train(&pictures(2, [64, 32]), [64, 32]).unwrap();
    let all = |detector: &Detector| {
        let variables = detector.variables().iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        variables.chain(detector.statistics().unwrap()).collect::<BTreeMap<String, Tensor>>()
    };
    let numbers = |detector: &Detector| -> BTreeMap<String, Vec<f64>> {
        all(detector).iter().map(|(name, tensor)| (name.clone(), list(tensor))).collect()
    };
    let learnt = all(&first);
    let mut second = Detector::new(small(), 4, &Device::Cpu).unwrap();
    assert!(second.init_from(&learnt).unwrap());
    assert_eq!(numbers(&second), numbers(&first));

    // Of other classes, all but what says them.
    let mut other = Detector::new(Config { classes: 5, ..small() }, 4, &Device::Cpu).unwrap();
    let before = numbers(&other);
    assert!(!other.init_from(&learnt).unwrap());
    for (name, now) in numbers(&other) {
        let is_last = ["head0.out", "head1.out", "head2.out"].iter().any(|out| name.starts_with(out));
        assert!(now == if is_last { before[&name].clone() } else { list(&learnt[&name]) }, "{name}");
    }

    let refused = |config: Config, tensors: &BTreeMap<String, Tensor>| {
        let mut student = Detector::new(config, 4, &Device::Cpu).unwrap();
        let before = numbers(&student);
        let error = student.init_from(tensors).unwrap_err().to_string();
        assert!(numbers(&student) == before && error.ends_with("expected best.safetensors of a student of this shape"));
        error
    };
    assert!(
        refused(Config { neck: 20, ..small() }, &learnt)
            .contains("`head0.0.depth.norm.bias` is [16], the student's [20]")
    );
    assert!(refused(Config { levels: 4, ..small() }, &learnt).starts_with("there is no `head3.0.depth.norm."));
    assert!(refused(Config { head_units: 1, ..small() }, &learnt).starts_with("the student has no `head0.1.depth."));
    let mut broken = learnt;
    broken.remove("stem.norm.mean");
    assert!(refused(small(), &broken).starts_with("there is no `stem.norm.mean`"));
}

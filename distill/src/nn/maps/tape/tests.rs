//! Small networks on a tape against candle's operations.

use super::super::super::check::{Case, check};
use super::super::composed;
use super::*;
use candle_core::{DType, Device};

const N: usize = 2;

/// Pictures, which have no gradient.
fn pictures(maps: Maps) -> Vec<f32> {
    (0..maps.rows() * 3).map(|i| (i as f32 * 0.37).sin() * 1.5).collect()
}

/// Parameters one after the other, of which convolutions take theirs.
#[derive(Default)]
struct Places(usize);

impl Places {
    fn next(&mut self, count: usize) -> Range<usize> {
        self.0 += count;
        self.0 - count..self.0
    }

    /// Filters with a norm.
    fn filters(&mut self, [inputs, outputs]: [usize; 2], depthwise: bool, window: Window, of: Activation) -> Filters {
        let count = if depthwise { outputs } else { inputs * outputs } * window.taps();
        let (weight, norm, bias) = (self.next(count), self.next(outputs), self.next(outputs));
        Filters { weight, depthwise, window, then: Then::Norm { weight: norm, bias, activation: of } }
    }
}

/// A picture through a dense convolution, which makes maps that the others of the network have gradients of.
const STEM: Window = Window { kernel: 3, stride: 2 };
const POINT: Window = Window { kernel: 1, stride: 1 };

fn flat(t: &[Tensor]) -> Result<Tensor> {
    Tensor::cat(&t.iter().map(|t| t.flatten_all()).collect::<Result<Vec<_>>>()?, 0)
}

/// Out of candle's operations.
fn norm(x: &Tensor, t: &[Tensor], activation: Activation, moments: Option<&Moments>) -> Result<Tensor> {
    match moments {
        Some(moments) => composed::norm(x, &t[0], &t[1], moments, activation),
        None => Ok(composed::norm_of_batch(x, &t[0], &t[1], activation)?.0),
    }
}

fn constant(maps: Maps, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(pictures(maps), (maps.rows(), 3), &Device::Cpu)?.to_dtype(like.dtype())
}

/// Pictures, a dense convolution, a depthwise one, and a product with a bias.
#[test]
fn depthwise_separable_convolutions() {
    for (kernel, stride, [height, width], channels, activation) in [
        (3, 1, [7, 6], 5, Activation::Silu),
        (3, 2, [9, 12], 9, Activation::HardSwish),
        (5, 1, [12, 16], 3, Activation::Silu),
        (5, 2, [10, 14], 17, Activation::Silu),
        (7, 1, [5, 4], 8, Activation::LeakyRelu),
        (3, 3, [11, 13], 2, Activation::Silu),
    ] {
        let (maps, window) = (Maps { n: N, height, width }, Window { kernel, stride });
        let shapes: [&[usize]; 8] = [
            &[channels, 27],
            &[channels],
            &[channels],
            &[window.taps(), channels],
            &[channels],
            &[channels],
            &[4, channels],
            &[4],
        ];
        let taped = |t: &[Tensor]| {
            run(&flat(t)?, &Arc::default(), |tape, parameters| {
                let mut places = Places::default();
                let x = tape.input(&pictures(maps), maps)?;
                let stem = places.filters([3, channels], false, STEM, activation);
                let (x, _) = tape.convolve(&[x], stem, parameters, None)?;
                let filters = places.filters([channels; 2], true, window, activation);
                let (x, _) = tape.convolve(&[x], filters, parameters, None)?;
                let (weight, bias) = (places.next(4 * channels), places.next(4));
                let filters = Filters { weight, depthwise: false, window: POINT, then: Then::Bias(bias) };
                Ok::<_, candle_core::Error>(vec![vec![tape.convolve(&[x], filters, parameters, None)?.0]])
            })
        };
        let composed = |t: &[Tensor]| {
            let x = norm(&composed::dense(&constant(maps, &t[0])?, &t[0], maps, STEM)?, &t[1..], activation, None)?;
            let x = norm(&composed::depthwise(&x, &t[3], maps.through(STEM), window)?, &t[4..], activation, None)?;
            x.matmul(&t[6].t()?)?.broadcast_add(&t[7])
        };
        check(Case::new(&shapes), taped, composed);
    }
}

/// Sums, maps of twice the size, channels side by side, two groups of outputs, and norms that go by constants.
#[test]
fn pyramids() {
    let maps = Maps { n: N, height: 8, width: 12 };
    let (half, down) = (maps.through(STEM), Window { kernel: 3, stride: 2 });
    let constants = Moments { mean: vec![0.1, -0.2, 0.3], variance: vec![0.5, 1.0, 2.0], rows: 0 };
    let activation = Activation::Silu;
    let shapes: [&[usize]; 12] = [&[3, 27], &[3], &[3], &[9, 3], &[3], &[3], &[3, 3], &[3], &[3], &[3, 6], &[3], &[3]];
    let taped = |t: &[Tensor]| {
        run(&flat(t)?, &Arc::default(), |tape, parameters| {
            let mut places = Places::default();
            let x = tape.input(&pictures(maps), maps)?;
            let (fine, _) =
                tape.convolve(&[x], places.filters([3, 3], false, STEM, activation), parameters, Some(&constants))?;
            let (coarse, _) =
                tape.convolve(&[fine], places.filters([3, 3], true, down, activation), parameters, None)?;
            let (more, _) =
                tape.convolve(&[coarse], places.filters([3, 3], false, POINT, activation), parameters, None)?;
            let sum = tape.add(coarse, more)?;
            let large = tape.upsample(sum);
            let mix = places.filters([6, 3], false, POINT, activation);
            let (mixed, moments) = tape.convolve(&[fine, large], mix, parameters, None)?;
            assert_eq!(moments.map(|moments| moments.rows), Some(half.rows()));
            Ok::<_, candle_core::Error>(vec![vec![mixed, sum], vec![coarse]])
        })
    };
    let composed = |t: &[Tensor]| {
        let fine =
            norm(&composed::dense(&constant(maps, &t[0])?, &t[0], maps, STEM)?, &t[1..], activation, Some(&constants))?;
        let coarse = norm(&composed::depthwise(&fine, &t[3], half, down)?, &t[4..], activation, None)?;
        let more = norm(&coarse.matmul(&t[6].t()?)?, &t[7..], activation, None)?;
        let sum = (&coarse + more)?;
        let small = half.through(down);
        let large = sum.reshape((N * small.height, 1, small.width, 1, 3))?;
        let large = large.broadcast_as((N * small.height, 2, small.width, 2, 3))?.reshape((half.rows(), 3))?;
        let mixed = norm(&Tensor::cat(&[fine, large], 1)?.matmul(&t[9].t()?)?, &t[10..], activation, None)?;
        let by_map = [mixed, sum].map(|x| x.reshape((N, (), 3)));
        let [mixed, sum] = by_map;
        Tensor::cat(&[Tensor::cat(&[mixed?, sum?], 1)?.reshape(((), 3))?, coarse], 0)?.flatten_all()
    };
    check(Case::new(&shapes), taped, composed);
}

/// Bands, blocks and tasks: maps of more rows than one has.
#[test]
fn many_rows() {
    let maps = Maps { n: 3, height: 70, width: 130 };
    let channels = 24;
    let numbers = |count: usize, scale: f32| (0..count).map(|i| (i as f32 * 0.77).sin() * scale).collect::<Vec<_>>();
    let tensor = |count: usize, scale: f32, columns: usize| {
        candle_core::Var::from_vec(numbers(count, scale), (count / columns, columns), &Device::Cpu).unwrap()
    };
    let line = |scale: f32| candle_core::Var::from_vec(numbers(channels, scale), channels, &Device::Cpu).unwrap();
    let window = Window { kernel: 5, stride: 1 };
    let variables = [
        tensor(channels * 27, 0.3, 27),
        line(1.0),
        line(0.5),
        tensor(25 * channels, 0.3, channels),
        line(0.8),
        line(0.2),
        tensor(channels * channels, 0.3, channels),
        line(1.2),
        line(0.4),
    ];
    let activation = Activation::HardSwish;
    let t: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let taped = run(&flat(&t).unwrap(), &Arc::default(), |tape, parameters| {
        let mut places = Places::default();
        let mut x = tape.input(&pictures(maps), maps)?;
        for (inputs, depthwise, window) in [(3, false, STEM), (channels, true, window), (channels, false, POINT)] {
            let filters = places.filters([inputs, channels], depthwise, window, activation);
            x = tape.convolve(&[x], filters, parameters, None)?.0;
        }
        Ok::<_, candle_core::Error>(vec![vec![x]])
    });
    let wide: Vec<candle_core::Var> =
        t.iter().map(|t| candle_core::Var::from_tensor(&t.to_dtype(DType::F64).unwrap()).unwrap()).collect();
    let w: Vec<Tensor> = wide.iter().map(|v| v.as_tensor().clone()).collect();
    let half = maps.through(STEM);
    let x =
        norm(&composed::dense(&constant(maps, &w[0]).unwrap(), &w[0], maps, STEM).unwrap(), &w[1..], activation, None);
    let x = norm(&composed::depthwise(&x.unwrap(), &w[3], half, window).unwrap(), &w[4..], activation, None).unwrap();
    let exact = norm(&x.matmul(&w[6].t().unwrap()).unwrap(), &w[7..], activation, None).unwrap();
    use super::super::super::check::{close, list, weighted};
    let taped = taped.unwrap();
    close("results", &list(&taped), &list(&exact), 1e-4);
    let (found, expected) = (weighted(&taped).backward().unwrap(), weighted(&exact).backward().unwrap());
    for (i, (variable, wide)) in variables.iter().zip(&wide).enumerate() {
        let (found, expected) = (list(found.get(variable).unwrap()), list(expected.get(wide).unwrap()));
        let size = expected.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
        close(&format!("gradients of {i}"), &found, &expected, 1e-4 * size.max(1.0));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut tape = Tape::new(Arc::default());
    let maps = Maps { n: 1, height: 4, width: 4 };
    assert!(tape.input(&[0.0; 47], maps).is_err());
    let x = tape.input(&[0.0; 48], maps).unwrap();
    let parameters = [0.0; 64];
    let filters = |count: usize, norm: usize, depthwise, window| {
        let then = Then::Norm { weight: 0..norm, bias: 0..norm, activation: Activation::Relu };
        Filters { weight: 0..count, depthwise, window, then }
    };
    let mut refused = |filters: Filters| tape.convolve(&[x], filters, &parameters, None).is_err();
    assert!(refused(filters(10, 3, false, POINT)));
    assert!(refused(filters(9, 2, false, POINT)));
    assert!(refused(filters(28, 3, true, STEM)));
    assert!(refused(filters(48, 3, true, Window { kernel: 4, stride: 1 })));
    assert!(!refused(filters(54, 2, false, STEM)));
}

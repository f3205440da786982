//! The network, layer by layer: said once, for whoever makes its weights, runs it, or writes it down as a program.
//!
//! - Backbone: a dense convolution, then stages of depthwise separable convolutions (Howard et al. 2017), the first of
//!   which halves the size while the others are residual (He et al. 2016).
//! - Pyramid: from coarse to fine and back (PAN, Liu et al. 2018), with wide depthwise windows as in PicoDet (Yu et al.
//!   2021).
//! - Heads: for each level depthwise separable convolutions, then class logits and the bins of four distances out of one
//!   product (generalized focal loss, Li et al. 2020).

use super::config::Config;
use crate::error::Result;
use crate::nn::maps::{Activation, Window};

/// The window of single pixels.
pub(super) const POINT: Window = Window { kernel: 1, stride: 1 };

/// A convolution.
pub(super) struct Layer {
    /// The first part of its tensors' names.
    pub(super) name: String,
    /// Whether each channel has a filter of its own.
    pub(super) depthwise: bool,
    /// Output channels.
    pub(super) outputs: usize,
    /// Size and movement of the filters.
    pub(super) window: Window,
    /// What comes after it.
    pub(super) then: Then,
}

/// What comes after a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// A batch norm and this.
    Norm(Activation),
    /// A bias, of the last layer.
    Bias,
}

/// What becomes of the layers.
pub(super) trait Build {
    /// A batch of maps, or what stands for it.
    type Map: Clone;

    /// A convolution of maps whose channels are taken as if they were side by side.
    fn conv(&mut self, xs: &[&Self::Map], layer: Layer) -> Result<Self::Map>;

    /// The sum of two maps.
    fn add(&mut self, x: &Self::Map, y: &Self::Map) -> Result<Self::Map>;

    /// Twice the height and width.
    fn upsample(&mut self, x: &Self::Map) -> Result<Self::Map>;
}

/// What the network says of each level.
pub(super) struct Levels<M> {
    /// What the heads begin with, `config.neck` numbers for each cell.
    pub(super) features: Vec<M>,
    /// `config.outputs()` numbers for each cell.
    pub(super) outputs: Vec<M>,
}

/// From pictures to what is said of each level.
pub(super) fn network<B: Build>(config: &Config, build: &mut B, pictures: &B::Map) -> Result<Levels<B::Map>> {
    let mut net = Net { build, activation: config.activation };

    let stem = Window { kernel: 3, stride: 2 };
    let mut x = net.conv(&[pictures], "stem".into(), false, config.stem, stem)?;
    let mut stages = Vec::new();
    for (i, stage) in config.stages.iter().enumerate() {
        let down = Window { kernel: stage.kernel, stride: 2 };
        x = net.separable(&x, &format!("stage{i}.0"), config.before(i), stage.channels, down)?;
        for unit in 1..=stage.units {
            x = net.residual(&x, &format!("stage{i}.{unit}"), stage.channels, stage.kernel)?;
        }
        stages.push(x.clone());
    }

    let (neck, kernel) = (config.neck, config.neck_kernel);
    // From fine to coarse: what the backbone saw, as wide as the pyramid.
    let mut levels = Vec::new();
    for (i, stage) in stages[1..].iter().enumerate() {
        levels.push(net.conv(&[stage], format!("neck.lateral{i}"), false, neck, POINT)?);
    }
    let last = levels.len() - 1;
    for i in (0..last).rev() {
        let above = net.build.upsample(&levels[i + 1])?;
        levels[i] = net.fuse([&levels[i], &above], &format!("neck.up{i}"), neck, kernel)?;
    }
    let down = Window { kernel, stride: 2 };
    for i in 0..last {
        let below = net.separable(&levels[i], &format!("neck.down{i}"), neck, neck, down)?;
        levels[i + 1] = net.fuse([&levels[i + 1], &below], &format!("neck.out{i}"), neck, kernel)?;
    }
    for i in levels.len()..config.levels {
        let coarser = net.separable(&levels[i - 1], &format!("neck.extra{i}"), neck, neck, down)?;
        levels.push(coarser);
    }

    let features = levels.clone();
    for (i, level) in levels.iter_mut().enumerate() {
        for unit in 0..config.head_units {
            let window = Window { kernel, stride: 1 };
            *level = net.separable(level, &format!("head{i}.{unit}"), neck, neck, window)?;
        }
        let name = format!("head{i}.out");
        let out = Layer { name, depthwise: false, outputs: config.outputs(), window: POINT, then: Then::Bias };
        *level = net.build.conv(&[level], out)?;
    }
    Ok(Levels { features, outputs: levels })
}

impl Config {
    /// Channels that go into a stage.
    fn before(&self, stage: usize) -> usize {
        stage.checked_sub(1).map_or(self.stem, |before| self.stages[before].channels)
    }
}

struct Net<'a, B> {
    build: &'a mut B,
    activation: Activation,
}

impl<B: Build> Net<'_, B> {
    fn conv(
        &mut self,
        xs: &[&B::Map],
        name: String,
        depthwise: bool,
        outputs: usize,
        window: Window,
    ) -> Result<B::Map> {
        self.build.conv(xs, Layer { name, depthwise, outputs, window, then: Then::Norm(self.activation) })
    }

    /// A filter for each channel, then a product.
    fn separable(&mut self, x: &B::Map, name: &str, inputs: usize, outputs: usize, window: Window) -> Result<B::Map> {
        let x = self.conv(&[x], format!("{name}.depth"), true, inputs, window)?;
        self.conv(&[&x], format!("{name}.point"), false, outputs, POINT)
    }

    /// A separable convolution on top of its input.
    fn residual(&mut self, x: &B::Map, name: &str, channels: usize, kernel: usize) -> Result<B::Map> {
        let more = self.separable(x, name, channels, channels, Window { kernel, stride: 1 })?;
        self.build.add(x, &more)
    }

    /// Two levels in one.
    fn fuse(&mut self, xs: [&B::Map; 2], name: &str, channels: usize, kernel: usize) -> Result<B::Map> {
        let mixed = self.conv(&xs, format!("{name}.mix"), false, channels, POINT)?;
        self.residual(&mixed, name, channels, kernel)
    }
}

//! A detector's dimensions.

use crate::error::{self, Error, Result};
use crate::nn::maps::Activation;
use serde::{Deserialize, Serialize};

/// A detector's dimensions. [`Config::of_width`] makes one out of a single number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Classes.
    pub classes: usize,
    /// Width of its pictures in pixels, a multiple of 32. Cells of 64 pixels may reach beyond the edge.
    pub width: usize,
    /// Height of its pictures, likewise.
    pub height: usize,
    /// Channels of the first layer, at half the picture's size.
    pub stem: usize,
    /// What follows, each at half the size of the one before: cells of 4, 8, 16 and 32 pixels.
    pub stages: [Stage; 4],
    /// Channels of the pyramid and of the heads.
    pub neck: usize,
    /// Windows of the pyramid and of the heads: 3, 5 or 7.
    #[serde(default = "kernel")]
    pub neck_kernel: usize,
    /// 3 for cells of 8, 16 and 32 pixels; 4 for those and 64, for large objects.
    #[serde(default = "levels")]
    pub levels: usize,
    /// Depthwise separable convolutions of each head.
    #[serde(default = "head_units")]
    pub head_units: usize,
    /// Bins of a side's distribution: the longest distance is one cell less than this.
    #[serde(default = "bins")]
    pub bins: usize,
    /// Where the centre of a cell lies, in cells from its top left corner, 0 to 1. Only a student whose centres lie where its
    /// teacher's do can learn the teacher's bins.
    #[serde(default = "centre")]
    pub centre: f32,
    /// After each norm: `relu`, `leaky-relu`, `hard-swish` or `silu`.
    #[serde(default = "activation")]
    pub activation: Activation,
}

/// Part of the backbone: a convolution that halves the size, and residual units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Channels.
    pub channels: usize,
    /// Residual units.
    pub units: usize,
    /// Their windows: 3, 5 or 7.
    #[serde(default = "stage_kernel")]
    pub kernel: usize,
}

fn kernel() -> usize {
    5
}

fn stage_kernel() -> usize {
    3
}

fn levels() -> usize {
    3
}

fn head_units() -> usize {
    2
}

fn bins() -> usize {
    8
}

fn centre() -> f32 {
    0.5
}

fn activation() -> Activation {
    Activation::HardSwish
}

/// The cells' sides at the levels, in pixels.
const STRIDES: [usize; 4] = [8, 16, 32, 64];

/// What sides are multiples of: levels that are made larger must come out as large as those that they are added to.
const UNIT: usize = 32;

impl Config {
    /// A balanced network: `width` channels in the first layer, twice as many from stage to stage. Widths of 12, 24 and 40
    /// make about 0.25, 0.9 and 2.5 million weights. Multiples of 8 are fastest.
    pub fn of_width(width: usize, classes: usize, size: [usize; 2]) -> Self {
        let stage = |factor: usize, units: usize, kernel: usize| Stage { channels: factor * width, units, kernel };
        Self {
            classes,
            width: size[0],
            height: size[1],
            stem: width,
            stages: [stage(2, 1, 3), stage(4, 2, 3), stage(8, 4, 5), stage(16, 2, 5)],
            neck: 4 * width,
            neck_kernel: kernel(),
            levels: levels(),
            head_units: head_units(),
            bins: bins(),
            centre: centre(),
            activation: activation(),
        }
    }

    /// Refuses what makes no network.
    ///
    /// # Errors
    /// `Input` with the field and what was expected.
    pub fn check(&self) -> Result<()> {
        within("classes", self.classes, 1, 1 << 12)?;
        within("stem", self.stem, 1, 1 << 10)?;
        within("neck", self.neck, 1, 1 << 10)?;
        within("bins", self.bins, 2, 64)?;
        error::within("centre", self.centre.into(), 0.0, 1.0)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let name = |field: &str| format!("stages[{i}].{field}");
            within(&name("channels"), stage.channels, 1, 1 << 12)?;
            within(&name("units"), stage.units, 0, 64)?;
            check_kernel(&name("kernel"), stage.kernel)?;
        }
        check_kernel("neck_kernel", self.neck_kernel)?;
        if ![3, 4].contains(&self.levels) {
            return Err(Error::input(format!("levels is {}, expected 3 or 4", self.levels)));
        }
        within("head_units", self.head_units, 0, 8)?;
        self.check_size([self.width, self.height])
    }

    /// Refuses a size of pictures, width and height, that is no multiple of 32.
    ///
    /// # Errors
    /// `Input` with the side and what was expected.
    pub fn check_size(&self, size: [usize; 2]) -> Result<()> {
        for (name, side) in ["width", "height"].into_iter().zip(size) {
            within(name, side, 1, 1 << 13)?;
            if !side.is_multiple_of(UNIT) {
                return Err(Error::input(format!("{name} is {side}, expected a multiple of {UNIT}")));
            }
        }
        Ok(())
    }

    /// The sides of cells at each level, in pixels.
    pub fn strides(&self) -> &'static [usize] {
        &STRIDES[..self.levels]
    }

    /// Numbers for each cell: a logit for each class, and [bins](Self::bins) for left, top, right and bottom.
    pub fn outputs(&self) -> usize {
        self.classes + 4 * self.bins
    }
}

fn within(name: &str, value: usize, min: usize, max: usize) -> Result<()> {
    error::within(name, value as f64, min as f64, max as f64)
}

fn check_kernel(name: &str, kernel: usize) -> Result<()> {
    match kernel {
        3 | 5 | 7 => Ok(()),
        _ => Err(Error::input(format!("{name} is {kernel}, expected 3, 5 or 7"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_network_is_refused() {
        let good = Config::of_width(8, 3, [64, 32]);
        good.check().unwrap();
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(refused(&|c| c.width = 48), "width is 48, expected a multiple of 32");
        assert_eq!(refused(&|c| (c.levels, c.height) = (4, 50)), "height is 50, expected a multiple of 32");
        assert_eq!(refused(&|c| c.levels = 5), "levels is 5, expected 3 or 4");
        assert_eq!(refused(&|c| c.stages[1].kernel = 4), "stages[1].kernel is 4, expected 3, 5 or 7");
        assert!(refused(&|c| c.stages[2].channels = 0).contains("stages[2].channels is 0"));
        assert_eq!(refused(&|c| c.classes = 0), "classes is 0, expected 1 to 4096");
        assert_eq!(refused(&|c| c.stages[0].units = 65), "stages[0].units is 65, expected 0 to 64");
        assert!(refused(&|c| c.bins = 1).contains("bins is 1"));
    }

    #[test]
    fn fields_have_defaults_and_no_others_are_known() {
        let text = r#"{"classes":2,"width":64,"height":64,"stem":8,"neck":16,
            "stages":[{"channels":8,"units":1},{"channels":16,"units":1},{"channels":24,"units":1},{"channels":32,"units":1}]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!((config.neck_kernel, config.levels, config.bins), (5, 3, 8));
        assert_eq!(serde_json::from_str::<Config>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert!(serde_json::from_str::<Config>(&text.replace("\"neck\"", "\"nek\"")).is_err());
    }
}

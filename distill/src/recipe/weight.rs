//! Weights of parts of a loss, which may change during the training.

use crate::error::{Result, within};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A number, or one that changes during the training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "expected a number, or { from = a number, to = a number }")]
#[allow(missing_docs)]
pub enum Weight {
    Fixed(f64),
    /// Half a cosine wave from the first step to the last.
    Cosine {
        from: f64,
        to: f64,
    },
}

impl Weight {
    /// Whether it is 0 all the time.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Fixed(0.0) | Self::Cosine { from: 0.0, to: 0.0 })
    }

    /// Refuses what is not from 0 to `max`, by the name `key`.
    pub(super) fn check(self, key: &str, max: f64) -> Result<()> {
        match self {
            Self::Fixed(weight) => within(key, weight, 0.0, max),
            Self::Cosine { from, to } => {
                within(&format!("{key}.from"), from, 0.0, max)?;
                within(&format!("{key}.to"), to, 0.0, max)
            }
        }
    }
}

/// For people: `8`, or `8 to 1`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(weight) => write!(f, "{weight}"),
            Self::Cosine { from, to } => write!(f, "{from} to {to}"),
        }
    }
}

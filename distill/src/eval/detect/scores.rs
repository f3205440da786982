//! The scores, as numbers, as a table and as JSON.

use super::curve::Curve;
use serde::Serialize;
use std::fmt;

/// Positions in `AREAS` and `LIMITS`.
const ALL: usize = 0;
const MOST: usize = 2;

/// What the table shows of the twelve numbers: recall by size is in the JSON only.
const COLUMNS: [&str; 9] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"];

/// How well boxes are found: of one class, or the mean over classes.
///
/// A value is `None` if there is no box of that kind to find (pycocotools prints −1).
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Score {
    /// The class, or `all`.
    pub name: String,
    /// Pictures that show the class, or all pictures.
    pub pictures: usize,
    /// Boxes to find. Crowds and ignored boxes are not counted.
    pub truths: usize,
    /// Detections.
    pub found: usize,
    /// mAP@[.5:.95]: average precision, the mean over the IoU thresholds .5, .55, … .95.
    pub ap: Option<f64>,
    /// Average precision at IoU .5.
    pub ap50: Option<f64>,
    /// Average precision at IoU .75.
    pub ap75: Option<f64>,
    /// `ap` of boxes of at most 32² pixels.
    pub ap_small: Option<f64>,
    /// `ap` of boxes of 32² to 96² pixels.
    pub ap_medium: Option<f64>,
    /// `ap` of boxes of at least 96² pixels.
    pub ap_large: Option<f64>,
    /// Recall, the mean over the IoU thresholds, if one detection of a class in a picture counts.
    pub ar1: Option<f64>,
    /// The same for ten detections.
    pub ar10: Option<f64>,
    /// The same for a hundred.
    pub ar100: Option<f64>,
    /// `ar100` of boxes of at most 32² pixels.
    pub ar_small: Option<f64>,
    /// `ar100` of boxes of 32² to 96² pixels.
    pub ar_medium: Option<f64>,
    /// `ar100` of boxes of at least 96² pixels.
    pub ar_large: Option<f64>,
}

impl Score {
    pub(super) fn new(name: String, [pictures, truths, found]: [usize; 3], stats: [Option<f64>; 12]) -> Self {
        let [ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large] = stats;
        let ap =
            Self { name, pictures, truths, found, ap, ap50, ap75, ap_small, ap_medium, ap_large, ..Self::default() };
        Self { ar1, ar10, ar100, ar_small, ar_medium, ar_large, ..ap }
    }

    /// The twelve numbers in pycocotools' order, which is that of the fields.
    pub fn stats(&self) -> [Option<f64>; 12] {
        let Self { ap, ap50, ap75, ap_small, ap_medium, ap_large, .. } = *self;
        let Self { ar1, ar10, ar100, ar_small, ar_medium, ar_large, .. } = *self;
        [ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large]
    }
}

/// The twelve numbers of a class, read off its curves; `curve` gives them for an area range and a limit.
pub(super) fn stats(curve: impl Fn(usize, usize) -> Option<Curve>) -> [Option<f64>; 12] {
    let [all, small, medium, large] = [0, 1, 2, 3].map(|area| curve(area, MOST));
    let ap = |curve: &Option<Curve>| curve.as_ref().map(|curve| mean(&curve.precision));
    let ar = |curve: &Option<Curve>| curve.as_ref().map(|curve| mean(&curve.recall));
    let at = |threshold: usize| all.as_ref().map(|curve| curve.precision[threshold]);
    [
        ap(&all),
        at(0),
        at(5),
        ap(&small),
        ap(&medium),
        ap(&large),
        ar(&curve(ALL, 0)),
        ar(&curve(ALL, 1)),
        ar(&all),
        ar(&small),
        ar(&medium),
        ar(&large),
    ]
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// All scores of a detector on a data set. `Display` gives a table, `Serialize` everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Means over the classes that have boxes to find, and sums of the counts.
    pub total: Score,
    /// The score of each class.
    pub classes: Vec<Score>,
}

impl Scores {
    pub(super) fn new(pictures: usize, classes: Vec<Score>) -> Self {
        let stats = std::array::from_fn(|i| {
            let known: Vec<f64> = classes.iter().filter_map(|class| class.stats()[i]).collect();
            (!known.is_empty()).then(|| mean(&known))
        });
        let sum = |count: fn(&Score) -> usize| classes.iter().map(count).sum();
        let total = Score::new("all".into(), [pictures, sum(|class| class.truths), sum(|class| class.found)], stats);
        Self { total, classes }
    }

    /// The scores as JSON: `{"total": {…}, "classes": [{…}, …]}`, with `null` for what is not known.
    pub fn to_json(&self) -> serde_json::Value {
        let score = |score: &Score| serde_json::to_value(score).unwrap_or_default();
        serde_json::json!({ "total": score(&self.total), "classes": self.classes.iter().map(score).collect::<Vec<_>>() })
    }
}

/// A table: the total, then a row for each class. What is not known is `-`.
impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<(String, &Score)> =
            std::iter::once(&self.total).chain(&self.classes).map(|score| (shown(&score.name), score)).collect();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(5);
        write!(f, "{:width$}  pictures  boxes  found", "class")?;
        for title in COLUMNS {
            write!(f, "  {title:>5}")?;
        }
        for (name, score) in rows {
            write!(f, "\n{name:width$}  {:8}  {:5}  {:5}", score.pictures, score.truths, score.found)?;
            for cell in score.stats().into_iter().take(COLUMNS.len()) {
                write!(f, "  {:>5}", cell.map_or_else(|| "-".into(), |value| format!("{value:.3}")))?;
            }
        }
        Ok(())
    }
}

/// A class's name as it may go to a terminal.
fn shown(name: &str) -> String {
    name.replace(char::is_control, "?")
}

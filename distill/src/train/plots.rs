//! Curves of a training, as pictures.

use super::metrics::{Metrics, Record};
use crate::error::{Error, Result};
use plotters::prelude::*;
use pupil::output;
use std::path::Path;

/// A line of a plot: its name, its colour, and its points.
struct Curve<'a> {
    name: &'a str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(214, 118, 20);
/// Of several trainings, one after the other.
const COLOURS: [RGBColor; 6] =
    [BLUE, ORANGE, RGBColor(44, 140, 60), RGBColor(190, 50, 60), RGBColor(130, 90, 180), RGBColor(110, 110, 110)];

/// What the curves are called.
#[derive(Debug, Clone, Copy)]
pub struct Captions {
    /// The losses.
    pub loss: &'static str,
    /// The one on the validation part.
    pub validation: &'static str,
    /// The score.
    pub score: &'static str,
}

/// Draws `loss.svg`, and `score.svg` if scores were measured, into a folder.
///
/// # Errors
/// `Io` if they cannot be written.
pub fn draw(folder: &Path, records: &[Record], captions: Captions) -> Result<()> {
    let curve = |name, colour, y: &dyn Fn(&Record) -> Option<f64>| Curve {
        name,
        colour,
        points: records.iter().filter_map(|record| Some((record.step as f64, y(record)?))).collect(),
    };
    let training = curve("training", BLUE, &|record| Some(record.loss));
    let validation = curve(captions.validation, ORANGE, &|record| record.validation);
    let losses: Vec<_> = [training, validation].into_iter().filter(|curve| !curve.points.is_empty()).collect();
    plot(&folder.join("loss.svg"), captions.loss, &losses)?;
    let scores = curve("validation", ORANGE, &|record| record.score);
    match scores.points.is_empty() {
        true => Ok(()),
        false => plot(&folder.join("score.svg"), captions.score, &[scores]),
    }
}

/// Draws the scores of several trainings, each a name and its folder, into one picture.
///
/// # Errors
/// `Io` for a file that cannot be read or written, `Format` for a record that is none, `Input` for a folder without scores.
pub fn compare(path: &Path, title: &str, runs: &[(&str, &Path)]) -> Result<()> {
    let mut curves = Vec::new();
    for (&(name, folder), &colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        let metrics = Metrics::read(&folder.join("metrics.jsonl"), u64::MAX)?;
        let point = |record: &Record| Some((record.step as f64, record.score?));
        let points: Vec<_> = metrics.iter().filter_map(point).collect();
        if points.is_empty() {
            return Err(Error::input(format!("{}: no scores, expected the folder of a training", folder.display())));
        }
        curves.push(Curve { name, colour, points });
    }
    plot(path, title, &curves)
}

fn plot(path: &Path, title: &str, curves: &[Curve]) -> Result<()> {
    let mut text = String::new();
    draw_into(&mut text, title, curves).map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    Ok(output::write(path, text.as_bytes())?)
}

fn draw_into(text: &mut String, title: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let finite = || curves.iter().flat_map(|curve| &curve.points).filter(|(_, y)| y.is_finite());
    let last = finite().map(|&(x, _)| x).fold(1.0, f64::max);
    let (low, high) = finite().fold((f64::MAX, f64::MIN), |(low, high), &(_, y)| (low.min(y), high.max(y)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let room = ((high - low) * 0.05).max(1e-3);

    let area = SVGBackend::with_string(text, (800, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..last, low - room..high + room)?;
    chart.configure_mesh().x_desc("step").light_line_style(WHITE).x_label_formatter(&|x| format!("{x:.0}")).draw()?;
    for &Curve { name, colour, ref points } in curves {
        let points = points.iter().copied().filter(|(_, y)| y.is_finite());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_become_pictures_whatever_they_are() {
        let folder = std::env::temp_dir().join(format!("pupil-plots-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let record = |step: u64| Record {
            step,
            loss: if step == 7 { f64::NAN } else { 5.0 / step as f64 },
            validation: step.is_multiple_of(5).then_some(1.0),
            score: step.is_multiple_of(5).then_some(20.0),
            ..Record::default()
        };
        for records in [vec![], vec![record(1)], (1..40).map(record).collect::<Vec<_>>()] {
            let captions = Captions { loss: "loss", validation: "validation", score: "BLEU" };
            draw(&folder, &records, captions).unwrap();
        }
        let lines: Vec<String> = (1..40)
            .map(|step| serde_json::to_string(&record(step)).unwrap() + "\n")
            .filter(|line| !line.contains("null"))
            .collect();
        std::fs::write(folder.join("metrics.jsonl"), lines.concat()).unwrap();
        compare(&folder.join("both.svg"), "BLEU", &[("labels", &folder), ("distilled", &folder)]).unwrap();
        std::fs::write(folder.join("metrics.jsonl"), "").unwrap();
        let error = compare(&folder.join("both.svg"), "BLEU", &[("labels", &folder)]).unwrap_err();
        assert!(error.to_string().contains("no scores"), "{error}");

        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(read("loss.svg").contains("<polyline") && read("loss.svg").contains("training"));
        assert!(read("score.svg").contains("BLEU"));
        assert!(read("both.svg").contains("distilled"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

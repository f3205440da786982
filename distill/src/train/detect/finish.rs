//! The files that come out: in f32, and in bytes if the recipe says so.

use super::{FileReport, Report, parameters, trainer::Trainer};
use crate::{
    detector::export::{geometry, write},
    error::{Error, Result},
    recipe::detect::{LossRecipe, QuantizeRecipe},
    train::{
        Watch,
        course::Course,
        file::{Key, file_name, texts},
    },
};
use pupil::{
    Picture,
    calibrate::{self, Samples, calibrate},
    nets::convnet::weights::Draft,
};
use std::fs;

/// The file in f32, where one in bytes comes out.
const FLOATS: &str = "f32.gguf";

impl Trainer<'_> {
    /// Writes and measures the best student's files, and the curves.
    ///
    /// # Errors
    /// `Io` if they cannot be written.
    pub fn finish(&mut self, watch: &mut dyn Watch) -> Result<Report> {
        self.draw()?;
        let (weights, step) = self.best()?;
        let (draft, spec) = self.export(&weights).draft()?;
        let output = &self.recipe.output;
        let mut made = Vec::new();
        match &self.recipe.quantize {
            None => made.push(("f32", draft, output.file.clone())),
            Some(quantize) => {
                let bytes = self.quantized(&draft, quantize, watch)?;
                made.push(("f32", draft, self.path(FLOATS)));
                made.push(("int8", bytes, output.file.clone()));
            }
        }
        let (mut reports, mut floats) = (Vec::new(), None);
        for (arithmetic, draft, path) in made {
            // What is measured is the file; then its own scores are put into it.
            write(&path, &draft, &spec, &[])?;
            let answers = self.exam(self.data.validation.iter().chain(&self.data.test)).take(&path)?;
            let ap = answers.scores.total.ap.unwrap_or(0.0);
            let mut keys = self.card();
            keys.push(("pupil.score.map".into(), (ap as f32).into()));
            keys.extend(answers.scores.total.ap50.map(|ap50| ("pupil.score.ap50".into(), (ap50 as f32).into())));
            keys.extend(floats.map(|ap: f64| ("pupil.score.map_f32".into(), (ap as f32).into())));
            write(&path, &draft, &spec, &keys)?;
            floats.get_or_insert(ap);
            let bytes = fs::metadata(&path).map_err(|error| Error::io(&path, &error))?.len() as usize;
            let (scores, milliseconds) = (answers.scores, answers.milliseconds);
            reports.push(FileReport { path, arithmetic, bytes, scores, milliseconds });
        }
        let measured_on = self.measured_on();
        Ok(Report { parameters: parameters(&self.student), step, files: reports, measured_on })
    }

    fn measured_on(&self) -> &'static str {
        if self.data.test.is_empty() { "validation" } else { "validation and test" }
    }

    /// The network in bytes, by what is seen on training pictures.
    fn quantized(&self, draft: &Draft, recipe: &QuantizeRecipe, watch: &mut dyn Watch) -> Result<Draft> {
        let photos = self.data.album.photos();
        let count = recipe.pictures.min(photos.len());
        let geometry = geometry(self.recipe.student.size);
        let mut place = |i: usize, out: &mut [f32]| {
            geometry.place(&Picture::open(&photos[i * photos.len() / count].path)?, out);
            Ok(())
        };
        let mut samples = Samples { count, place: &mut place };
        let options = calibrate::Options { threads: self.threads, budget: recipe.budget };
        let (draft, report) = calibrate(draft, &mut samples, &options, |_| {})?;
        let (converted, kept, loss) = (report.converted, report.kept.len(), 100.0 * report.loss);
        watch.say(&format!(
            "int8: {converted} convolutions in bytes, {kept} in f32; rounding takes {loss:.3} % of the variance"
        ));
        Ok(draft)
    }

    /// What a file says about the student: where it comes from.
    fn card(&self) -> Vec<Key> {
        let (recipe, output) = (self.recipe, &self.recipe.output);
        let teacher = recipe.teacher.as_ref().and_then(|teacher| file_name(&teacher.file));
        let mut keys = texts(&[
            ("general.name", output.name.as_deref()),
            ("general.license", output.license.as_deref()),
            ("pupil.data", output.data.as_deref()),
            ("pupil.teacher", teacher.as_deref()),
            ("pupil.score.on", Some(self.measured_on())),
        ]);
        let loss = &recipe.loss;
        let mut words = format!("classes {}, boxes {}, bins {}", loss.classes, loss.boxes, loss.bins);
        if recipe.teacher.is_some() {
            let LossRecipe { kd_classes, kd_boxes, kd_features, .. } = loss;
            words += &format!(", kd_classes {kd_classes}, kd_boxes {kd_boxes}, kd_features {kd_features}");
        }
        keys.push(("pupil.loss".into(), words.into()));
        keys
    }
}

//! Which pictures come when, and how they are changed. All of it follows from the seed and the number of the step.

use super::{Truth, album::Album, augment::Augment};
use crate::error::{Error, Result};
use pupil::{Picture, image::Geometry};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Pictures of a step.
pub struct Batch {
    /// `[pictures][height][width][3]`, normalised.
    pub pixels: Vec<f32>,
    /// The same before that, for teachers.
    pub pictures: Vec<Picture>,
    /// Their boxes in pixels, or `None` where nobody has said what there is.
    pub truths: Vec<Option<Vec<Truth>>>,
}

/// Makes batches of pictures.
pub struct Loader {
    album: Arc<Album>,
    /// Numbers of the pictures with labels, and of those without.
    labelled: Vec<usize>,
    unlabelled: Vec<usize>,
    /// How often those with labels come in an epoch.
    repeat: usize,
    batch: usize,
    geometry: Geometry,
    seed: u64,
}

impl Loader {
    /// Loads the pictures of an album, `batch` at a time, at the size and with the normalisation of `geometry`.
    pub fn new(album: Arc<Album>, geometry: Geometry, batch: usize, repeat: usize, seed: u64) -> Self {
        let (labelled, unlabelled) =
            (0..album.photos().len()).partition(|&number| album.photos()[number].boxes.is_some());
        Self { album, labelled, unlabelled, repeat, batch, geometry, seed }
    }

    /// Pictures of an epoch.
    pub fn epoch(&self) -> usize {
        self.labelled.len() * self.repeat + self.unlabelled.len()
    }

    /// Whether any picture has labels.
    pub fn has_labels(&self) -> bool {
        !self.labelled.is_empty()
    }

    /// The pictures of the step after `step` others. Where nobody teaches, pictures without labels are replaced by others.
    ///
    /// # Errors
    /// `Io` or `Format` for a picture that has become unreadable.
    pub fn batch(&self, step: u64, augment: &Augment, taught: bool) -> Result<Batch> {
        let Geometry { width, height, .. } = self.geometry;
        let mut batch = Batch { pixels: vec![0.0; self.batch * height * width * 3], pictures: vec![], truths: vec![] };
        let mut order = (u64::MAX, Vec::new());
        let places = batch.pixels.chunks_exact_mut(height * width * 3);
        for (place, pixels) in (step * self.batch as u64..).zip(places) {
            let (epoch, at) = (place / self.epoch() as u64, (place % self.epoch() as u64) as usize);
            if order.0 != epoch {
                order = (epoch, self.order(epoch));
            }
            // Even streams are those of epochs.
            let mut random = self.random(2 * place + 1);
            let mut number = order.1[at];
            if !taught && self.album.photos()[number].boxes.is_none() && self.has_labels() {
                number = pick(&self.labelled, &mut random);
            }
            let (picture, truths) = self.load(number, augment, &mut random)?;
            self.geometry.place(&picture, pixels);
            batch.pictures.push(picture);
            batch.truths.push(truths);
        }
        Ok(batch)
    }

    /// The order of an epoch.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let labelled = self.labelled.iter().copied();
        let mut order: Vec<usize> = (0..self.repeat).flat_map(|_| labelled.clone()).collect();
        order.extend(&self.unlabelled);
        order.shuffle(&mut self.random(2 * epoch));
        order
    }

    fn random(&self, stream: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(stream);
        random
    }

    /// One picture, changed at random, alone or with three others of its kind.
    fn load(&self, number: usize, augment: &Augment, random: &mut ChaCha8Rng) -> Result<(Picture, Option<Vec<Truth>>)> {
        let has_labels = self.album.photos()[number].boxes.is_some();
        let mut samples = vec![self.album.sample(number)?];
        if augment.is_mosaic(random) {
            let others = if has_labels { &self.labelled } else { &self.unlabelled };
            for _ in 0..3 {
                samples.push(self.album.sample(pick(others, random))?);
            }
        }
        let samples: Vec<_> = samples.iter().map(Arc::as_ref).collect();
        let Geometry { width, height, fill, .. } = self.geometry;
        let made = augment.apply(&samples, [width, height], fill, random)?;
        let picture = Picture::from_rgb(width, height, made.rgb).map_err(Error::from)?;
        Ok((picture, has_labels.then_some(made.boxes)))
    }
}

fn pick(numbers: &[usize], random: &mut ChaCha8Rng) -> usize {
    numbers[random.random_range(0..numbers.len())]
}

#[cfg(test)]
mod tests {
    use super::super::album::Photo;
    use super::*;
    use crate::detector::export::geometry;
    use std::{collections::BTreeMap, fs};

    /// Two pictures with labels and three without, each of a grey of its own.
    fn loader(name: &str, seed: u64, repeat: usize) -> Loader {
        let folder = std::env::temp_dir().join(format!("pupil-batches-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let photo = |i: usize| {
            let path = folder.join(format!("{i}.png"));
            Picture::from_rgb(32, 32, vec![10 * i as u8; 3 * 32 * 32]).unwrap().save(&path).unwrap();
            let boxes = (i < 2).then(|| vec![Truth::new(i, [4.0, 4.0, 20.0, 20.0])]);
            Photo { path, size: None, boxes }
        };
        let (album, _) = Album::new((0..5).map(photo).collect(), [32, 32], 1 << 20).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        Loader::new(Arc::new(album), geometry([32, 32]), 4, repeat, seed)
    }

    fn plain() -> Augment {
        Augment { flip: 0.0, scale: [1.0; 2], stretch: 0.0, colour: 0.0, mosaic: 0.0, keep: 0.3, mosaic_until: 1.0 }
    }

    fn greys(batch: &Batch) -> Vec<u8> {
        batch.pictures.iter().map(|picture| picture.rgb()[0] / 10).collect()
    }

    #[test]
    fn every_picture_comes_as_often_as_it_should() {
        let loader = loader("often", 1, 2);
        assert_eq!(loader.epoch(), 7);
        let mut count = BTreeMap::new();
        for step in 0..7 {
            let batch = loader.batch(step, &plain(), true).unwrap();
            for (grey, truths) in greys(&batch).into_iter().zip(&batch.truths) {
                *count.entry(grey).or_insert(0) += 1;
                assert_eq!(truths.as_ref().map(|boxes| boxes[0].class), (grey < 2).then_some(grey.into()));
            }
        }
        // Four epochs.
        assert_eq!(count, BTreeMap::from([(0, 8), (1, 8), (2, 4), (3, 4), (4, 4)]));
    }

    #[test]
    fn seed_and_step_decide_everything() {
        let (one, other) = (loader("same", 1, 1), loader("other", 2, 1));
        let make = |loader: &Loader, step| loader.batch(step, &Augment::default(), true).unwrap();
        assert!(make(&one, 3).pixels == make(&one, 3).pixels);
        assert!(make(&one, 3).pixels != make(&one, 4).pixels);
        assert!(make(&one, 3).pixels != make(&other, 3).pixels);
    }

    #[test]
    fn untaught_students_see_pictures_with_labels_only() {
        let loader = loader("untaught", 1, 1);
        for step in 0..5 {
            let batch = loader.batch(step, &plain(), false).unwrap();
            assert!(batch.truths.iter().all(Option::is_some) && greys(&batch).iter().all(|&grey| grey < 2));
            // Others of a mosaic are of the same kind.
            let batch = loader.batch(step, &Augment { mosaic: 1.0, ..plain() }, false).unwrap();
            let is_known = |pixel: &u8| [0, 10, 114].contains(pixel);
            assert!(batch.pictures.iter().all(|picture| picture.rgb().iter().all(is_known)));
        }
    }

    #[test]
    fn pixels_are_normalised() {
        let loader = loader("normal", 1, 1);
        let batch = loader.batch(0, &plain(), true).unwrap();
        let grey = f32::from(batch.pictures[0].rgb()[0]);
        let Geometry { mean, std, .. } = geometry([32, 32]);
        assert!((batch.pixels[1] - (grey - mean[1]) / std[1]).abs() < 1e-5);
    }
}

//! From a recipe to pictures: read, checked and counted.

use crate::{
    data::{
        Bad,
        detect::{
            Dataset, Item,
            album::{Album, Photo},
        },
    },
    detector::{Config, Teacher},
    error::{Error, Result},
    recipe::detect::{Part, Recipe},
};
use pupil::image::list;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::sync::Arc;

/// Pictures, ready for training.
pub struct Prepared {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// What the student learns from.
    pub album: Arc<Album>,
    /// By what its best state is chosen.
    pub validation: Vec<Item>,
    /// What its files are measured on, besides that.
    pub test: Vec<Item>,
}

impl Prepared {
    /// Reads the data of a recipe. `say` is told what was found, and what had to be left out.
    ///
    /// # Errors
    /// What [`Dataset::open`] refuses; `Input` for parts with other classes, or if nothing is left.
    pub fn new(recipe: &Recipe, say: &mut dyn FnMut(String)) -> Result<Self> {
        let data = &recipe.data;
        let train = open(recipe, &data.train, "training", say)?;
        let classes = train.classes.clone();
        let mut held_out = |part: &Part, name: &str| {
            let dataset = open(recipe, part, name, say)?;
            if dataset.classes != classes {
                let (found, expected) = (dataset.classes.join(", "), classes.join(", "));
                return Err(Error::input(format!("{name}: the classes are {found}, expected {expected}")));
            }
            readable(dataset.pictures, name, say)
        };
        let validation = held_out(&data.validation, "validation")?;
        let test = data.test.as_ref().map(|part| held_out(part, "test")).transpose()?.unwrap_or_default();

        let mut photos = photos(train.pictures, data.labelled, recipe.train.seed);
        if recipe.teacher.is_none() {
            photos.retain(|photo| photo.boxes.is_some());
        }
        for folder in &data.unlabelled {
            let found = list(folder, 0)?;
            say(format!("{}: {} pictures without labels", folder.display(), found.len()));
            photos.extend(found.into_iter().map(|path| Photo { path, size: None, boxes: None }));
        }
        // The size that the largest scale asks for.
        let size = recipe.student.size.map(|side| (side as f64 * recipe.augment.scale[1].max(1.0)).ceil() as usize);
        let (album, bad) = Album::new(photos, size, data.cache << 20)?;
        if bad.count > 0 {
            say(bad.summary("pictures"));
        }
        let labelled = album.photos().iter().filter(|photo| photo.boxes.is_some()).count();
        let (all, kept) = (album.photos().len(), album.kept());
        say(format!("training: {labelled} pictures with labels, {} without, {kept} kept in memory", all - labelled));
        Ok(Self { classes, album: Arc::new(album), validation, test })
    }

    /// The teacher that a recipe names, for a student of `config`. `say` is told what it teaches.
    ///
    /// # Errors
    /// As [`Teacher::open`].
    pub fn teacher(
        &self,
        recipe: &Recipe,
        config: &Config,
        threads: usize,
        say: &mut dyn FnMut(String),
    ) -> Result<Option<Teacher>> {
        let Some(named) = &recipe.teacher else { return Ok(None) };
        let (floor, features) = (recipe.loss.floor, !recipe.loss.kd_features.is_zero());
        let teacher = Teacher::open(&named.file, config, &self.classes, &named.classes, floor, features, threads);
        let teacher = teacher.map_err(|error| error.at(recipe.file.display()))?;
        let more = if features { ", features" } else { "" };
        say(format!("teacher: {}, {}{more}", named.file.display(), teacher.route().describe()));
        let strangers: Vec<&str> = teacher.strangers().map(|class| self.classes[class].as_str()).collect();
        if !strangers.is_empty() {
            say(format!("teacher: does not know {}", strangers.join(", ")));
        }
        Ok(Some(teacher))
    }

    /// Boxes to learn from.
    pub fn boxes(&self) -> usize {
        self.album.photos().iter().flat_map(|photo| &photo.boxes).map(Vec::len).sum()
    }
}

fn open(recipe: &Recipe, part: &Part, name: &str, say: &mut dyn FnMut(String)) -> Result<Dataset> {
    let dataset = recipe.dataset(part).map_err(|error| error.at(name))?;
    dataset.odd.lines().for_each(|line| say(format!("{name}: {line}")));
    let without = dataset.odd.unlabelled.count;
    let empty = dataset.pictures.iter().filter(|item| item.boxes.is_empty()).count() - without;
    say(format!("{name}: {} pictures, {empty} of them empty, {} boxes", dataset.pictures.len(), dataset.boxes()));
    Ok(dataset)
}

/// Those pictures that can be read.
fn readable(items: Vec<Item>, name: &str, say: &mut dyn FnMut(String)) -> Result<Vec<Item>> {
    let opened: Vec<Result<(), String>> =
        items.par_iter().map(|item| item.open().map(drop).map_err(|error| error.to_string())).collect();
    let (mut bad, mut good) = (Bad::default(), Vec::new());
    for (item, opened) in items.into_iter().zip(opened) {
        match opened {
            Ok(()) => good.push(item),
            Err(reason) => bad.add(|| reason),
        }
    }
    if bad.count > 0 {
        say(format!("{name}: {}", bad.summary("pictures")));
    }
    match good.is_empty() {
        true => Err(Error::input(format!("{name}: no picture can be read"))),
        false => Ok(good),
    }
}

/// The training pictures, a random part of them with their labels.
fn photos(items: Vec<Item>, labelled: f64, seed: u64) -> Vec<Photo> {
    let count = (labelled * items.len() as f64).round() as usize;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut has_labels = vec![false; items.len()];
    order[..count].iter().for_each(|&chosen| has_labels[chosen] = true);
    let photo = |(item, has_labels): (Item, bool)| Photo {
        path: item.path,
        size: Some(item.size),
        boxes: has_labels.then_some(item.boxes),
    };
    items.into_iter().zip(has_labels).map(photo).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_part_keeps_its_labels() {
        let item = |name: usize| Item { path: format!("{name}").into(), size: (10, 10), boxes: vec![] };
        let kept = |part: f64, seed: u64| -> Vec<bool> {
            photos((0..50).map(item).collect(), part, seed).iter().map(|photo| photo.boxes.is_some()).collect()
        };
        assert_eq!(kept(0.1, 1).iter().filter(|&&kept| kept).count(), 5);
        assert_eq!(kept(0.1, 1), kept(0.1, 1));
        assert_ne!(kept(0.1, 1), kept(0.1, 2));
        assert!(kept(1.0, 1).iter().all(|&kept| kept) && !kept(0.0, 1).contains(&true));
    }
}

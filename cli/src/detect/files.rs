//! Which pictures to look at, and where their copies go.

use crate::failure::{Failure, Outcome};
use pupil::{
    image::{self, EXTENSIONS, is_picture},
    output,
};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// The files that `inputs` name: files as they are, and the pictures in folders, sorted.
pub fn list(inputs: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        match input.is_dir() {
            true => files.extend(image::list(input, 0)?),
            false => files.push(input.clone()),
        }
    }
    Ok(files)
}

/// Where pictures with boxes go.
pub enum Output {
    Nowhere,
    File(PathBuf),
    Folder(PathBuf),
}

impl Output {
    /// A file for a single picture whose name ends as a picture's does, else a folder, which is made.
    pub fn new(path: Option<&Path>, files: &[PathBuf]) -> Outcome<Self> {
        let Some(path) = path else { return Ok(Self::Nowhere) };
        if is_picture(path) && !path.is_dir() {
            return match files {
                [_] => Ok(Self::File(path.to_owned())),
                _ => {
                    let (n, path) = (files.len(), path.display());
                    Err(Failure::Message(format!("{path}: one file for {n} pictures, expected a folder")))
                }
            };
        }
        if path.extension().is_some() && !path.is_dir() {
            let (path, endings) = (path.display(), EXTENSIONS.join(", ."));
            let message = format!("{path}: no picture ends so, expected .{endings}, or a folder with no ending");
            return Err(Failure::Message(message));
        }
        let mut names = HashSet::new();
        if let Some(twice) = files.iter().find(|file| !names.insert(file.file_name())) {
            let (path, twice) = (path.display(), twice.display());
            return Err(Failure::Message(format!("{twice}: another picture of that name goes to {path} as well")));
        }
        fs::create_dir_all(path).map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?;
        Ok(Self::Folder(path.to_owned()))
    }

    /// Where the copy of the picture called `name` goes. Never onto the picture itself, nor onto the model.
    pub fn place(&self, name: &Path, model: Option<&Path>) -> Outcome<Option<PathBuf>> {
        let place = match self {
            Self::Nowhere => return Ok(None),
            Self::File(path) => path.clone(),
            Self::Folder(folder) => {
                let place = folder.join(name.file_name().unwrap_or_default());
                if is_picture(&place) { place } else { place.with_extension("png") }
            }
        };
        output::check(&place, model.into_iter().chain([name]))?;
        Ok(Some(place))
    }
}

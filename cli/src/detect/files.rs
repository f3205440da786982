//! Which pictures to look at, and where their copies go.

use crate::failure::{Failure, Outcome};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// What the names of pictures end with.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Whether a path ends as a picture's does.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The files that `inputs` name: files as they are, and the pictures in folders, sorted.
pub fn list(inputs: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let unreadable = |error: std::io::Error| Failure::Message(format!("{}: {error}", input.display()));
        let entries = fs::read_dir(input).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let mut pictures: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        pictures.retain(|path| is_picture(path) && path.is_file());
        if pictures.is_empty() {
            let (input, endings) = (input.display(), EXTENSIONS.join(", ."));
            return Err(Failure::Message(format!("{input}: no pictures, expected files that end with .{endings}")));
        }
        pictures.sort();
        files.extend(pictures);
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
        let mut names = HashSet::new();
        if let Some(twice) = files.iter().find(|file| !names.insert(file.file_name())) {
            let (path, twice) = (path.display(), twice.display());
            return Err(Failure::Message(format!("{twice}: another picture of that name goes to {path} as well")));
        }
        fs::create_dir_all(path).map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?;
        Ok(Self::Folder(path.to_owned()))
    }

    /// Where the copy of the picture called `name` goes. Never onto the picture itself.
    pub fn place(&self, name: &Path) -> Outcome<Option<PathBuf>> {
        let place = match self {
            Self::Nowhere => return Ok(None),
            Self::File(path) => path.clone(),
            Self::Folder(folder) => {
                let place = folder.join(name.file_name().unwrap_or_default());
                if is_picture(&place) { place } else { place.with_extension("png") }
            }
        };
        let same = |a: &Path, b: &Path| Some(fs::canonicalize(a).ok()? == fs::canonicalize(b).ok()?);
        if same(&place, name) == Some(true) {
            let place = place.display();
            return Err(Failure::Message(format!("{place}: the copy would replace the picture itself")));
        }
        Ok(Some(place))
    }
}

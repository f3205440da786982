//! Which files are pictures.

use crate::{Error, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the names of pictures end with.
pub const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Whether a path ends as a picture's does.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// The pictures in a folder, and in folders in it down to `depth`, sorted; there must be some. Hidden files are none:
/// macOS puts `._a.jpg` beside `a.jpg`.
///
/// # Errors
/// `Io`; `Input` if there are none.
pub fn list(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    walk(folder, depth, &mut pictures)?;
    pictures.sort();
    match pictures.is_empty() {
        true => {
            let (folder, endings) = (folder.display(), EXTENSIONS.join(", ."));
            Err(Error::input(format!("{folder}: no pictures, expected files that end with .{endings}")))
        }
        false => Ok(pictures),
    }
}

fn walk(folder: &Path, depth: usize, pictures: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        match path.is_dir() {
            true if depth > 0 => walk(&path, depth - 1, pictures)?,
            false if is_picture(&path) && !hidden => pictures.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_listed_as_deep_as_asked() {
        let folder = std::env::temp_dir().join(format!("pupil-files-{}", std::process::id()));
        fs::create_dir_all(folder.join("in")).unwrap();
        for name in ["b.JPG", "a.png", "._a.png", "c.txt", "in/d.webp"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names = |depth: usize| -> Vec<PathBuf> {
            let paths = list(&folder, depth).unwrap();
            paths.iter().map(|path| path.strip_prefix(&folder).unwrap().to_path_buf()).collect()
        };
        assert_eq!(names(0), ["a.png", "b.JPG"].map(PathBuf::from));
        assert_eq!(names(1), ["a.png", "b.JPG", "in/d.webp"].map(PathBuf::from));
        fs::remove_file(folder.join("in/d.webp")).unwrap();
        let error = list(&folder.join("in"), 9).unwrap_err().to_string();
        assert!(
            error.ends_with("in: no pictures, expected files that end with .jpg, .jpeg, .png, .bmp, .webp"),
            "{error}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}

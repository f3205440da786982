//! Where a file's bytes go: a file appears at its path when it is whole, and until then what was there stays.

use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Refuses, before anything is done for it, an output that cannot be written or that would replace one of `inputs`.
///
/// # Errors
/// `Input` for a folder, for a name in a folder that is not there, and for a file that is one of the inputs.
pub fn check<P: AsRef<Path>>(path: &Path, inputs: impl IntoIterator<Item = P>) -> Result<()> {
    let folder = path.as_os_str().as_encoded_bytes().last().is_none_or(|&end| end == b'/') || path.is_dir();
    if folder || path.file_name().is_none() {
        return Err(Error::input(format!("{:?} is a folder, expected the name of a file", path.display().to_string())));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(Error::input(format!("{} is not there, expected a folder", folder.display())));
    }
    // A terminal may well be both.
    let same = |input: &Path| Some(path.is_file() && fs::canonicalize(path).ok()? == fs::canonicalize(input).ok()?);
    match inputs.into_iter().any(|input| same(input.as_ref()) == Some(true)) {
        true => Err(Error::input("would replace a file that is read, expected another name").at(path.display())),
        false => Ok(()),
    }
}

/// A file that is being written. It replaces what is at its path when it is [finished](Self::finish); if it is dropped
/// before, nothing of it stays. Links are followed, and what is no regular file, such as a pipe, is written as it is.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    replacement: Option<Replacement>,
}

/// A file under another name, and what it is to replace.
#[derive(Debug)]
struct Replacement {
    part: PathBuf,
    target: PathBuf,
}

impl Output {
    /// Begins a file.
    ///
    /// # Errors
    /// `Io` if there cannot be one, or may not.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, replacement) = begin(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), replacement })
    }

    /// Ends the file; it is on the disk then.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<()> {
        let regular = self.replacement.is_some();
        let synced = self.file.flush().and_then(|()| if regular { self.file.get_ref().sync_all() } else { Ok(()) });
        synced.map_err(|error| Error::io(&self.path, &error))?;
        self.appear()
    }

    /// Ends the file without waiting for the disk, which would take longer than to draw a frame of a video.
    pub(crate) fn appear(mut self) -> Result<()> {
        let appeared = self.file.flush().and_then(|()| match &self.replacement {
            Some(Replacement { part, target }) => fs::rename(part, target),
            None => Ok(()),
        });
        appeared.map_err(|error| Error::io(&self.path, &error))?;
        self.replacement = None;
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(Replacement { part, .. }) = &self.replacement {
            // Half a file would only take room on a disk that may be full.
            let _ = fs::remove_file(part);
        }
    }
}

fn begin(path: &Path) -> io::Result<(File, Option<Replacement>)> {
    let there = match fs::metadata(path) {
        Ok(data) if data.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder, expected a file"));
        }
        Ok(data) => Some(data),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut target = path.to_path_buf();
    while !is_open(&target)
        && let Ok(link) = fs::read_link(&target)
    {
        target = target.parent().unwrap_or(Path::new("")).join(link);
    }
    if there.as_ref().is_some_and(|data| !data.is_file()) || is_open(&target) {
        return Ok((OpenOptions::new().append(true).open(path)?, None));
    }
    if there.is_some() {
        // What may not be written may not be replaced either.
        OpenOptions::new().write(true).open(path)?;
    }
    let (file, part) = beside(&target)?;
    let replacement = Replacement { part, target };
    if let Some(data) = there {
        file.set_permissions(data.permissions())?;
    }
    Ok((file, Some(replacement)))
}

/// Whether a path stands for a file that is open, as /dev/stdout does, which leads to one of these.
fn is_open(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/dev/fd")
}

/// A new file in the same folder. Its name is nobody's: what has it already, be it a link, stays as it is.
fn beside(target: &Path) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = target.with_file_name(format!(".pupil-{}-{count}.part", std::process::id()));
        match File::create_new(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return Ok((created?, part)),
        }
    }
}

/// Writes a file at once; see [`Output`].
///
/// # Errors
/// `Io`.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut out = Output::create(path)?;
    out.write_all(bytes).map_err(|error| Error::io(path, &error))?;
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// An empty folder for the test called `test`.
    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pupil-output-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_whole_or_what_it_was() {
        let folder = folder("whole");
        let path = folder.join("a");
        write(&path, b"old").unwrap();
        let mut out = Output::create(&path).unwrap();
        out.write_all(b"new").unwrap();
        out.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(out);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(&folder).unwrap().count()), (b"new".to_vec(), 1));
        let error = write(&folder, b"x").unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.to_string().contains("is a folder"), "{error}");
        assert!(write(&folder.join("no/such"), b"x").unwrap_err().to_string().contains("no/such: "));
    }

    #[cfg(unix)]
    #[test]
    fn links_permissions_and_devices_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = folder("links");
        let [real, link, far] = ["real", "link", "far"].map(|name| folder.join(name));
        symlink("real", &link).unwrap();
        symlink("link", &far).unwrap();
        write(&far, b"through both").unwrap();
        assert!(link.is_symlink() && far.is_symlink() && !real.is_symlink());
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        write(&link, b"again").unwrap();
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&far).unwrap(), b"again");
        write(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        #[cfg(target_os = "linux")]
        assert!(write(Path::new("/dev/full"), b"x").unwrap_err().to_string().starts_with("/dev/full: No space"));
    }

    #[test]
    fn what_would_be_lost_or_could_not_be_written_is_refused_at_once() {
        let folder = folder("check");
        let path = folder.join("a");
        fs::write(&path, "text").unwrap();
        let refused = |path: &Path, inputs: &[&Path]| check(path, inputs).unwrap_err().to_string();
        assert!(
            refused(&folder.join("./a"), &[&folder.join("b"), &path]).contains("would replace a file that is read")
        );
        assert!(check(&path, [folder.join("b")]).is_ok() && check(&folder.join("b"), [&path]).is_ok());
        for bad in [&folder, Path::new(""), Path::new("."), &folder.join("new/"), &folder.join("..")] {
            assert!(refused(bad, &[]).contains("is a folder, expected the name of a file"), "{bad:?}");
        }
        assert!(refused(&folder.join("no/such"), &[]).ends_with("no is not there, expected a folder"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a", folder.join("link")).unwrap();
            assert!(refused(&folder.join("link"), &[&path]).contains("would replace"));
            assert!(check(Path::new("/dev/null"), ["/dev/null"]).is_ok());
        }
    }
}

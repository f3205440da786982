//! The pictures of a training, decoded, as many as fit into memory.

use super::{Truth, augment::Sample};
use crate::{
    data::Bad,
    error::{Error, Result},
};
use rayon::prelude::*;
use std::{path::PathBuf, sync::Arc};

/// Pictures that are decoded together while an album is filled.
const TOGETHER: usize = 64;

/// A picture to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    /// Where it is.
    pub path: PathBuf,
    /// Width and height that its boxes are for, if it has any.
    pub size: Option<(usize, usize)>,
    /// Its boxes; `None` if nobody has said what is on it.
    pub boxes: Option<Vec<Truth>>,
}

/// Pictures, of which those that fit into memory are kept there.
pub struct Album {
    photos: Vec<Photo>,
    kept: Vec<Option<Arc<Sample>>>,
    size: [usize; 2],
}

impl Album {
    /// Decodes all pictures once. Those that fit into `bytes` are kept, at no more than about twice the size that students
    /// see who are shown `size`, width and height. What cannot be read is left out.
    ///
    /// # Errors
    /// `Input` if no picture is left.
    pub fn new(photos: Vec<Photo>, size: [usize; 2], bytes: usize) -> Result<(Self, Bad)> {
        let mut album = Self { photos: Vec::new(), kept: Vec::new(), size };
        let (mut bad, mut room) = (Bad::default(), bytes);
        for some in photos.chunks(TOGETHER) {
            let decoded: Vec<Result<Sample>> = some.par_iter().map(|photo| decode(photo, size)).collect();
            for (photo, sample) in some.iter().zip(decoded) {
                match sample {
                    Err(error) => bad.add(|| error.to_string()),
                    Ok(sample) => {
                        let fits = sample.rgb.len() <= room;
                        room -= if fits { sample.rgb.len() } else { 0 };
                        album.photos.push(photo.clone());
                        album.kept.push(fits.then(|| Arc::new(sample)));
                    }
                }
            }
        }
        match album.photos.is_empty() {
            true => Err(Error::input(format!("nothing to train on, {}", bad.summary("pictures")))),
            false => Ok((album, bad)),
        }
    }

    /// The pictures.
    pub fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// How many are kept in memory.
    pub fn kept(&self) -> usize {
        self.kept.iter().flatten().count()
    }

    /// The picture of a number with its boxes, none if there are no labels.
    ///
    /// # Errors
    /// `Io` or `Format` if it has become unreadable.
    pub fn sample(&self, number: usize) -> Result<Arc<Sample>> {
        match &self.kept[number] {
            Some(sample) => Ok(sample.clone()),
            None => decode(&self.photos[number], self.size).map(Arc::new),
        }
    }
}

fn decode(photo: &Photo, size: [usize; 2]) -> Result<Sample> {
    let picture = super::open(&photo.path, photo.size)?;
    let boxes = photo.boxes.clone().unwrap_or_default();
    let mut sample = Sample { size: [picture.width(), picture.height()], rgb: picture.rgb().to_vec(), boxes };
    // A picture that is shown at half its size or less would only cost memory, and lines thinner than two pixels would be
    // lost between the pixels that are looked at.
    while sample.size[0] >= 2 * size[0] && sample.size[1] >= 2 * size[1] {
        sample = halved(&sample);
    }
    Ok(sample)
}

/// The picture at half its size: each pixel is the mean of four.
fn halved(sample: &Sample) -> Sample {
    let [width, height] = sample.size.map(|side| side / 2);
    let line = |y: usize| &sample.rgb[3 * y * sample.size[0]..][..6 * width];
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        let pairs = line(2 * y).chunks_exact(6).zip(line(2 * y + 1).chunks_exact(6));
        for (above, below) in pairs {
            rgb.extend((0..3).map(|c| {
                let sum: u16 = [above[c], above[c + 3], below[c], below[c + 3]].map(u16::from).iter().sum();
                ((sum + 2) / 4) as u8
            }));
        }
    }
    let half = |truth: &Truth| Truth { rect: truth.rect.map(|edge| edge / 2.0), area: truth.area / 4.0, ..*truth };
    Sample { size: [width, height], rgb, boxes: sample.boxes.iter().map(half).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pupil::Picture;
    use std::fs;

    #[test]
    fn what_fits_is_kept_and_what_cannot_be_read_is_left_out() {
        let folder = std::env::temp_dir().join(format!("pupil-album-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let photo = |name: &str, side: usize, says: usize| {
            let path = folder.join(name);
            Picture::from_rgb(side, side, vec![100; 3 * side * side]).unwrap().save(&path).unwrap();
            Photo { path, size: Some((says, says)), boxes: Some(vec![Truth::new(0, [0.0, 0.0, 8.0, 4.0])]) }
        };
        let broken = Photo { path: folder.join("broken.png"), ..photo("a.png", 16, 16) };
        fs::write(&broken.path, b"no picture").unwrap();
        let photos = vec![photo("a.png", 16, 16), broken, photo("b.png", 67, 67), photo("c.png", 16, 20)];
        // One of 16 x 16, and one that is halved twice.
        let (album, bad) = Album::new(photos.clone(), [16, 16], 2000).unwrap();
        assert_eq!((album.photos().len(), album.kept()), (2, 2));
        assert_eq!((bad.count, bad.first.len()), (2, 2));
        assert!(bad.first[0].contains("broken.png") && bad.first[1].contains("boxes are for 20x20"), "{bad:?}");
        let sample = album.sample(1).unwrap();
        assert_eq!((sample.size, sample.boxes[0].rect), ([16, 16], [0.0, 0.0, 2.0, 1.0]));
        assert!(sample.rgb.iter().all(|&x| x == 100));

        let (album, _) = Album::new(photos[..1].to_vec(), [16, 16], 100).unwrap();
        assert_eq!((album.kept(), album.sample(0).unwrap().size), (0, [16, 16]));
        assert!(Album::new(photos[1..2].to_vec(), [16, 16], 100).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

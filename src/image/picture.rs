//! A picture in memory, and its way from and to a file.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use ::image::codecs::jpeg::JpegEncoder;
use ::image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader};
use ::image::{Limits, Rgba};

use super::jpeg::{End, Walk};
use crate::{Error, ErrorKind, Result, error::one_line, output::Output};

/// The longest side of a picture, in pixels.
pub(super) const MAX_SIDE: usize = 16_384;
/// The most bytes of a picture file, and of a picture decoded.
pub(super) const MAX_BYTES: u64 = 256 << 20;

const JPEG_QUALITY: u8 = 92;

/// A picture: 8-bit RGB, rows from top to bottom.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

impl Picture {
    /// A picture of `width * height` pixels, three bytes each: red, green, blue.
    ///
    /// # Errors
    /// A side of 0 or of more than 16,384 pixels, or a wrong number of bytes.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        check_sides(width as u64, height as u64).map_err(|error| Error::input(error.to_string()))?;
        let expected = width * height * 3;
        if rgb.len() != expected {
            let got = rgb.len();
            return Err(Error::input(format!(
                "a picture of {width} x {height} has {expected} bytes of RGB, not {got}"
            )));
        }
        Ok(Self { width, height, rgb })
    }

    /// Decodes a JPEG, PNG, BMP or WebP file.
    ///
    /// Its EXIF orientation is applied; transparency is laid over white; grey, palettes and 16 bits become 8-bit RGB.
    /// Colour profiles are ignored, and of an animation the first frame is taken.
    ///
    /// # Errors
    /// Bytes that are none of these or are damaged or truncated, and pictures of more than 16,384 pixels a side or
    /// 256 MiB decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let format = format_of(bytes)?;
        let name = name_of(format);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|error| damaged(name, &error))?;
        let (width, height) = decoder.dimensions();
        check_sides(width.into(), height.into())?;
        check_bytes(width, height, decoder.total_bytes())?;
        if format == ImageFormat::Jpeg {
            check_complete(bytes)?;
        }
        // A picture whose EXIF block cannot be read is shown as it is stored.
        let orientation = decoder.orientation().unwrap_or(::image::metadata::Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(|error| damaged(name, &error))?;
        decoded.apply_orientation(orientation);
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        Self::from_rgb(width, height, opaque(decoded))
    }

    /// Reads and [decodes](Self::decode) a file.
    ///
    /// # Errors
    /// What cannot be read, is no regular file or is larger than 256 MiB, and whatever `decode` refuses. The message
    /// starts with the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::decode(&bytes).map_err(|error| error.at(path.display()))
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row after row: red, green, blue.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    pub(super) fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The picture as a PNG file.
    pub fn encode_png(&self) -> Vec<u8> {
        // Sides and length were checked when the picture was made, and a `Vec` takes every write.
        self.encode(ImageFormat::Png).expect("a checked picture can be encoded")
    }

    /// Writes a PNG, JPEG (quality 92), BMP or lossless WebP file, as the extension of `path` says.
    ///
    /// The file appears whole or not at all, as an [`Output`].
    ///
    /// # Errors
    /// Another extension, or what the operating system refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let format = format_for(path)?;
        let bytes = self.encode(format).map_err(|error| Error::input(one_line(error)).at(path.display()))?;
        let mut out = Output::create(path)?;
        out.write_all(&bytes).map_err(|error| Error::io(path, &error))?;
        out.appear()
    }

    fn encode(&self, format: ImageFormat) -> Result<Vec<u8>, ImageError> {
        let (width, height) = (self.width as u32, self.height as u32);
        let mut bytes = Vec::new();
        if format == ImageFormat::Jpeg {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
            encoder.write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)?;
        } else {
            let mut cursor = Cursor::new(&mut bytes);
            ::image::write_buffer_with_format(&mut cursor, &self.rgb, width, height, ExtendedColorType::Rgb8, format)?;
        }
        Ok(bytes)
    }
}

/// The format that the first bytes announce.
fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::format("is empty: expected a JPEG, PNG, BMP or WebP picture"));
    }
    match ::image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::WebP)) => Ok(format),
        Ok(other) => {
            Err(Error::unsupported(format!("is a {}: expected a JPEG, PNG, BMP or WebP picture", name_of(other))))
        }
        Err(_) => Err(Error::format("is no picture: expected the first bytes of a JPEG, PNG, BMP or WebP")),
    }
}

fn name_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Avif => "AVIF",
        _ => "picture of another format",
    }
}

fn check_sides(width: u64, height: u64) -> Result<()> {
    let sides = 1..=MAX_SIDE as u64;
    if sides.contains(&width) && sides.contains(&height) {
        return Ok(());
    }
    Err(Error::format(format!("a picture of {width} x {height}: expected 1 to {MAX_SIDE} pixels a side")))
}

/// Refuses what would take too much memory, as stored in the file or as RGB.
fn check_bytes(width: u32, height: u32, stored: u64) -> Result<()> {
    let bytes = stored.max(u64::from(width) * u64::from(height) * 3);
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let (mib, most) = (bytes >> 20, MAX_BYTES >> 20);
    Err(Error::format(format!("a picture of {width} x {height} is {mib} MiB decoded: expected at most {most}")))
}

/// The decoder fills what is missing of a JPEG with grey; a detector must not be shown that.
fn check_complete(bytes: &[u8]) -> Result<()> {
    match Walk::new(0).go(bytes) {
        End::Missing => Err(Error::format(format!("truncated JPEG: no end of image within its {} bytes", bytes.len()))),
        End::At(_) | End::Damaged(_) => Ok(()),
    }
}

fn damaged(name: &str, error: &ImageError) -> Error {
    match error {
        ImageError::Limits(_) => {
            let most = MAX_BYTES >> 20;
            Error::format(format!(
                "too large a {name}: expected at most {MAX_SIDE} pixels a side and {most} MiB decoded"
            ))
        }
        ImageError::Unsupported(_) => Error::unsupported(format!("this kind of {name}: {}", one_line(error))),
        _ => Error::format(format!("damaged {name}: {}", one_line(error))),
    }
}

/// 8-bit RGB, with what is transparent laid over white.
fn opaque(decoded: DynamicImage) -> Vec<u8> {
    if !decoded.color().has_alpha() {
        return decoded.into_rgb8().into_raw();
    }
    let rgba = decoded.into_rgba8();
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for Rgba([r, g, b, alpha]) in rgba.pixels() {
        rgb.extend([r, g, b].map(|&value| over_white(value, *alpha)));
    }
    rgb
}

fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The bytes of a regular file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |error: io::Error| Error::io(path, &error);
    // Asked before it is opened: opening a pipe would wait for its writer.
    let data = fs::metadata(path).map_err(io)?;
    if !data.is_file() {
        return Err(Error::input("is no regular file: expected a picture").at(path.display()));
    }
    check_file_size(data.len()).map_err(|error| error.at(path.display()))?;
    let mut bytes = Vec::with_capacity(data.len() as usize);
    // One byte more than allowed shows a file that has grown since.
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    check_file_size(bytes.len() as u64).map_err(|error| error.at(path.display()))?;
    Ok(bytes)
}

fn check_file_size(bytes: u64) -> Result<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let (mib, most) = (bytes.div_ceil(1 << 20), MAX_BYTES >> 20);
    Err(Error::format(format!("a file of {mib} MiB: expected a picture of at most {most} MiB")))
}

fn format_for(path: &Path) -> Result<ImageFormat> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("png") => Ok(ImageFormat::Png),
        Some("jpg" | "jpeg") => Ok(ImageFormat::Jpeg),
        Some("bmp") => Ok(ImageFormat::Bmp),
        Some("webp") => Ok(ImageFormat::WebP),
        _ => {
            let message = "cannot be written: expected a name that ends in .png, .jpg, .jpeg, .bmp or .webp";
            Err(Error::new(ErrorKind::Input, message).at(path.display()))
        }
    }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;

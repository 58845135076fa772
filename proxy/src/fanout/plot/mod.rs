//! A [`Report`] as a picture.

mod bitmap;
mod panels;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use plotters::prelude::{IntoDrawingArea, SVGBackend};

use super::report::Report;

/// In pixels.
const SIZE: (u32, u32) = (1100, 900);

/// Where a picture is to be, and in which format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

impl Picture {
    /// The format is what the file's name ends with.
    ///
    /// # Errors
    /// When that is no format.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Format::Svg,
            Some("png") => Format::Png,
            _ => bail!("--plot {}: give a name that ends in .svg or .png", path.display()),
        };
        Ok(Self { path: path.to_path_buf(), format })
    }

    /// Draws it.
    pub(super) fn draw(&self, report: &Report) -> anyhow::Result<()> {
        let bytes = match self.format {
            Format::Svg => svg(report)?.into_bytes(),
            Format::Png => png(report)?,
        };
        std::fs::write(&self.path, bytes)
            .with_context(|| format!("cannot write --plot {}", self.path.display()))
    }
}

fn svg(report: &Report) -> anyhow::Result<String> {
    let mut text = String::new();
    panels::draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), report)?;
    Ok(text)
}

fn png(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut pixels = bitmap::blank(SIZE);
    panels::draw(&bitmap::Bitmap::on(&mut pixels, SIZE).into_drawing_area(), report)?;
    bitmap::png(&pixels, SIZE)
}

/// Errors of drawing have as many types as there are backends.
fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::report::tests::report_of;

    #[test]
    fn the_name_says_the_format() {
        let format = |name: &str| Picture::at(Path::new(name)).map(|picture| picture.format).ok();
        assert_eq!((format("a.svg"), format("b/c.png")), (Some(Format::Svg), Some(Format::Png)));
        let error = Picture::at(Path::new("a.jpg")).unwrap_err().to_string();
        assert!(error.contains("a.jpg") && error.contains(".png"), "{error}");
    }

    #[test]
    fn an_svg_says_what_it_shows() {
        let text = svg(&report_of(&[30, 40, 50])).unwrap();
        for word in ["10.180.0.1:8080", "expected 33.3 %", "p99", "share over time", "120 connections"] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }

    #[test]
    fn a_png_has_as_many_colours_as_endpoints_and_its_size() {
        let bytes = png(&report_of(&[30, 40, 50])).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), SIZE);
        for index in 0..3 {
            let colour = panels::colour(index, 3);
            let pixel = [colour.0, colour.1, colour.2];
            assert!(pixels.chunks(3).filter(|other| *other == pixel).count() > 1_000, "{pixel:?}");
        }
    }

    #[test]
    fn anything_can_be_drawn() {
        for counts in [&[][..], &[0], &[1], &[7; 200]] {
            assert!(svg(&report_of(counts)).unwrap().contains("</svg>"), "{counts:?}");
            assert!(!png(&report_of(counts)).unwrap().is_empty(), "{counts:?}");
        }
    }
}

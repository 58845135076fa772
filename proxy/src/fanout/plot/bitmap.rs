//! Pixels to draw on, with letters that need no font of the system's: containers often have none.

use std::convert::Infallible;

use anyhow::Context;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

/// Red, green and blue of each pixel, row by row.
pub(super) struct Bitmap<'a> {
    size: (u32, u32),
    pixels: &'a mut [u8],
}

/// White.
pub(super) fn blank(size: (u32, u32)) -> Vec<u8> {
    vec![u8::MAX; size.0 as usize * size.1 as usize * 3]
}

/// Pixels as a PNG.
pub(super) fn png(pixels: &[u8], size: (u32, u32)) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("cannot make a PNG")?;
    writer.write_image_data(pixels).context("cannot make a PNG")?;
    writer.finish().context("cannot make a PNG")?;
    Ok(bytes)
}

impl<'a> Bitmap<'a> {
    pub(super) fn on(pixels: &'a mut [u8], size: (u32, u32)) -> Self {
        Self { size, pixels }
    }

    fn blend(&mut self, (x, y): BackendCoord, (red, green, blue): (u8, u8, u8), alpha: f64) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x >= self.size.0 || y >= self.size.1 {
            return;
        }
        let at = (y as usize * self.size.0 as usize + x as usize) * 3;
        let Some(pixel) = self.pixels.get_mut(at..at + 3) else { return };
        for (old, new) in pixel.iter_mut().zip([red, green, blue]) {
            let mixed = f64::from(*old) * (1.0 - alpha) + f64::from(new) * alpha;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
            let mixed = mixed.round().clamp(0.0, 255.0) as u8;
            *old = mixed;
        }
    }
}

/// The letters that come nearest to a style.
fn letters(style: &impl BackendTextStyle) -> (FontWeight, RasterHeight) {
    let weight =
        if matches!(style.style(), FontStyle::Bold) { FontWeight::Bold } else { FontWeight::Regular };
    let height = if style.size() >= 18.0 { RasterHeight::Size20 } else { RasterHeight::Size16 };
    (weight, height)
}

fn signed(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn size(text: &str, (weight, height): (FontWeight, RasterHeight)) -> (i32, i32) {
    let width = get_raster_width(weight, height) * text.chars().count();
    (signed(width), signed(height.val()))
}

impl DrawingBackend for Bitmap<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.blend(point, color.rgb, color.alpha);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        pos: BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (letters, color) = (letters(style), style.color());
        let (width, height) = size(text, letters);
        let left = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => -width / 2,
            HPos::Right => -width,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        for (index, letter) in text.chars().enumerate() {
            let raster = get_raster(letter, letters.0, letters.1);
            let Some(raster) = raster.or_else(|| get_raster('?', letters.0, letters.1)) else { continue };
            for (y, row) in raster.rows().enumerate() {
                for (x, intensity) in row.iter().enumerate() {
                    let at = (left + signed(index * raster.width() + x), top + signed(y));
                    let (x, y) = style.transform().transform(at.0, at.1);
                    let alpha = color.alpha * f64::from(*intensity) / 255.0;
                    self.blend((pos.0 + x, pos.1 + y), color.rgb, alpha);
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = size(text, letters(style));
        Ok((width.unsigned_abs(), height.unsigned_abs()))
    }
}

//! Pictures in a terminal: bars, and cells whose shade tells their value.

use comfy_table::{Cell, CellAlignment, Color};

/// A bar as long as `share` (0–1) of `width` characters, to an eighth of a character; something above nothing shows at least an eighth.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    let mut eighths = (share * width as f64 * 8.0).round() as usize;
    if share > 0.0 {
        eighths = eighths.max(1);
    }
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// A right-aligned cell with a background between nothing and full, by `share` (0–1). Without colours only the text remains.
pub(crate) fn heat(text: String, share: f64) -> Cell {
    let cell = Cell::new(text).set_alignment(CellAlignment::Right);
    if share.is_nan() || share <= 0.0 {
        return cell;
    }
    // From white to a dark blue that light text can still be read on.
    let at = share.min(1.0).sqrt();
    let mix = |light: f64, dark: f64| (light + (dark - light) * at).round() as u8;
    let background = Color::Rgb { r: mix(235.0, 12.0), g: mix(243.0, 74.0), b: mix(255.0, 142.0) };
    let text = if at > 0.55 { Color::White } else { Color::Black };
    cell.bg(background).fg(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 5), "██▌");
        assert_eq!(
            (bar(0.0, 9), bar(1e-9, 9), bar(f64::NAN, 9), bar(7.0, 2)),
            (String::new(), "▏".to_owned(), String::new(), "██".to_owned())
        );
    }
}

//! A bar for each program, with its quartiles, as an SVG drawing.

use std::fmt::Write as _;

use crate::measured::spread::Spread;
use crate::peer::Peer;

const WIDTH: f64 = 840.0;
/// Where bars begin, and where the longest ends.
const LEFT: f64 = 310.0;
const RIGHT: f64 = 760.0;
const TOP: f64 = 44.0;
const STEP: f64 = 26.0;

/// Draws them from top to bottom; ours in another colour.
pub(crate) fn svg(title: &str, bars: &[(String, Spread)]) -> String {
    let greatest = bars
        .iter()
        .map(|(_, spread)| spread.high)
        .fold(0.0, f64::max);
    let x = |figure: f64| LEFT + (RIGHT - LEFT) * figure / greatest.max(f64::MIN_POSITIVE);
    let (mut drawing, mut y) = (String::new(), TOP);
    for (name, spread) in bars {
        let is_ours = name.starts_with(Peer::Ours.name());
        let colour = if is_ours { "#c2410c" } else { "#64748b" };
        let (low, median, high) = (x(spread.low), x(spread.median), x(spread.high));
        let (middle, length) = (y + 9.0, median - LEFT);
        let _ = write!(
            drawing,
            "<text x=\"{label}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"18\" fill=\"{colour}\"/>\n\
             <path d=\"M{low:.1} {middle}H{high:.1}\" stroke=\"#111\" stroke-width=\"1.5\"/>\n\
             <text x=\"{after:.1}\" y=\"{base}\">{figure}</text>\n",
            label = LEFT - 8.0,
            base = y + 14.0,
            after = high.max(median) + 6.0,
            name = escaped(name),
            figure = figure(spread.median),
        );
        y += STEP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n{drawing}</svg>\n",
        escaped(title),
        height = y + 8.0,
    )
}

fn figure(figure: f64) -> String {
    match figure {
        small if small < 10.0 => format!("{small:.2}"),
        large => format!("{large:.0}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

//! [`svg`]: how files, memory and descriptors went over time.

use std::fmt::Write as _;

use super::gauge::Sample;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 130.0;
const MARGIN: f64 = 60.0;

/// A title, and what is shown.
type Panel = (&'static str, fn(&Sample) -> f64);

/// One panel below the other, each with the scale of its greatest value.
pub(crate) fn svg(samples: &[Sample]) -> String {
    let panels: [Panel; 4] = [
        ("session files", |sample| whole(sample.records as u64)),
        ("memory of the responder, KiB", |sample| {
            whole(sample.memory_kib)
        }),
        ("descriptors of the responder", |sample| {
            whole(sample.descriptors as u64)
        }),
        ("temporary files", |sample| whole(sample.temporary as u64)),
    ];
    let height = (HEIGHT + MARGIN) * whole(panels.len() as u64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        WIDTH + 2.0 * MARGIN
    );
    let end = samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
    for (number, (title, measure)) in panels.into_iter().enumerate() {
        let top = MARGIN / 2.0 + (HEIGHT + MARGIN) * whole(number as u64);
        let most = samples.iter().map(measure).fold(1.0, f64::max);
        let bottom = top + HEIGHT;
        let (left, right) = (MARGIN, MARGIN + WIDTH);
        let points: Vec<String> = samples
            .iter()
            .map(|sample| {
                let x = left + WIDTH * sample.at.as_secs_f64() / end;
                let y = bottom - HEIGHT * measure(sample) / most;
                format!("{x:.1},{y:.1}")
            })
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "<text x=\"{left}\" y=\"{:.0}\">{title}</text>\n\
             <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#999\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{most}</text>\n\
             <text x=\"{:.0}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n\
             <text x=\"{right}\" y=\"{:.0}\" text-anchor=\"end\">{end:.0} s</text>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\"/>\n",
            top - 6.0,
            left - 6.0,
            top + 10.0,
            left - 6.0,
            bottom + 14.0,
            points.join(" ")
        );
    }
    text + "</svg>\n"
}

/// Counts here are far below the 2^53 that an `f64` holds exactly.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn whole(number: u64) -> f64 {
    number as f64
}

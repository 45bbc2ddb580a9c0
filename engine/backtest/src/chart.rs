//! Charts as inline SVG: bars, lines and bands on one plain grid.

use std::fmt::Write as _;

/// Width of a chart, pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;

/// A chart under way.
#[derive(Debug)]
pub(crate) struct Chart {
    svg: String,
    height: f64,
    x_max: f64,
    y: (f64, f64),
}

/// What one line of a chart shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) is_dashed: bool,
}

impl Chart {
    /// Returns an empty chart with `x_max` places from left to right and values from the first to the second of `y`.
    pub(crate) fn new(title: &str, height: f64, x_max: f64, y: (f64, f64)) -> Self {
        let full = height + TOP + BOTTOM;
        let mut chart = Self {
            svg: format!(
                r#"<svg viewBox="0 0 {WIDTH} {full}" role="img" aria-label="{title}" preserveAspectRatio="xMidYMid meet">"#
            ),
            height,
            x_max: x_max.max(1.0),
            y: (y.0, if y.1 > y.0 { y.1 } else { y.0 + 1.0 }),
        };
        chart.grid();
        chart
    }

    fn x(&self, place: f64) -> f64 {
        LEFT + place / self.x_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.y.1 - value) / (self.y.1 - self.y.0) * self.height
    }

    fn grid(&mut self) {
        let step = round_step((self.y.1 - self.y.0) / 4.0);
        let mut value = (self.y.0 / step).ceil() * step;
        while value <= self.y.1 + step * 1e-9 {
            let (y, left, right) = (self.y(value), LEFT, WIDTH - RIGHT);
            let text = plain(value, step);
            self.put(&format!(
                r#"<line class="g" x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/><text class="t" x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                left - 6.0,
                y + 4.0
            ));
            value += step;
        }
    }

    fn put(&mut self, svg: &str) {
        self.svg.push_str(svg);
    }

    /// Writes a word under a place.
    pub(crate) fn label(&mut self, place: f64, text: &str, anchor: &str) {
        let (x, y) = (self.x(place), TOP + self.height + 16.0);
        self.put(&format!(
            r#"<text class="t" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// Draws an upright line at a place.
    pub(crate) fn mark(&mut self, place: f64) {
        let (x, top, bottom) = (self.x(place), TOP, TOP + self.height);
        self.put(&format!(
            r#"<line class="g" x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}"/>"#
        ));
    }

    /// Draws a bar from 0 to a value, between two places, which says what it is when pointed at.
    pub(crate) fn bar(&mut self, (from, to): (f64, f64), value: f64, style: Style) {
        let zero = 0.0_f64.clamp(self.y.0, self.y.1);
        let (one, other) = (self.y(zero), self.y(value));
        let (x, y) = (self.x(from), one.min(other));
        let (width, height) = (self.x(to) - x, (one - other).abs());
        let (name, colour) = (style.name, style.colour);
        self.put(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"><title>{name}: {value:.2}</title></rect>"#
        ));
    }

    /// Draws a line through values in the middle of each place; where there is none, it breaks.
    pub(crate) fn line(&mut self, values: impl Iterator<Item = Option<f64>>, style: Style) {
        let mut path = String::new();
        let mut place = 0.5;
        let mut is_open = false;
        for value in values {
            if let Some(value) = value {
                let command = if is_open { 'L' } else { 'M' };
                let (x, y) = (self.x(place), self.y(value.clamp(self.y.0, self.y.1)));
                let _ = write!(path, "{command}{x:.1} {y:.1}");
            }
            is_open = value.is_some();
            place += 1.0;
        }
        let (name, colour) = (style.name, style.colour);
        let dashes = if style.is_dashed {
            r#" stroke-dasharray="4 3""#
        } else {
            ""
        };
        self.put(&format!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dashes}><title>{name}</title></path>"#
        ));
    }

    /// Fills the room between pairs of values.
    pub(crate) fn band(&mut self, values: &[(f64, f64)], style: Style) {
        let mut points = String::new();
        let place = |index: usize| f64::from(u32::try_from(index).unwrap_or(u32::MAX)) + 0.5;
        for (index, (low, _)) in values.iter().enumerate() {
            let (x, y) = (self.x(place(index)), self.y(*low));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        for (index, (_, high)) in values.iter().enumerate().rev() {
            let (x, y) = (self.x(place(index)), self.y(high.min(self.y.1)));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let (name, colour) = (style.name, style.colour);
        self.put(&format!(
            r#"<polygon points="{points}" fill="{colour}" fill-opacity="0.25"><title>{name}</title></polygon>"#
        ));
    }

    /// Returns the chart with what its colours mean.
    pub(crate) fn finish(mut self, styles: &[Style]) -> String {
        self.svg.push_str("</svg>");
        let mut key = String::new();
        for style in styles {
            let dashes = if style.is_dashed { "dashed" } else { "solid" };
            let (name, colour) = (style.name, style.colour);
            let _ = write!(
                key,
                r#"<span class="k"><i style="border-top:3px {dashes} {colour}"></i>{name}</span>"#
            );
        }
        format!(
            r#"<figure>{}<figcaption>{key}</figcaption></figure>"#,
            self.svg
        )
    }
}

/// A step of 1, 2 or 5 times a power of ten, at least as long as `least`.
fn round_step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.max(1e-9).log10().floor());
    let step = [1.0, 2.0, 5.0].map(|digit| digit * power);
    step.into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

fn plain(value: f64, step: f64) -> String {
    let value = value + 0.0;
    if step >= 1.0 {
        format!("{value:.0}")
    } else if step >= 0.1 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

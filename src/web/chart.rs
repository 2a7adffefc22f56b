//! What moved over time, as a small picture in the page itself, and in words for who cannot see it.

use k8s_openapi::jiff::Timestamp;
use maud::{Markup, html};
use std::fmt::Write;

/// The picture's own measure; pages stretch it.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;

/// A line over time.
pub struct Chart<'a> {
    /// Unlike any other on the page; letters, digits and dashes.
    pub id: String,
    /// What it is of, as `Memory`.
    pub name: &'a str,
    /// Whose it is.
    pub of: &'a str,
    /// The oldest first.
    pub points: Vec<(Timestamp, f64)>,
    /// What all would be; the highest point where there is no such.
    pub all: Option<f64>,
    /// Digits after the point.
    pub digits: usize,
    /// What it is counted in; may be empty.
    pub unit: &'a str,
}

impl Chart<'_> {
    /// The picture with its words. One without any point says so.
    pub fn draw(&self) -> Markup {
        let Some((now, least, most)) = self.range() else {
            return html! { figure { figcaption { strong { (self.name) } " " span.soft { "not measured yet" } } } };
        };
        let (number, unit) = (|value: f64| format!("{value:.*}", self.digits), self.unit);
        let all = self.all.map(|all| format!(" of {}", number(all))).unwrap_or_default();
        let (now, between) = (format!("{}{all} {unit}", number(now)), format!("min {}, max {}", number(least), number(most)));
        let (title, words) = (format!("{}-title", self.id), format!("{}-words", self.id));
        let line = self.line();
        html! {
            figure {
                figcaption { strong { (self.name) } " now " (now.trim_end()) br; span.soft { (between) } }
                svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img"
                    aria-labelledby=(format!("{title} {words}"))
                {
                    title id=(title) { (self.name) " of " (self.of) " since " (self.since()) }
                    desc id=(words) { "now " (now.trim_end()) ", " (between) }
                    // An element of SVG that is not closed would hold what comes after it.
                    path.area d=(format!("M0 {HEIGHT}L{line}L{WIDTH} {HEIGHT}Z")) {}
                    path.line d=(format!("M{line}")) {}
                }
            }
        }
    }

    /// The newest, the least and the most.
    fn range(&self) -> Option<(f64, f64, f64)> {
        let (_, now) = self.points.last()?;
        let values = || self.points.iter().map(|(_, value)| *value);
        Some((*now, values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max)))
    }

    fn since(&self) -> String {
        self.points.first().map(|(at, _)| moment(*at)).unwrap_or_default()
    }

    /// The points from the left to the right; a single one is a line.
    fn line(&self) -> String {
        let (Some((first, value)), Some((last, _))) = (self.points.first(), self.points.last()) else { return String::new() };
        let top = self.all.or(self.range().map(|(_, _, most)| most)).filter(|top| *top > 0.0).unwrap_or(1.0);
        let high = |value: f64| HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT;
        let long = last.duration_since(*first).as_secs_f64();
        if long <= 0.0 {
            return format!("0 {0:.1}L{WIDTH} {0:.1}", high(*value));
        }
        let mut line = String::new();
        for (at, value) in &self.points {
            let along = at.duration_since(*first).as_secs_f64() / long * WIDTH;
            let between = if line.is_empty() { "" } else { "L" };
            // Writing to a String cannot fail.
            let _ = write!(line, "{between}{along:.1} {:.1}", high(*value));
        }
        line
    }
}

/// A moment as people read it.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64], all: Option<f64>) -> Chart<'static> {
        let begun: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |nth: usize| begun + std::time::Duration::from_secs(900 * nth as u64);
        let points = values.iter().enumerate().map(|(nth, value)| (at(nth), *value)).collect();
        Chart { id: "c-0".into(), name: "Memory", of: "<rack>", points, all, digits: 1, unit: "GiB" }
    }

    #[test]
    fn it_is_told_in_words_and_drawn_between_nothing_and_all() {
        let page = chart(&[1.0, 4.0, 2.0], Some(4.0)).draw().into_string();
        assert!(
            page.contains("<strong>Memory</strong> now 2.0 of 4.0 GiB<br><span class=\"soft\">min 1.0, max 4.0</span>"),
            "{page}"
        );
        assert!(page.contains("Memory of &lt;rack&gt; since 2026-01-01 12:00 UTC</title>"), "{page}");
        assert!(page.contains("<desc id=\"c-0-words\">now 2.0 of 4.0 GiB, min 1.0, max 4.0</desc>"), "{page}");
        assert!(page.contains("aria-labelledby=\"c-0-title c-0-words\"") && page.contains("role=\"img\""), "{page}");
        assert!(page.contains("d=\"M0.0 36.0L120.0 0.0L240.0 24.0\"></path>"), "{page}");
    }

    #[test]
    fn one_point_is_a_line_and_none_are_words() {
        assert_eq!(chart(&[3.0], Some(4.0)).line(), "0 12.0L240 12.0");
        assert_eq!(chart(&[0.0, 0.0], None).line(), "0.0 48.0L240.0 48.0");
        let page = chart(&[], None).draw().into_string();
        assert!(page.contains("not measured yet") && !page.contains("<svg"), "{page}");
    }
}

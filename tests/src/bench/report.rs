//! Figures, how they are judged, and how they are shown.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<Bound>,
    verdict: Verdict,
    samples: Samples,
}

/// What was measured, in the order in which it was.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Samples {
    pub(super) ours: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) floor: Vec<f64>,
}

/// What a figure should be (`aim`), and what it must be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    /// Ours over the floor, where less is better.
    RatioAtMost { aim: f64, must: f64 },
    /// Ours over the floor, where more is better.
    RatioAtLeast { aim: f64, must: f64 },
    /// Ours, where less is better.
    AtMost { must: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Told,
    Good,
    AimMissed,
    Missed,
}

impl Figure {
    /// The medians of what was measured, judged.
    pub(super) fn new(
        name: impl Into<String>,
        unit: &'static str,
        samples: Samples,
        bound: Option<Bound>,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let ours = median(&samples.ours).with_context(|| format!("{name}: nothing was measured"))?;
        let floor = median(&samples.floor);
        let ratio = floor.map(|floor| ours / floor);
        let verdict = bound.map_or(Verdict::Told, |bound| bound.judge(ours, ratio));
        Ok(Self { name, unit, ours, floor, ratio, bound, verdict, samples })
    }
}

impl Bound {
    fn judge(self, ours: f64, ratio: Option<f64>) -> Verdict {
        let (good, enough) = match (self, ratio) {
            (Self::AtMost { must }, _) => (ours <= must, ours <= must),
            (Self::RatioAtMost { aim, must }, Some(ratio)) => (ratio <= aim, ratio <= must),
            (Self::RatioAtLeast { aim, must }, Some(ratio)) => (ratio >= aim, ratio >= must),
            (_, None) => (false, false),
        };
        match (good, enough) {
            (true, _) => Verdict::Good,
            (false, true) => Verdict::AimMissed,
            (false, false) => Verdict::Missed,
        }
    }

    /// The columns `aim` and `must`.
    fn columns(self, unit: &str) -> [String; 2] {
        match self {
            Self::RatioAtMost { aim, must } => [format!("<= {aim}"), format!("<= {must}")],
            Self::RatioAtLeast { aim, must } => [format!(">= {aim}"), format!(">= {must}")],
            Self::AtMost { must } => [String::new(), format!("<= {must} {unit}")],
        }
    }
}

/// All figures of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    date: String,
    machine: BTreeMap<&'static str, String>,
    quick: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(machine: BTreeMap<&'static str, String>, quick: bool) -> Self {
        let date = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self { date, machine, quick, figures: Vec::new() }
    }

    pub(super) fn add(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.figures.extend(figures);
    }

    /// Whether every figure is what it must be.
    pub(super) fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.verdict != Verdict::Missed)
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// One line a figure.
    pub(super) fn table(&self) -> String {
        let head = ["", "ours", "floor", "ratio", "aim", "must", ""].map(str::to_owned);
        let mut rows = vec![head];
        for Figure { name, unit, ours, floor, ratio, bound, verdict, .. } in &self.figures {
            let [aim, must] = bound.map(|bound| bound.columns(unit)).unwrap_or_default();
            let verdict = match verdict {
                Verdict::Told => "",
                Verdict::Good => "ok",
                Verdict::AimMissed => "ok, aim missed",
                Verdict::Missed => "MISSED",
            };
            rows.push([
                name.clone(),
                format!("{} {unit}", short(*ours)),
                floor.map(|floor| format!("{} {unit}", short(floor))).unwrap_or_default(),
                ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                aim,
                must,
                verdict.to_owned(),
            ]);
        }
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let machine: Vec<String> = self.machine.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut table = format!("{}: {}\n", self.date, machine.join(", "));
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                let written = if matches!(column, 1..=3) {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
                written.unwrap_or_default();
            }
            table.push_str(line.trim_end());
            table.push('\n');
        }
        table
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: &[f64], floor: &[f64], bound: Bound) -> Figure {
        let samples = Samples { ours: ours.to_vec(), floor: floor.to_vec() };
        Figure::new("x", "s", samples, Some(bound)).unwrap()
    }

    #[test]
    fn a_figure_is_the_ratio_of_medians() {
        let figure = figure(&[9.0, 1.0, 2.0], &[4.0, 6.0], Bound::RatioAtMost { aim: 0.5, must: 0.9 });
        assert_eq!((figure.ours, figure.floor, figure.ratio), (2.0, Some(5.0), Some(0.4)));
        assert_eq!(figure.verdict, Verdict::Good);
    }

    #[test]
    fn beyond_the_aim_is_told_and_beyond_the_limit_fails() {
        let less = Bound::RatioAtMost { aim: 0.5, must: 0.9 };
        let more = Bound::RatioAtLeast { aim: 1.0, must: 0.9 };
        for (ours, bound, verdict) in [
            (0.9, less, Verdict::AimMissed),
            (0.91, less, Verdict::Missed),
            (1.0, more, Verdict::Good),
            (0.9, more, Verdict::AimMissed),
            (0.89, more, Verdict::Missed),
            (60.1, Bound::AtMost { must: 60.0 }, Verdict::Missed),
        ] {
            let mut report = Report::new(BTreeMap::new(), true);
            report.add([figure(&[ours], &[1.0], bound)]);
            assert_eq!(report.figures[0].verdict, verdict, "{ours} {bound:?}");
            assert_eq!(report.holds(), verdict != Verdict::Missed);
        }
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(Figure::new("x", "s", Samples::default(), None).is_err());
    }
}

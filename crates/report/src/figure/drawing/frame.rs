//! A panel laid out: how much room everything around its axes needs.

use super::canvas::Area;
use super::heat::Key;
use super::legend::{self, Entry};
use super::place::{Place, Wanted};
use super::plot::{self, Axes};
use super::text::{self, LINE, SMALL, TEXT, TITLE};
use super::ticks::{self, Ticks};
use crate::figure::{Axis, Content, Mark, Panel, Rule, Scale, Series};

/// Length of ticks, and from there to their labels.
pub(super) const TICK: f64 = 4.0;
pub(super) const SPACE: f64 = 3.0;
/// Between labels and the title of an axis.
pub(super) const TITLE_SPACE: f64 = 5.0;
/// Free at the right, if nothing is drawn there.
const RIGHT: f64 = 12.0;
/// Between what is above the axes and them.
const HEAD_SPACE: f64 = 6.0;
/// Axes are this high if nothing asks for more, and a row of names or colours asks for so much, up to so many rows.
const HEIGHT: f64 = 196.0;
const NAME_ROW: f64 = 13.5;
const HEAT_ROW: f64 = 7.5;
const MOST_ROWS: usize = 48;

/// A panel laid out.
pub(super) struct Frame<'a> {
    pub panel: &'a Panel,
    pub axes: Axes,
    pub x: Ticks,
    pub y: Ticks,
    pub x_title: Vec<String>,
    pub y_title: Vec<String>,
    pub title: Vec<String>,
    pub legend: Vec<Vec<Entry>>,
    /// Upright rules: the row of each one's label above the axes, and where it begins.
    pub labels: Vec<(&'a Rule, usize, f64)>,
    pub key: Option<Key>,
    /// Room to the left of the axes, and to the right.
    pub left: f64,
    pub right: f64,
}

/// How high the axes of a panel want to be.
pub(super) fn height(panel: &Panel) -> f64 {
    let rows = match (&panel.y.scale, &panel.content) {
        (Scale::Names(names), Content::Plot { series, .. }) => {
            let bars = series.iter().filter(|one| one.mark == Mark::Bars).count();
            names.len().min(MOST_ROWS) as f64 * NAME_ROW.max(9.0 * bars as f64)
        }
        (Scale::Names(names), Content::Heat { .. }) => names.len().min(MOST_ROWS) as f64 * NAME_ROW,
        (_, Content::Heat { values, .. }) => values.len().min(MOST_ROWS) as f64 * HEAT_ROW,
        _ => 0.0,
    };
    rows.max(HEIGHT)
}

impl<'a> Frame<'a> {
    /// Lays out a panel of `width` pixels, or more if its names leave its axes less than `least`; its axes are
    /// `height` high.
    pub(super) fn new(panel: &'a Panel, title: &str, with_legend: bool, sizes: [f64; 3]) -> Self {
        let [width, least, height] = sizes;
        let [wanted_x, wanted_y] = wanted(panel);
        let lying = panel.y.as_names().is_some();
        let y_place = Place::new(&panel.y, &wanted_y, height, !lying);
        let y = ticks::ticks(&panel.y, &y_place, false);
        let y_title = text::wrapped(&panel.y.title, TEXT, height, 2);
        let labels = text::widest(y.labelled.iter().map(|tick| tick.label.as_str()), SMALL);
        let left = TICK + SPACE + labels + axis_title_room(&y_title);
        let key = match &panel.content {
            Content::Heat { values, unit, range, log } => Some(Key::new(values, unit, *range, *log, height)),
            Content::Plot { .. } => None,
        };
        let right = key.as_ref().map_or(RIGHT, Key::width);
        let across = (width - left - right).max(least);
        let x_place = Place::new(&panel.x, &wanted_x, across, false);
        let named = if lying { &panel.y } else { &panel.x }.as_names().is_some();
        let axes = Axes { x: x_place, y: y_place, lying, named };
        let full = left + across + right;
        let entries = if with_legend { legend::entries(panel) } else { Vec::new() };
        Self {
            panel,
            axes,
            x: ticks::ticks(&panel.x, &x_place, true),
            y,
            x_title: text::wrapped(&panel.x.title, TEXT, across + right, 2),
            y_title,
            title: text::wrapped(title, TITLE, full, 3),
            legend: legend::rows(&entries, full),
            labels: rule_labels(panel, &x_place),
            key,
            left,
            right,
        }
    }

    /// Room above the axes.
    pub(super) fn head(&self) -> f64 {
        let rows = self.labels.iter().map(|label| label.1 + 1).max().unwrap_or(0);
        self.title_height() + self.legend.len() as f64 * legend::ROW + rows as f64 * SMALL * LINE + HEAD_SPACE
    }

    pub(super) fn title_height(&self) -> f64 {
        if self.title.is_empty() { 0.0 } else { self.title.len() as f64 * TITLE * LINE + 3.0 }
    }

    /// Room below the axes.
    pub(super) fn foot(&self) -> f64 {
        self.label_depth() + axis_title_room(&self.x_title) + 2.0
    }

    /// From the axis to below its labels.
    pub(super) fn label_depth(&self) -> f64 {
        let words = if self.x.turned {
            text::widest(self.x.labelled.iter().map(|tick| tick.label.as_str()), SMALL)
        } else if self.x.labelled.is_empty() {
            0.0
        } else {
            SMALL
        };
        TICK + SPACE + words
    }

    /// Its width with everything around the axes.
    pub(super) fn width(&self) -> f64 {
        self.left + self.axes.x.length() + self.right
    }

    /// Where to put the label of a level rule at pixel `y`: of ten places along it the one that hides least.
    pub(super) fn free_place(&self, label: &str, y: f64, taken: &[Area]) -> Area {
        let (width, height) = (text::width(label, SMALL), SMALL * 1.15);
        let room = (self.axes.x.length() - width - 8.0).max(0.0);
        let places = [1.0, 0.0, 0.75, 0.5, 0.25].into_iter().flat_map(|share| [(share, true), (share, false)]);
        let places = places.map(|(share, above)| {
            let x = 4.0 + share * room;
            let top = if above { y - height - 2.0 } else { y + 2.0 };
            Area { left: x, top, right: x + width, bottom: top + height }
        });
        let spots = self.obstacles();
        let cost = |area: &Area| {
            let outside = area.top < 0.0 || area.bottom > self.axes.y.length();
            let over = taken.iter().filter(|other| other.meets(area)).count();
            let hidden = spots.iter().filter(|(from, to)| super::clip::segment(*from, *to, area).is_some()).count();
            hidden + 10_000 * over + 1_000_000 * usize::from(outside)
        };
        let nowhere = Area { left: 4.0, top: y - height, right: 4.0 + width, bottom: y };
        places.min_by_key(cost).unwrap_or(nowhere)
    }

    /// What is drawn, as lines.
    fn obstacles(&self) -> Vec<((f64, f64), (f64, f64))> {
        let Content::Plot { series, rules } = &self.panel.content else { return Vec::new() };
        let upright = rules.iter().filter(|rule| rule.upright && self.axes.x.holds(rule.at));
        let height = self.axes.y.length();
        let mut lines: Vec<_> =
            upright.filter_map(|rule| self.axes.x.of(rule.at)).map(|at| ((at, 0.0), (at, height))).collect();
        for one in series {
            let spots = plot::spots(one, &self.axes);
            match one.mark {
                Mark::Line | Mark::Dashed => {
                    lines.extend(spots.windows(2).filter_map(|pair| Some((pair[0]?, pair[1]?))));
                }
                Mark::Dots | Mark::Crosses => lines.extend(spots.iter().flatten().map(|&spot| (spot, spot))),
                Mark::Bars => {
                    let base = self.axes.measure().base();
                    let foot = |(x, y)| if self.axes.lying { (base, y) } else { (x, base) };
                    lines.extend(spots.iter().flatten().map(|&spot| (foot(spot), spot)));
                }
            }
        }
        lines
    }
}

fn axis_title_room(title: &[String]) -> f64 {
    if title.is_empty() { 0.0 } else { title.len() as f64 * TEXT * LINE + TITLE_SPACE }
}

/// What the ranges of both axes have to hold.
fn wanted(panel: &Panel) -> [Wanted; 2] {
    match &panel.content {
        Content::Plot { series, rules } => wanted_of_plot(panel, series, rules),
        Content::Heat { values, .. } => {
            let columns = values.iter().map(Vec::len).max().unwrap_or(0);
            [columns, values.len()].map(|count| {
                let values = if count == 0 { Vec::new() } else { vec![-0.5, 0.5, count as f64 - 0.5] };
                Wanted { values, zero: false, tight: true }
            })
        }
    }
}

fn wanted_of_plot(panel: &Panel, series: &[Series], rules: &[Rule]) -> [Wanted; 2] {
    let lying = panel.y.as_names().is_some();
    let bars = series.iter().any(|one| one.mark == Mark::Bars);
    let [mut x, mut y] = [Wanted::default(), Wanted::default()];
    let shown = |axis: &Axis, value: f64| value.is_finite() && (axis.scale != Scale::Log || value > 0.0);
    for one in series {
        for (index, (&at, &value)) in one.x.iter().zip(&one.y).enumerate() {
            if shown(&panel.x, at) && shown(&panel.y, value) {
                x.values.push(at);
                y.values.push(value);
                let ends = one.intervals.get(index).into_iter().flatten().copied();
                if lying { x.values.extend(ends) } else { y.values.extend(ends) }
            }
        }
    }
    if bars && !lying && panel.x.scale == Scale::Linear {
        // The outermost bars are as wide as the others.
        let mut at = x.values.clone();
        at.sort_by(f64::total_cmp);
        let gap = at.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.0).fold(f64::INFINITY, f64::min);
        if let (true, Some(first), Some(last)) = (gap.is_finite(), at.first(), at.last()) {
            x.values.extend([first - gap / 2.0, last + gap / 2.0]);
        }
    }
    for rule in rules {
        if rule.upright { x.values.push(rule.at) } else { y.values.push(rule.at) }
    }
    if bars {
        if lying { x.zero = true } else { y.zero = true }
    }
    [x, y]
}

/// The labels of upright rules above the axes: in the first row where nothing is in their way.
fn rule_labels<'a>(panel: &'a Panel, place: &Place) -> Vec<(&'a Rule, usize, f64)> {
    let Content::Plot { rules, .. } = &panel.content else { return Vec::new() };
    let mut ends: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut labels = Vec::new();
    for rule in rules.iter().filter(|rule| rule.upright && place.holds(rule.at) && !rule.label.trim().is_empty()) {
        let width = text::width(&rule.label, SMALL);
        let middle = place.within(rule.at).unwrap_or(0.0);
        let from = (middle - width / 2.0).min(place.length() + RIGHT - 2.0 - width).max(0.0);
        let free =
            |row: &Vec<(f64, f64)>| row.iter().all(|&(left, right)| from > right + 6.0 || from + width < left - 6.0);
        let row = ends.iter().position(free).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(Vec::new());
        }
        ends[row].push((from, from + width));
        labels.push((rule, row, from));
    }
    labels
}

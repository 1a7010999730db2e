//! A figure as data: what is drawn, in what words, and the numbers behind it. [`crate::page`] draws it in a browser,
//! [`drawing`] on paper, in a build with the feature `figures`.

#[cfg_attr(not(feature = "figures"), path = "undrawn.rs")]
pub mod drawing;

use crate::tidy::Table;

/// A figure of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its anchor on the page and the name of its files: lower-case words joined by hyphens, unique in a report.
    pub id: String,
    /// What it shows, in a few words.
    pub title: String,
    /// The paper's own figure or table, `Fig. 1`.
    pub paper: Option<String>,
    /// What there is to see, and how it was measured; a few sentences.
    pub caption: String,
    /// The same for those who do not see it: what it comes to, with its figures.
    pub alt: String,
    /// Side by side.
    pub panels: Vec<Panel>,
    /// The numbers behind it.
    pub data: Table,
}

/// One pair of axes and what is drawn between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Empty if the figure's own is enough.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards; downwards if it names things.
    pub y: Axis,
    /// What is drawn.
    pub content: Content,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What is measured, and its unit.
    pub title: String,
    /// How places follow from values.
    pub scale: Scale,
    /// First and last value; `None`: as the values ask.
    pub range: Option<[f64; 2]>,
}

/// How places on an axis follow from values.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm. Values that are not positive are left out.
    Log,
    /// Value i stands at the i-th of these names, from 0.
    Names(Vec<String>),
}

/// What a panel shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Lines, dots and bars.
    Plot {
        /// The first is drawn first.
        series: Vec<Series>,
        /// Lines across the panel.
        rules: Vec<Rule>,
    },
    /// A colour for every row and column.
    Heat {
        /// By row (y) and column (x), both from 0; not a number where nothing is known.
        values: Vec<Vec<f64>>,
        /// What a colour means.
        unit: String,
        /// Values of the first and the last colour; `None`: the least and the largest.
        range: Option<[f64; 2]>,
        /// Whether colours go by the logarithm.
        log: bool,
    },
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// In the legend; empty: not there.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// How it is drawn.
    pub mark: Mark,
    /// One a point.
    pub x: Vec<f64>,
    /// One a point; not a number leaves a gap.
    pub y: Vec<f64>,
    /// Low and high end of an interval around every value: of y; of x where y names things. Empty: none.
    pub intervals: Vec<[f64; 2]>,
    /// What is said of a point that is pointed at. Empty: its numbers.
    pub notes: Vec<String>,
}

/// How points are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line through them; intervals are a band.
    Line,
    /// A dashed line.
    Dashed,
    /// Dots; intervals are bars.
    Dots,
    /// Diagonal crosses.
    Crosses,
    /// Bars from zero; from the axis on a logarithmic scale.
    Bars,
}

/// A line across a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Whether it stands upright at an x; else it lies at a y.
    pub upright: bool,
    /// The value.
    pub at: f64,
    /// What it says.
    pub label: String,
}

/// A colour that the colour-blind can tell from the others, and light and dark pages can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Of spikes.
    Spike,
    /// Of sinks.
    Sink,
    /// Of everything else.
    Other,
    /// Of the n-th of things that are alike, from 0; they repeat after [`Colour::ALIKE`].
    Nth(usize),
}

impl Colour {
    /// How many of [`Colour::Nth`] differ.
    pub const ALIKE: usize = 7;

    /// Red, green and blue, after Okabe and Ito.
    pub fn rgb(self) -> [u8; 3] {
        const BLUE: [u8; 3] = [0, 114, 178];
        const VERMILION: [u8; 3] = [213, 94, 0];
        const GREY: [u8; 3] = [127, 127, 127];
        const ALIKE: [[u8; 3]; Colour::ALIKE] =
            [VERMILION, BLUE, [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], GREY];
        match self {
            Self::Spike => VERMILION,
            Self::Sink => BLUE,
            Self::Other => GREY,
            Self::Nth(index) => ALIKE[index % Self::ALIKE],
        }
    }

    /// As CSS and SVG write it.
    pub fn hex(self) -> String {
        let [red, green, blue] = self.rgb();
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}

impl Axis {
    /// An even axis.
    pub fn linear(title: impl Into<String>) -> Self {
        Self { title: title.into(), scale: Scale::Linear, range: None }
    }

    /// A logarithmic axis.
    pub fn log(title: impl Into<String>) -> Self {
        Self { title: title.into(), scale: Scale::Log, range: None }
    }

    /// An axis of names.
    pub fn names<T: Into<String>>(title: impl Into<String>, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { title: title.into(), scale: Scale::Names(names), range: None }
    }

    /// The same from `first` to `last`.
    #[must_use]
    pub fn within(self, first: f64, last: f64) -> Self {
        Self { range: Some([first, last]), ..self }
    }

    /// Its names, if it names things.
    pub fn as_names(&self) -> Option<&[String]> {
        if let Scale::Names(names) = &self.scale { Some(names) } else { None }
    }
}

impl Panel {
    /// Lines, dots and bars without rules.
    pub fn plot(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { title: title.into(), x, y, content: Content::Plot { series, rules: Vec::new() } }
    }

    /// The same with a rule; of a heat map, itself.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule) -> Self {
        if let Content::Plot { rules, .. } = &mut self.content {
            rules.push(rule);
        }
        self
    }
}

impl Rule {
    /// Upright at `x`.
    pub fn upright(at: f64, label: impl Into<String>) -> Self {
        Self { upright: true, at, label: label.into() }
    }

    /// Level at `y`.
    pub fn level(at: f64, label: impl Into<String>) -> Self {
        Self { upright: false, at, label: label.into() }
    }
}

impl Series {
    /// Points without intervals and notes.
    pub fn new(
        name: impl Into<String>,
        colour: Colour,
        mark: Mark,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let (x, y) = points.into_iter().unzip();
        Self { name: name.into(), colour, mark, x, y, intervals: Vec::new(), notes: Vec::new() }
    }

    /// The same with intervals.
    #[must_use]
    pub fn with_intervals(self, intervals: Vec<[f64; 2]>) -> Self {
        Self { intervals, ..self }
    }

    /// The same with notes.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }
}

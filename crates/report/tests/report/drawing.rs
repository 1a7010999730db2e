//! Figures on paper: whole XML, everything said, everything in its place.

use roxmltree::{Document, Node};
use sinkscope_report::figure::{Axis, Colour, Content, Figure, Mark, Panel, Rule, Series, drawing};
use sinkscope_report::tidy::{Column, Table};

const HOSTILE: &str = "<script>alert('x')</script> & \"y\" \u{1}\u{202e}😀";
const READ: &str = "<script>alert('x')</script> & \"y\" 😀";

fn figure(panels: Vec<Panel>) -> Figure {
    let data = Table::new("numbers", vec![Column::counts("value", [1])]).expect("a table");
    let [id, title, alt] = ["numbers", "Numbers", "It is said <here>."].map(str::to_owned);
    Figure { id, title, paper: None, caption: String::new(), alt, panels, data }
}

fn one(x: Axis, y: Axis, series: Vec<Series>) -> Figure {
    figure(vec![Panel::plot("", x, y, series)])
}

fn heat(x: Axis, y: Axis, values: Vec<Vec<f64>>, log: bool) -> Figure {
    let content = Content::Heat { values, unit: "share".to_owned(), range: None, log };
    figure(vec![Panel { title: String::new(), x, y, content }])
}

/// Every mark, with gaps and intervals.
fn marks() -> Vec<Series> {
    let marks = [Mark::Line, Mark::Dashed, Mark::Dots, Mark::Crosses, Mark::Bars, Mark::Bars];
    let series = marks.into_iter().enumerate().map(|(index, mark)| {
        let points = (0..6).map(|x| (f64::from(x), if x == 3 { f64::NAN } else { f64::from(x + 1) * 10.0 }));
        let intervals = (0..6).map(|x| [f64::from(x) * 10.0 - 5.0, f64::from(x + 2) * 10.0]).collect();
        Series::new(format!("series {index}"), Colour::Nth(index), mark, points).with_intervals(intervals)
    });
    series.collect()
}

/// Draws a figure and looks whether its XML is whole and every shape on the sheet.
fn drawn(figure: &Figure) -> String {
    let svg = drawing::svg(figure).expect("drawn");
    assert_eq!(svg, drawing::svg(figure).expect("drawn again"));
    let document = Document::parse(&svg).expect("XML");
    let root = document.root_element();
    let view: Vec<f64> = numbers(root.attribute("viewBox").expect("a view box"));
    let on_sheet = |x: f64, y: f64| {
        assert!(
            (view[0]..=view[2]).contains(&x) && (view[1]..=view[3]).contains(&y),
            "{x}, {y} is not within {view:?}"
        );
    };
    for node in root.descendants().filter(Node::is_element) {
        let of = |name| node.attribute(name).map(|value| value.parse::<f64>().expect("a number"));
        match node.tag_name().name() {
            "rect" => {
                on_sheet(number(node, "x"), number(node, "y"));
                on_sheet(number(node, "x") + number(node, "width"), number(node, "y") + number(node, "height"));
                assert!(number(node, "width") >= 0.0 && number(node, "height") >= 0.0);
            }
            "circle" => on_sheet(number(node, "cx"), number(node, "cy")),
            "polyline" | "polygon" => {
                let spots = numbers(node.attribute("points").expect("points"));
                spots.chunks(2).for_each(|spot| on_sheet(spot[0], spot[1]));
            }
            "text" => on_sheet(number(node, "x"), number(node, "y")),
            "svg" | "title" | "desc" => {}
            other => assert_eq!(other, "", "has no test"),
        }
        assert!(of("opacity").is_none_or(|opacity| (0.0..=1.0).contains(&opacity)));
    }
    svg
}

fn numbers(list: &str) -> Vec<f64> {
    let words = list.split([' ', ',']).filter(|word| !word.is_empty());
    words.map(|word| word.parse::<f64>().expect("a number")).inspect(|number| assert!(number.is_finite())).collect()
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).expect("an attribute").parse().expect("a number")
}

/// All words, as a reader of XML sees them.
fn words(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).expect("XML");
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
}

/// Where words stand.
fn spot(svg: &str, label: &str) -> (f64, f64) {
    let document = Document::parse(svg).expect("XML");
    let text =
        document.descendants().find(|node| node.has_tag_name("text") && node.text().map(str::trim) == Some(label));
    let text = text.expect(label);
    (number(text, "x"), number(text, "y"))
}

/// Left, top, width and height of the bars of a colour, in the order drawn, without its sample in the legend.
fn bars(svg: &str, colour: Colour) -> Vec<[f64; 4]> {
    let document = Document::parse(svg).expect("XML");
    let hex = colour.hex().to_uppercase();
    let bars = document.descendants().filter(|node| node.has_tag_name("rect") && node.attribute("fill") == Some(&hex));
    bars.map(|bar| ["x", "y", "width", "height"].map(|name| number(bar, name))).collect()
}

#[test]
fn every_mark_is_drawn_on_every_axis() {
    let names = || ["a", "b", "c", "d", "e", HOSTILE];
    let axes = [
        (Axis::linear("across"), Axis::linear("up")),
        (Axis::log("across"), Axis::log("up")),
        (Axis::names("across", names()), Axis::linear("up").within(15.0, 35.0)),
        (Axis::linear("across").within(4.0, 1.0), Axis::names("up", names())),
        (Axis::log("across").within(1.0, 3.0), Axis::names("up", names())),
        (Axis::names("across", names()), Axis::names("up", names())),
    ];
    for (x, y) in axes {
        let mut figure = one(x, y, marks());
        let rules = [
            Rule::upright(2.0, "at two"),
            Rule::upright(2.1, HOSTILE),
            Rule::level(2.0, "level"),
            Rule::level(f64::NAN, ""),
        ];
        for rule in rules {
            figure.panels[0] = figure.panels[0].clone().with_rule(rule);
        }
        let words = words(&drawn(&figure));
        for index in 0..6 {
            assert!(words.contains(&format!("series {index}")), "{words:?}");
        }
        for title in ["Numbers", "across", "up"] {
            assert!(words.iter().any(|word| word == title), "{title}: {words:?}");
        }
    }
}

#[test]
fn hostile_words_are_words() {
    let names: Vec<String> = (0..4).map(|index| format!("{index} {HOSTILE}")).collect();
    let series = vec![Series::new(HOSTILE, Colour::Sink, Mark::Bars, [(1.0, 0.0), (2.0, 1.0)])];
    let mut figure = one(Axis::linear(HOSTILE), Axis::names(HOSTILE, names.clone()), series);
    figure.title = HOSTILE.to_owned();
    figure.alt = HOSTILE.to_owned();
    figure.panels[0] = figure.panels[0].clone().with_rule(Rule::upright(1.5, HOSTILE));
    let svg = drawn(&figure);
    assert!(!svg.contains("<script") && !svg.contains('\u{1}') && !svg.contains('\u{202e}'));
    let words = words(&svg);
    assert_eq!(words.iter().filter(|word| word.as_str() == READ).count(), 5, "{words:?}");
    assert!((0..4).all(|index| words.contains(&format!("{index} {READ}"))), "{words:?}");
    assert!(drawing::pdf(&figure).expect("a page").starts_with(b"%PDF"));
}

#[test]
fn nothing_and_hardly_anything_can_be_drawn() {
    drawn(&figure(vec![]));
    let few = [
        vec![],
        vec![f64::NAN; 3],
        vec![0.0],
        vec![5.0; 4],
        vec![f64::INFINITY, 1.0],
        vec![f64::MAX, f64::MIN, 0.0],
        vec![1e-320],
    ];
    for values in few {
        for mark in [Mark::Line, Mark::Dashed, Mark::Dots, Mark::Crosses, Mark::Bars] {
            for y in [
                Axis::linear(""),
                Axis::log(""),
                Axis::names("", ["a"]),
                Axis::linear("").within(1.0, 1.0),
                Axis::log("").within(-1.0, 5.0),
            ] {
                let points = values.iter().enumerate().map(|(index, &value)| (index as f64, value));
                let series =
                    Series::new("few", Colour::Spike, mark, points)
                        .with_intervals(vec![[f64::NEG_INFINITY, f64::MAX]; 2]);
                drawn(&one(Axis::linear(""), y, vec![series]));
            }
        }
        for log in [false, true] {
            drawn(&heat(Axis::linear(""), Axis::linear(""), vec![values.clone(), vec![]], log));
        }
    }
    drawn(&heat(Axis::names("", [""; 0]), Axis::log(""), vec![], true));
}

#[test]
fn decades_are_equally_far_apart() {
    let points = [(0.0, 1.0), (1.0, 100.0), (2.0, 10_000.0)];
    let svg = drawn(&one(
        Axis::linear("block"),
        Axis::log("value"),
        vec![Series::new("", Colour::Spike, Mark::Line, points)],
    ));
    let heights = ["1", "10", "100", "1,000", "10,000"].map(|label| {
        // The first number is on both axes: the label of y ends left of the axis.
        let document = Document::parse(&svg).expect("XML");
        let at = document
            .descendants()
            .find(|node| node.attribute("text-anchor") == Some("end") && node.text().map(str::trim) == Some(label));
        number(at.expect("a label"), "y")
    });
    let decades: Vec<f64> = heights.windows(2).map(|pair| pair[0] - pair[1]).collect();
    assert!(decades.iter().all(|decade| (decade - decades[0]).abs() <= 1.0 && *decade > 0.0), "{decades:?}");
    // The line goes through its points: as far from one another as their labels.
    let document = Document::parse(&svg).expect("XML");
    let hex = Colour::Spike.hex().to_uppercase();
    let line = document.descendants().find(|node| node.attribute("stroke") == Some(&hex)).expect("a line");
    let spots = numbers(line.attribute("points").expect("points"));
    assert!(
        (spots[1] - spots[3] - 2.0 * decades[0]).abs() <= 2.0 && (spots[1] - spots[5] - 4.0 * decades[0]).abs() <= 4.0
    );
}

#[test]
fn bars_begin_at_zero() {
    let points = [(0.0, 4.0), (1.0, -2.0), (2.0, f64::NAN)];
    let series = || vec![Series::new("", Colour::Sink, Mark::Bars, points)];
    let svg = drawn(&one(Axis::names("", ["a", "b", "c"]), Axis::linear(""), series()));
    let bars_upright = bars(&svg, Colour::Sink);
    assert_eq!(bars_upright.len(), 2);
    let [[_, top, _, height], [_, below, _, depth]] = bars_upright[..] else { panic!("two bars") };
    assert!((top + height - below).abs() <= 1.0 && (height - 2.0 * depth).abs() <= 2.0);
    assert!((spot(&svg, "0").1 - spot(&svg, "2").1 - height / 2.0).abs() <= 2.0);

    let lying = points.map(|(at, value)| (value, at));
    let svg = drawn(&one(
        Axis::linear(""),
        Axis::names("", ["a", "b", "c"]),
        vec![Series::new("", Colour::Sink, Mark::Bars, lying)],
    ));
    let [[left, first, width, _], [_, second, ..]] = bars(&svg, Colour::Sink)[..] else { panic!("two bars") };
    assert!((spot(&svg, "0").0 - left).abs() <= 1.0 && (spot(&svg, "4").0 - left - width).abs() <= 1.0);
    assert!(first < second && spot(&svg, "a").1 < spot(&svg, "b").1, "the first name is on top");
}

#[test]
fn bars_of_several_series_stand_side_by_side() {
    let series = |colour| Series::new("", colour, Mark::Bars, (0..3).map(|x| (f64::from(x), 1.0 + f64::from(x))));
    let all = vec![series(Colour::Nth(0)), series(Colour::Nth(1)), series(Colour::Nth(2))];
    let svg = drawn(&one(Axis::names("", ["a", "b", "c"]), Axis::linear(""), all));
    let mut edges: Vec<[f64; 4]> = (0..3).flat_map(|index| bars(&svg, Colour::Nth(index))).collect();
    edges.sort_by(|one, other| one[0].total_cmp(&other[0]));
    assert_eq!(edges.len(), 9);
    assert!(edges.windows(2).all(|pair| pair[0][0] + pair[0][2] <= pair[1][0]), "{edges:?}");
}

#[test]
fn heat_maps_stand_as_their_axis_says() {
    let values = || vec![vec![0.0, 1.0], vec![2.0, f64::NAN], vec![3.0, 4.0]];
    let rows = |svg: &str| {
        let document = Document::parse(svg).expect("XML");
        let cell = |fill: &str| {
            let cell =
                document.descendants().find(|node| node.has_tag_name("rect") && node.attribute("fill") == Some(fill));
            number(cell.expect("a cell"), "y")
        };
        [cell("#440154"), cell("#FDE725"), cell("#DDDDDD")]
    };
    let named = drawn(&heat(Axis::linear("column"), Axis::names("row", ["a", "b", "c"]), values(), false));
    let [first, last, unknown] = rows(&named);
    assert!(first < unknown && unknown < last);
    let counted = drawn(&heat(Axis::linear("column"), Axis::linear("row"), values(), false));
    let [first, last, unknown] = rows(&counted);
    assert!(last < unknown && unknown < first);
    for word in ["column", "row", "share"] {
        assert!(words(&counted).contains(&word.to_owned()));
    }
    drawn(&heat(Axis::linear(""), Axis::linear(""), values(), true));
}

#[test]
fn panels_are_side_by_side_and_share_a_legend() {
    let panel = |title: &str| Panel::plot(title, Axis::linear("x"), Axis::linear("y"), marks());
    let size = |svg: &str| {
        let document = Document::parse(svg).expect("XML");
        ["width", "height"].map(|name| number(document.root_element(), name))
    };
    let [width, height] = size(&drawn(&figure(vec![panel("")])));
    assert!((400.0..440.0).contains(&width) && (250.0..320.0).contains(&height), "{width} x {height}");
    let svg = drawn(&figure(vec![panel("first"), panel("second")]));
    assert!(spot(&svg, "first").0 < spot(&svg, "second").0 && spot(&svg, "first").1 == spot(&svg, "second").1);
    assert_eq!(words(&svg).iter().filter(|word| word.as_str() == "series 1").count(), 1);
    let svg = drawn(&figure((0..4).map(|index| panel(&format!("panel {index}"))).collect()));
    assert!(spot(&svg, "panel 0").1 < spot(&svg, "panel 3").1);
}

#[test]
fn pages_hold_their_font_and_are_the_same_twice() {
    let values = (0..9).map(|row| (0..9).map(|column| f64::from(row * column)).collect()).collect();
    let mut figure = heat(Axis::linear("column"), Axis::linear("row"), values, false);
    figure.panels.push(Panel::plot("plot", Axis::linear("x"), Axis::linear("y"), marks()));
    let page = drawing::pdf(&figure).expect("a page");
    let holds = |word: &str| page.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(page.starts_with(b"%PDF") && holds("%%EOF") && holds("/FontFile2") && holds("NotoSans"));
    for _ in 0..4 {
        assert!(page == drawing::pdf(&figure).expect("a page"), "another page");
    }
    // The table of its objects says where they are.
    let start = page.windows(6).position(|part| part == b"\nxref\n").expect("a table");
    let table = String::from_utf8_lossy(&page[start..]).into_owned();
    let mut objects = 0;
    for entry in table.lines().filter(|line| line.trim_end().ends_with(" n")) {
        let offset: usize = entry.split(' ').next().expect("an offset").parse().expect("a number");
        let object = String::from_utf8_lossy(&page[offset..offset + 12]).into_owned();
        assert!(object.contains(" 0 obj"), "{entry}: {object}");
        objects += 1;
    }
    assert!(objects > 5, "{table}");
}

//! Aligned columns that fit a width.

use unicode_width::UnicodeWidthStr;

use super::style::Style;
use crate::number::CellOf;
use crate::text::wrap_indented;

/// Between columns.
const GAP: &str = "  ";

/// A column of a grid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading<'a> {
    text: &'a str,
    right: bool,
    /// Columns of the highest number are left out first; those of 0 never.
    expendable: u8,
}

impl<'a> Heading<'a> {
    /// A column of text.
    pub(super) const fn text(text: &'a str) -> Self {
        Self { text, right: false, expendable: 0 }
    }

    /// A column of numbers.
    pub(super) const fn number(text: &'a str) -> Self {
        Self { text, right: true, expendable: 0 }
    }

    /// May be left out for want of width; the highest `order` first.
    pub(super) const fn expendable(self, order: u8) -> Self {
        Self { expendable: order, ..self }
    }
}

/// A row, a row with one remark in place of its other cells, or the mark of rows left out.
#[derive(Debug, Clone)]
enum GridRow {
    Cells(Vec<String>),
    Remark(String, String),
    Elided(String),
}

/// Rows under headings.
#[derive(Debug, Clone)]
pub(super) struct Grid<'a> {
    headings: Vec<Heading<'a>>,
    rows: Vec<GridRow>,
}

impl<'a> Grid<'a> {
    /// A row for each of `rows`: columns with what stands in them.
    pub(super) fn of<R>(rows: impl IntoIterator<Item = R>, columns: &[(Heading<'a>, CellOf<'_, R>)]) -> Self {
        let mut grid = Self::new(columns.iter().map(|(heading, _)| *heading).collect::<Vec<_>>());
        rows.into_iter().for_each(|row| grid.row(columns.iter().map(|(_, cell)| cell(&row)).collect()));
        grid
    }

    pub(super) fn new(headings: impl Into<Vec<Heading<'a>>>) -> Self {
        Self { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row; a missing cell is empty.
    pub(super) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.headings.len(), String::new());
        self.rows.push(GridRow::Cells(cells));
    }

    /// Adds a row that has a remark in place of the cells after the first.
    pub(super) fn remark(&mut self, first: String, remark: String) {
        self.rows.push(GridRow::Remark(first, remark));
    }

    /// Marks rows left out, with a word about them.
    pub(super) fn elided(&mut self, note: String) {
        self.rows.push(GridRow::Elided(note));
    }

    /// The grid, indented by two, no wider than the style asks where columns can be left out; each line ends in a
    /// newline.
    pub(super) fn render(&self, style: &Style) -> String {
        let columns = self.columns_that_fit(style.width());
        let headings: Vec<String> = columns.iter().map(|&(index, _)| self.headings[index].text.to_owned()).collect();
        let mut text = style.faint(&self.line(&columns, &headings));
        text.push('\n');
        for row in &self.rows {
            match row {
                GridRow::Cells(cells) => {
                    let cells: Vec<String> = columns.iter().map(|&(index, _)| cells[index].clone()).collect();
                    text.push_str(&self.line(&columns, &cells));
                }
                GridRow::Remark(first, remark) => {
                    text.push_str(&self.remark_line(&columns, first, remark, style.width()));
                }
                GridRow::Elided(note) => text.push_str(&style.faint(&format!("{GAP}… {note}"))),
            }
            text.push('\n');
        }
        text
    }

    /// A first cell and the remark beside it; below it where it is too long for that.
    fn remark_line(&self, columns: &[(usize, usize)], first: &str, remark: &str, width: usize) -> String {
        let cell = self.line(&columns[..1], &[first.to_owned()]);
        let wide = 2 * GAP.len() + columns.first().map_or(0, |(_, wide)| *wide);
        if wide + remark.width() > width {
            let below = wrap_indented(remark, width, &GAP.repeat(2));
            return format!("{cell}\n{}", below.trim_end());
        }
        format!("{cell}{}{remark}", " ".repeat(wide.saturating_sub(cell.width())))
    }

    /// The columns to show and their widths.
    fn columns_that_fit(&self, width: usize) -> Vec<(usize, usize)> {
        let mut columns: Vec<(usize, usize)> =
            (0..self.headings.len()).map(|index| (index, self.widest(index))).collect();
        // A column with nothing in it says nothing.
        columns.retain(|&(index, _)| self.headings[index].expendable == 0 || self.has_content(index));
        while columns.iter().map(|(_, wide)| wide + GAP.len()).sum::<usize>() > width {
            let Some((at, _)) = columns
                .iter()
                .enumerate()
                .filter(|(_, (index, _))| self.headings[*index].expendable > 0)
                .max_by_key(|(_, (index, _))| self.headings[*index].expendable)
            else {
                break;
            };
            columns.remove(at);
        }
        columns
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| match row {
            GridRow::Cells(cells) => Some(cells[column].as_str()),
            GridRow::Remark(first, _) if column == 0 => Some(first.as_str()),
            GridRow::Remark(..) | GridRow::Elided(_) => None,
        })
    }

    fn widest(&self, column: usize) -> usize {
        self.cells(column).map(UnicodeWidthStr::width).max().unwrap_or(0).max(self.headings[column].text.width())
    }

    fn has_content(&self, column: usize) -> bool {
        self.cells(column).any(|cell| !cell.is_empty())
    }

    fn line(&self, columns: &[(usize, usize)], cells: &[String]) -> String {
        let mut line = String::new();
        for (&(index, wide), cell) in columns.iter().zip(cells) {
            let padding = " ".repeat(wide.saturating_sub(cell.width()));
            line.push_str(GAP);
            let (before, after) =
                if self.headings[index].right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid<'static> {
        let mut grid = Grid::new([
            Heading::number("block"),
            Heading::text("token").expendable(1),
            Heading::text("remark").expendable(2),
            Heading::text("never used").expendable(1),
        ]);
        grid.row(vec!["4".into(), "語".into(), "a remark of some length, to be left out".into()]);
        grid.elided("9 quiet blocks".into());
        grid.row(vec!["24".into(), "x".into(), "short".into()]);
        grid
    }

    #[test]
    fn columns_line_up_and_the_least_important_go_first() {
        let wide = "  block  token  remark\n      4  語     a remark of some length, to be left out\n  … 9 quiet \
                    blocks\n     24  x      short\n";
        assert_eq!(grid().render(&Style::new(80, false)), wide);
        let narrow = "  block  token\n      4  語\n  … 9 quiet blocks\n     24  x\n";
        assert_eq!(grid().render(&Style::new(40, false)), narrow);
    }

    #[test]
    fn a_remark_stands_in_place_of_the_other_cells_and_widens_none() {
        let mut grid = Grid::new([Heading::text("name"), Heading::number("value")]);
        grid.row(vec!["longer".into(), "1".into()]);
        grid.remark("short".into(), "says something of its own at some length".into());
        let expected = "  name    value\n  longer      1\n  short   says something of its own at some length\n";
        assert_eq!(grid.render(&Style::new(80, false)), expected);
        let narrow = "  name    value\n  longer      1\n  short\n    says something of its own at some\n    length\n";
        assert_eq!(grid.render(&Style::new(40, false)), narrow);
    }

    #[test]
    fn colour_adds_nothing_but_escapes() {
        let coloured = grid().render(&Style::new(80, true));
        let plain = coloured.replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, grid().render(&Style::new(80, false)));
    }
}

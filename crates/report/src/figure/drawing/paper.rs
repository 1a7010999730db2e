//! PDF from SVG.

use std::sync::{Arc, LazyLock};

use svg2pdf::usvg::fontdb::Database;
use svg2pdf::usvg::{Options, Tree};
use svg2pdf::{ConversionOptions, PageOptions};

use super::text::FONT;

/// The page of a drawing, the same bytes for the same drawing.
pub(super) fn pdf(svg: &str) -> Result<Vec<u8>, String> {
    static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
        // One font alone: svg2pdf writes several in any order.
        let mut fonts = Database::new();
        fonts.load_font_data(FONT.to_vec());
        Arc::new(fonts)
    });
    let options = Options { fontdb: Arc::clone(&FONTS), font_family: "Noto Sans".to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|problem| problem.to_string())?;
    let mut page = svg2pdf::to_pdf(&tree, ConversionOptions::default(), PageOptions::default())
        .map_err(|problem| problem.to_string())?;
    order(&mut page);
    Ok(page)
}

/// Puts the entries of every list of resources into order: svg2pdf writes them in any. Nothing else moves.
fn order(page: &mut [u8]) {
    let mut run: Vec<Vec<u8>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < page.len() {
        let end = page[at..].iter().position(|&byte| byte == b'\n').map_or(page.len(), |length| at + length + 1);
        if is_resource(&page[at..end]) {
            if run.is_empty() {
                start = at;
            }
            run.push(page[at..end].to_vec());
        } else if !run.is_empty() {
            run.sort();
            page[start..at].copy_from_slice(&run.concat());
            run.clear();
        }
        at = end;
    }
}

/// Whether a line is `/name number 0 R`, the name being letters and a number.
fn is_resource(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let mut words = line.split_ascii_whitespace();
    let (Some(name), Some(object), Some("0"), Some("R"), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let Some(name) = name.strip_prefix('/') else { return false };
    let digits = name.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    number(digits) && digits.len() < name.len() && number(object) && line.ends_with('\n')
}

#[cfg(test)]
mod tests {
    #[test]
    fn resources_are_in_order() {
        let mut page = b"<<\n  /xo1 7 0 R\n  /xo0 12 0 R\n>>\n/Length 3 0 R\n".to_vec();
        super::order(&mut page);
        assert_eq!(page, b"<<\n  /xo0 12 0 R\n  /xo1 7 0 R\n>>\n/Length 3 0 R\n");
    }
}

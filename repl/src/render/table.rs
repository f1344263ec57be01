//! A listing as plain columns in kubectl's style: upper-case headers, three blanks between columns, no
//! lines and no trailing blanks.

use std::io::{self, Write};

use super::Options;
use crate::reply::{Cell, Listing};

const GAP: &str = "   ";

/// The table, then its notes. An empty one says so.
pub(super) fn text(listing: &Listing, options: Options, out: &mut dyn Write) -> io::Result<()> {
    if let Some(blocks) = listing.blocks.as_ref().filter(|_| !listing.rows.is_empty()) {
        for line in blocks.iter().chain(&listing.notes) {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !options.no_headers {
        rows.push(listing.columns.iter().map(|c| c.header.to_owned()).collect());
    }
    rows.extend(listing.rows.iter().map(|row| row.iter().map(cell).collect()));
    if listing.rows.is_empty() {
        rows.clear();
        if !options.no_headers {
            writeln!(out, "no {}", listing.noun)?;
        }
    }
    let widths = widths(&rows);
    for row in &rows {
        writeln!(out, "{}", line(row, &widths))?;
    }
    for note in &listing.notes {
        writeln!(out, "{note}")?;
    }
    Ok(())
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::None => "-".to_owned(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) if text.is_empty() => "-".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::List(list) if list.is_empty() => "-".to_owned(),
        Cell::List(list) => list.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: Vec<Vec<Cell>>, no_headers: bool, expected: &str) {
        let listing =
            Listing { rows, ..Listing::new("pods", &[("name", "NAME"), ("ips", "ADDRESSES")]) };
        let mut out = Vec::new();
        text(&listing, Options { no_headers, ..Options::default() }, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = vec![
            vec!["web/client".into(), Cell::List(vec!["10.0.0.1".into(), "fd00::1".into()])],
            vec!["a".into(), Cell::None],
        ];
        let body = "web/client   10.0.0.1,fd00::1\na            -\n";
        check(rows.clone(), false, &format!("NAME         ADDRESSES\n{body}"));
        check(rows, true, body);
    }

    #[test]
    fn an_empty_table_says_so() {
        check(Vec::new(), false, "no pods\n");
        check(Vec::new(), true, "");
    }
}

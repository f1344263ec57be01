//! The formats on one small report.

use std::io::{self, Write};

use datapath::vm::coverage::lines::{Branch, Line};

use super::*;
use crate::render::{self, Options};
use crate::reply::{Content, Reply};

fn report() -> Report {
    let branch = |condition: &str, held, failed| Branch {
        column: 8,
        condition: condition.to_owned(),
        held,
        failed,
    };
    let line = |text: &str, ran, branches| Line { text: text.to_owned(), ran, branches };
    let some = [
        (
            3,
            line(
                "    if a < b && c == 6 {",
                12,
                vec![branch("== 6", 0, 12), branch("> register", 7, 5)],
            ),
        ),
        (4, line("        \"never\" <here>", 0, vec![branch("& 1", 0, 0)])),
        (6, line("        so", 0, vec![])),
        (9, line("}", 12, vec![])),
    ];
    let other = [(1, line("fn other() {}", 1, vec![]))];
    let file = |name: &str, lines: &[(u32, Line)]| File {
        name: format!("datapath/ebpf/src/{name}.rs"),
        lines: lines.iter().cloned().collect(),
    };
    Report { files: vec![file("some", &some), file("other", &other)], foreign_jumps: 2 }
}

fn written(write: impl Fn(&Report, &mut dyn Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&report(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn as_text_it_is_a_table_with_its_sums() {
    let reply = Reply::ok(Content::Listing(listing(&report())));
    let text = written(|_, out| render::text(&reply, &Options::default(), out));
    insta::assert_snapshot!(text);
}

#[test]
fn as_lcov_every_count_is_there() {
    insta::assert_snapshot!(written(lcov::write));
}

#[test]
fn as_a_page_every_mark_is_a_word() {
    let page = written(html::write);
    let body = page.split_once("<body>").unwrap().1;
    insta::assert_snapshot!(body);
    for outside in ["<script", "http:", "https:", "<link", "src="] {
        assert!(!page.contains(outside), "the page needs no other file: {outside}");
    }
}

#[test]
fn a_share_is_whole_only_where_nothing_is_missing() {
    let share = |covered, total| percent(Share { covered, total });
    assert_eq!([share(9999, 10_000), share(1, 1), share(0, 7)], ["99.9%", "100.0%", "0.0%"]);
}

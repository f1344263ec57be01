//! The book and the README hold: every example runs, every page is in the summary, every link leads
//! somewhere. `UPDATE=1` rewrites transcripts and generated pages instead of comparing.
//!
//! Blocks are told by their info string. `hop`: all of a page's blocks together are one file without
//! errors, in canonical form, whose tests pass. `hop,alone`: such a file by itself. `hop,wrong`: a file with an
//! error. `console`: a transcript. `text`: an excerpt, not run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kernel;
use crate::markdown::{Block, blocks, replace};
use crate::program::Program;
use crate::transcript;
use crate::tree::{files_with, name, read, root, updating};

/// Every page that a person wrote; those of codes are made from the registry, whose own tests run them.
fn pages() -> Vec<PathBuf> {
    let mut pages = files_with("book/src", "md");
    pages.retain(|page| !page.parent().is_some_and(|folder| folder.ends_with("codes")));
    pages.push(root().join("README.md"));
    pages
}

/// What is wrong, page by page.
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

fn place(page: &Path, block: &Block) -> String {
    format!("{}:{}", name(page), block.line)
}

#[test]
fn every_block_says_what_it_is() {
    let known = ["hop", "hop,alone", "hop,wrong", "console", "text", "json", "sh"];
    let mut findings = Vec::new();
    for page in pages() {
        for block in blocks(&read(&page)) {
            if !known.contains(&block.info.as_str()) {
                findings.push(format!("{}: `{}`", place(&page, &block), block.info));
            }
        }
    }
    report("a block's info string is none of the known ones", &findings);
}

#[test]
fn programs_check_and_pass_their_tests() {
    let mut findings = Vec::new();
    // One session for all, as loading the datapath takes longer than running the tests.
    let mut session = kernel::session();
    for page in pages() {
        let blocks = blocks(&read(&page));
        let parts = blocks.iter().filter(|b| b.info == "hop").map(|b| b.text.clone() + "\n");
        let whole: String = parts.collect();
        findings.extend(Program::new(&name(&page), &whole).problems(&mut session));
        for block in blocks.iter().filter(|b| b.info == "hop,alone") {
            findings.extend(Program::new(&place(&page, block), &block.text).problems(&mut session));
        }
    }
    report("examples that do not hold", &findings);
}

#[test]
fn programs_are_in_canonical_form() {
    let mut findings = Vec::new();
    for page in pages() {
        let mut text = read(&page);
        for at in 0..blocks(&text).len() {
            let block = blocks(&text).swap_remove(at);
            if !block.info.starts_with("hop") || block.info == "hop,wrong" {
                continue;
            }
            let at = place(&page, &block);
            match lang::fmt::format(&block.text) {
                Ok(formatted) if formatted == block.text => {}
                Ok(formatted) if updating() => text = replace(&text, &block, &formatted),
                Ok(formatted) => findings.push(format!("{at}: canonical is\n{formatted}")),
                Err(_) => findings.push(format!("{at}: cannot be formatted")),
            }
        }
        write_if_changed(&page, &text);
    }
    report("examples that are not in canonical form (UPDATE=1 rewrites them)", &findings);
}

/// Writes a page again where its expectations shall be written.
fn write_if_changed(page: &Path, text: &str) {
    if updating() && read(page) != text {
        fs::write(page, text).expect("a page can be written");
    }
}

#[test]
fn wrong_programs_are_refused() {
    let mut findings = Vec::new();
    for page in pages() {
        for block in blocks(&read(&page)).iter().filter(|b| b.info == "hop,wrong") {
            let at = place(&page, block);
            let codes = Program::new(&at, &block.text).codes();
            if codes.is_empty() {
                findings.push(format!("{at}: has no error"));
            }
        }
    }
    report("examples of errors that are none", &findings);
}

#[test]
fn transcripts_show_what_happens() {
    let mut findings = Vec::new();
    for page in pages() {
        let mut text = read(&page);
        for at in 0..blocks(&text).len() {
            let block = blocks(&text).swap_remove(at);
            if block.info != "console" {
                continue;
            }
            let ran = transcript::run(&block.text);
            if ran != block.text {
                let difference = transcript::difference(&block.text, &ran);
                findings.push(format!("{}:\n{difference}", place(&page, &block)));
                text = replace(&text, &block, &ran);
            }
        }
        write_if_changed(&page, &text);
    }
    if !updating() {
        report("transcripts that differ (UPDATE=1 rewrites them)", &findings);
    }
}

/// The targets of a page's links to other pages, without fragments.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0.split('#').next()?;
        let local = !target.is_empty() && !target.contains("://");
        local.then_some(target)
    })
}

#[test]
fn links_lead_somewhere() {
    let mut findings = Vec::new();
    for page in pages() {
        let folder = page.parent().unwrap_or(Path::new("")).to_owned();
        let text = read(&page);
        for link in links(&text).filter(|link| !folder.join(link).exists()) {
            findings.push(format!("{}: {link}", name(&page)));
        }
    }
    report("links to nothing", &findings);
}

#[test]
fn the_summary_lists_every_page() {
    let folder = root().join("book/src");
    let summary = read(&folder.join("SUMMARY.md"));
    let listed: Vec<_> = links(&summary).map(|link| folder.join(link)).collect();
    let unlisted = files_with("book/src", "md")
        .into_iter()
        .filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(page));
    let findings: Vec<_> = unlisted.map(|page| name(&page)).collect();
    report("pages that the summary does not list", &findings);
}

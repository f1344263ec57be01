//! Coverage as LCOV tracefile (geninfo(1)), for `genhtml`, editors and services. Names of files are from the repository's
//! root.

use std::io::{self, Write};

use datapath::vm::coverage::lines::{Branch, File, Report};

/// One record a file. The two ways of a condition are branches 0 (it held) and 1 (it did not) of a block.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for file in &report.files {
        record(file, out)?;
    }
    Ok(())
}

fn record(file: &File, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "TN:datapath\nSF:{}", file.name)?;
    for (number, line) in &file.lines {
        for (block, branch) in line.branches.iter().enumerate() {
            let [held, failed] = taken(branch);
            writeln!(out, "BRDA:{number},{block},0,{held}")?;
            writeln!(out, "BRDA:{number},{block},1,{failed}")?;
        }
    }
    let (lines, outcomes) = (file.covered(), file.outcomes());
    writeln!(out, "BRF:{}\nBRH:{}", outcomes.total, outcomes.covered)?;
    for (number, line) in &file.lines {
        writeln!(out, "DA:{number},{}", line.ran)?;
    }
    writeln!(out, "LF:{}\nLH:{}\nend_of_record", lines.total, lines.covered)
}

/// `-` stands for a condition that was never asked.
fn taken(branch: &Branch) -> [String; 2] {
    match (branch.held, branch.failed) {
        (0, 0) => ["-".to_owned(), "-".to_owned()],
        (held, failed) => [held.to_string(), failed.to_string()],
    }
}

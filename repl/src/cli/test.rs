//! `hopwise test`

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::coverage::CoverageArgs;
use super::files::{self, Programs};
use super::output::Output;
use super::{Format, Look, Runner};
use crate::backend;
use crate::reply::{Content, Listing, Reply, Status};
use crate::session::Session;
use crate::suite::Report;

const AFTER_HELP: &str = "\
Ends with 1 where an expectation is not met and where no test ran, 3 where a file has errors (nothing is run
then), 5 where the datapath and the oracle differ.";

/// Run the tests of files
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct TestArgs {
    #[command(flatten)]
    programs: Programs,
    #[arg(help = "Run the tests whose name, FILE::BLOCK: CASE, contains this text")]
    #[arg(long, visible_alias = "filter", value_name = "TEXT")]
    run: Option<String>,
    /// List the tests instead of running them
    #[arg(long)]
    list: bool,
    /// Run them as real traffic between real devices: the same as `--backend lab`
    #[arg(long, value_name = "WHERE", value_parser = ["lab"], conflicts_with = "backend")]
    on: Option<String>,
    #[command(flatten)]
    runner: Runner,
    #[command(flatten)]
    coverage: CoverageArgs,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &TestArgs, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &args.format);
    let programs = match args.programs.expanded() {
        Ok(programs) => programs,
        Err(reply) => return output.reply(&reply),
    };
    let bad = errors(&programs);
    if !bad.is_empty() {
        return output.replies(&bad);
    }
    let filter = args.run.as_deref();
    let runner = match &args.on {
        Some(place) => Runner { backend: place.clone() },
        None => args.runner.clone(),
    };
    let counter = match args.coverage.counter(&runner.backend) {
        Ok(counter) => counter,
        Err(reply) => return output.reply(&reply),
    };
    let mut session = match &counter {
        Some(counter) => counter.session(),
        None => Session::new(backend::open),
    };
    if let Err(message) = runner.choose(&mut session) {
        return output.reply(&Reply::failure(Status::Usage, message, ""));
    }
    if args.list {
        let names = names(&mut session, &programs, filter);
        return output.reply(&listed(names, output.json));
    }
    let status = output.reply(&ran(&mut session, &programs, filter))?;
    let Some(coverage) = counter.map(|counter| counter.finish()) else { return Ok(status) };
    // JSON is one document, that of the tests; that something cannot be written is told all the same.
    if output.json && coverage.is_ok() {
        return Ok(status);
    }
    Ok(status.worst(Output::text(look).reply(&coverage)?))
}

/// What is wrong with programs that have errors.
fn errors(programs: &[Vec<PathBuf>]) -> Vec<Reply> {
    programs.iter().filter_map(|program| files::open(program).err()).map(|reply| *reply).collect()
}

/// Runs program after program on one backend, and adds their reports up.
fn ran(session: &mut Session, programs: &[Vec<PathBuf>], filter: Option<&str>) -> Reply {
    let mut total = Report { filter: filter.map(ToOwned::to_owned), ..Report::default() };
    let mut warnings = Vec::new();
    for program in programs {
        if let Err(reply) = files::load(session, program) {
            return *reply;
        }
        let reply = session.run_tests(filter);
        let Content::Suite(report) = reply.content else { return reply };
        total.backend = report.backend;
        total.cases.extend(report.cases);
        total.without_tests.extend(report.without_tests);
        warnings.extend(reply.warnings);
    }
    let status = total.status();
    Reply { warnings, ..Reply::with_status(Content::Suite(total), status) }
}

fn names(session: &mut Session, programs: &[Vec<PathBuf>], filter: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    for program in programs {
        if files::load(session, program).is_ok() {
            names.extend(session.test_names());
        }
    }
    names.retain(|name| filter.is_none_or(|wanted| name.contains(wanted)));
    names
}

/// One name a line; a listing where JSON is wanted.
fn listed(names: Vec<String>, json: bool) -> Reply {
    if !json {
        return Reply::text(names.join("\n"));
    }
    let mut listing = Listing::new("tests", &[("name", "NAME")]);
    listing.rows = names.into_iter().map(|name| vec![name.into()]).collect();
    Reply::ok(Content::Listing(listing))
}

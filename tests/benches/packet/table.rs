//! The table at the end: medians net of the empty program, as they are and as ratios.

use datapath::testrun::measure::Load;

/// Nanoseconds net that the reference implementation takes, and the part of them that is the target, both as the
/// design states them, from another machine's run.
pub(crate) type Target = (f64, f64);

/// Samples of one subject.
pub(crate) struct Row {
    name: String,
    target: Option<Target>,
    /// Nanoseconds of one unit: net of the empty program, and the empty program's.
    net: Vec<f64>,
    empty: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: &str, target: Option<Target>) -> Self {
        Self { name: name.to_owned(), target, net: Vec::new(), empty: Vec::new() }
    }

    pub(crate) fn take(&mut self, full: u32, empty: u32, units: u32) {
        self.net.push((f64::from(full) - f64::from(empty)) / f64::from(units));
        self.empty.push(f64::from(empty));
    }

    fn net(&self) -> f64 {
        quantile(&self.net, 0.5)
    }
}

pub(crate) fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index within the samples"
    )]
    let at = ((sorted.len() - 1) as f64 * part) as usize;
    sorted[at]
}

pub(crate) fn print(rows: &[Row], loads: &[Load]) {
    let net = |name: &str| {
        rows.iter().find(|row| row.name == format!("operation/{name}")).map_or(f64::NAN, Row::net)
    };
    let (hit, insert) = (net("LRU hit"), net("LRU insert"));
    println!(
        "\nMedians of one run. ns: net of the empty program that the same driver calls (last column)."
    );
    println!(
        "The reference's figures are another machine's; only the ratios of this run's rows to one another hold.\n"
    );
    println!(
        "{:<52} {:>7} {:>7} {:>9} {:>11} {:>10} {:>7} {:>7}",
        "", "ns", "lowest", "LRU hits", "LRU inserts", "reference", "target", "empty"
    );
    for row in rows {
        let (reference, part) =
            row.target.map_or((String::new(), String::new()), |(reference, part)| {
                (format!("{:.2}", row.net() / reference), format!("{part:.2}"))
            });
        println!(
            "{:<52} {:>7.1} {:>7.1} {:>9.1} {:>11.2} {:>10} {:>7} {:>7.0}",
            row.name,
            row.net(),
            quantile(&row.net, 0.0),
            row.net() / hit,
            row.net() / insert,
            reference,
            part,
            quantile(&row.empty, 0.5),
        );
    }
    println!("\n{:<20} {:>10} {:>22}", "program", "load, ms", "verified instructions");
    for load in loads {
        let verified = load.verified.map_or("unknown".to_owned(), |count| count.to_string());
        println!("{:<20} {:>10.1} {verified:>22}", load.name, load.time.as_secs_f64() * 1000.0);
    }
}

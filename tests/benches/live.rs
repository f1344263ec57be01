//! What the datapath costs real traffic between two pods, with and without a monitor, against the kernel's own routing between the
//! same devices, all in one run. `book/src/performance.md` says what the figures mean.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "live/ways.rs"]
mod ways;

use std::time::Duration;

use ways::{Measured, Round, Variant, Ways, quantile};

/// Rounds, each of every variant, whose medians are the table's.
const ROUNDS: usize = 21;
const ROUND: Round = Round { stream: Duration::from_millis(200), exchanges: 1000 };

fn main() {
    if let Err(error) = datapath::lab::namespace::Namespace::make() {
        println!("skipped: labs: {error}");
        return;
    }
    let place = std::env::temp_dir().join(format!("hwb{}", std::process::id()));
    let ways = Ways::new(place);
    for (to, what) in [("10.1.0.11", "one node"), ("10.2.0.10", "two nodes, vxlan")] {
        let mut all = Variant::ALL.map(|variant| (variant, Vec::new()));
        for _ in 0..ROUNDS {
            for (variant, rounds) in &mut all {
                rounds.push(ways.measure(*variant, to, ROUND));
            }
        }
        print(what, &mut all);
    }
}

/// Rows by variant: medians over the rounds, and their ratios to the first.
fn print(what: &str, all: &mut [(Variant, Vec<Measured>)]) {
    println!(
        "| {what} | Gbit/s | | TCP us | | TCP p99 | | UDP us | | UDP p99 | | events read | lost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut first: Option<[f64; 5]> = None;
    for (variant, rounds) in all {
        let mut bits: Vec<f64> = rounds.iter().map(|round| round.bits / 1e9).collect();
        bits.sort_by(f64::total_cmp);
        let of = |pick: fn(&mut Measured) -> &mut Vec<u64>, share, rounds: &mut Vec<Measured>| {
            let mut each: Vec<u64> = rounds.iter_mut().map(|r| quantile(pick(r), share)).collect();
            let median = u32::try_from(quantile(&mut each, 0.5)).unwrap_or(u32::MAX);
            f64::from(median) / 1e3
        };
        let row = [
            bits[bits.len() / 2],
            of(|round| &mut round.tcp, 0.5, rounds),
            of(|round| &mut round.tcp, 0.99, rounds),
            of(|round| &mut round.udp, 0.5, rounds),
            of(|round| &mut round.udp, 0.99, rounds),
        ];
        let base = *first.get_or_insert(row);
        let cells: Vec<String> = row
            .iter()
            .zip(base)
            .map(|(value, base)| format!("{value:.1} | {:.2}", value / base))
            .collect();
        let read: u64 = rounds.iter().map(|round| round.events.0).sum();
        let lost: u64 = rounds.iter().map(|round| round.events.1).sum();
        println!("| {variant:?} | {} | {read} | {lost} |", cells.join(" | "));
    }
    println!();
}

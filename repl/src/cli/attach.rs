//! `hopwise attach`

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::output::Output;
use super::{Files, Format, Look};
use crate::reply::Status;
use crate::session::attach::{self, Wanted};

const AFTER_HELP: &str = "\
A pod's device is the host side of its veth: the one that the file names (interface), or the one whose other end has the
pod's address, in whatever network namespace of this machine. Programs and their maps are pinned: they stay when this
command ends, or is killed. The same command again tells them of a changed file, and drops nothing meanwhile.

  hopwise attach -f shop.hop
  hopwise attach -f shop.hop --metrics 127.0.0.1:9650
  hopwise attach shop -f shop.hop --enforce --for 10m
  hopwise attach shop --confirm";

/// Put the programs on devices that pods have on this machine already
///
/// They only observe: every packet passes on as before, and they say what its verdict would be. With --enforce they decide.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, verbatim_doc_comment)]
pub(super) struct AttachArgs {
    /// The name of what is then attached
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    files: Files,
    /// Decide what passes; refused where another program sits on a device
    #[arg(long)]
    enforce: bool,
    /// End after this time, such as 10m, unless it is confirmed before
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Stay in the foreground, and serve metrics to Prometheus at this address
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// What is attached shall not end by itself
    #[arg(long, conflicts_with_all = ["files", "enforce", "time", "metrics"])]
    confirm: bool,
    /// Remove it when its time is over
    #[arg(long, hide = true, requires = "name")]
    expire: bool,
    #[command(flatten)]
    format: Format,
}

/// How long a trial may take.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as `90s`, `10m` or `1h`");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let amount: u64 = text.strip_suffix(unit).and_then(|a| a.parse().ok()).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => Some(amount),
        'm' => amount.checked_mul(60),
        'h' => amount.checked_mul(3600),
        _ => None,
    };
    let time = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)?;
    if time > LONGEST {
        return Err(format!(
            "`{text}` is longer than 30 days: leave it out, what is attached then stays"
        ));
    }
    Ok(time)
}

pub(super) fn run(args: &AttachArgs, look: &Look) -> io::Result<Status> {
    let output = Output::of(look, &args.format);
    if args.expire {
        wait_for_the_end(args.name.as_deref().unwrap_or_default());
        return Ok(Status::Ok);
    }
    if args.confirm {
        return output.reply(&attach::confirm(args.name.as_deref()));
    }
    let (mut session, loaded) = match args.files.open() {
        Ok(opened) => opened,
        Err(reply) => return output.reply(&reply),
    };
    let wanted = Wanted { name: args.name.clone(), enforce: args.enforce, time: args.time };
    let served = args.metrics.as_ref().map(|at| attach::can_serve(args.name.as_deref(), at));
    if let Some(Err(reply)) = served {
        return output.reply(&reply);
    }
    let reply = session.attach(&wanted).after(loaded);
    let is_attached = reply.is_ok();
    let status = output.reply(&reply)?;
    if !is_attached {
        return Ok(status);
    }
    if args.time.is_some() {
        watch(args.name.as_deref());
    }
    match &args.metrics {
        Some(address) => serve(args.name.as_deref(), address, &output),
        None => Ok(status),
    }
}

/// Starts a process that removes what is attached when its time is over. Programs do nothing from then on in any case; without it the
/// next `hopwise status` removes them.
fn watch(name: Option<&str>) {
    use std::os::unix::process::CommandExt;
    let Some(name) = name.map(str::to_owned).or_else(attach::only) else { return };
    let Ok(own) = std::env::current_exe() else { return };
    let mut watcher = Command::new(own);
    watcher.args(["attach", &name, "--expire"]).process_group(0);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Where no process can be started the kernel's clock is enough.
    let _ = watcher.spawn();
}

fn wait_for_the_end(name: &str) {
    const PAUSE: Duration = Duration::from_secs(1);
    while let Some(left) = attach::expire(name) {
        std::thread::sleep(left.min(PAUSE));
    }
}

fn serve(name: Option<&str>, address: &str, output: &Output) -> io::Result<Status> {
    let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::clone(&end))?;
    }
    let begun = |url: &str| super::output::remark(&format!("metrics are served at {url}"));
    match attach::serve(name, address, &end, begun) {
        Ok(()) => Ok(Status::Ok),
        Err(reply) => output.reply(&reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_not_nothing() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(time("1h"), Ok(Duration::from_hours(1)));
        for wrong in
            ["", "m", "10", "0s", "-1s", "1.5m", "10d", "721h", "99999999999999999999h", "9s\u{e9}"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}

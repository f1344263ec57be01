//! `trace ... --pcap FILE`: the frames of an answer as a capture. Never over a file that is not a capture of ours.

use std::fs::{self, File};
use std::path::Path;

use engine::explain::Explanation;

use super::Session;
use super::files::unwritable;
use super::save::write;
use crate::pcap;
use crate::reply::{Content, Reply, Status};

/// What the file of a question follows.
const FLAG: &str = " --pcap ";

/// A question and the file that its frames are to be written to, where the line ends in `--pcap FILE`.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let is_question = text.trim_start().starts_with("trace ") || text.contains("->");
    let (question, file) = text.rsplit_once(FLAG).filter(|_| is_question)?;
    // In quotes it is somebody's payload.
    if question.matches('"').count() % 2 == 1 || text.contains('{') {
        return None;
    }
    let file = file.trim();
    let quoted = file.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
    let file = quoted.unwrap_or(file);
    let is_one = quoted.is_some() || !file.contains(char::is_whitespace);
    (is_one && !file.is_empty()).then_some((question, file))
}

impl Session {
    /// Asks, and writes the frames of the answer to a file.
    pub fn capturing(&mut self, path: &Path, ask: impl FnOnce(&mut Self) -> Reply) -> Reply {
        if let Err(reply) = replaceable(path) {
            return *reply;
        }
        let reply = ask(self);
        let Content::Answer(answer) = &reply.content else { return reply };
        match self.write_capture(path, &answer.explanation) {
            Ok(()) => reply,
            Err(failure) => *failure,
        }
    }

    fn write_capture(&self, path: &Path, answer: &Explanation) -> Result<(), Box<Reply>> {
        let failed = |why: String| {
            let message = format!("cannot write `{}`: {why}", path.display());
            let remedy = "name a file in a folder that can be written";
            Box::new(Reply::failure(Status::Environment, message, remedy))
        };
        let bytes =
            pcap::capture(answer, self.world()).map_err(|error| failed(error.to_string()))?;
        write(path, bytes).map_err(|error| failed(unwritable(path, &error)))
    }
}

/// Whether a capture may be written there: nothing is, or a capture of ours, or an empty file.
pub(super) fn replaceable(path: &Path) -> Result<(), Box<Reply>> {
    let refused = |what: &str| {
        let message = format!("`{}` {what}, and is not replaced", path.display());
        let remedy = "name a file that is not there yet, such as `drop.pcapng`";
        Err(Box::new(Reply::failure(Status::Input, message, remedy)))
    };
    if path == Path::new("-") {
        return refused("stands for standard output");
    }
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    if !found.is_file() {
        return refused("is no file");
    }
    if found.len() == 0 || File::open(path).is_ok_and(pcap::is_ours) {
        return Ok(());
    }
    refused("is there already and is no capture that hopwise wrote")
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_file_is_the_end_of_a_question() {
        let check = |text, expected| assert_eq!(split(text), expected, "{text}");
        check("trace a -> b:80 --pcap x.pcapng", Some(("trace a -> b:80", "x.pcapng")));
        check("a -> b:80 => allowed --pcap x ", Some(("a -> b:80 => allowed", "x")));
        check(
            "trace --at n from-netdev hex 00 --pcap \"my x\"",
            Some(("trace --at n from-netdev hex 00", "my x")),
        );
        check("a -> b:80 payload \"x --pcap y\"", None);
        check("a -> b:80 --pcap x y", None);
        check("a -> b:80 --pcap ", None);
        check("show pods --pcap x", None);
        check("test \"a\" {\n a -> b --pcap x", None);
    }
}

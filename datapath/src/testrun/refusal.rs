//! Errors of libbpf and the kernel in the words of [`BackendError`], with what libbpf printed meanwhile.

use std::cell::RefCell;
use std::sync::Once;

use engine::backend::BackendError;
use libbpf_rs::{ErrorKind, PrintLevel, set_print};

use super::privileges;

/// Lines of a verifier's log that are worth showing: the last instructions and the complaint.
const LOG_LINES: usize = 20;
/// Bytes of libbpf's output that are kept; a verifier's log may have megabytes.
const KEPT: usize = 1 << 20;

thread_local! {
    static PRINTED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a call of libbpf; what it prints is returned with the error instead of going to the terminal.
pub(crate) fn listening<T>(
    call: impl FnOnce() -> libbpf_rs::Result<T>,
) -> Result<T, (libbpf_rs::Error, String)> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_print(Some((PrintLevel::Warn, |_, text| {
            PRINTED.with_borrow_mut(|printed| {
                if printed.len() < KEPT {
                    printed.push_str(&text);
                }
            });
        })));
    });
    PRINTED.with_borrow_mut(String::clear);
    let result = call();
    let printed = PRINTED.take();
    result.map_err(|error| (error, printed))
}

/// Why the object could not be opened or loaded.
pub(super) fn of_loading((error, printed): (libbpf_rs::Error, String)) -> BackendError {
    match (error.kind(), refused_program(&printed)) {
        (ErrorKind::PermissionDenied, None) => privileges::without(
            "the right to (a container's seccomp filter, a user namespace, \
                 or on Linux 5.10 `ulimit -l`, may forbid it)",
        ),
        (_, Some(program)) => {
            let program = program.to_owned();
            BackendError::Refused { program, log: tail(&printed, LOG_LINES) }
        }
        (_, None) => BackendError::System {
            call: "loading the datapath's object".to_owned(),
            error: format!("{error:#}\n{}", tail(&printed, LOG_LINES)).trim_end().to_owned(),
        },
    }
}

/// The program that libbpf says could not be loaded.
fn refused_program(printed: &str) -> Option<&str> {
    printed.lines().find_map(|line| {
        let (program, rest) = line.strip_prefix("libbpf: prog '")?.split_once('\'')?;
        rest.contains("BPF program load failed").then_some(program)
    })
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The error of one call.
pub(crate) fn of_call(call: &str) -> impl Fn(libbpf_rs::Error) -> BackendError + '_ {
    move |error| match error.kind() {
        ErrorKind::PermissionDenied => privileges::without(&format!("the right to {call}")),
        _ => BackendError::System { call: call.to_owned(), error: format!("{error:#}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "libbpf: prog 'from_container': BPF program load failed: Permission denied\n\
        libbpf: prog 'from_container': -- BEGIN PROG LOAD LOG --\n\
        0: R1=ctx() R10=fp0\n\
        1: (79) r0 = *(u64 *)(r1 +4096)\n\
        invalid bpf_context access off=4096 size=8\n\
        -- END PROG LOAD LOG --\n\
        libbpf: prog 'from_container': failed to load: -13\n\
        libbpf: failed to load object 'hopwise'\n";

    #[test]
    fn a_refused_program_is_named_with_the_end_of_the_log() {
        let error = libbpf_rs::Error::from_raw_os_error(13);
        let BackendError::Refused { program, log } = of_loading((error, VERIFIER.to_owned()))
        else {
            panic!("not a refusal");
        };
        assert_eq!(program, "from_container");
        assert!(log.contains("invalid bpf_context access"), "{log}");
    }

    #[test]
    fn a_forbidden_call_names_the_capabilities() {
        let error = libbpf_rs::Error::from_raw_os_error(1);
        let BackendError::Unsupported { remedy, .. } = of_loading((error, String::new())) else {
            panic!("not a lack of privileges");
        };
        assert!(remedy.contains("cap_bpf,cap_net_admin,cap_perfmon"), "{remedy}");
    }

    #[test]
    fn another_failure_keeps_the_error_and_what_was_printed() {
        let error = libbpf_rs::Error::from_raw_os_error(22);
        let printed = "libbpf: elf: hopwise is not a valid eBPF object file\n".to_owned();
        let BackendError::System { error, .. } = of_loading((error, printed)) else {
            panic!("not an error of the system");
        };
        assert!(error.contains("Invalid argument") && error.contains("not a valid"), "{error}");
    }

    #[test]
    fn a_tail_has_the_last_lines_without_blank_ones() {
        assert_eq!(tail("a\n\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}

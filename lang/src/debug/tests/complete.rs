//! What may stand at the cursor, by what stands before it.

use super::*;
use NameKind::*;

#[test]
fn the_words_before_say_what_may_stand_at_the_cursor() {
    let cases: &[(&str, usize, &[&str], &[NameKind])] = &[
        ("ste", 0, &["step", "stepi"], &[]),
        ("  fin", 2, &["finish"], &[]),
        ("xyzzy a", 7, &[], &[]),
        ("step ", 5, &["event", "hop", "instruction", "line"], &[]),
        ("s e", 2, &["event"], &[]),
        ("step 3 l", 7, &["line"], &[]),
        ("step line ", 10, &[], &[]),
        ("back h", 5, &["hop"], &[]),
        ("goto e", 5, &["end", "event"], &[]),
        ("level p", 6, &["policy", "program"], &[]),
        ("info pro", 5, &["programs"], &[]),
        ("break lo", 6, &["lookup"], &[Function, SourceFile]),
        ("b lookup ", 9, &["if"], &[Map]),
        ("break upd C", 10, &[], &[Map]),
        ("break helper r", 13, &[], &[Helper]),
        ("break event ", 12, &["if"], &[EventKind]),
        ("break rule ", 11, &[], &[Policy, Rule]),
        ("break rule web/x ", 17, &["if"], &[]),
        ("tbreak drop ", 12, &["if"], &[DropReason]),
        ("break hop n", 10, &[], &[Node]),
        ("break function f", 15, &[], &[Function]),
        ("break write icmp", 12, &["icmp-code", "icmp-type"], &[]),
        ("break write mar", 12, &[], &[]),
        ("break policy.rs:57 ", 19, &["if"], &[]),
        ("watch ma", 6, &["map", "mark"], &[]),
        ("watch map ", 10, &[], &[Map]),
        ("watch mark i", 11, &["if"], &[]),
        ("print re", 6, &["registers"], &[]),
        ("p packet ", 9, &["hex"], &[]),
        ("p packet", 2, &["packet", "packet["], &[]),
        ("display map C", 12, &[], &[Map]),
        ("delete 1 ", 9, &[], &[Breakpoint]),
        ("condition ", 10, &[], &[Breakpoint]),
        ("undisplay ", 10, &[], &[Display]),
        ("list pol", 5, &[], &[Function, SourceFile]),
        ("disassemble ", 12, &[], &[Function]),
        ("help und", 5, &["undisplay"], &[]),
        ("edit dst-p", 5, &["dst-port"], &[]),
        ("edit pol", 5, &["policy"], &[]),
        ("edit dst-port ", 14, &["="], &[]),
        ("edit r1", 5, &["r1"], &[]),
        ("edit length", 5, &[], &[]),
        ("edit map ", 9, &[], &[Map]),
        ("edit map CT4 ", 13, &["remove"], &[]),
        ("edit remove policy ", 19, &[], &[Policy]),
        ("edit protocol = u", 16, &["udp"], &[]),
        ("answer ", 7, &[], &[]),
        ("break hop \"no", 13, &[], &[]),
    ];
    for (before, start, words, names) in cases {
        let expected = Completion { start: *start, words: words.to_vec(), names: names.to_vec() };
        assert_eq!(complete(before), expected, "{before}");
    }
}

#[test]
fn a_condition_is_completed_side_by_side() {
    let comparisons: &[&str] = &["!=", "&", "<", "<=", "==", ">", ">=", "in"];
    let cases: &[(&str, usize, &[&str], &[NameKind])] = &[
        ("break drop if tt", 14, &["ttl"], &[]),
        ("break drop if not icmp-t", 18, &["icmp-type"], &[]),
        ("break drop if ttl ", 18, comparisons, &[]),
        ("break drop if ttl >", 18, &[">", ">="], &[]),
        ("break drop if ttl i", 18, &["in"], &[]),
        ("break drop if ttl in ", 21, &[], &[]),
        ("break drop if ttl == 6 ", 23, &["and", "or"], &[]),
        ("break drop if ttl==6 a", 21, &["and"], &[]),
        ("break drop if ttl == 6 and no", 27, &["node", "not"], &[]),
        ("break drop if (ttl == 6 or vn", 27, &["vni"], &[]),
        ("break drop if (tt", 15, &["ttl"], &[]),
        ("break drop if (ttl == 6) ", 25, &["and", "or"], &[]),
        ("break drop if !tt", 15, &["ttl"], &[]),
        ("break drop if ttl == 6 && tt", 26, &["ttl"], &[]),
        ("break drop if protocol == s", 26, &["sctp", "src", "src-mac", "src-port"], &[]),
        ("break drop if protocol==ud", 24, &["udp"], &[]),
        ("break drop if node ", 19, &["!=", "=="], &[]),
        ("break drop if node == n", 22, &[], &[Node]),
        ("watch mark if vn", 14, &["vni"], &[]),
        ("condition 1 i", 12, &["icmp-code", "icmp-type", "if", "instruction"], &[]),
        ("condition 1 if tt", 15, &["ttl"], &[]),
        ("condition 1 ttl == 3 o", 21, &["or"], &[]),
    ];
    for (before, start, words, names) in cases {
        let mut words = words.to_vec();
        words.sort_unstable();
        let expected = Completion { start: *start, words, names: names.to_vec() };
        assert_eq!(complete(before), expected, "{before}");
    }
}

/// What is offered reads without an error where the line is whole with it.
#[test]
fn every_offered_word_is_understood() {
    for before in ["step ", "level ", "info ", "help ", "print ", "break write "] {
        for word in complete(before).words {
            let line = format!("{before}{word}");
            let whole = match word {
                "packet[" => format!("{line}3]"),
                "map" => format!("{line} CT4"),
                "if" => format!("{line} ttl == 3"),
                _ => line,
            };
            assert!(parse(&whole, FileId(0)).is_ok(), "{whole}");
        }
    }
}

/// A cursor anywhere in any line, also within a character of several bytes before it.
#[test]
fn the_start_is_a_place_in_the_line() {
    let lines =
        ["break é if ü == (ö", "\u{2003}step\u{2003}e", "edit policy a/b { x", "p packet[1..", ""];
    for line in lines {
        for (at, _) in line.char_indices().chain([(line.len(), ' ')]) {
            let start = complete(&line[..at]).start;
            assert!(start <= at && line.is_char_boundary(start), "{line} {at} {start}");
        }
    }
}

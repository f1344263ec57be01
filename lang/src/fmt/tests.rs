//! Canonical text: pairs of input and expected output, and what holds for every text.

use super::format;

fn check(input: &str, expected: &str) {
    match format(input) {
        Ok(text) => assert_eq!(text, expected, "of {input:?}"),
        Err(problems) => panic!("{input:?}: {problems:?}"),
    }
    assert_eq!(format(expected).ok().as_deref(), Some(expected), "twice, of {input:?}");
}

#[test]
fn white_space_is_canonical() {
    check("", "");
    check("\n\n", "");
    check("namespace   web{}", "namespace web {}\n");
    check("# a\r\n\r\n\r\nnamespace web {}\r\n", "# a\n\nnamespace web {}\n");
}

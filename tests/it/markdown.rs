//! Fenced blocks of a Markdown text: found, and replaced. Knows nothing of what they mean.

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What follows the opening fence: `hop,wrong`.
    pub(crate) info: String,
    /// The lines between the fences, each with its line end.
    pub(crate) text: String,
    /// The line of the opening fence, from 1.
    pub(crate) line: usize,
    /// First byte of `text`.
    start: usize,
}

/// Every fenced block, in order.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let next = at + line.len();
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let info = info.trim().to_owned();
                open = Some(Block { info, text: String::new(), line: number + 1, start: next });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.push_str(line),
            (None, None) => {}
        }
        at = next;
    }
    blocks
}

/// The text with a block's content replaced.
pub(crate) fn replace(text: &str, block: &Block, content: &str) -> String {
    let end = block.start + block.text.len();
    format!("{}{content}{}", &text[..block.start], &text[end..])
}

#[test]
fn blocks_are_found_and_replaced() {
    let text = "a\n```hop\nx\ny\n```\nb\n```console\n```\n";
    let found = blocks(text);
    let seen: Vec<_> = found.iter().map(|b| (&*b.info, &*b.text, b.line)).collect();
    assert_eq!(seen, [("hop", "x\ny\n", 2), ("console", "", 7)]);
    assert_eq!(replace(text, &found[0], "z\n"), "a\n```hop\nz\n```\nb\n```console\n```\n");
    assert_eq!(replace(text, &found[1], "z\n"), "a\n```hop\nx\ny\n```\nb\n```console\nz\n```\n");
}

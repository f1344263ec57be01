//! Where a debugged question stands, as lines behind fixed keywords: why it stopped, the hop, the event that has just
//! happened, the place in the program, and what is displayed.

use std::io::{self, Write};

use crate::debug::Halt;

/// The lines of a stop.
pub(super) fn text(halt: &Halt, out: &mut dyn Write) -> io::Result<()> {
    for reason in &halt.reasons {
        writeln!(out, "{:<9} {reason}", "stop")?;
    }
    let Halt { hop, node, device, hook, instruction, .. } = halt;
    writeln!(out, "{:<9} {hop}: {node} {device} {hook}, {instruction} instructions run", "hop")?;
    if let Some(event) = &halt.event {
        writeln!(out, "{:<9} {}: {} {}", "event", event.number, event.keyword, event.text)?;
    }
    if let Some(code) = &halt.code {
        writeln!(out, "{:<9} {}", "at", code.words())?;
    }
    for display in &halt.displays {
        for line in &display.lines {
            writeln!(out, "{:<9} {}: {line}", "display", display.number)?;
        }
    }
    Ok(())
}

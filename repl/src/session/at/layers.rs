//! What is wrong with the layers of a packet, at the layer that is wrong.

use datapath::frame::FrameError;
use engine::diag::Diagnostic;
use lang::ast::{Layer, RawQuestion, RawSource, Spanned};
use lang::codes::CANNOT_ENTER;

/// Why layers make no frame, at the layer that is wrong where one is.
pub(super) fn no_frame(error: &FrameError, question: &RawQuestion) -> Diagnostic {
    let RawSource::Layers(written) = &question.source.node else {
        return Diagnostic::error(CANNOT_ENTER, error.to_string(), question.source.span);
    };
    let of = |name: &str| {
        written.iter().find(|layer| word(layer) == name).map_or(question.source.span, |l| l.span)
    };
    let problem = |message: String, span| {
        Diagnostic::error(CANNOT_ENTER, format!("the layers make no frame: {message}"), span)
    };
    match error {
        FrameError::Order { layer, after: "eth" } if !written.iter().any(|l| word(l) == "eth") => {
            problem(format!("`{layer}` cannot come first"), of(layer)).help(format!(
                "write `ipv4 SOURCE > DESTINATION / {layer} ...`, or `ipv6 ...`; Ethernet may be left out"
            ))
        }
        FrameError::Order { layer, after } => {
            let pair = written.windows(2).find(|two| word(&two[0]) == *after && word(&two[1]) == *layer);
            let span = pair.map_or_else(|| of(layer), |two| two[1].span);
            let problem = problem(error.to_string(), span);
            match *after {
                "vxlan" | "geneve" => problem.help(format!(
                    "a tunnel carries Ethernet: `{after} vni N / eth SOURCE > DESTINATION / {layer} ...`"
                )),
                _ => problem.help("layers are written outermost first, as on a wire"),
            }
        }
        FrameError::NumberMissing { layer } => problem(error.to_string(), of(layer)).help(match *layer {
            "ipv4" | "ipv6" => "as in `proto 17`, behind the addresses",
            _ => "as in `type 0x0800`, behind the addresses",
        }),
        _ => problem(error.to_string(), question.source.span)
            .help("layers are written outermost first, as on a wire"),
    }
}

/// The word that a layer begins with; bytes are a payload however they are written.
fn word(layer: &Spanned<Layer>) -> String {
    let text = lang::fmt::layer(&layer.node);
    match text.split(' ').next().unwrap_or_default() {
        "hex" => "payload".to_owned(),
        word => word.to_owned(),
    }
}

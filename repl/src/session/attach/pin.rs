//! A world's texts with the devices that were found written into them, so that every process that reads the record compiles the same
//! tables from it. Lines stay where they were.

use datapath::attach::Found;
use datapath::live::install::Source;
use engine::topology::World;
use lang::ast::{Item, ItemKind, PodField};
use lang::workspace::Document;

/// The texts, pinned.
pub(super) fn pinned<'a>(
    documents: impl Iterator<Item = &'a Document>,
    world: &World,
    found: &[Found],
) -> Vec<Source> {
    let of = |document: &Document| Source {
        name: document.name.clone(),
        text: text(document, world, found),
    };
    documents.map(of).collect()
}

fn text(document: &Document, world: &World, found: &[Found]) -> String {
    let mut text = document.text.clone();
    // From the end, so that places before stay what they are.
    let mut items: Vec<&Item> = document.ast.items.iter().collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.span.start));
    for item in items {
        let ItemKind::Pod(pod) = &item.kind else { continue };
        let name = pod.handle.node.to_string();
        let is_it =
            |found: &&Found| world.pod(found.pod).is_some_and(|known| known.qualified() == name);
        let Some(found) = found.iter().find(is_it) else { continue };
        let mut fields: Vec<_> = pod.fields.iter().collect();
        fields.sort_by_key(|field| std::cmp::Reverse(field.span.start));
        for field in &fields {
            if is_replaced(&field.node, found) {
                let range = field.span.start as usize..field.span.end as usize;
                let blank: String = text
                    .get(range.clone())
                    .unwrap_or_default()
                    .chars()
                    .map(|c| if c == '\n' { c } else { ' ' })
                    .collect();
                text.replace_range(range, &blank);
            }
        }
        if let Some(first) = fields.last() {
            text.insert_str(first.span.start as usize, &words(found));
        }
    }
    text
}

fn is_replaced(field: &PodField, found: &Found) -> bool {
    match field {
        PodField::Interface(_) | PodField::Ifindex(_) => true,
        PodField::Mac(_) => found.mac.is_some(),
        PodField::HostMac(_) => found.host_mac.is_some(),
        _ => false,
    }
}

fn words(found: &Found) -> String {
    let mut words = format!("interface {} ifindex {} ", found.device, found.index);
    for (field, mac) in [("mac", found.mac), ("host-mac", found.host_mac)] {
        if let Some(mac) = mac {
            words.extend([field, " ", &mac.to_string(), " "]);
        }
    }
    words
}

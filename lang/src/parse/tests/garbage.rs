//! Garbage: texts changed at random, and texts made to be expensive. Nothing of it may panic, hang or recurse
//! without bound. The same seed gives the same texts.

use engine::source::{FileId, SourceMap};

use crate::parse::{file, question};
use crate::{NoIncludes, command};

/// A small generator of numbers (xorshift64*, Marsaglia and Vigna).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap_or(0) % below.max(1)
    }
}

/// Texts that hold every construct.
fn seeds() -> Vec<String> {
    let examples = crate::codes::ALL.iter().flat_map(|info| [info.wrong, info.right]);
    let mut seeds: Vec<String> = examples.map(ToOwned::to_owned).collect();
    seeds.push(
        "policy web/a {\n  select pods { app=client,!debug } in any namespace\n  \
         allow ingress as x from pods { a in (b, \"c\") } in namespaces { d }, cidr fd00::/8 except fd00:1::/32 \\\n \
         on http/tcp, 1-2, icmp echo-request owner \"o\" because \"b\"\n}\n\
         test \"t\" {\n  dialogue \"d\" {\n    a -> [fd00::1]:80/tcp syn-ack ttl 3 df hex 0a => dropped 133 at ingress of pod web/a by x#y, ttl 2\n    wait 3s\n    reply icmp 3/4 quoting last\n  }\n}\n"
            .to_owned(),
    );
    seeds.push(
        "--at n from-overlay on web/a vni 7 from 10.0.0.2 mark 0xf00 eth 02:00:00:00:00:01 > 02:00:00:00:00:02 / \
         ipv4 10.0.0.1 > 10.0.0.2 ttl 3 id 9 df fragment offset 8 more proto 6 ip-options 01 / tcp 1 > 2 syn seq 3 / \
         ipv6 fd00::1 > fd00::2 flow-label 7 extensions routing / icmpv6 echo id 1 seq 2 / vxlan vni 3 / hex 0a0b / payload \"x\""
            .to_owned(),
    );
    seeds.push(
        "cluster c { tunnel none host-routing stack masquerade on except 10.0.0.0/8 ports 40000-50000 encryption ipsec key 3 }\n\
         service web/s {\n  cluster-ip 10.96.0.1 # why\n  port http 80 -> http node-port 30080 affinity client-ip timeout 3h\n  select { a = b }\n}\n\
         test \"t\" {\n  a -> service s:http choose backend pod c with conntrack established => allowed, backend c:80, not snat\n  a -> b:80 flow-label 7 http GET /x?y=1 => dropped\n}\n"
            .to_owned(),
    );
    seeds
}

/// Characters that mean something, and some that do not.
const PIECES: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "\"",
    "\\",
    "\n",
    "#",
    ",",
    "=",
    "=>",
    "->",
    "-",
    ".",
    ":",
    "/",
    "!",
    "~",
    " ",
    "\t",
    "\r\n",
    "\0",
    "\u{e9}",
    "\u{1f600}",
    "\u{feff}",
    "policy ",
    "allow ",
    "0",
    "4294967296",
    "::",
    "10.0.0.0/33",
];

fn changed(text: &str, random: &mut Random) -> String {
    let mut characters: Vec<String> = text.chars().map(String::from).collect();
    for _ in 0..=random.next(6) {
        let at = random.next(characters.len() + 1);
        match random.next(4) {
            0 if at < characters.len() => {
                let end = (at + 1 + random.next(8)).min(characters.len());
                characters.drain(at..end);
            }
            1 => {
                let end = (at + random.next(30)).min(characters.len());
                let copy: Vec<String> = characters.get(at..end).unwrap_or(&[]).to_vec();
                let to = random.next(characters.len() + 1);
                characters.splice(to..to, copy);
            }
            2 => characters.truncate(at),
            _ => {
                let piece = PIECES[random.next(PIECES.len())].to_owned();
                characters.insert(at, piece);
            }
        }
    }
    characters.concat()
}

/// Reads the text in every way there is; every place must lie in the text.
fn read_in_every_way(text: &str) {
    let mut sources = SourceMap::default();
    let entry = ("garbage.hop".to_owned(), text.to_owned());
    let loaded = crate::load(&[entry], &mut NoIncludes, &mut sources);
    let input = sources.add("input", text);
    let mut said = loaded.diagnostics;
    match question(text, input) {
        Ok(question) => said.extend(crate::resolve::question(&loaded.world, &question).err()),
        Err(problems) => said.extend(problems),
    }
    said.extend(command::parse(text, input).err().into_iter().flatten());
    said.extend(command::parse_raw(text, input).err().into_iter().flatten());
    for diagnostic in said {
        for label in &diagnostic.labels {
            let span = label.span;
            let inside = sources.text(span.file).get(span.start as usize..span.end as usize);
            assert!(inside.is_some(), "{diagnostic:?} of {text:?}");
        }
    }
}

#[test]
fn random_changes_never_panic() {
    let seeds = seeds();
    let mut random = Random(20_251_125);
    for _ in 0..4000 {
        let seed = &seeds[random.next(seeds.len())];
        let text = changed(seed, &mut random);
        read_in_every_way(&text);
    }
}

#[test]
fn expensive_texts_are_read() {
    let many = 20_000;
    let texts = [
        "{".repeat(many),
        "}".repeat(many),
        "(".repeat(many),
        "policy web/a ".to_owned() + &"{".repeat(many),
        "policy web/a {\n".repeat(2000),
        format!("policy web/a {{\n  allow ingress on {}\n}}", "80, ".repeat(many)),
        format!("policy web/a {{\n  select {{ {} }}\n}}", "a in (b), ".repeat(many)),
        format!("policy web/a {{\n  allow ingress from pods {{ {}", "!".repeat(many)),
        format!("test \"t\" {{\n  a -> b icmp 3/3 {}", "quoting ( a -> b icmp 3/3 ".repeat(1000)),
        format!(
            "test \"t\" {{\n  a -> b icmp 3/3 {}{}\n}}",
            "quoting ( a -> b icmp 3/3 ".repeat(20),
            ")".repeat(20)
        ),
        format!("cluster c {{ {} }}", "dns ".repeat(many)),
        format!("policy web/a {{\n  allow ingress on 80 {}{}\n}}", "{".repeat(25), "}".repeat(25)),
        "\"".repeat(many),
        "a-".repeat(many),
        "a.".repeat(many) + " -> b",
        "1:".repeat(many),
        "\\\n".repeat(many),
        "#".repeat(many),
    ];
    for text in texts {
        // What takes longer than a moment here would take minutes: the texts are made to be quadratic.
        let (ast, problems) = file(&text, FileId(0));
        assert!(!problems.is_empty() || !ast.items.is_empty() || ast.comments.len() == 1);
        assert!(question(&text, FileId(0)).is_err());
    }
}

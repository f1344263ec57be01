//! The table of commands: one line of help and one example each, for `help` and completion.

/// What a person can know about a command before using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    /// The first word.
    pub name: &'static str,
    /// The whole form, with what it takes.
    pub usage: &'static str,
    /// One sentence without a full stop.
    pub help: &'static str,
    /// A line that works on the reference cluster.
    pub example: &'static str,
}

const fn info(
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    example: &'static str,
) -> CommandInfo {
    CommandInfo { name, usage, help, example }
}

/// Every command, in the order that `help` lists them.
pub const TABLE: &[CommandInfo] = &[
    info(
        "trace",
        "trace [--live [FLAG ...]] SRC -> DST[:PORT[/PROTO]] [OPTION ...] | --at [NODE] HOOK PACKET [--pcap FILE]",
        "explain one flow, or one packet from the hook where it enters, or with `--live` real packets",
        "trace CA -> CB icmp echo with reply",
    ),
    info("why", "why", "show the last answer in full", "why"),
    info(
        "debug",
        "debug SRC -> DST[:PORT[/PROTO]] [OPTION ...] | --at [NODE] HOOK PACKET | FILE",
        "step through one flow, through one packet from the hook where it enters, or through a recorded flow",
        "debug CA -> CB icmp echo",
    ),
    info(
        "record",
        "record FILE SRC -> DST[:PORT[/PROTO]] [OPTION ...]",
        "explain one flow, and write it to a file for `debug FILE`",
        "record ping.hoptrace CA -> CB icmp echo",
    ),
    info(
        "show",
        "show NOUN [NAME] [--hits] [-o json]",
        "list what the world, the policies or the tables hold",
        "show endpoints",
    ),
    info(
        "replay",
        "replay FILE [--policy FILE] [--strict]",
        "run the packets of a capture through the policies, or through others beside them",
        "replay seen.pcap --policy stricter.hop",
    ),
    info(
        "lab",
        "lab up|apply [NAME] [-f FILE] | exec [--lab NAME] WHERE -- COMMAND | list | down [NAME|--all]",
        "make, change, use and remove a world of real pods on this machine",
        "lab list",
    ),
    info(
        "monitor",
        "monitor [--on NAME] [--FILTER VALUE ...] [--graph dot|mermaid] [--pcap FILE] [--count N] [--for TIME]",
        "show what the programs of a lab or an attachment say about real packets, as they come",
        "monitor --verdict dropped --for 10s",
    ),
    info(
        "attach",
        "attach [NAME] [--enforce] [--for TIME] [--confirm]",
        "put the programs on the devices that the session's pods have on this machine; they only observe unless told to enforce",
        "attach --for 10m",
    ),
    info("status", "status [NAME]", "say what is attached where, with counters", "status"),
    info(
        "detach",
        "detach [NAME|--all]",
        "take the programs off, and leave what was there",
        "detach --all",
    ),
    info(
        "test",
        "test [NAME]",
        "run the tests, or those whose name contains NAME",
        "test captured",
    ),
    info("check", "check", "list every error and warning", "check"),
    info("fmt", "fmt", "put the session's text into canonical form", "fmt"),
    info("load", "load FILE", "read a file instead of the session's", "load fixtures/shop.hop"),
    info("reload", "reload", "read the files again, dropping what was typed", "reload"),
    info("save", "save [FILE]", "write what was changed, comments kept", "save"),
    info("undo", "undo", "take the last change back", "undo"),
    info("diff", "diff", "show the session against its files", "diff"),
    info("remove", "remove KIND NAME", "remove a statement", "remove policy web/echo-access"),
    info(
        "set",
        "set [KEY VALUE]",
        "change how the session answers, or list how it does",
        "set level full",
    ),
    info("wait", "wait TIME", "let time pass, for a conntrack that is kept", "wait 60s"),
    info("time", "time on|off", "show how long each answer took", "time on"),
    info("explain", "explain CODE", "explain a diagnostic or a drop reason", "explain 133"),
    info("doctor", "doctor", "say what this host can do, and the remedy for each gap", "doctor"),
    info("help", "help [COMMAND]", "list the commands, or explain one", "help trace"),
    info("quit", "quit", "leave", "quit"),
    info("exit", "exit", "leave", "exit"),
];

/// The command of a name.
pub fn find(name: &str) -> Option<&'static CommandInfo> {
    TABLE.iter().find(|c| c.name == name)
}

/// What `show` can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Noun {
    /// Pods with their enforcement per direction and why.
    Pods,
    /// Services with their ports and backends.
    Services,
    /// Nodes.
    Nodes,
    /// Endpoints with ids, interfaces and MACs, by node.
    Endpoints,
    /// The tunnel table, by node.
    Tunnel,
    /// Peers of rules with the pods that each matches.
    Selectors,
    /// Identities with their labels.
    Identities,
    /// Policies with their rules.
    Policies,
    /// The ipcache of a node.
    Ipcache,
    /// The policy table of an endpoint, with provenance.
    Policy,
    /// Flows that the last answer left in conntrack.
    Conntrack,
    /// Counters per hook, reason and direction, by node.
    Metrics,
}

/// Every noun with its word, what it may be followed by, and what it shows.
pub const NOUNS: &[(Noun, &str, &str, &str)] = &[
    (Noun::Pods, "pods", "", "pods with their enforcement per direction and why"),
    (Noun::Services, "services", "", "services with their addresses, ports and backends"),
    (Noun::Nodes, "nodes", "", "nodes with addresses and pod prefixes"),
    (Noun::Endpoints, "endpoints", "[NODE]", "endpoints with ids, interfaces and MACs"),
    (Noun::Tunnel, "tunnel", "[NODE]", "pod prefixes and the node each is reached by"),
    (Noun::Selectors, "selectors", "", "peers of rules and the pods that each matches"),
    (Noun::Identities, "identities", "", "security identities and whom they stand for"),
    (Noun::Policies, "policies", "[HANDLE]", "policies with their rules and places"),
    (Noun::Ipcache, "ipcache", "[NODE]", "addresses and prefixes with their identities"),
    (
        Noun::Policy,
        "policy",
        "[POD|POLICY] [--hits]",
        "the policy table of a pod or node, or the rules of a policy, with how often each decided",
    ),
    (Noun::Conntrack, "conntrack", "[NODE]", "flows that questions of the session left"),
    (
        Noun::Metrics,
        "metrics",
        "[NODE]",
        "packets of the session's questions, by hook, direction and drop reason",
    ),
];

impl Noun {
    /// The noun's word.
    pub fn word(self) -> &'static str {
        NOUNS.iter().find(|(noun, ..)| *noun == self).map_or("?", |(_, word, ..)| word)
    }
}

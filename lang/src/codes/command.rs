//! HW0200-0299: questions and the commands of a session.

super::codes! { COMMAND_CODES:
UNKNOWN_ENDPOINT = 200, "unknown-endpoint", "nothing has this name";
    "An endpoint is named `[pod|node|external] [namespace/]name`, by an alias, or by its address. A name without its kind is looked up among all kinds, a pod's also without its namespace. An address outside the cluster needs no name at all.";
    wrong "# ask: web/clinet -> world 8.8.8.8:53/udp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
    right "# ask: web/client -> world 8.8.8.8:53/udp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
AMBIGUOUS_ENDPOINT = 201, "ambiguous-endpoint", "several things have this name";
    "A bare name is taken where exactly one party has it. Where several do, the message lists them, and the namespace or the kind must be written. The port never decides.";
    wrong "# ask: a -> world 8.8.8.8:53/udp\ncluster c {\n  node a { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/a on a { ip 10.244.1.154 }\n";
    right "# ask: pod a -> world 8.8.8.8:53/udp\ncluster c {\n  node a { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/a on a { ip 10.244.1.154 }\n";
FAMILIES = 202, "families-do-not-meet", "the two sides have no address family in common";
    "A packet has one family. Where both sides have IPv4 addresses it is used, else IPv6; `ip4` and `ip6` choose it. Here one side lacks an address of the family that is asked for, or that the other side has.";
    wrong "# ask: web/client -> world 2001:db8::1:53\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
    right "# ask: web/client -> world 8.8.8.8:53/udp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
UNKNOWN_PORT_NAME = 203, "unknown-port-name", "the destination has no port of this name";
    "A port's name is the destination pod's: it is given there by `port NAME N/PROTO`. Nodes and outside addresses name no ports. Where two protocols have the name, write the one that is meant behind `/`.";
    wrong "# ask: world 8.8.8.8 -> web/client:http\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
    right "# ask: world 8.8.8.8 -> web/client:http\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 port http 8080/tcp }\n";
CONFLICTING_OPTION = 204, "conflicting-option", "the parts of a question contradict each other";
    "TCP flags need TCP, `id` needs an ICMP echo, ports need a protocol that has ports, and each option is given once. An ICMP question has no port. The message tells which two parts do not fit.";
    wrong "# ask: world 8.8.8.8 -> world 1.1.1.1:53/udp syn\n";
    right "# ask: world 8.8.8.8 -> world 1.1.1.1:53/udp\n";
NOT_OUTSIDE = 205, "not-outside", "the address after `world` is inside the cluster";
    "`world` says that an address is outside the cluster, and this one belongs to a pod or a node. A bare address means whoever owns it. To pretend that a packet comes from elsewhere, use `from-ip`.";
    wrong "# ask: world 10.244.1.154 -> world 8.8.8.8:53/udp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
    right "# ask: 10.244.1.154 -> world 8.8.8.8:53/udp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
BAD_LENGTH = 206, "bad-length", "the length does not fit the packet";
    "`length` is the IP length: headers and payload, in bytes. It cannot be less than the headers, and a payload that is written out fixes it. The largest that can be run is 3486.";
    wrong "# ask: world 8.8.8.8 -> world 1.1.1.1:53/udp length 20\n";
    right "# ask: world 8.8.8.8 -> world 1.1.1.1:53/udp length 64\n";
TO_ITSELF = 207, "to-itself", "the sender would send to itself";
    "A packet to an own address stays inside the pod or the node: it passes no interface, so no policy is asked and no program of the datapath sees it. Pods on the host network share their node's address, so this holds between them too.";
    wrong "# ask: web/client -> 10.244.1.154:80/tcp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
    right "# ask: world 8.8.8.8 -> 10.244.1.154:80/tcp\ncluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
UNKNOWN_COMMAND = 210, "unknown-command", "no command begins with this word";
    "A line of a session is a command, a question with an arrow, or a statement of the language. `help` lists the commands.";
    wrong "# type: shwo pods\n";
    right "# type: show pods\n";
COMMAND_ARGUMENT = 211, "command-argument", "the command does not take this";
    "Each command takes what its line in `help` shows. Something is missing, is too much, or is not one of the words that it knows.";
    wrong "# type: show podz\n";
    right "# type: show pods\n";
NOTHING_TO_REMOVE = 212, "nothing-to-remove", "no statement has this kind and name";
    "`remove` takes the kind and the name of a statement of the session, such as `remove policy web/echo-access`. The nearest name of that kind is suggested.";
    wrong "# type: remove policy web/ecko\nnamespace web {}\npolicy web/echo {\n  select {}\n  allow ingress\n}\n";
    right "# type: remove policy web/echo\nnamespace web {}\npolicy web/echo {\n  select {}\n  allow ingress\n}\n";
}

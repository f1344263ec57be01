//! HW0120-0199: policies, rules and what tests expect of them.

super::codes! { POLICY_CODES:
NO_SUBJECT = 120, "no-subject", "a policy does not say whom it selects";
    "A policy needs one `select` line. `select {}` selects every pod of the policy's namespace, or of the cluster where it is clusterwide. Nothing is selected by default, since that would isolate by accident.";
    wrong "namespace web {}\npolicy web/echo {\n  allow ingress\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress\n}\n";
UNKNOWN_ENTITY = 121, "unknown-entity", "no entity has this name";
    "Entities are well-known groups of peers: all, world, world-ipv4, world-ipv6, cluster, host, remote-node, kube-apiserver, health, init, unmanaged, ingress and none. Pods are named by labels, outside addresses by `cidr`.";
    wrong "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress from entities wrold\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress from entities world\n}\n";
UNKNOWN_ICMP = 122, "unknown-icmp-message", "no ICMP message has this name";
    "ICMP messages are named as in the RFCs, such as `echo-request` or `time-exceeded`, or given by the number of their type. ICMP and ICMPv6 have names and numbers of their own.";
    wrong "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress on icmp echo-requset\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress on icmp echo-request\n}\n";
EXCEPT_OUTSIDE = 123, "except-outside", "an exception lies outside its prefix";
    "`except` cuts a hole into the prefix before it. A hole outside of the prefix changes nothing, so something else was meant. It is neither an allow nor a deny of its own.";
    wrong "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress from cidr 10.9.0.0/16 except 10.8.1.0/24\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress from cidr 10.9.0.0/16 except 10.9.1.0/24\n}\n";
DUPLICATE_RULE = 124, "duplicate-rule", "two rules of a policy have the same name";
    "A rule's name after `as` is the part behind `#` in its handle, by which tests, JSON and metrics know it. So it is unique in its policy. A rule without one is named by direction and place, such as `ingress[0]`.";
    wrong "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress as a on 80/tcp\n  allow ingress as a on 81/tcp\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress as a on 80/tcp\n  allow ingress as b on 81/tcp\n}\n";
SUBJECT_SCOPE = 125, "subject-scope", "a policy of a namespace selects pods of others, or nodes";
    "A policy that lives in a namespace selects only pods of that namespace, so its `select` takes no `in`. A `clusterwide policy` may select pods in any.";
    wrong "namespace web {}\nnamespace db {}\npolicy web/echo {\n  select pods {} in namespace db\n  allow ingress\n}\n";
    right "namespace db {}\nclusterwide policy echo {\n  select pods {} in namespace db\n  allow ingress\n}\n";
PORT_RANGE = 126, "port-range", "a range of ports is backwards, or holds port 0";
    "A range goes from the lower port to the higher, both included. No packet has port 0, so a rule for it could never match; every port of a protocol is its name alone, as in `on tcp`.";
    wrong "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress on 9010-9000/tcp\n}\n";
    right "namespace web {}\npolicy web/echo {\n  select {}\n  allow ingress on 9000-9010/tcp\n}\n";
UNKNOWN_SERVICE = 127, "unknown-service", "no service has this name";
    "A `service` peer stands for the pods behind a service of the world. A bare name is looked up in the policy's own namespace, as in `to service echo`; a clusterwide policy writes `to service web/echo`.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"echo\" } }\npolicy web/client {\n  select { app = \"echo\" }\n  allow egress to service web/ehco\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"echo\" } }\npolicy web/client {\n  select { app = \"echo\" }\n  allow egress to service web/echo\n}\n";
UNKNOWN_POLICY = 130, "unknown-policy", "no policy or rule has this handle";
    "What a test expects by name must exist, else it could never be met. A policy's handle is `namespace/name`, or the plain name of a clusterwide one; a rule's is `policy#rule`.";
    wrong "test \"t\" {\n  world 8.8.8.8 -> world 1.1.1.1 => allowed by web/echo#probes\n}\n";
    right "test \"t\" {\n  world 8.8.8.8 -> world 1.1.1.1 => undecided\n}\n";
UNKNOWN_REASON = 131, "unknown-reason", "this is not a word of a verdict";
    "After `dropped` stands `default-deny`, `denied`, or a drop reason by name or number, such as `ttl-exceeded` or 196. Facts use the words of an answer: conntrack states, outcomes of a direction, implied decisions.";
    wrong "test \"t\" {\n  world 8.8.8.8 -> world 1.1.1.1 => dropped default-denied\n}\n";
    right "test \"t\" {\n  world 8.8.8.8 -> world 1.1.1.1 => dropped default-deny\n}\n";
}

//! HW0400-0499: what can be used but probably does not say what was meant.

super::codes! { LINT_CODES:
SELECTS_NOTHING = 400, "selects-nothing", "a policy selects no pod";
    "No pod of the world has the labels that the policy selects, so it has no effect. A label may be misspelt, or the pods may live in another namespace. Pods on the host network are never selected: they share their node's identity.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } }\npolicy web/echo {\n  select { app = \"ehco\" }\n  allow ingress\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } }\npolicy web/echo {\n  select { app = \"echo\" }\n  allow ingress\n}\n";
OUTSIDE_POD_PREFIX = 401, "outside-pod-prefix", "the address of a pod or health endpoint is outside its node's pod prefixes";
    "Other nodes reach a pod by its own entry, so this works. But a real cluster takes pod addresses from the node's prefixes, so one of the two is probably mistyped.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.6.154 }\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\n";
CIDR_COVERS_PODS = 402, "cidr-covers-pods", "a prefix covers pods, nodes or services, which it never matches";
    "As in Cilium, a CIDR peer matches only addresses outside the cluster. Pods are matched by their labels and nodes by entities, whatever their addresses, and of a service policy sees the pod that was chosen, never the address. Here the prefix covers some of them and nobody else that the world names. The prefix of everything, such as `0.0.0.0/0`, is taken to mean anyone outside.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\npolicy web/echo {\n  select {}\n  allow ingress from cidr 10.244.1.0/24\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/client on node01 { ip 10.244.1.154 }\npolicy web/echo {\n  select {}\n  allow ingress from pods {}\n}\n";
UNKNOWN_NAMED_PORT = 403, "unused-port-name", "no pod gives this name to a port";
    "A named port in a rule stands for the number that the destination pod gives it. No pod of the world has a port of this name, so this part of the rule matches nothing.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 }\npolicy web/echo {\n  select {}\n  allow ingress on http\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 port http 8080/tcp }\npolicy web/echo {\n  select {}\n  allow ingress on http\n}\n";
NO_EFFECT = 404, "no-effect", "a policy neither isolates nor rules";
    "A policy without rules isolates nobody unless it says `default-deny ingress` or `default-deny egress`. As it stands, it changes nothing.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/a on node01 { ip 10.244.1.2 }\npolicy web/quiet {\n  select {}\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/a on node01 { ip 10.244.1.2 }\npolicy web/quiet {\n  select {}\n  default-deny ingress\n}\n";
MATCHES_NOBODY = 405, "matches-nobody", "a peer matches nobody";
    "No pod of the world has the labels that the peer asks for in the namespaces that it asks for, so this part of the rule matches nothing. A label may be misspelt, or the pods live in another namespace: without `in`, a policy's peers live in its own. Pods on the host network are matched by entities only. An entity whose identity nothing has, and a prefix that is taken out of itself, match nobody either.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } }\npolicy web/echo {\n  select {}\n  allow ingress from pods { app = \"ehco\" }\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } }\npolicy web/echo {\n  select {}\n  allow ingress from pods { app = \"echo\" }\n}\n";
UNUSED_IDENTITY = 406, "unused-identity", "an identity is pinned for labels that no pod has";
    "A pinned number is for the pods of a namespace that have exactly these labels. No pod of the world has them, so the number stands for nobody and the pods that were meant have another one.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\nidentity 300 { namespace web labels { app = \"client\" } }\npod web/client on node01 { ip 10.244.1.2 labels { app = \"client\", team = \"store\" } }\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\nidentity 300 { namespace web labels { app = \"client\", team = \"store\" } }\npod web/client on node01 { ip 10.244.1.2 labels { app = \"client\", team = \"store\" } }\n";
NO_BACKENDS = 407, "no-backends", "a service selects no pod";
    "No pod of the service's namespace has the labels that it selects, so whatever is sent to it is dropped as `no-service`. A label may be misspelt, or the pods may live in another namespace, which no service can reach into. Pods on the host network count.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"ehco\" } }\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"echo\" } }\n";
UNKNOWN_TARGET_PORT = 408, "unknown-target-port", "no pod of a service has its target port";
    "A target port by name stands for the number that each pod gives to it, for the protocol of the service's port. A pod without the name is no backend, and here none of the selected pods has it.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> htpp select { app = \"echo\" } }\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 labels { app = \"echo\" } port http 8080/tcp }\nservice web/echo { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = \"echo\" } }\n";
}

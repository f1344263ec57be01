use super::*;

fn read(text: &str) -> (Ast, Vec<String>) {
    let (ast, diagnostics) = file(text, FileId(0));
    (ast, diagnostics.into_iter().map(|d| format!("{} {}", d.code, d.message)).collect())
}

fn check(text: &str, expected: &[&str]) {
    let (_, diagnostics) = read(text);
    assert_eq!(diagnostics, expected, "of\n{text}");
}

#[test]
fn p() {
    check(
        "policy web/echo {\n  select { app=client,!debug }\n  allow ingress as x from pods { app in (\"a\", b), c not in (d) } in namespaces { team != x }, cidr 10.0.0.0/8 except 10.1.0.0/16, 10.2.0.0/16, entities host, health, pods {} on port http, 9000-9010/tcp, tcp, icmp echo-request, icmpv6 owner \"x\"\n}",
        &[],
    );
}

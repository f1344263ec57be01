//! HW0300-0399: what the datapath has no room for. `engine::compile` gives these.

super::codes! { LIMIT_CODES:
DATAPATH_LIMIT = 300, "datapath-limit", "the input asks for more than the datapath holds";
    "The datapath's maps have a size, and the input asks for more than fits. On a node: 4,096 pods, 16,384 targets (pods and other nodes), 524,288 addresses and prefixes, 16,384 entries in one endpoint's policy of one direction, 524,288 policy entries in all; in the cluster: 65,280 identities of pods. A rule takes an entry for each identity of its peers and each prefix of its ports: a range becomes one prefix where it begins and ends at multiples of a power of two and up to 30 where it does not, and without a protocol it counts three times.";
    wrong "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 }\npolicy web/echo {\n  select {}\n  deny ingress from cidr 203.0.0.0/8 except 203.1.0.0/16, 203.2.0.0/16, 203.3.0.0/16, 203.4.0.0/16, 203.5.0.0/16, 203.6.0.0/16, 203.7.0.0/16, 203.8.0.0/16\n  allow ingress from entities cluster, world on 1-4094, 4097-8190, 8193-12286, 12289-16382, 16385-20478, 20481-24574, 24577-28670, 28673-32766, 32769-36862, 36865-40958, 40961-45054, 45057-49150, 49153-53246, 53249-57342, 57345-61438, 61441-65534\n}\n";
    right "cluster c {\n  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }\n}\nnamespace web {}\npod web/echo-0 on node01 { ip 10.244.1.2 }\npolicy web/echo {\n  select {}\n  deny ingress from cidr 203.0.0.0/8 except 203.1.0.0/16, 203.2.0.0/16, 203.3.0.0/16, 203.4.0.0/16, 203.5.0.0/16, 203.6.0.0/16, 203.7.0.0/16, 203.8.0.0/16\n  allow ingress from entities cluster, world on 1024-65535/tcp\n}\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::compile::{compile, limits};
    use engine::diag::Diagnostic;
    use engine::source::SourceMap;
    use engine::tables::Generation;

    /// What reading and compiling a text finds wrong.
    fn findings(text: &str) -> Vec<Diagnostic> {
        let entry = ("limit.hop".to_owned(), text.to_owned());
        let loaded = crate::load(&[entry], &mut crate::NoIncludes, &mut SourceMap::default());
        assert_eq!(loaded.diagnostics, []);
        compile(&loaded.world, &loaded.policies, Generation(1)).err().unwrap_or_default()
    }

    #[test]
    fn the_examples_are_what_they_say() {
        assert_eq!(limits::DATAPATH_LIMIT, DATAPATH_LIMIT);
        let info = LIMIT_CODES[0];
        let wrong = findings(info.wrong);
        let codes: Vec<_> = wrong.iter().map(|d| (d.code, d.message.as_str())).collect();
        let message = "the ingress policy of an endpoint has 19010 entries; at most 16384 fit";
        assert_eq!(codes, [(DATAPATH_LIMIT, message)]);
        assert!(info.wrong[wrong[0].span().start as usize..].starts_with("allow ingress"));
        assert_eq!(findings(info.right), []);
    }
}

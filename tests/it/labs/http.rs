//! Questions about HTTP: by a real connection in a lab of a name, and by packets that are made here.

use datapath::lab::namespace::Namespace;
use datapath::live::install::State;

use super::named::Home;
use super::wire::Server;
use crate::cli::{Folder, document};
use crate::documents::{strict, validate};
use crate::lab::is_possible;

const WORLD: &str = r#"cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24, fd01::/64 }
  node node02 { ip 192.168.1.2 pods 10.2.0.0/24, fd02::/64 }
}
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10, fd01::10 labels { app = "client" } }
pod shop/other on node01 { ip 10.1.0.11 labels { app = "other" } }
pod shop/server on node02 { ip 10.2.0.10, fd02::10 labels { app = "server" } port http 8080/tcp }
service shop/web { cluster-ip 10.96.0.20 port 80/tcp -> http select { app = "server" } }
policy shop/server { select { app = "server" } allow ingress as api from pods { app = "client" } on 8080-8081/tcp }
"#;

#[test]
fn a_request_is_sent_on_a_real_connection_and_its_packet_explained() {
    if !is_possible() {
        return;
    }
    let home = Home::new("http");
    let folder = Folder::new("http", &[("http.hop", WORLD.as_bytes())]);
    let says = |arguments: &[&str], code: i32, parts: &[&str]| {
        let output = home.hopwise(arguments).output().expect("it runs");
        let (text, came) = crate::binary::seen(&output);
        assert_eq!(came, code, "{arguments:?}:\n{text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: no `{part}` in\n{text}");
        }
    };
    says(&["lab", "up", "demo", "-f", &folder.path("http.hop")], 0, &["is up"]);
    let state = State::at(home.path().to_owned());
    let space = Namespace::open(&state.namespace("demo", "shop/server")).expect("it is there");
    let _server = Server::start(&space, 8080, "server");
    let on = |question: &'static str| ["trace", "--live", "--on", "demo", question];
    let opened = "the connection was opened first, by the sender's kernel";
    says(
        &on("shop/client -> service shop/web http GET \"/items?all=1\""),
        0,
        &[
            "ALLOWED  tunneled node01 -> node02",
            "TCP PSH-ACK, HTTP GET /items?all=1\n",
            "conntrack established",
            "ingress   allow by shop/server#api",
            opened,
            "http      HTTP GET /items?all=1 was answered after ",
            " ms: HTTP/1.1 200 OK\n",
        ],
    );
    says(
        &on("shop/client -> shop/server:8080 ip6 http HEAD /"),
        0,
        &["ALLOWED", "[fd02::10]:8080 TCP PSH-ACK, HTTP HEAD /", opened],
    );
    // Dropped at its first packet; nobody listens.
    says(
        &on("shop/other -> shop/server:8080 http GET /"),
        0,
        &["DROPPED  policy-denied (133)", "TCP SYN\n", "was not sent: nothing came back in 3 s"],
    );
    let nobody = &["UNDECIDED  no such flow: its SYN", "comes to no connection", "was refused\n"];
    says(&on("shop/client -> shop/server:8081 http GET /"), 0, nobody);
    // What is not sent.
    says(&on("shop/client -> shop/server:8080 http PUT /"), 2, &["HTTP PUT", "--send"]);
    let put = [
        "trace",
        "--live",
        "--on",
        "demo",
        "--send",
        "shop/client -> service shop/web http PUT /x",
    ];
    says(&put, 0, &["HTTP PUT /x was answered after "]);
    says(&on("shop/client -> shop/server:8080 http GET / ttl 3"), 3, &["the packets", "kernel's"]);
    let compare =
        ["trace", "--live", "--on", "demo", "--compare", "shop/client -> shop/web:80 http GET /"];
    says(&compare, 3, &["is not simulated byte by byte"]);
    let json =
        ["trace", "--live", "--on", "demo", "shop/client -> shop/web:80 http GET /", "-o", "json"];
    let answer = document(&mut home.hopwise(&json), 0);
    assert!(answer["http"].as_str().is_some_and(|http| http.contains("200 OK")), "{answer}");
    validate(&strict(), "trace --live", &answer);
}

/// The whole dialogue is made here, and simulated with the same bytes.
#[test]
fn a_request_that_is_made_here_is_simulated_with_the_same_bytes() {
    if !is_possible() {
        return;
    }
    let folder = Folder::new("http-own", &[("http.hop", WORLD.as_bytes())]);
    let file = folder.path("http.hop");
    for (question, first) in [
        ("shop/client -> service shop/web http GET /", "ALLOWED"),
        ("shop/client -> shop/server:8080 ip6 http GET /", "ALLOWED"),
    ] {
        let (text, code) =
            crate::cli::run(&["trace", "--live", "--compare", "-f", &file, question]);
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with(first), "{text}");
        for part in [" simulates the same, hop by hop", "SYN, SYN-ACK and ACK got through"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let asked = "shop/client -> service shop/web http DELETE /";
    let (text, code) = crate::cli::run(&["trace", "--live", "-f", &file, asked]);
    assert_eq!(
        (code, text.contains("HTTP DELETE is sent to a real pod only with `--send`")),
        (2, true)
    );
}

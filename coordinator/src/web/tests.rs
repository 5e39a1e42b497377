use std::collections::BTreeMap;

use protocol::{Digest, Round, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::service::{RunOverview, SiteOverview};

fn overview() -> Overview {
    let site = SiteOverview {
        evaluates_only: false,
        connected: true,
        since: Some(Timestamp(1)),
        heard: Some(Timestamp(2)),
        doing: protocol::message::Doing::Training,
        done: 3,
        total: 10,
        awaited: "its update".to_owned(),
        refused: None,
        declined: None,
    };
    let run = RunOverview {
        run: "run-1".to_owned(),
        plan: Digest::of(b"plan"),
        strategy: "fedavg",
        phase: "training".to_owned(),
        round: Round(2),
        rounds: 5,
        step: 40,
        model: Digest::of(b"model"),
        quorum: 1,
        deadline: None,
        sites: BTreeMap::from([("north".to_owned(), site)]),
        history: Vec::new(),
    };
    Overview {
        at: Timestamp(5),
        run: Some(run),
        errors: Vec::new(),
    }
}

/// Asks a server of its own for a path; gives back the answer's head and body.
async fn ask(token: Option<&str>, request: &str, enough: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_keep, shown) = watch::channel(Arc::new(overview()));
    let server = serve(
        listener,
        shown,
        token.map(str::to_owned),
        std::future::pending(),
    );
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(enough) {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&bytes[..read]);
        }
        String::from_utf8(answer).unwrap()
    };
    tokio::select! {
        answer = client => answer,
        _ = server => panic!("the server ended"),
    }
}

fn get_request(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\r\n")
}

#[tokio::test]
async fn page_json_metrics_and_health_are_served_on_loopback() {
    for (path, expected) in [
        ("/", "<title>FM-CT coordinator</title>"),
        ("/api/overview", "\"awaited\":\"its update\""),
        (
            "/metrics",
            "fmct_site_progress_done{run=\"run-1\",site=\"north\"} 3",
        ),
        ("/healthz", "ok"),
    ] {
        let answer = ask(None, &get_request(path, ""), "\u{0}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.contains(expected), "{path}: {answer}");
    }
}

#[tokio::test]
async fn events_begin_with_what_there_is() {
    let answer = ask(None, &get_request("/events", ""), "data: ").await;
    assert!(answer.contains("text/event-stream"), "{answer}");
}

#[tokio::test]
async fn without_the_token_only_the_health_check_answers() {
    let denied = ask(Some("secret"), &get_request("/api/overview", ""), "\u{0}").await;
    assert!(denied.starts_with("HTTP/1.1 401"), "{denied}");
    let wrong = get_request("/metrics", "Authorization: Bearer secre\r\n");
    assert!(
        ask(Some("secret"), &wrong, "\u{0}")
            .await
            .starts_with("HTTP/1.1 401")
    );
    for request in [
        get_request("/api/overview", "Authorization: Bearer secret\r\n"),
        get_request("/api/overview?token=secret", ""),
        get_request("/healthz", ""),
    ] {
        let answer = ask(Some("secret"), &request, "\u{0}").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

//! The status page in a real browser: it shows what there is, and follows what happens, live.
//!
//! Needs a `chromium` on the path; says `skipped:` where there is none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::service::{Overview, RunOverview, SiteOverview};
use coordinator::web;
use protocol::message::Doing;
use protocol::{Digest, Round, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[path = "page/browser.rs"]
mod browser;

use browser::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_run_and_follows_it_live() {
    let Some(browser) = Browser::start() else {
        println!("skipped: there is no chromium on this machine");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (overview, shown) = watch::channel(Arc::new(overview(2, 3)));
    let token = "a token of the test".to_owned();
    tokio::spawn(web::serve(
        listener,
        shown,
        Some(token),
        std::future::pending(),
    ));
    tokio::task::spawn_blocking(move || {
        let url = format!("http://{address}/?token=a%20token%20of%20the%20test");
        let mut page = browser.open(&url);
        let text = page.text_with("round 2 of 5");
        for expected in [
            "headct: round 2 of 5",
            "live",
            "north",
            "3 of 10",
            "its update",
            "harbor (evaluates only)",
            "away",
            "round 1: storage is full",
            "fedavg, quorum 1, global step 40",
            "disk failed",
            "not for clinical use",
        ] {
            assert!(text.contains(expected), "{expected}: not in\n{text}");
        }
        // Nobody touches the browser: the page hears of it by itself.
        overview.send_replace(Arc::new(self::overview(3, 7)));
        let text = page.text_with("round 3 of 5");
        assert!(text.contains("7 of 10"), "{text}");
        // A name is text, never markup.
        assert!(text.contains("<b>disk failed</b>"), "{text}");
    })
    .await
    .unwrap();
}

fn overview(round: u32, done: u64) -> Overview {
    let site = |connected, evaluates_only, refused| SiteOverview {
        evaluates_only,
        connected,
        since: Some(Timestamp(1000)),
        heard: Some(Timestamp(2000)),
        doing: Doing::Training,
        done,
        total: 10,
        awaited: "its update".to_owned(),
        refused,
    };
    let refused = Some((Round(1), "storage is full".to_owned()));
    let run = RunOverview {
        run: "headct".to_owned(),
        plan: Digest::of(b"plan"),
        strategy: "fedavg",
        phase: "training".to_owned(),
        round: Round(round),
        rounds: 5,
        step: 40,
        model: Digest::of(b"model"),
        quorum: 1,
        deadline: None,
        sites: BTreeMap::from([
            ("harbor".to_owned(), site(false, true, None)),
            ("north".to_owned(), site(true, false, refused)),
        ]),
        history: Vec::new(),
    };
    Overview {
        at: Timestamp(5000),
        run: Some(run),
        errors: vec![(Timestamp(4000), "<b>disk failed</b>".to_owned())],
    }
}

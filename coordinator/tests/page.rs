//! The status page in a real browser: it shows what there is, and follows what happens, live.
//!
//! Needs a `chromium` on the path; says `skipped:` where there is none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use coordinator::web;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[path = "page/browser.rs"]
mod browser;
#[path = "page/overview.rs"]
mod overview;

use browser::Browser;
use overview::overview;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_run_and_follows_it_live() {
    let Some(browser) = Browser::start() else {
        println!("skipped: there is no chromium on this machine");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (show, shown) = watch::channel(Arc::new(overview(2, 3)));
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
            "declined the plan: site policy: plan has 5 rounds, policy max_rounds is 3",
            "north: EDH, SAH",
            "fedavg, quorum 1, global step 40",
            "disk failed",
            "not for clinical use",
        ] {
            assert!(text.contains(expected), "{expected}: not in\n{text}");
        }
        // Nobody touches the browser: the page hears of it by itself.
        show.send_replace(Arc::new(overview(3, 7)));
        let text = page.text_with("round 3 of 5");
        assert!(text.contains("7 of 10"), "{text}");
        // A name is text, never markup.
        assert!(text.contains("<b>disk failed</b>"), "{text}");
    })
    .await
    .unwrap();
}

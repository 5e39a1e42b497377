//! For people who look: a page that is live, the same as JSON, metrics, and a health check.
//!
//! On loopback it is open; anywhere else every request but the health check needs the token.

mod metrics;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::service::Overview;

/// What the pages are made of.
#[derive(Clone)]
struct Shown {
    overview: watch::Receiver<Arc<Overview>>,
    token: Option<Arc<str>>,
}

/// Serves people until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    overview: watch::Receiver<Arc<Overview>>,
    token: Option<String>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = router(overview, token);
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await
}

fn router(overview: watch::Receiver<Arc<Overview>>, token: Option<String>) -> Router {
    let shown = Shown {
        overview,
        token: token.map(Into::into),
    };
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/api/overview", get(json))
        .route("/events", get(events))
        .route("/metrics", get(prometheus))
        .layer(middleware::from_fn_with_state(shown.clone(), authorize))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(shown)
}

async fn json(State(shown): State<Shown>) -> Json<Overview> {
    Json((**shown.overview.borrow()).clone())
}

async fn prometheus(State(shown): State<Shown>) -> impl IntoResponse {
    let text = metrics::text(&shown.overview.borrow());
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0",
        )],
        text,
    )
}

/// The overview whenever it changes, at most a few times a second.
async fn events(
    State(shown): State<Shown>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let first = (shown.overview, true);
    let stream = futures::stream::unfold(first, async |(mut overview, first)| {
        if !first {
            tokio::time::sleep(PACE).await;
            overview.changed().await.ok()?;
        }
        let event = Event::default().json_data(&**overview.borrow_and_update());
        Some((Ok(event.unwrap_or_default()), (overview, false)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
}

/// The token in a header, or in the query for a page that a browser opens.
async fn authorize(
    State(shown): State<Shown>,
    Query(query): Query<Token>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = &shown.token else {
        return next.run(request).await;
    };
    let header = request.headers().get(header::AUTHORIZATION);
    let bearer = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let given = bearer.or(query.token.as_deref()).unwrap_or_default();
    // Equal digests of secrets say nothing about how far a guess was right.
    if blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes()) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, "a token is needed\n").into_response()
    }
}

const PAGE: &str = include_str!("web/page.html");
const PACE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;

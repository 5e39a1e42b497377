//! `status`: who is there, doing what, and who is waited for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use certs::utc;
use protocol::Timestamp;
use serde_json::Value;

use super::directory::now;
use super::serve::ADDRESS_FILE;
use super::token;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory that `init` made
    #[arg(long, env = "FMCT_COORDINATOR_DIR", default_value = ".")]
    dir: PathBuf,
    /// File (mode 0600) whose first line is the token of the status page
    #[arg(long)]
    http_token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Go on until interrupted
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let token = match &args.http_token_file {
        Some(path) => token::read(path)?,
        None => String::new(),
    };
    if !args.watch {
        return show(&args, &token);
    }
    loop {
        if !args.json {
            // Clears the screen (ECMA-48 ED) and goes to its start (CUP).
            print!("\u{1b}[2J\u{1b}[H");
        }
        // A coordinator that is being started again is worth waiting for.
        if let Err(error) = show(&args, &token) {
            eprintln!("error: {error:#}");
        }
        std::thread::sleep(EVERY);
    }
}

fn show(args: &Args, token: &str) -> anyhow::Result<()> {
    let text = fetch(args, token)?;
    if args.json {
        println!("{text}");
    } else {
        print(&serde_json::from_str(&text).context("status page: not JSON")?);
    }
    Ok(())
}

/// Asks the process that serves the directory.
fn fetch(args: &Args, token: &str) -> anyhow::Result<String> {
    let path = args.dir.join(ADDRESS_FILE);
    let address = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: was `serve` ever started here?", path.display()))?;
    let mut stream = TcpStream::connect(address.trim())
        .with_context(|| format!("nobody serves at {}", address.trim()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET /api/overview HTTP/1.1\r\nHost: coordinator\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("status page: no answer")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("status page: not HTTP")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("status page: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

fn print(overview: &Value) {
    let Some(run) = overview.get("run").filter(|run| !run.is_null()) else {
        return println!("no run");
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    println!(
        "run {}: {}, round {} of {}, step {}, {} (quorum {})",
        text(&run["run"]),
        text(&run["phase"]),
        run["round"],
        run["rounds"],
        run["step"],
        text(&run["strategy"]),
        run["quorum"],
    );
    let at = overview["at"].as_u64().unwrap_or_default();
    println!(
        "{:<20} {:<10} {:>10} {:<34} awaited",
        "site", "state", "for", "doing"
    );
    for (name, site) in run["sites"].as_object().into_iter().flatten() {
        let state = if site["connected"] == true {
            "connected"
        } else {
            "away"
        };
        let since = site["since"].as_u64().map_or_else(
            || "never".to_owned(),
            |since| format!("{} s", at.saturating_sub(since) / 1000),
        );
        let doing = match site["total"].as_u64() {
            Some(0) | None => text(&site["doing"]),
            Some(total) => {
                let doing = text(&site["doing"]);
                let done = site["done"].as_u64().unwrap_or_default();
                if ["fetching", "uploading"].contains(&doing.as_str()) {
                    let [done, total] = [done, total].map(|bytes| bytes as f64 / 1e6);
                    format!("{doing} {done:.1} of {total:.1} MB")
                } else {
                    format!("{doing} {done} of {total}")
                }
            }
        };
        println!(
            "{name:<20} {state:<10} {since:>10} {doing:<34} {}",
            text(&site["awaited"])
        );
        if let Some(declined) = site["declined"].as_str() {
            println!("{:<20} declined the plan: {declined}", "");
        }
        if let Some(refused) = site["refused"].as_array() {
            println!(
                "{:<20} refused in round {}: {}",
                "",
                refused[0],
                text(&refused[1])
            );
        }
    }
    if let Some(deadline) = run["deadline"].as_u64() {
        let left = deadline.saturating_sub(now().map_or(at, |now| now.0)) / 1000;
        println!("deadline {} (in {left} s)", utc(Timestamp(deadline)));
    }
    if let Some(last) = run["history"].as_array().and_then(|rounds| rounds.last()) {
        println!(
            "last round {}: {} sites, {} examples, {:.1} s",
            last["round"],
            last["sites"].as_array().map_or(0, Vec::len),
            last["examples"],
            last["seconds"].as_f64().unwrap_or_default(),
        );
        for (site, tasks) in last["unreported"].as_object().into_iter().flatten() {
            let tasks: Vec<String> = tasks.as_array().into_iter().flatten().map(text).collect();
            println!("{site:<20} reported nothing of {}", tasks.join(", "));
        }
        for (site, why) in last["unevaluated"].as_object().into_iter().flatten() {
            println!("{site:<20} not evaluated: {}", text(why));
        }
    }
    for error in overview["errors"].as_array().into_iter().flatten() {
        println!("error: {}", text(&error[1]));
    }
}

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(1);

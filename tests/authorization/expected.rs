//! Who may say what: written down here a second time, so that a wrong entry in the protocol shows.

use protocol::{Message, Role};

/// Whether the protocol lets that role send this message.
pub(super) fn is_expected(message: &Message, role: Role) -> bool {
    let rows: Vec<_> = SENDERS
        .iter()
        .filter(|(name, ..)| *name == message.name())
        .collect();
    let [(_, site, observer, coordinator)] = rows[..] else {
        panic!("{}: {} rows, expected 1", message.name(), rows.len());
    };
    match role {
        Role::Site => *site,
        Role::Observer => *observer,
        Role::Coordinator => *coordinator,
    }
}

const YES: bool = true;
const NO: bool = false;

/// Message, and whether a site, an observer and the coordinator may send it.
#[rustfmt::skip]
const SENDERS: [(&str, bool, bool, bool); 25] = [
    // The connection. A site and an observer ask, the coordinator answers; both are alive.
    ("Hello",       YES, YES, NO),
    ("Welcome",     NO,  NO,  YES),
    ("Heartbeat",   YES, YES, YES),
    ("Consortium",  NO,  NO,  YES),
    ("Renew",       YES, YES, NO),
    ("Renewed",     NO,  NO,  YES),
    ("Rejection",   YES, NO,  YES),
    ("Probe",       YES, NO,  NO),
    // A run. The coordinator gives work, a site does it, and an observer has no part in it.
    ("Plan",        NO,  NO,  YES),
    ("Join",        YES, NO,  NO),
    ("Leave",       YES, NO,  NO),
    ("Task",        NO,  NO,  YES),
    ("Withdraw",    NO,  NO,  YES),
    ("Failed",      YES, NO,  NO),
    ("Status",      YES, NO,  NO),
    ("Metrics",     YES, NO,  NO),
    ("Finish",      NO,  NO,  YES),
    // Overviews tell of each site: areas, failures, refusals. A site sees what is published.
    ("Watch",       NO,  YES, NO),
    ("Overview",    NO,  NO,  YES),
    // Models go down and updates up, so both ends say all of this; an observer gets neither.
    ("Want",        YES, NO,  YES),
    ("Manifest",    YES, NO,  YES),
    ("OutlinePage", YES, NO,  YES),
    ("Have",        YES, NO,  YES),
    ("Resend",      YES, NO,  YES),
    ("Receipt",     YES, NO,  YES),
];

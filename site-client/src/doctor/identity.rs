//! Key, certificate and consortium file.

use std::sync::Arc;

use certs::{Error, Home, Identity, Leaf, Passphrase, Refusal, Trust, utc};
use protocol::Timestamp;
use transport::logging::chain;

use super::Finding;

/// What is known of who we are; each part only if it is in order.
pub(super) struct Known {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) trust: Option<Trust>,
}

pub(super) fn examine(
    home: &Home,
    passphrase: Option<&Passphrase>,
    now: Timestamp,
    tell: &mut impl FnMut(Finding),
) -> Known {
    let trust = home.trust().map(Some).unwrap_or_else(|error| {
        tell(consortium_unreadable(&error));
        None
    });
    let identity = match home.open(passphrase) {
        Ok((identity, _)) => {
            tell(Finding::good(
                "key",
                format!("of {} {}", identity.role(), identity.id()),
            ));
            tell(expiry(identity.leaf(), now));
            Some(Arc::new(identity))
        }
        Err(error) => {
            tell(key(&error));
            None
        }
    };
    if let (Some(trust), Some(identity)) = (&trust, &identity) {
        let chain = std::slice::from_ref(identity.certificate());
        tell(membership(trust, trust.client(chain, now).map(drop)));
    }
    Known { identity, trust }
}

fn key(error: &Error) -> Finding {
    let ask = match error {
        Error::Permissive { path, .. } => format!("run: chmod 600 {}", path.display()),
        Error::PassphraseNeeded { .. } | Error::PassphraseWrong { .. } => {
            "pass --passphrase-file, mode 0600".to_owned()
        }
        _ => "run: fmct-site enroll, and have the request approved".to_owned(),
    };
    Finding::bad("key", chain(error), ask)
}

fn consortium_unreadable(error: &Error) -> Finding {
    let ask = "run: fmct-site enroll --accept FILE, with the file the coordinator sent";
    Finding::bad("consortium file", chain(error), ask)
}

fn expiry(leaf: &Leaf, now: Timestamp) -> Finding {
    let until = utc(leaf.not_after);
    if now > leaf.not_after {
        let ask = format!("ask the coordinator: fmct-coordinator renew {}", leaf.id);
        return Finding::bad("certificate", format!("expired {until}"), ask);
    }
    if now < leaf.not_before {
        let from = utc(leaf.not_before);
        let ask = "ask IT: set this machine's clock by NTP";
        return Finding::bad("certificate", format!("not valid before {from}"), ask);
    }
    let days = leaf.not_after.since(now).as_secs() / 86_400;
    let detail = format!("until {until}, {days} days left");
    if days < 7 {
        let ask = format!(
            "connect, or ask the coordinator: fmct-coordinator renew {}",
            leaf.id
        );
        return Finding::poor("certificate", detail, ask);
    }
    Finding::good("certificate", detail)
}

fn membership(trust: &Trust, checked: Result<(), Refusal>) -> Finding {
    let consortium = trust.consortium();
    match checked {
        Ok(()) => Finding::good(
            "consortium file",
            format!(
                "{}, version {}, lists this site",
                consortium.id(),
                consortium.version()
            ),
        ),
        Err(refusal) => Finding::bad(
            "consortium file",
            refusal.to_string(),
            "ask the coordinator: fmct-coordinator list",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certs::PrivateKey;

    use super::super::Outcome;
    use super::*;

    #[test]
    fn certificate_is_judged_by_the_time_it_has_left() {
        let day = Duration::from_secs(86_400);
        let start = Timestamp(1_795_464_000_000);
        let leaf = Leaf {
            consortium: "headct".parse().unwrap(),
            role: protocol::Role::Site,
            id: "mgh".parse().unwrap(),
            key: PrivateKey::generate().unwrap().public(),
            not_before: start,
            not_after: start + 90 * day,
        };
        for (now, outcome) in [
            (Timestamp(start.0 - 1), Outcome::Bad),
            (start, Outcome::Good),
            (start + 83 * day, Outcome::Good),
            (start + 84 * day, Outcome::Poor),
            (start + 91 * day, Outcome::Bad),
        ] {
            let finding = expiry(&leaf, now);
            assert_eq!(finding.outcome, outcome, "{finding}");
            assert_eq!(finding.ask.is_some(), outcome != Outcome::Good);
        }
    }

    #[test]
    fn loose_key_file_says_what_to_type() {
        let error = Error::Permissive {
            path: "site/key.pem".into(),
            mode: 0o644,
        };
        assert_eq!(
            key(&error).to_string(),
            "FAILED   key              site/key.pem: mode 0644, expected 0600 (chmod 600)\n\
             \u{20}                         -> run: chmod 600 site/key.pem"
        );
    }

    #[test]
    fn empty_directory_is_told_to_enroll() {
        let dir = tempfile::tempdir().unwrap();
        let mut findings = Vec::new();
        let known = examine(&Home::new(dir.path()), None, Timestamp(0), &mut |f| {
            findings.push(f)
        });
        assert!(known.identity.is_none() && known.trust.is_none());
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|finding| {
            finding.outcome == Outcome::Bad
                && finding
                    .ask
                    .as_deref()
                    .is_some_and(|ask| ask.contains("fmct-site enroll"))
        }));
    }
}

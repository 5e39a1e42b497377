//! `enroll`: make a key, ask for a certificate, take the answer.

use std::path::PathBuf;

use anyhow::Context;
use certs::{Approval, Home, Passphrase, Pin, utc};
use protocol::SiteId;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of this site: lower-case letters, digits and hyphens
    #[arg(long, required_unless_present = "accept")]
    name: Option<SiteId>,
    /// Root fingerprint that the coordinator told you, as digits or as words in quotes
    #[arg(long, required_unless_present = "accept")]
    root_fingerprint: Option<Pin>,
    /// Directory to keep this site's key and certificates in
    #[arg(long, env = "FMCT_SITE_DIR")]
    out: PathBuf,
    /// The coordinator's answer: second half of the enrollment
    #[arg(long, conflicts_with_all = ["name", "root_fingerprint"])]
    accept: Option<PathBuf>,
    /// File (mode 0600) whose first line encrypts the private key
    #[arg(long, env = "FMCT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let home = Home::new(&args.out);
    match (args.name, args.root_fingerprint, args.accept) {
        (Some(name), Some(root), None) => {
            let passphrase = args
                .passphrase_file
                .as_deref()
                .map(Passphrase::from_file)
                .transpose()?;
            request(&home, &name, &root, passphrase.as_ref())
        }
        (_, _, Some(approval)) => accept(&home, &approval),
        _ => anyhow::bail!("enroll: --name and --root-fingerprint, or --accept"),
    }
}

fn request(
    home: &Home,
    name: &SiteId,
    root: &Pin,
    passphrase: Option<&Passphrase>,
) -> anyhow::Result<()> {
    let request = home.enroll(name, root, passphrase)?;
    let fingerprint = request.key().fingerprint();
    println!("site         {name}");
    println!("key          {fingerprint}");
    println!("in words     {}", fingerprint.words());
    println!();
    println!(
        "1. Send {} to the coordinator.",
        home.request_path().display()
    );
    println!("2. Read the words out to the coordinator, by telephone.");
    println!(
        "3. Take the answer: fmct-site enroll --out {} --accept FILE",
        home.dir().display()
    );
    println!(
        "The key stays in {}; send it to nobody.",
        home.key_path().display()
    );
    Ok(())
}

fn accept(home: &Home, path: &std::path::Path) -> anyhow::Result<()> {
    let bytes =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let leaf = home.accept(&Approval::read(&bytes)?, site_client::clock::now())?;
    println!(
        "enrolled     {} {} of {}",
        leaf.role, leaf.id, leaf.consortium
    );
    println!(
        "certificate  until {}, renewed by itself while connected",
        utc(leaf.not_after)
    );
    println!("Next: fmct-site doctor");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_empty_passphrase_is_refused_before_a_key_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("site");
        let file = folder.path().join("passphrase");
        for text in ["", "\n", "\nsecond line\n"] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let key = certs::PrivateKey::generate().unwrap().public();
            let args = Args {
                name: Some("mgh".parse().unwrap()),
                root_fingerprint: Some(key.fingerprint().to_string().parse().unwrap()),
                out: out.clone(),
                accept: None,
                passphrase_file: Some(file.clone()),
            };
            let error = run(args).unwrap_err().to_string();
            assert!(
                error.ends_with("first line is empty, expected a passphrase"),
                "{error}"
            );
            assert!(!out.exists());
        }
    }
}

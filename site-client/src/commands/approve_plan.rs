//! `approve-plan`: a person here has read a plan and takes part in it.

use std::path::PathBuf;

use protocol::Digest;
use site_client::federation::Approvals;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of this site
    #[arg(long, env = "FMCT_SITE_DIR")]
    dir: PathBuf,
    /// Digest of the plan, as `fmct-coordinator launch` prints it
    digest: Digest,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    Approvals::load(&args.dir)?.approve(args.digest)?;
    println!("plan {} approved", args.digest);
    Ok(())
}

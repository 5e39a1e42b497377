//! A hospital in the run: the library calls behind `fmct-site run`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use burn::tensor::Device;
use certs::Home;
use protocol::SiteId;
use site_client::federation::{
    self, Approvals, ClientConfig, LocalTraining, Policy, PolicyApproval,
};

use crate::consortium::Consortium;
use crate::setting::Setting;

pub(crate) fn run(dir: &Path, site: &SiteId, coordinator: String) -> anyhow::Result<()> {
    let setting = Setting::read(dir)?;
    let directory = Consortium::at(dir).site(site);
    let home = Home::new(&directory);
    let (identity, trust) = home.open(None)?;
    let policy = Policy::load(&directory)?;
    let approvals = Approvals::load(&directory)?;
    let trainer = LocalTraining::new(setting.cohort(site)?, Device::flex());
    let config = ClientConfig {
        coordinator,
        transport: transport::Config::default(),
        directory,
        home,
        until_finished: true,
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let stop = std::future::pending();
    let approval = Arc::new(PolicyApproval { policy, approvals });
    let running = federation::run(
        config,
        Arc::new(identity),
        trust,
        Box::new(trainer),
        approval,
        stop,
    );
    Ok(runtime.block_on(running)?)
}

//! Flux: the real kustomize-controller applies the example manifests with `wait: true`, as `deploy/flux/` has it, and
//! its Kustomizations are Ready when, and only when, what the commit asks for runs.
//!
//! What is not real of Flux is source-controller: its part is to put what a repository holds on a web server and to say
//! so in the `GitRepository`'s status, which the test bed does.

mod controller;
mod kustomization;
mod operator;
mod scene;
mod scenes;
mod source;
mod sources;

use std::time::Instant;

use crate::cluster::Cluster;
use crate::history::{History, objects};
use crate::steps::Steps;
use crate::support::process::Process;
use crate::support::stage::Stage;
use crate::support::{Failure, Result};

/// Longer than the five seconds between two of Flux's looks, so that it looks while each job runs.
const JOB_SECONDS: f64 = 8.0;

/// Everything that the scenes use.
struct Flux {
    began: Instant,
    kustomizations: History,
    spaces: History,
    controller: Process,
    cluster: Cluster,
}

impl Flux {
    async fn start() -> Result<Self> {
        let began = Instant::now();
        let steps = Steps::new("flux", began);
        let webapps = ["suspended", "stalled", "automatic", "pruned", "byhand", "monorepo", "missing"];
        let cluster = Cluster::start("flux", JOB_SECONDS, &webapps).await?;
        steps.saw("etcd, kube-apiserver, kube-controller-manager, konigle-sim and the operator run");
        let controller = controller::start(&cluster).await?;
        steps.saw("kustomize-controller runs, with the CRDs of its and source-controller's release");
        let namespace = &cluster.stage.namespace;
        let api = |api_version, kind| objects(namespace.client(), namespace.name(), api_version, kind);
        Ok(Self {
            began,
            kustomizations: History::start(api(kustomization::API_VERSION, "Kustomization")).await?,
            spaces: History::start(api("cloud.konigle.com/v1alpha1", "KonigleSpace")).await?,
            controller,
            cluster,
        })
    }

    fn stage(&self) -> &Stage {
        &self.cluster.stage
    }
}

/// All that a Kustomization is to wait for, to fail on, and not to be held up by, side by side.
pub(crate) async fn kustomizations() -> Result<()> {
    let mut flux = Flux::start().await?;
    let done = tokio::try_join!(
        scenes::shop(&flux),
        scenes::suspended(&flux),
        scenes::stalled(&flux),
        scenes::automatic(&flux),
        scenes::pruned(&flux),
        scenes::by_hand(&flux),
        sources::brought_along(&flux),
        sources::missing(&flux),
        operator::installed(&flux),
    );
    let log = flux.controller.see_log();
    done.map_err(|failure| Failure::new(format!("{failure}\nkustomize-controller: {log}")))?;
    match flux.controller.ended()? {
        None => Ok(()),
        Some(status) => Err(Failure::new(format!("kustomize-controller ended: {status}; {log}"))),
    }
}

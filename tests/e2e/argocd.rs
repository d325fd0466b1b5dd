//! Argo CD: the real application-controller and repo-server sync applications from a real Git server, with the health
//! script and the actions of `deploy/argocd/`, and read the health of their KonigleSpaces as it is.

mod application;
mod operator;
mod programs;
mod scenes;
mod steady;

use std::time::Instant;

use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::history::{History, objects};
use crate::steps::Steps;
use crate::support::stage::Stage;
use crate::support::{Failure, Result};
use programs::{ArgoCd, NAMESPACE};

/// Long enough for Argo CD to see it.
const JOB_SECONDS: f64 = 5.0;

/// Everything that the scenes use.
struct Argo {
    began: Instant,
    applications: History,
    spaces: History,
    programs: ArgoCd,
    cluster: Cluster,
}

impl Argo {
    async fn start() -> Result<Self> {
        let began = Instant::now();
        let steps = Steps::new("argocd", began);
        let cluster = Cluster::start("argocd", JOB_SECONDS, &["trouble"]).await?;
        steps.saw("etcd, kube-apiserver, kube-controller-manager, konigle-sim and the operator run");
        let programs = ArgoCd::start(&cluster).await?;
        steps.saw("redis-server, git-daemon, argocd-repo-server, argocd-application-controller and argocd-server run");
        let (client, namespace) = (cluster.stage.namespace.client(), cluster.stage.namespace.name());
        let applications = objects(client, NAMESPACE, application::API_VERSION, "Application");
        let spaces = objects(client, namespace, "cloud.konigle.com/v1alpha1", "KonigleSpace");
        let (applications, spaces) = (History::start(applications).await?, History::start(spaces).await?);
        Ok(Self { began, applications, spaces, programs, cluster })
    }

    fn stage(&self) -> &Stage {
        &self.cluster.stage
    }
}

/// What an application shows of its Spaces from their first deploy on, what people can do there, and that it is then
/// quiet.
pub(crate) async fn applications() -> Result<()> {
    let mut argo = Argo::start().await?;
    let (shop_is_done, when_shop_is_done) = oneshot::channel();
    let shop = async {
        scenes::shop(&argo).await?;
        // The other scene listens, or has failed.
        let _ = shop_is_done.send(());
        Ok(())
    };
    let done = Box::pin(async {
        tokio::try_join!(shop, scenes::trouble(&argo, when_shop_is_done), operator::installed(&argo))?;
        steady::state(&argo).await
    });
    let done = done.await;
    done.map_err(|failure| Failure::new(format!("{failure}\n{}", argo.programs.see_logs())))?;
    argo.programs.still_run()
}

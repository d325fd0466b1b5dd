//! What most journeys start with: a namespace of their own, with its own simulator, artifact server and operator.
//!
//! The operator acts as an account that has the rights of `deploy/default` in that namespace and no others.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::Result;
use super::artifacts::Artifacts;
use super::control_plane::ControlPlane;
use super::exposition::Exposition;
use super::kubectl::Kubectl;
use super::namespace::{Namespace, WAIT_LIMIT, deploys, wait_for, wait_longer_for};
use super::operator::{Operator, OperatorOptions};
use super::proxy::Proxy;
use super::rights::{install, operator_account};
use super::simulator::{Simulator, TOKEN, UAT};
use super::trace::Property;
use super::wire::Wire;

/// The name that the journeys give to the resource of the uat Space.
pub(crate) const SHOP: &str = "shop-uat";
/// How long a job takes, in seconds, where a test does not care.
pub(crate) const JOB_SECONDS: f64 = 2.0;

/// One test's parts. Dropping it stops them.
pub(crate) struct Stage {
    pub(crate) namespace: Namespace,
    pub(crate) kubectl: Kubectl,
    /// The operator's account.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) artifacts: Artifacts,
    pub(crate) simulator: Simulator,
    pub(crate) operator: Operator,
    options: OperatorOptions,
}

impl Stage {
    /// On the shared control plane, with jobs of [`JOB_SECONDS`] and an operator that settles in two seconds.
    pub(crate) async fn open(purpose: &str) -> Result<Self> {
        Self::open_with(purpose, JOB_SECONDS, |options| options).await
    }

    /// As [`Stage::open`], with jobs of that many seconds and an operator whose options are changed.
    pub(crate) async fn open_with(
        purpose: &str,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Self> {
        Self::open_on(ControlPlane::shared().await?, purpose, job_seconds, change).await
    }

    /// As [`Stage::open_with`], on another control plane.
    pub(crate) async fn open_on(
        control_plane: &ControlPlane,
        purpose: &str,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Self> {
        let mut stage = Self::open_unready_on(control_plane, purpose, job_seconds, change).await?;
        stage.operator.until_ready().await?;
        Ok(stage)
    }

    /// As [`Stage::open_with`], and does not wait for the operator.
    pub(crate) async fn open_unready(
        purpose: &str,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Self> {
        Self::open_unready_on(ControlPlane::shared().await?, purpose, job_seconds, change).await
    }

    async fn open_unready_on(
        control_plane: &ControlPlane,
        purpose: &str,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Self> {
        let namespace = Namespace::create(control_plane, purpose).await?;
        namespace.write_token(TOKEN).await?;
        let kubeconfig = operator_account(control_plane, &namespace).await?;
        Self::assemble(control_plane, namespace, kubeconfig, job_seconds, change).await
    }

    /// With `deploy/default` installed for the whole cluster, as people install it, an operator for all namespaces, and jobs
    /// that have ended at the first look. The stage's own namespace has this very name, and is not made.
    pub(crate) async fn installed(control_plane: &ControlPlane, namespace: &str) -> Result<Self> {
        let kubeconfig = install(control_plane).await?;
        let namespace = Namespace::named(control_plane, namespace).await?;
        let everywhere = |options| OperatorOptions { watch_namespace: None, ..options };
        let mut stage = Self::assemble(control_plane, namespace, kubeconfig, 0.5, everywhere).await?;
        stage.operator.until_ready().await?;
        Ok(stage)
    }

    async fn assemble(
        control_plane: &ControlPlane,
        namespace: Namespace,
        kubeconfig: PathBuf,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Self> {
        let simulator = Simulator::start(job_seconds).await?;
        let options = OperatorOptions::new(&kubeconfig, &simulator.base_url(), namespace.name())
            .flag("--unknown-outcome-settle=2s");
        let options = change(options);
        let artifacts = Artifacts::start().await?;
        let operator = Operator::start_unready(options.clone())?;
        Ok(Self { kubectl: control_plane.kubectl(), namespace, kubeconfig, artifacts, simulator, operator, options })
    }

    /// Says that this test breaks a property by design, and why. A suspended property that held is a finding, too.
    pub(crate) fn allow(&self, property: Property, why: &str) {
        self.namespace.allow(property, why);
    }

    /// As [`Stage::allow`], where it depends on chance whether the property breaks.
    pub(crate) fn tolerate(&self, property: Property, why: &str) {
        self.namespace.tolerate(property, why);
    }

    /// One more operator, with the same options but for what is changed.
    pub(crate) async fn another_operator(
        &self,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Operator> {
        Operator::start(change(self.options.clone())).await
    }

    /// Puts a proxy between the operator, which starts anew, and Konigle.
    pub(crate) async fn put_proxy_before_konigle(&mut self) -> Result<Proxy> {
        let proxy = Proxy::start(&self.simulator.base_url(), None).await?;
        self.options.konigle_base_url = proxy.base_url();
        self.replace_operator().await?;
        Ok(proxy)
    }

    /// Puts a proxy between the operator, which starts anew, and the API server.
    pub(crate) async fn put_proxy_before_the_api_server(&mut self) -> Result<Proxy> {
        let proxy = Proxy::before_api_server(&self.kubeconfig).await?;
        self.options.kubeconfig = proxy.kubeconfig(&self.kubeconfig)?;
        self.replace_operator().await?;
        Ok(proxy)
    }

    /// As [`Stage::put_proxy_before_konigle`], with a proxy for bytes.
    pub(crate) async fn put_wire_before_konigle(&mut self) -> Result<Wire> {
        let wire = Wire::start(&self.simulator.base_url()).await?;
        self.options.konigle_base_url = wire.base_url();
        self.replace_operator().await?;
        Ok(wire)
    }

    /// As [`Stage::put_proxy_before_the_api_server`], with a proxy for bytes.
    pub(crate) async fn put_wire_before_the_api_server(&mut self) -> Result<Wire> {
        let (wire, kubeconfig) = Wire::before_api_server(&self.kubeconfig).await?;
        self.options.kubeconfig = kubeconfig;
        self.replace_operator().await?;
        Ok(wire)
    }

    async fn replace_operator(&mut self) -> Result<()> {
        self.operator.kill();
        self.operator = Operator::start(self.options.clone()).await?;
        Ok(())
    }

    /// The spec that deploys this version to the uat Space.
    pub(crate) fn wish(&self, version: &str) -> Result<Value> {
        let artifact = self.artifacts.serve_application(version)?;
        Ok(deploys(UAT, &artifact.url, &artifact.digest))
    }

    /// Deploys this version by [`SHOP`], and waits until it runs and all that follows is written.
    pub(crate) async fn deployed(&self, version: &str) -> Result<KonigleSpace> {
        let wish = self.wish(version)?;
        self.namespace.apply(SHOP, &wish).await?;
        let digest = digest_of_wish(&wish);
        let noted =
            |space: &KonigleSpace| space.annotations().get(RELEASED).is_some_and(|noted| noted.contains(&digest));
        let rests = |space: &KonigleSpace| is_ready(space) && runs(space, &digest) && noted(space);
        self.namespace.wait_for(SHOP, "Ready with the digest", rests).await
    }

    /// Has the operator look at the resource now, and waits until it has.
    pub(crate) async fn look_now(&self, name: &str) -> Result<KonigleSpace> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
        let request = format!("look-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.namespace.annotate(name, konigle_operator::api::RECONCILE_AT, &request).await?;
        self.namespace
            .wait_for(name, "looked at", |space| {
                space.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_ref() == Some(&request))
            })
            .await
    }

    /// Waits until the simulator's ledger has that many entries for this Space.
    pub(crate) async fn wait_for_ledger(&self, space: &str, entries: usize) -> Result<Vec<Value>> {
        self.wait_longer_for_ledger(space, entries, WAIT_LIMIT).await
    }

    /// As [`Stage::wait_for_ledger`], where that takes its time by design.
    pub(crate) async fn wait_longer_for_ledger(
        &self,
        space: &str,
        entries: usize,
        limit: Duration,
    ) -> Result<Vec<Value>> {
        wait_longer_for(&format!("{entries} ledger entries"), limit, async || {
            Ok(Some(self.simulator.ledger(space).await?).filter(|ledger| ledger.len() == entries))
        })
        .await
    }

    /// How often the simulator was asked for this operation on this Space.
    pub(crate) async fn asked(&self, space: &str, operation: &str) -> Result<u64> {
        Ok(self.simulator.requests().await?["by_object"][space][operation].as_u64().unwrap_or_default())
    }

    /// The Events about this resource, as `reason: note`.
    pub(crate) async fn events(&self, name: &str) -> Result<Vec<String>> {
        let events: Api<Event> = self.namespace.api();
        let about = |event: &Event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(name);
        let text = |event: Event| format!("{}: {}", event.reason.unwrap_or_default(), event.note.unwrap_or_default());
        Ok(events.list(&ListParams::default()).await?.items.into_iter().filter(about).map(text).collect())
    }

    /// Waits until an Event about this resource starts with `beginning`, its reason.
    pub(crate) async fn wait_for_event(&self, name: &str, beginning: &str) -> Result<String> {
        wait_for(&format!("an Event {beginning}"), async || {
            Ok(self.events(name).await?.into_iter().find(|event| event.starts_with(beginning)))
        })
        .await
    }

    /// Kills the operator and starts it again, and waits until it has looked at the resource.
    pub(crate) async fn restart_operator(&mut self) -> Result<()> {
        self.operator.kill();
        self.operator.start_again().await?;
        wait_for("a pass after the restart", async || {
            let page = Exposition::parse(&self.operator.metrics().await?)?;
            Ok((page.value("konigle_reconcile_total", &[("result", "success")])? > 0.0).then_some(()))
        })
        .await
    }
}

/// The digest that a spec deploys.
pub(crate) fn digest_of_wish(wish: &Value) -> String {
    wish["source"]["http"]["digest"].as_str().unwrap_or_default().to_owned()
}

/// Whether the condition Ready is True, for the newest generation.
pub(crate) fn is_ready(space: &KonigleSpace) -> bool {
    space
        .status
        .as_ref()
        .is_some_and(|status| Some(status.observed_generation) == space.metadata.generation && status.is_true("Ready"))
}

/// Whether this digest is recorded as the one that runs.
pub(crate) fn runs(space: &KonigleSpace, digest: &str) -> bool {
    space.status.as_ref().and_then(|status| status.release.as_ref()).is_some_and(|release| release.digest == digest)
}

/// The recommended limit for a stop that has nothing to wait for.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(20);

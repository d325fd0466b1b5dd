//! Where a case is played: the stage, for some flows a second namespace, and what is done there beside waiting.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use k8s_openapi::api::events::v1::Event;
use konigle_operator::api::{KonigleSpace, RECONCILE_AT};
use konigle_operator::artifact::Digest;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::flow::Flow;
use crate::support::artifacts::tar_gz;
use crate::support::control_plane::ControlPlane;
use crate::support::flux_source::{FluxSource, install_crds};
use crate::support::namespace::{Namespace, wait_for};
use crate::support::operator::OperatorOptions;
use crate::support::proxy::{Proxy, receipts};
use crate::support::recording::Recording;
use crate::support::registry::Registry;
use crate::support::run_folder::new_folder;
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, Stage};
use crate::support::wire::{Fault, Wire};
use crate::support::{Context, Failure, Result};

/// The look that is asked for while the first job runs.
const EARLY_LOOK: &str = "while-it-runs";
/// Where the application is in the archive of the Flux source.
const FOLDER: &str = "apps/shop";
/// Of each piece of a slow request and of its answer: together longer than until progress is told for the first time.
const LATENCY: Duration = Duration::from_secs(2);

/// The parts of a case. Dropping it stops them.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    /// A second namespace, and the label of the resources that the operator looks at.
    elsewhere: Option<(Namespace, String)>,
    /// The wish, and the digest that is to run.
    wish: Option<(Value, String)>,
    /// The resource was deleted while its attempt was open, and made anew.
    pub(crate) made_anew: bool,
    /// What `spec.source` has, and the artifact's digest, where it is no ZIP on a web server.
    pub(crate) source: Option<(Value, String)>,
    /// Before the API server, where some answers are not its own.
    proxy: Option<Proxy>,
    /// Before Konigle, where requests are slow.
    wire: Option<Wire>,
    registry: Option<Registry>,
}

impl Scene {
    pub(crate) async fn open(flow: Flow) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        if flow != Flow::Rivals {
            let options = |options| flow.options(options);
            let stage = Stage::open_unready(flow.name(), flow.job_seconds(), options).await?;
            return Ok(Self::of(stage, None));
        }
        // It watches all namespaces, and of them the resources of this case only.
        let label = format!("rivals-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let control_plane = ControlPlane::shared().await?;
        let kubeconfig = control_plane.kubeconfig();
        let of_all = |options: OperatorOptions| {
            let options = OperatorOptions { watch_namespace: None, kubeconfig, ..options };
            options.flag(&format!("--watch-label-selector=case={label}"))
        };
        let stage = Stage::open_unready(flow.name(), flow.job_seconds(), of_all).await?;
        let elsewhere = Namespace::create(control_plane, "rivals-elsewhere").await?;
        elsewhere.write_token(TOKEN).await?;
        Ok(Self::of(stage, Some((elsewhere, label))))
    }

    fn of(stage: Stage, elsewhere: Option<(Namespace, String)>) -> Self {
        Self { stage, elsewhere, wish: None, made_anew: false, source: None, proxy: None, wire: None, registry: None }
    }

    /// Has Flux hand out an archive with the application in a folder.
    pub(crate) async fn store_in_flux(&mut self) -> Result<()> {
        install_crds(&self.stage.kubectl).await?;
        let source = FluxSource::create(&self.stage.namespace, "GitRepository", "mono").await?;
        let stored = source.store(&self.stage.artifacts, archive(&format!("{FOLDER}/"))?, "main@sha1:1").await?;
        let mut reference = source.reference();
        reference["path"] = json!(FOLDER);
        let digest = Digest::of(format!("{}\n{FOLDER}", stored.digest).as_bytes()).to_string();
        self.source = Some((json!({"sourceRef": reference}), digest));
        Ok(())
    }

    /// Has a registry with the application under a tag, and everything of the first request to Konigle come so late that its
    /// progress is told.
    pub(crate) async fn push_to_a_registry(&mut self) -> Result<()> {
        let registry = Registry::start().await?;
        let layer = new_folder("layer")?.join("shop.tar.gz");
        fs::write(&layer, archive("")?).context("writing a layer")?;
        let digest = registry.push_image(&layer, "shop:live").await?;
        self.source = Some((json!({"oci": {"repository": registry.reference("shop"), "tag": "live"}}), digest));
        self.registry = Some(registry);
        let wire = self.stage.put_wire_before_konigle().await?;
        wire.next("POST", 1, Fault::Latency(LATENCY));
        self.wire = Some(wire);
        Ok(())
    }

    /// Puts something else in the place of the artifact, and has the first receipt refused.
    pub(crate) async fn hinder(&mut self, flow: Flow) -> Result<()> {
        // What gave no metrics yet could not be searched for secrets.
        self.stage.operator.until_ready().await?;
        let proxy = self.stage.put_proxy_before_the_api_server().await?;
        // As the API server says where the object changes again and again while it patches it.
        proxy.answer(receipts(), 1, StatusCode::CONFLICT);
        self.proxy = Some(proxy);
        self.stage.operator.kill();
        let (_, digest) = flow.spec(self).await?;
        let hex = digest.trim_start_matches("sha256:");
        let shard = self.stage.operator.artifacts().join("sha256").join(format!("{hex:.2}"));
        fs::create_dir_all(&shard).context("making a folder of the store")?;
        fs::write(shard.join(hex), "damaged").context("writing a damaged artifact")
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.stage.namespace).chain(self.elsewhere.iter().map(|(namespace, _)| namespace))
    }

    /// Records all versions of all resources from now on.
    pub(crate) async fn record(&self) -> Result<Vec<Recording>> {
        let mut recordings = Vec::new();
        for namespace in self.namespaces() {
            recordings.push(Recording::start(namespace).await?);
        }
        Ok(recordings)
    }

    /// Applies the wish, unless that was done before.
    pub(crate) async fn wish(&mut self, flow: Flow) -> Result<()> {
        if self.wish.is_some() {
            return Ok(());
        }
        let (spec, digest) = flow.spec(self).await?;
        match &self.elsewhere {
            None => self.stage.namespace.apply(flow.resource(), &spec).await.map(drop)?,
            Some((elsewhere, label)) => in_one_second(&self.stage.namespace, elsewhere, &spec, label).await?,
        }
        self.wish = Some((spec, digest));
        Ok(())
    }

    /// The digest that is to run.
    pub(crate) fn digest(&self) -> &str {
        self.wish.as_ref().map_or("", |(_, digest)| digest)
    }

    /// The resources of the flow that are there.
    pub(crate) async fn resources(&self, flow: Flow) -> Result<Vec<KonigleSpace>> {
        let mut found = Vec::new();
        for namespace in self.namespaces() {
            found.extend(namespace.spaces().list(&ListParams::default()).await?.items);
        }
        found.retain(|space| flow.resources().contains(&space.name_any().as_str()));
        Ok(found)
    }

    /// How often the Events of these resources were told; a series counts each time.
    pub(crate) async fn events(&self, flow: Flow) -> Result<usize> {
        let mut told = 0;
        for namespace in self.namespaces() {
            for event in namespace.api::<Event>().list(&ListParams::default()).await?.items {
                let name = event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref());
                let times = event.series.map_or(1, |series| series.count);
                let counts = name.is_some_and(|name| flow.resources().contains(&name));
                told += usize::try_from(times).unwrap_or(1) * usize::from(counts);
            }
        }
        Ok(told)
    }

    /// Has the operator look at all resources.
    pub(crate) async fn ask_for_a_look(&self, flow: Flow, request: &str) -> Result<()> {
        for namespace in self.namespaces() {
            for name in flow.resources() {
                namespace.annotate(name, RECONCILE_AT, request).await?;
            }
        }
        Ok(())
    }

    /// What people do while the operator lives: the resource is deleted and made anew as soon as its job is known, or, after
    /// a restart, its attempt; and the job ends once the operator has looked at what is there then.
    pub(crate) async fn act(&mut self, flow: Flow, resources: &[KonigleSpace], life: usize) -> Result<()> {
        let (true, [space]) = (flow.makes_anew(), resources) else { return Ok(()) };
        let status = space.status.clone().unwrap_or_default();
        if status.last_handled_reconcile_at.as_deref() == Some(EARLY_LOOK) {
            return self.end_jobs().await;
        }
        let Some(attempt) = status.attempt.filter(|_| !self.made_anew) else { return Ok(()) };
        let is_known = attempt.job_id.is_some() || life > 0;
        // One that says that it is ready has listed all resources.
        let is_seen = life == 0 || self.stage.operator.readiness().await.is_some_and(|(code, _)| code == 200);
        if !(is_known && is_seen) {
            return Ok(());
        }
        if flow == Flow::MadeAnew { self.make_anew().await } else { self.ask_for_a_look(flow, EARLY_LOOK).await }
    }

    /// What people do while it is dead.
    pub(crate) async fn act_behind_its_back(&mut self, flow: Flow) -> Result<()> {
        let is_open = |space: &KonigleSpace| space.status.as_ref().is_some_and(|status| status.attempt.is_some());
        if flow == Flow::MadeAnewUnseen && !self.made_anew && self.resources(flow).await?.iter().any(is_open) {
            self.make_anew().await?;
        }
        Ok(())
    }

    async fn make_anew(&mut self) -> Result<()> {
        let Some((spec, _)) = &self.wish else { return Err(Failure::new("nothing was wished for")) };
        let namespace = &self.stage.namespace;
        namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
        wait_for("gone", async || Ok(namespace.spaces().get_opt(SHOP).await?.is_none().then_some(()))).await?;
        namespace.apply(SHOP, spec).await?;
        namespace.annotate(SHOP, RECONCILE_AT, EARLY_LOOK).await?;
        self.made_anew = true;
        Ok(())
    }

    async fn end_jobs(&self) -> Result<()> {
        for entry in self.stage.simulator.ledger(UAT).await? {
            if entry["outcome"].is_null() {
                self.stage.simulator.change_job(&entry["job"], &json!({"finish": "success"})).await?;
            }
        }
        Ok(())
    }
}

/// Applies one wish in two namespaces within one second of the API server's clock: which of them goes first is then settled
/// by who deploys first, not by age.
async fn in_one_second(one: &Namespace, other: &Namespace, spec: &Value, label: &str) -> Result<()> {
    for _ in 0..20 {
        let (first, second) = tokio::try_join!(one.apply(SHOP, spec), other.apply(SHOP, spec))?;
        if first.creation_timestamp() == second.creation_timestamp() {
            let labelled = json!({"metadata": {"labels": {"case": label}}});
            for namespace in [one, other] {
                namespace.spaces().patch(SHOP, &PatchParams::default(), &Patch::Merge(&labelled)).await?;
            }
            return Ok(());
        }
        for namespace in [one, other] {
            namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
        }
    }
    Err(Failure::new("two resources could not be made in one second"))
}

/// The same tar.gz of an application each time, below a folder that is named with a slash at its end.
fn archive(folder: &str) -> Result<Vec<u8>> {
    let files = [
        ("Dockerfile", "FROM scratch\n"),
        ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n"),
        (".bentocloudignore", "*.log\n"),
        ("src/serve.py", "print('served')\n"),
        ("src/serve.log", "never sent\n"),
    ];
    let files = files.map(|(path, content)| (format!("{folder}{path}"), content));
    tar_gz(&files.each_ref().map(|(path, content)| (path.as_str(), *content)))
}

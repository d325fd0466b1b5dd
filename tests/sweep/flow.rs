//! What the operator is doing when it dies.

use k8s_openapi::api::coordination::v1::Lease;
use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::point::{Point, Points};
use crate::scene::Scene;
use crate::support::Result;
use crate::support::artifacts::large_application;
use crate::support::namespace::{SECRET, deploys, promotes, ready_reason};
use crate::support::operator::OperatorOptions;
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, digest_of_wish, is_ready, runs};

/// The resource that promotes from [`SHOP`].
const LIVE: &str = "shop-production";
/// So large that the upload has a middle: it is handed over by the MiB.
const ARTIFACT_BYTES: usize = 3 << 20;
/// A job that ends when it is told to.
const ENDLESS_SECONDS: u32 = 600;

/// One way from a wish to its fulfilment. Those whose cases wait longest stand last, and begin first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// A first deploy to uat; the list of jobs is not served, so that what became of a request must show in the Space.
    Deploy,
    /// A deploy that meets what others do not: a damaged file in the place of its artifact, a receipt that is refused once,
    /// and a comparison of the watch with the API server's list. Only their points are tried.
    Hindered,
    /// A deploy under leader election, by an operator that stops in order when it is done. Its successor has another name,
    /// and waits for the Lease to expire where it was not let go. Only the Lease's points are tried.
    Elected,
    /// What uat runs is promoted to production, once a person has approved it.
    Promote,
    /// A resource is deleted while its job runs and made anew. It is deleted while the operator lives, which knows of the
    /// job, or has seen the open attempt since its restart.
    MadeAnew,
    /// As [`Flow::MadeAnew`], but deleted and made anew while the operator is dead: nobody knows of the job any more.
    MadeAnewUnseen,
    /// Resources of two namespaces, made in the same second, want to deploy to one Space.
    Rivals,
    /// A deploy of a folder of a Flux source, whose archive is packed. The points of the watch, of the store and of the packing
    /// are tried, and the two after which a request's outcome is looked for.
    Flux,
    /// A deploy of what a tag names in a registry, over a wire so slow that the upload's progress is told. Only the points of
    /// the registry and of the progress are tried.
    Tag,
    /// A deploy whose answer is lost after it took effect.
    ResolveLost,
    /// A deploy that Konigle never took in, and whose answer is lost.
    ResolveNever,
}

impl Flow {
    pub(crate) const ALL: [Self; 11] = [
        Self::Deploy,
        Self::Hindered,
        Self::Elected,
        Self::Promote,
        Self::MadeAnew,
        Self::MadeAnewUnseen,
        Self::Rivals,
        Self::Flux,
        Self::Tag,
        Self::ResolveLost,
        Self::ResolveNever,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Flux => "flux",
            Self::Tag => "tag",
            Self::Hindered => "hindered",
            Self::Elected => "elected",
            Self::Promote => "promote",
            Self::MadeAnew => "made-anew",
            Self::MadeAnewUnseen => "made-anew-unseen",
            Self::Rivals => "rivals",
            Self::ResolveLost => "resolve-lost",
            Self::ResolveNever => "resolve-never",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flow| flow.name() == name)
    }

    /// Whether cases of this flow may have this text in their names.
    pub(crate) fn is_named_in(self, filter: Option<&str>) -> bool {
        let Some((flow, _)) = filter.and_then(|filter| filter.split_once('/')) else { return true };
        self.name().ends_with(flow)
    }

    /// Whether its resource is deleted on the way and made anew.
    pub(crate) fn makes_anew(self) -> bool {
        matches!(self, Self::MadeAnew | Self::MadeAnewUnseen)
    }

    /// The resource whose wish is to be met.
    pub(crate) fn resource(self) -> &'static str {
        if self == Self::Promote { LIVE } else { SHOP }
    }

    /// All resources of the flow.
    pub(crate) fn resources(self) -> &'static [&'static str] {
        if self == Self::Promote { &[SHOP, LIVE] } else { &[SHOP] }
    }

    /// How many resources there are at a time.
    pub(crate) fn count(self) -> usize {
        if self == Self::Rivals { 2 } else { self.resources().len() }
    }

    /// The Space that it is for.
    pub(crate) fn space(self) -> &'static str {
        if self == Self::Promote { PRODUCTION } else { UAT }
    }

    /// The calls that this flow is there for, where it is not there for all that it makes.
    fn calls(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Flux => Some(&[
                "download",
                "find-the-flux-api",
                "find-the-flux-kinds",
                "keep",
                "list-flux-sources",
                "make-a-partial",
                "pack",
                "tell-the-format",
                "watch-flux-sources",
                "write-the-claim",
                "write-the-receipt",
            ]),
            Self::Tag => Some(&["read-a-manifest", "resolve-a-tag", "tell-of-the-upload"]),
            Self::Hindered => Some(&["compare-koniglespaces", "discard", "read-the-attempt"]),
            Self::Elected => Some(&["let-the-lease-go", "make-the-lease", "read-the-lease", "write-the-lease"]),
            _ => None,
        }
    }

    /// The points at which it is worth to die. Behind the operator's back something can be deleted in flight only once it
    /// has claimed.
    pub(crate) fn to_try(self, passed: &Points) -> Vec<Point> {
        match self {
            Self::Hindered | Self::Elected => self.to_try_after_a_crash(passed),
            Self::MadeAnewUnseen => passed.from("write-the-claim.after").to_try(),
            _ => self.of_its_calls(passed.to_try()),
        }
    }

    /// The points at which it is worth to die once more.
    pub(crate) fn to_try_after_a_crash(self, passed: &Points) -> Vec<Point> {
        self.of_its_calls(passed.firsts())
    }

    fn of_its_calls(self, mut points: Vec<Point>) -> Vec<Point> {
        points.retain(|point| self.calls().is_none_or(|calls| calls.contains(&point.call())));
        points
    }

    /// Whether a comparison of the watch, or the Lease's renewal, must come while its job runs.
    fn job_is_long(self) -> bool {
        matches!(self, Self::Hindered | Self::Elected)
    }

    /// How long a job takes.
    pub(crate) fn job_seconds(self) -> f64 {
        if self.job_is_long() { 6.0 } else { 1.0 }
    }

    /// What its operators are started with.
    pub(crate) fn options(self, options: OperatorOptions) -> OperatorOptions {
        match self {
            Self::Hindered => options.flag("--watch-check-interval=4s"),
            Self::Elected => {
                let namespace = options.watch_namespace.clone().unwrap_or_default();
                options.flag("--leader-elect=true").flag(&format!("--lease-namespace={namespace}"))
            }
            _ => options,
        }
    }

    /// What must be so before the operator that will die is started.
    pub(crate) async fn prepare(self, scene: &mut Scene) -> Result<()> {
        let stage = &mut scene.stage;
        if self != Self::Deploy {
            stage.simulator.reading("job_list", "served").await?;
        }
        let lost = |when: &str| json!({"operation": "deploy", "when": when, "action": "drop"});
        match self {
            Self::Deploy => Ok(()),
            Self::Flux => scene.store_in_flux().await,
            Self::Tag => scene.push_to_a_registry().await,
            Self::Hindered => scene.hinder(self).await,
            Self::Elected => {
                // So that there is none, and it makes the Lease.
                stage.operator.kill();
                let leases = stage.namespace.api::<Lease>();
                leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.map(drop)?;
                Ok(())
            }
            Self::Promote => stage.deployed("1.0").await.map(drop),
            Self::MadeAnew | Self::MadeAnewUnseen => {
                // So that a resource without a past can tell that something runs, and waits for it.
                stage.simulator.reading("status_while_running", "word").await?;
                let change = json!({"next_jobs": [{"seconds": ENDLESS_SECONDS}]});
                stage.simulator.change_space(UAT, &change).await.map(drop)
            }
            Self::Rivals => {
                // Both are there when it begins to look, so that both claim in their first pass.
                stage.operator.kill();
                scene.wish(self).await
            }
            Self::ResolveLost => stage.simulator.fault(&lost("after")).await,
            Self::ResolveNever => stage.simulator.fault(&lost("before")).await,
        }
    }

    /// What is wished for, and the digest that is to run.
    pub(crate) async fn spec(self, scene: &Scene) -> Result<(Value, String)> {
        let stage = &scene.stage;
        let (mut spec, digest) = if self == Self::Promote {
            let uat = stage.namespace.spaces().get(SHOP).await?;
            let digest = uat.status.and_then(|status| status.release).map(|release| release.digest);
            let digest = digest.unwrap_or_default();
            let mut spec = promotes(PRODUCTION, SHOP);
            // By names, which takes every call that finds a Space.
            spec["space"] = json!({"computer": "web-1", "webapp": "shop", "type": "production"});
            spec["promotion"]["approvedDigest"] = json!(digest);
            (spec, digest)
        } else if let Some((source, digest)) = &scene.source {
            (
                json!({"space": {"id": UAT}, "credentials": {"secretRef": {"name": SECRET}}, "source": source}),
                digest.clone(),
            )
        } else {
            let artifact = stage.artifacts.serve("/shop.zip", large_application(ARTIFACT_BYTES)?);
            let spec: Value = deploys(UAT, &artifact.url, &artifact.digest);
            let digest = digest_of_wish(&spec);
            (spec, digest)
        };
        let job_is_long = self.makes_anew() || self.job_is_long();
        // Short waits; a promotion that needs no person after a crash, and attempts enough for two lost ones beside the
        // one whose answer is lost in any case. Where the job ends when it is told to, a machine may be slow to tell it.
        spec["timeout"] = json!(if job_is_long { "30s" } else { "5s" });
        spec["unknownOutcomePolicy"] = json!("Resolve");
        spec["retry"] = json!({"limit": 6});
        Ok((spec, digest))
    }

    /// Whether the wish is met, and nothing is left to be done. Of rivals one is refused.
    pub(crate) fn is_met(self, resources: &[KonigleSpace], digest: &str) -> bool {
        let quiet = |space: &KonigleSpace| {
            space.status.as_ref().is_some_and(|status| status.attempt.is_none() && status.held_by.is_none())
        };
        let noted =
            |space: &KonigleSpace| space.annotations().get(RELEASED).is_some_and(|noted| noted.contains(digest));
        let met = |space: &KonigleSpace| is_ready(space) && quiet(space) && runs(space, digest) && noted(space);
        let refused = |space: &KonigleSpace| ready_reason(space) == Some("SpaceConflict") && quiet(space);
        match (self, resources) {
            (Self::Rivals, [one, other]) => (met(one) && refused(other)) || (refused(one) && met(other)),
            (Self::Rivals, _) => false,
            (_, resources) => resources.len() == self.resources().len() && resources.iter().all(met),
        }
    }
}

//! Bad input: what people and servers get wrong, on a real API server with the operator as it ships.
//!
//! Each row of a table is one mistake: it ends in the reason that docs/conditions.md has for it, with a message that says what
//! to do; nothing is posted that should not be; another resource of the same namespace is deployed meanwhile; and
//! mending the mistake heals it without a restart. The rows of a table share one operator and one simulator, run at the
//! same time, and have a tenant, a Secret and two Spaces each to themselves.
//!
//! Absent: what the CRD's rules refuse (`manifests`), unless a Space's type has to do with it, and Konigle's silence for
//! a quarter of an hour (a unit test of `plan`).

mod answers;
mod artifacts;
mod credentials;
mod jobs;
mod spaces;
mod specs;

use std::pin::Pin;

use konigle_operator::api::{KonigleSpace, RECONCILE_AT};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::support::artifacts::{Artifact, Artifacts, application};
use crate::support::control_plane::ControlPlane;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Namespace, deploys, promotes};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::rights::operator_account;
use crate::support::simulator::Simulator;
use crate::support::{Failure, Result};

/// How long a job takes, in seconds, unless its row says otherwise.
const JOB_SECONDS: f64 = 1.0;
/// What no status may be larger than, in bytes.
const LARGEST_STATUS: usize = 32 << 10;
/// The reasons of Ready=True.
const GOOD: [&str; 3] = ["Succeeded", "AwaitingApproval", "Assumed"];
/// The reasons with which somebody or something is still at work.
const UNDER_WAY: [&str; 15] = [
    "Progressing",
    "Downloading",
    "DeployRunning",
    "PromotionRunning",
    "ResolvingOutcome",
    "ProgressingWithRetry",
    "HeldByPromotion",
    "AwaitingSource",
    "SpaceProvisioning",
    "SpaceBusy",
    "RateLimited",
    "ArtifactUnavailable",
    "SourceNotConfirmed",
    "SourceDrifted",
    "SourceBusy",
];

/// The parts that all rows of a table share.
struct Bed {
    namespace: Namespace,
    artifacts: Artifacts,
    simulator: Simulator,
    operator: Operator,
}

/// A row of a table that is run.
type Run<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A row of a table by its name, and how it is run.
type Row = (&'static str, for<'a> fn(Case<'a>) -> Run<'a>);

/// The rows of a table, each an `async fn(Case<'_>) -> Result<()>`.
macro_rules! rows {
    ($($row:ident),+ $(,)?) => {
        vec![$({
            fn run(case: super::Case<'_>) -> super::Run<'_> {
                Box::pin($row(case))
            }
            (stringify!($row), run as for<'a> fn(super::Case<'a>) -> super::Run<'a>)
        }),+]
    };
}
use rows;

impl Bed {
    /// Starts the parts. The operator has the rights of `deploy/default` and no others.
    async fn open(purpose: &str, change: impl FnOnce(OperatorOptions) -> OperatorOptions) -> Result<Self> {
        let control_plane = ControlPlane::shared().await?;
        let namespace = Namespace::create(control_plane, purpose).await?;
        let kubeconfig = operator_account(control_plane, &namespace).await?;
        let simulator = Simulator::start(JOB_SECONDS).await?;
        let options = OperatorOptions::new(&kubeconfig, &simulator.base_url(), namespace.name())
            .flag("--unknown-outcome-settle=2s");
        let operator = Operator::start(change(options)).await?;
        Ok(Self { namespace, artifacts: Artifacts::start().await?, simulator, operator })
    }

    /// Runs all rows at the same time, and one resource without a mistake beside them.
    async fn run(&self, rows: Vec<Row>) -> Result<()> {
        let (arriving, mut arrived) = mpsc::channel::<()>(1);
        let (go_on, going_on) = watch::channel(false);
        let mut healthy = self.case("healthy", None).await?;
        healthy.deploys("1").await?;
        let mut cases = Vec::new();
        for (name, row) in rows {
            let meeting = Meeting { arriving: Some(arriving.clone()), going_on: going_on.clone() };
            let case = self.case(&name.replace('_', "-"), Some(meeting)).await?;
            cases.push(async move { (name, row(case).await) });
        }
        drop(arriving);
        let beside = async move {
            healthy.runs(1).await?;
            // Every row holds a sender until it has gone wrong as it should, or has failed.
            while arrived.recv().await.is_some() {}
            healthy.deploys("2").await?;
            healthy.runs(2).await?;
            go_on.send_replace(true);
            Ok::<_, Failure>(())
        };
        let (beside, results) = tokio::join!(beside, futures::future::join_all(cases));
        let failed = |(name, result): (&str, Result<()>)| result.err().map(|failure| format!("{name}: {failure}"));
        let mut failures: Vec<String> = results.into_iter().filter_map(failed).collect();
        failures.extend(beside.err().map(|failure| format!("the healthy resource: {failure}")));
        failures.extend(self.faults_of_the_process().await?);
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n\n"))) }
    }

    /// A tenant with a token, a web app and its two Spaces, all to itself, and the token's Secret.
    async fn case(&self, name: &str, meeting: Option<Meeting>) -> Result<Case<'_>> {
        let token = format!("canary-{name}-0a1b2c3d");
        let seed = json!({"name": name, "tokens": [token], "computers": [{"name": name, "webapps": [{"name": name}]}]});
        let tenants = self.simulator.control(Method::POST, "tenants", &seed).await?;
        let tenant = tenants.as_array().into_iter().flatten().find(|tenant| tenant["name"] == name);
        let id = |kind: &str| {
            let id = tenant.and_then(|tenant| tenant["computers"][0]["webapps"][0][kind].as_str());
            id.map(str::to_owned).ok_or_else(|| Failure::new(format!("{name} has no {kind} Space: {tenants}")))
        };
        let case = Case {
            bed: self,
            name: name.to_owned(),
            token: token.clone(),
            uat: id("uat")?,
            production: id("production")?,
            wanted: None,
            meeting,
        };
        case.write_secret(&json!({"token": token})).await?;
        Ok(case)
    }

    /// What none of the rows may cause: a pass that failed or panicked, and a token in the log.
    async fn faults_of_the_process(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let page = Exposition::parse(&self.operator.metrics().await?)?;
        let failed = page.value("konigle_reconcile_total", &[("result", "error")])?;
        if failed > 0.0 {
            faults.push(format!("{failed} passes failed; {}", self.operator.log().display()));
        }
        if std::fs::read_to_string(self.operator.log())?.contains("canary-") {
            faults.push(format!("a token is in the operator's log, {}", self.operator.log().display()));
        }
        Ok(faults)
    }
}

/// Where the rows and the healthy resource wait for each other. A row that fails drops its sender, so nobody waits for it.
struct Meeting {
    arriving: Option<mpsc::Sender<()>>,
    going_on: watch::Receiver<bool>,
}

/// One row's own things.
struct Case<'a> {
    bed: &'a Bed,
    /// Of its tenant, computer, web app, Secret and resource.
    name: String,
    token: String,
    uat: String,
    production: String,
    /// What was asked for last.
    wanted: Option<Artifact>,
    meeting: Option<Meeting>,
}

impl Case<'_> {
    /// Writes the row's Secret with these keys, in place of what it held.
    async fn write_secret(&self, keys: &Value) -> Result<()> {
        self.bed.namespace.write_secret(&self.name, keys).await
    }

    /// A valid application that nothing serves yet.
    fn application(&self, version: &str) -> Result<Vec<u8>> {
        application(&format!("{} {version}", self.name))
    }

    /// The path under which the row's artifacts are served.
    fn path(&self, version: &str) -> String {
        format!("/{}-{version}.zip", self.name)
    }

    /// Serves a valid application.
    fn serve(&self, version: &str) -> Result<Artifact> {
        Ok(self.bed.artifacts.serve(&self.path(version), self.application(version)?))
    }

    /// The spec that deploys an artifact to the row's uat Space.
    fn spec(&self, artifact: &Artifact) -> Value {
        let mut spec = deploys(&self.uat, &artifact.url, &artifact.digest);
        spec["credentials"]["secretRef"]["name"] = json!(self.name);
        spec
    }

    /// The spec that promotes what a resource runs to the row's production Space, without asking.
    fn promotion(&self, from: &str) -> Value {
        let mut spec = promotes(&self.production, from);
        spec["credentials"]["secretRef"]["name"] = json!(self.name);
        spec["promotion"]["policy"] = json!("Automatic");
        spec
    }

    /// Applies the row's resource.
    async fn apply(&self, spec: &Value) -> Result<KonigleSpace> {
        self.bed.namespace.apply(&self.name, spec).await
    }

    /// Applies the row's resource so that it deploys this version, and serves that.
    async fn deploys(&mut self, version: &str) -> Result<()> {
        let artifact = self.serve(version)?;
        self.apply(&self.spec(&artifact)).await?;
        self.wanted = Some(artifact);
        Ok(())
    }

    /// Waits until the row's resource is Ready with what it asked for, after so many deploys to its uat Space.
    async fn runs(&self, deploys: usize) -> Result<KonigleSpace> {
        let space = self.shows("Succeeded", &[]).await?;
        let runs = space.status.as_ref().and_then(|status| status.release.as_ref()).map(|release| &release.digest);
        if let Some(wanted) = &self.wanted
            && runs != Some(&wanted.digest)
        {
            return Err(Failure::new(format!("it runs {runs:?}, not {}", wanted.digest)));
        }
        self.posted(deploys).await?;
        Ok(space)
    }

    /// Waits until Ready has this reason, and sees that its message holds these parts and that the status is as every
    /// status must be.
    async fn shows(&self, reason: &str, parts: &[&str]) -> Result<KonigleSpace> {
        self.other_shows(&self.name, reason, parts).await
    }

    /// Runs the command of the resource's message that has this part, in a shell as whoever copies it would, with `value` for
    /// VALUE.
    async fn follow(&self, space: &KonigleSpace, part: &str, value: &str) -> Result<()> {
        let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
        let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        let mut quoted = message.split('`').skip(1).step_by(2);
        let command = quoted.find(|text| text.starts_with("kubectl ") && text.contains(part));
        let command = command.ok_or_else(|| Failure::new(format!("no command with {part} in: {message}")))?;
        let mut shell = ControlPlane::shared().await?.kubectl().shell("sh")?;
        shell.args(["-ec", &command.replace("VALUE", value)]);
        let output = tokio::task::spawn_blocking(move || shell.output()).await??;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("{command}: {}", String::from_utf8_lossy(&output.stderr))))
    }

    /// As [`Case::shows`], for another resource than the one that is named as the row is.
    async fn other_shows(&self, name: &str, reason: &str, parts: &[&str]) -> Result<KonigleSpace> {
        let space = self.bed.namespace.wait_for_reason(name, reason).await?;
        check_status(&space, parts, &self.token).map_err(|failure| Failure::new(format!("{name}: {failure}")))?;
        Ok(space)
    }

    /// Sees that so many deploys to the row's uat Space were accepted, and no promotion to its production Space.
    async fn posted(&self, deploys: usize) -> Result<()> {
        self.posted_to(&self.uat, deploys).await?;
        self.posted_to(&self.production, 0).await
    }

    /// Sees that so many writes to this Space were accepted.
    async fn posted_to(&self, space: &str, writes: usize) -> Result<()> {
        let ledger = self.bed.simulator.ledger(space).await?;
        if ledger.len() == writes {
            return Ok(());
        }
        Err(Failure::new(format!("{} writes were accepted, not {writes}: {ledger:?}", ledger.len())))
    }

    /// How often Konigle was asked for this operation on this Space or job.
    async fn asked(&self, id: &str, operation: &str) -> Result<u64> {
        Ok(self.bed.simulator.requests().await?["by_object"][id][operation].as_u64().unwrap_or_default())
    }

    /// Adds a fault that meets requests for the row's own Spaces.
    async fn fault(&self, operation: &str, times: u64, action: Value) -> Result<()> {
        let fault = json!({"operation": operation, "space": self.uat, "times": times, "action": action});
        self.bed.simulator.fault(&fault).await
    }

    /// Asks the operator to look now, and waits until it has.
    async fn look_now(&self) -> Result<KonigleSpace> {
        self.other_look_now(&self.name).await
    }

    /// As [`Case::look_now`], for another resource.
    async fn other_look_now(&self, name: &str) -> Result<KonigleSpace> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
        let request = format!("look-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.bed.namespace.annotate(name, RECONCILE_AT, &request).await?;
        let handled = |space: &KonigleSpace| {
            space.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_ref() == Some(&request))
        };
        self.bed.namespace.wait_for(name, "looked at", handled).await
    }

    /// Waits until everybody else has gone wrong, and the healthy resource was deployed meanwhile.
    async fn others_go_on(&mut self) -> Result<()> {
        let Some(meeting) = self.meeting.as_mut() else { return Ok(()) };
        meeting.arriving = None;
        meeting
            .going_on
            .wait_for(|going_on| *going_on)
            .await
            .map(drop)
            .map_err(|_| Failure::new("the healthy resource was not deployed meanwhile"))
    }
}

/// What must hold of every status: one of kstatus' words at most, a message that says these parts, a bound on its size,
/// and no token.
fn check_status(space: &KonigleSpace, parts: &[&str], token: &str) -> Result<()> {
    let status = space.status.clone().unwrap_or_default();
    let text = serde_json::to_string(&status)?;
    let fail = |what: &str| Err(Failure::new(format!("{what}: {text}")));
    let Some(ready) = status.condition("Ready") else { return fail("there is no Ready") };
    let expected = match ready.reason.as_str() {
        reason if GOOD.contains(&reason) => ("True", false, false),
        "ProgressingWithRetry" => ("False", false, true),
        reason if UNDER_WAY.contains(&reason) => ("Unknown", false, true),
        _ => ("False", true, false),
    };
    if (ready.status.as_str(), status.is_true("Stalled"), status.is_true("Reconciling")) != expected {
        return fail(&format!("Ready, Stalled and Reconciling are not {expected:?}"));
    }
    if let Some(missing) = parts.iter().find(|part| !ready.message.contains(**part)) {
        return fail(&format!("the message does not say {missing:?}"));
    }
    if ready.message.trim().is_empty() {
        return fail("the message is empty");
    }
    if text.contains(token) {
        return fail("the token is in the status");
    }
    if text.len() > LARGEST_STATUS {
        return Err(Failure::new(format!("the status has {} bytes", text.len())));
    }
    Ok(())
}

//! What the plugin asks of the operator, what it waits for, and what it will not do.

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use konigle_operator::api::KonigleSpace;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Ended;
use crate::support::namespace::{Namespace, promotes};
use crate::support::run_folder::{new_folder, program};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};
use crate::support::{Failure, Result};

const LIVE: &str = "shop-production";

async fn konigle(stage: &Stage, arguments: &[&str]) -> Result<Ended> {
    let place = ["-n", stage.namespace.name()];
    stage.kubectl.konigle(&[arguments, &place[..]].concat(), "").await
}

#[tokio::test]
async fn a_job_that_fails_fails_who_waits_for_it() -> Result<()> {
    let stage = Stage::open("failing").await?;
    stage.simulator.change_space(UAT, &json!({"job": {"seconds": 1, "outcome": "failed"}})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    let ended = konigle(&stage, &["wait", SHOP, "--timeout", "90s"]).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors.contains(&format!("✗ {SHOP} is stalled (RetriesExceeded): ")), "{ended:?}");
    let ended = konigle(&stage, &["reconcile", SHOP]).await?;
    assert_eq!(ended.code, Some(1), "a look mends nothing: {ended:?}");
    let history = konigle(&stage, &["history", SHOP]).await?;
    assert!(history.output.contains("✗ Failed"), "{history:?}");

    stage.simulator.change_space(UAT, &json!({"job": {"seconds": 1, "outcome": "success"}})).await?;
    // While Konigle does not answer, the reset is pending: the old failure is no answer to it.
    let away = json!({"operation": "get_space", "space": UAT, "times": 1, "action": {"status": 503}});
    stage.simulator.fault(&away).await?;
    let ended = konigle(&stage, &["reset", SHOP, "--timeout", "4s"]).await?;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.errors.contains("it waits for Konigle's answer to the operator's looks; the request stays"),
        "{ended:?}"
    );
    assert!(!ended.errors.contains("$(date"), "no advice to reset again: {ended:?}");
    let pending = konigle(&stage, &["explain", SHOP]).await?;
    assert!(pending.output.contains("\nAsked      a reset by the annotation"), "{pending:?}");
    let pending = konigle(&stage, &["status", SHOP]).await?;
    assert!(pending.output.contains("a reset is asked for, and waits for Konigle's answer"), "{pending:?}");
    // It was not lost: the next look brings it.
    let ended = konigle(&stage, &["reconcile", SHOP, "--timeout", "90s"]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains(&format!("✔ {SHOP} is ready, and runs ")), "{ended:?}");
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2, "one deploy that failed, and one by the reset");

    let ended = konigle(&stage, &["reset", SHOP, "--timeout", "90s"]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains(&format!("⚠ the reset of {SHOP} had nothing to do")), "{ended:?}");
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2, "nothing is deployed again");
    Ok(())
}

#[tokio::test]
async fn an_approval_is_that_of_what_was_shown_or_none() -> Result<()> {
    let stage = Stage::open("approving").await?;
    stage.deployed("1.0").await?;
    stage.namespace.apply(LIVE, &promotes(PRODUCTION, SHOP)).await?;
    stage.namespace.wait_for_reason(LIVE, "AwaitingApproval").await?;

    // Nobody is there to be asked.
    let ended = konigle(&stage, &["approve", LIVE]).await?;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("write --yes"), "{ended:?}");
    let untouched = stage.namespace.spaces().get(LIVE).await?;
    assert_eq!(untouched.spec.promotion.and_then(|promotion| promotion.approved_digest), None);

    // While uat deploys, nothing is approved; the reason is the gate's.
    stage.simulator.change_space(UAT, &json!({"job": {"seconds": 600}})).await?;
    let next = stage.wish("2.0")?;
    stage.namespace.apply(SHOP, &next).await?;
    let ledger = stage.wait_for_ledger(UAT, 2).await?;
    stage.namespace.wait_for_reason(SHOP, "DeployRunning").await?;
    let ended = konigle(&stage, &["approve", LIVE, "--yes"]).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.errors.contains("not approved (SourceBusy): a deployment to shop-uat is under way"), "{ended:?}");
    let running = konigle(&stage, &["explain", SHOP]).await?;
    assert!(running.output.contains("Attempt    Deploy 2 of"), "{running:?}");
    stage.simulator.change_job(&ledger[1]["job"], &json!({"finish": "success"})).await?;
    let digest = digest_of_wish(&next);
    stage.namespace.wait_for(SHOP, "deployed", |space| is_ready(space) && runs(space, &digest)).await?;

    // Git owns the promotion: it is said, with the line for Git.
    let by_git = json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": LIVE},
        "spec": promotes(PRODUCTION, SHOP),
    });
    let flux = PatchParams::apply("kustomize-controller").force();
    stage.namespace.spaces().patch(LIVE, &flux, &Patch::Apply(&by_git)).await?;
    let ended = konigle(&stage, &["approve", LIVE, "--yes"]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("managed by kustomize-controller"), "{ended:?}");
    assert!(ended.errors.contains(&format!("\n    approvedDigest: {digest}\n")), "{ended:?}");
    assert!(ended.errors.contains(&format!("✔ approved {digest} for {LIVE}")), "{ended:?}");
    let live = stage.namespace.spaces().get(LIVE).await?;
    assert!(is_ready(&live) && runs(&live, &digest), "it waited for the promotion: {:?}", live.status);
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);

    let again = konigle(&stage, &["approve", LIVE, "--yes"]).await?;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.errors.contains("already, and it is approved"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn logs_and_completion_follow_what_is_there() -> Result<()> {
    let stage = Stage::open_with("logging", 3.0, |options| options).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let ended = konigle(&stage, &["logs", SHOP, "-f", "--timeout", "90s"]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("► attempt 1 of shop-uat, job "), "{ended:?}");
    assert!(ended.errors.ends_with("✔ attempt 1 succeeded\n"), "{ended:?}");
    assert!(!ended.output.contains(['►', '✔']), "the log alone: {}", ended.output);

    // kubectl's own completion asks the plugin by the name of its link.
    let folder = new_folder("completion")?;
    std::os::unix::fs::symlink(program("kubectl-konigle")?, folder.join("kubectl_complete-konigle"))?;
    let complete = async |words: &[&str]| {
        let mut command = stage.kubectl.shell("sh")?;
        let line = "PATH=$0:$PATH exec kubectl __complete konigle \"$@\"";
        command.args(["-c", line, &folder.display().to_string()]).args(words);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok::<_, Failure>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(complete(&["explain", "-n", stage.namespace.name(), "sh"]).await?, format!("{SHOP}\n:4\n"));
    assert_eq!(complete(&["explain", "-n", "no-such-namespace", ""]).await?, ":4\n");
    assert!(complete(&["res"]).await?.starts_with("reset\tClears failures"));
    Ok(())
}

#[tokio::test]
async fn colours_are_left_out_where_they_are_not_wanted() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "colours").await?;
    namespace.apply(LIVE, &promotes(PRODUCTION, SHOP)).await?;
    let run = async |arguments: &[&str], environment: &[(&'static str, &'static str)]| {
        let mut command = control_plane.kubectl().konigle_command(&[arguments, &["-n", namespace.name()]].concat())?;
        command.envs(environment.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok::<_, Failure>(String::from_utf8_lossy(&output.stdout).contains('\u{1b}'))
    };
    let forced = ("CLICOLOR_FORCE", "1");
    assert!(!run(&["status"], &[]).await?, "the output is no terminal");
    assert!(run(&["status"], &[forced]).await?, "asked for");
    assert!(!run(&["status", "--no-color"], &[forced]).await?);
    assert!(!run(&["status"], &[forced, ("NO_COLOR", "1")]).await?);
    Ok(())
}

/// On a terminal, as `script` makes one: what is asked, and what comes of it where the promotion changes meanwhile.
#[tokio::test]
async fn what_is_approved_at_the_prompt_is_the_promotion_that_was_shown() -> Result<()> {
    let stage = Stage::open("prompt").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    stage.namespace.apply(LIVE, &promotes(PRODUCTION, SHOP)).await?;
    stage.namespace.wait_for_reason(LIVE, "AwaitingApproval").await?;
    let approved = async || {
        let live = stage.namespace.spaces().get(LIVE).await?;
        Ok::<_, Failure>(live.spec.promotion.and_then(|promotion| promotion.approved_digest))
    };
    let (code, said) = Prompt::open(&stage)?.answer("n").await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not approved: nothing was changed"), "{said}");
    assert_eq!(approved().await?, None);

    let prompt = Prompt::open(&stage)?;
    let other = format!("sha256:{}", "a".repeat(64));
    let mut spec = promotes(PRODUCTION, SHOP);
    spec["promotion"]["approvedDigest"] = json!(other);
    stage.namespace.apply(LIVE, &spec).await?;
    let (code, said) = prompt.answer("y").await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was changed since it was shown: nothing was approved"), "{said}");
    assert_eq!(approved().await?, Some(other));

    let (code, said) = Prompt::open(&stage)?.answer("y").await?;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(approved().await?, Some(digest));
    Ok(())
}

/// `kubectl konigle approve` on a terminal, at the moment at which it asks.
struct Prompt {
    child: Child,
    said: Vec<u8>,
}

impl Prompt {
    fn open(stage: &Stage) -> Result<Self> {
        let line = format!("kubectl konigle approve {LIVE} --no-wait -n {}", stage.namespace.name());
        let mut command = stage.kubectl.shell("script")?;
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut prompt = Self { child: command.spawn()?, said: Vec::new() };
        let output = prompt.child.stdout.as_mut().expect("a pipe");
        let mut byte = [0_u8];
        while !String::from_utf8_lossy(&prompt.said).contains("[y/N]") {
            if output.read(&mut byte)? == 0 {
                return Err(Failure::new(format!("it did not ask: {}", String::from_utf8_lossy(&prompt.said))));
            }
            prompt.said.push(byte[0]);
        }
        Ok(prompt)
    }

    /// Types this; the exit code, and all that was said.
    async fn answer(mut self, word: &str) -> Result<(Option<i32>, String)> {
        let line = format!("{word}\n");
        tokio::task::spawn_blocking(move || {
            self.child.stdin.take().expect("a pipe").write_all(line.as_bytes())?;
            self.child.stdout.take().expect("a pipe").read_to_end(&mut self.said)?;
            Ok((self.child.wait()?.code(), String::from_utf8_lossy(&self.said).into_owned()))
        })
        .await?
    }
}

fn digest_of(space: &KonigleSpace) -> String {
    space.status.as_ref().and_then(|status| status.release.clone()).map(|release| release.digest).unwrap_or_default()
}

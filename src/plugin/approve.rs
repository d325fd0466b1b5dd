//! `approve`: approves for production what uat runs now.
//!
//! What the operator's gate would refuse is refused here, by the gate itself. The digest that was shown is the one that is
//! written, and only onto the very promotion that was shown.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::{Value, json};

use super::arguments::Approving;
use super::connection::Connection;
use super::failure::Failure;
use super::reading::{State, ago, attribution, called, state};
use super::requests::{manager_of, selection};
use super::screen::{Mark, Screen};
use super::wait::{tell_ready, until_ready};
use super::wanted::parts;
use crate::api::{KonigleSpace, Promotion, PromotionPolicy, ReleaseStatus};
use crate::clock;
use crate::cluster::ClusterError;
use crate::desired::Desired;
use crate::observation::{Observation, SourceFacts};
use crate::observe::source_facts;
use crate::wish::{Gate, gate};

/// Approves, and waits for the promotion.
pub async fn run(connection: &Connection, screen: &Screen, what: &Approving) -> Result<(), Failure> {
    let (production, namespace) = connection.one(&what.name).await?;
    let approval = approval(&production, &namespace)?;
    let name = &what.name;
    if runs(&production, &approval.release.digest) && approval.is_written {
        screen.say(Mark::Done, &format!("{name} runs {} already, and it is approved", approval.called()));
        return Ok(());
    }
    screen.say(Mark::Doing, &approval.shown(&production, clock::now()));
    if let Some(manager) = manager_of(&production, &["spec", "promotion"]) {
        screen.say(
            Mark::Warning,
            &format!(
                "spec.promotion of {name} is managed by {manager}, which sets it back unless Git says the same; write there:\n    approvedDigest: {}",
                approval.release.digest
            ),
        );
    }
    if production.spec.suspend {
        screen.say(Mark::Warning, &format!("{name} is suspended: it is promoted once it is resumed"));
    }
    if approval.is_written {
        screen.say(Mark::Done, "this digest is approved already");
    } else {
        if !what.yes && !confirmed(screen)? {
            return Err(Failure::failed("not approved: nothing was changed"));
        }
        approval.write(connection, name).await?;
        screen.say(Mark::Done, &format!("approved {} for {name}", approval.release.digest));
    }
    if what.no_wait || production.spec.suspend {
        return Ok(());
    }
    let digest = &approval.release.digest;
    let unmet =
        |space: &KonigleSpace| (!runs(space, digest)).then(|| format!("does not run {} yet", approval.called()));
    let selection = selection(std::slice::from_ref(name));
    tell_ready(screen, &until_ready(connection, screen, (&selection, what.timeout), unmet).await?);
    Ok(())
}

fn runs(space: &KonigleSpace, digest: &str) -> bool {
    let release = space.status.as_ref().and_then(|status| status.release.as_ref());
    state(space) == State::Ready && release.is_some_and(|release| release.digest == digest)
}

/// What is to be approved.
#[derive(Debug)]
struct Approval {
    /// The uat resource.
    from: String,
    /// What it runs.
    release: ReleaseStatus,
    /// What its digest stands for, where that is a folder of what was published.
    parts: Option<String>,
    /// The UID of the production resource.
    uid: String,
    /// `spec.promotion` as it was shown.
    promotion: Value,
    /// Whether exactly this is approved already.
    is_written: bool,
}

/// What may be approved, by the operator's own gate.
fn approval(production: &KonigleSpace, namespace: &[KonigleSpace]) -> Result<Approval, Failure> {
    let name = production.name_any();
    let Some(promotion) = &production.spec.promotion else {
        return Err(Failure::failed(format!(
            "{name} is not promoted to: it deploys an artifact, which needs no approval"
        )));
    };
    if promotion.policy == PromotionPolicy::Automatic {
        return Err(Failure::failed(format!(
            "{name} has promotion policy Automatic: it promotes whatever {} has confirmed, without an approval",
            promotion.from.name
        )));
    }
    let uat = namespace.iter().find(|space| space.name_any() == promotion.from.name);
    let source = uat.map_or_else(SourceFacts::default, source_facts);
    let release = source.status.release.clone();
    let parts = release.as_ref().and_then(|release| parts(&source.status, &release.digest));
    // The gate as it will be once what uat runs is approved.
    let mut approved = production.clone();
    let digest = release.as_ref().map(|release| release.digest.clone());
    approved.spec.promotion = Some(Promotion { approved_digest: digest, ..promotion.clone() });
    let desired =
        Desired::parse(&approved).map_err(|invalid| Failure::failed(format!("{name} is invalid: {invalid}")))?;
    let uid = production.uid().unwrap_or_default();
    let namespace = production.namespace().unwrap_or_default();
    let unlooked = Observation::unlooked(name.clone(), namespace, uid.clone(), (clock::now(), Duration::ZERO));
    // In the words of the condition, with its command.
    match gate(&desired, &Observation { source: Some(source), ..unlooked }) {
        Some(Gate::Closed(problem)) => {
            Err(Failure::failed(format!("not approved ({}): {}", problem.reason.word(), problem.message)))
        }
        Some(Gate::Open(_)) | None => {
            let release = release.unwrap_or_default();
            Ok(Approval {
                from: promotion.from.name.clone(),
                is_written: promotion.approved_digest.as_ref() == Some(&release.digest),
                release,
                parts,
                uid,
                promotion: serde_json::to_value(promotion).map_err(|error| Failure::failed(error.to_string()))?,
            })
        }
    }
}

impl Approval {
    fn called(&self) -> String {
        called(self.release.revision.as_deref(), &self.release.digest)
    }

    /// What changes, in lines for people.
    fn shown(&self, production: &KonigleSpace, now: Timestamp) -> String {
        let status = production.status.clone().unwrap_or_default();
        let side = |title: &str, release: &ReleaseStatus| {
            let since = ago(now, release.deployed_at.as_deref());
            let name = called(release.revision.as_deref(), &release.digest);
            format!("  {title:<5} {name}, for {since}, {}", attribution(release))
        };
        let before = status
            .release
            .as_ref()
            .map_or_else(|| "  now   nothing that is known".to_owned(), |release| side("now", release));
        let url = status.url.map_or_else(String::new, |url| format!(" ({url})"));
        let title = format!("{}: promote what {} runs to production{url}", production.name_any(), self.from);
        let digest = format!("        {}", self.release.digest);
        let parts = self.parts.as_ref().map(|parts| format!("        {parts}"));
        [title, before, side("then", &self.release), digest].into_iter().chain(parts).collect::<Vec<_>>().join("\n")
    }

    /// Writes it, onto the very promotion that was shown.
    async fn write(&self, connection: &Connection, name: &str) -> Result<(), Failure> {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": self.uid},
            {"op": "test", "path": "/spec/promotion", "value": self.promotion},
            {"op": "add", "path": "/spec/promotion/approvedDigest", "value": self.release.digest},
        ]);
        let patch: json_patch::Patch =
            serde_json::from_value(patch).map_err(|error| Failure::failed(error.to_string()))?;
        match connection.patch("approve it", name, &Patch::Json(patch)).await {
            Ok(_) => Ok(()),
            Err(error) if is_failed_test(&error) => Err(Failure::failed(format!(
                "{name} was changed since it was shown: nothing was approved; run the command again"
            ))),
            Err(error) => Err(connection.failure(&error)),
        }
    }
}

/// Whether a test of a patch did not hold: that is answered with 422 and no cause, unlike what a rule or a policy refuses.
fn is_failed_test(error: &ClusterError) -> bool {
    let ClusterError::Failed { source, .. } = error else { return false };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    status.code == 422 && status.details.as_ref().is_none_or(|details| details.causes.is_empty())
}

/// Asks on the terminal.
fn confirmed(screen: &Screen) -> Result<bool, Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Failure::usage("nobody can be asked here: write --yes to approve what is shown above"));
    }
    let _ =
        write!(io::stderr(), "{} approve this? [y/N] ", screen.err.paint(Mark::Waiting.tone(), Mark::Waiting.sign()));
    let _ = io::stderr().flush();
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests;

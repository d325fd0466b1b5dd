//! The manifests of `deploy/examples`: all are accepted, and the policy among them lets nobody approve who may not.

use serde_json::{Value, json};

use super::{DIGEST, file};
use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;
use crate::support::namespace::{promotes, wait_for};
use crate::support::rights::{ACCOUNT, INSTALL, OPERATOR_NAMESPACE};
use crate::support::{Context, Failure, Result};

const OTHER_DIGEST: &str = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
const MAY_NOT_APPROVE: &str = "only the group shop-approvers may set, change or remove spec.promotion.approvedDigest";
const MAY_NOT_AUTOMATE: &str = "only the group shop-approvers may set spec.promotion.policy to Automatic";

/// Who asks, as kubectl impersonates.
type User = &'static [&'static str];

const DEVELOPER: User = &["--as=ada", "--as-group=developers", "--as-group=system:authenticated"];
const APPROVER: User = &["--as=grace", "--as-group=shop-approvers", "--as-group=system:authenticated"];
const FLUX: User = &["--as=system:serviceaccount:flux-system:kustomize-controller"];
const ARGO: User = &["--as=system:serviceaccount:argocd:argocd-application-controller"];
/// An account that nobody named, with the right to edit.
const PIPELINE: User = &["--as=system:serviceaccount:shop:ci"];
/// It may all, and is in no group that approves.
const ADMINISTRATOR: User = &[];

/// What a merge of this into one of the resources, or its creation, comes to.
struct Case {
    user: User,
    /// One of [`STATES`]; none for a new resource.
    before: Option<&'static str>,
    change: Value,
    refusal: Option<&'static str>,
}

/// Resources of the namespace `shop`, by name, and what their promotion says.
const STATES: [(&str, &str, Option<&str>); 3] =
    [("unapproved", "Manual", None), ("approved", "Manual", Some(DIGEST)), ("automatic", "Automatic", None)];

fn cases() -> Vec<Case> {
    let approves = |digest: &str| json!({"spec": {"promotion": {"approvedDigest": digest}}});
    let removes = || json!({"spec": {"promotion": {"approvedDigest": null}}});
    let policy = |policy: &str| json!({"spec": {"promotion": {"policy": policy}}});
    let automates = || json!({"spec": {"promotion": {"policy": "Automatic", "approvedDigest": null}}});
    let edits = || json!({"spec": {"interval": "1m", "suspend": true}});
    let mut cases = Vec::new();
    // Those who may approve may do all of it, those who may not none of it.
    for (user, approver) in
        [(APPROVER, true), (FLUX, true), (ARGO, true), (DEVELOPER, false), (PIPELINE, false), (ADMINISTRATOR, false)]
    {
        let approval = (!approver).then_some(MAY_NOT_APPROVE);
        let automation = (!approver).then_some(MAY_NOT_AUTOMATE);
        let mut add = |before, change, refusal| cases.push(Case { user, before, change, refusal });
        add(Some("unapproved"), approves(DIGEST), approval);
        add(Some("approved"), approves(OTHER_DIGEST), approval);
        add(Some("approved"), removes(), approval);
        add(None, approves(DIGEST), approval);
        add(Some("unapproved"), policy("Automatic"), automation);
        add(Some("approved"), automates(), approval);
        add(None, policy("Automatic"), automation);
        // What is no approval is everybody's who may edit.
        add(None, json!({}), None);
        add(Some("unapproved"), edits(), None);
        add(Some("approved"), edits(), None);
        add(Some("approved"), approves(DIGEST), None);
        add(Some("automatic"), edits(), None);
        add(Some("automatic"), policy("Manual"), None);
    }
    let back_with_an_approval = json!({"spec": {"promotion": {"policy": "Manual", "approvedDigest": DIGEST}}});
    cases.push(Case {
        user: DEVELOPER,
        before: Some("automatic"),
        change: back_with_an_approval,
        refusal: Some(MAY_NOT_APPROVE),
    });
    cases
}

#[tokio::test]
async fn the_examples_are_accepted_and_only_approvers_approve() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let kubectl = control_plane.kubectl();
    kubectl.run(&["apply", "--server-side", "-k", &file(INSTALL)]).await?;
    for name in ["namespace.yaml", "secret.yaml", "uat.yaml", "production.yaml"] {
        let example = file(&format!("deploy/examples/{name}"));
        kubectl.run(&["apply", "--server-side", "-f", &example]).await.context(name)?;
    }
    for (name, policy, digest) in STATES {
        kubectl.apply(&production(name, policy, digest).to_string()).await.context(name)?;
    }
    let accounts = [FLUX, ARGO, PIPELINE].map(|user| {
        let account = user[0].trim_start_matches("--as=system:serviceaccount:");
        format!("--serviceaccount={account}")
    });
    for role in ["konigle-operator-edit", "konigle-operator-view"] {
        let cluster_role = format!("--clusterrole={role}");
        let mut bind = vec!["-n", "shop", "create", "rolebinding", role, &cluster_role];
        bind.extend(["--group=developers", "--group=shop-approvers"]);
        bind.extend(accounts.iter().map(String::as_str));
        kubectl.run(&bind).await?;
    }
    // Last, for it binds this test's administrator too.
    let policy = file("deploy/examples/approval-policy.yaml");
    kubectl.run(&["apply", "--server-side", "-f", &policy]).await?;

    // Roles and policies are in force a moment after they are written: the first case of one who may not is waited for.
    let all = cases();
    let first_refusal = all.iter().find(|case| case.refusal.is_some() && case.user == DEVELOPER).unwrap();
    wait_for("refused by the policy", async || Ok(judge(&kubectl, first_refusal).await.ok())).await?;
    for case in &all {
        judge(&kubectl, case).await?;
    }

    // The operator writes an annotation of an approved resource, and is asked for no approval.
    let operator = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{ACCOUNT}");
    let note = r#"{"metadata":{"annotations":{"cloud.konigle.com/released":"7 sha256:9 now"}}}"#;
    patch(&kubectl, &[&operator], "approved", note).await.context("the operator's note")?;
    let approval = format!(r#"{{"spec":{{"promotion":{{"approvedDigest":"{DIGEST}"}}}}}}"#);
    let status = ["-n", "shop", "patch", "kspace", "shop-production", "--type=merge", "-p", &approval];
    kubectl.run(&[&status[..], APPROVER].concat()).await.context("the example, approved")?;
    Ok(())
}

/// Asks without keeping anything; a failure where the answer is another than the case's.
async fn judge(kubectl: &Kubectl, case: &Case) -> Result<()> {
    let change = case.change.to_string();
    let answer = match case.before {
        Some(name) => patch(kubectl, case.user, name, &change).await,
        None => {
            let mut resource = production("new", "Manual", None);
            json_patch::merge(&mut resource, &case.change);
            let create = ["create", "--dry-run=server", "-f", "-"];
            kubectl.run_with_input(&[&create[..], case.user].concat(), &resource.to_string()).await
        }
    };
    let asked = || format!("{:?} writes {change} to {}", case.user, case.before.unwrap_or("a new resource"));
    match (case.refusal, answer.map_err(|refusal| refusal.to_string())) {
        (None, Ok(_)) => Ok(()),
        (Some(words), Err(text)) if text.contains(words) && text.contains("(Forbidden)") => Ok(()),
        (expected, answer) => Err(Failure::new(format!("{}: expected {expected:?}, found {answer:?}", asked()))),
    }
}

async fn patch(kubectl: &Kubectl, user: &[&str], name: &str, change: &str) -> Result<String> {
    let patch = ["-n", "shop", "patch", "kspace", name, "--type=merge", "--dry-run=server", "-p", change];
    kubectl.run(&[&patch[..], user].concat()).await
}

/// A production resource, of a Space that nobody has.
fn production(name: &str, policy: &str, digest: Option<&str>) -> Value {
    let mut spec = promotes("7301962442809344001", "shop-uat");
    spec["promotion"]["policy"] = json!(policy);
    if let Some(digest) = digest {
        spec["promotion"]["approvedDigest"] = json!(digest);
    }
    json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    })
}

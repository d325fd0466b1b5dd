//! The manifests of `deploy/examples`: all are accepted, and the policy among them lets nobody approve who may not.

use konigle_operator::api::KonigleSpace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::{DIGEST, file};
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{promotes, wait_for};
use crate::support::rights::INSTALL;
use crate::support::{Context, Failure, Result};

const OTHER_DIGEST: &str = "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
const MAY_NOT_APPROVE: &str = "only the group shop-approvers may set, change or remove spec.promotion.approvedDigest";
const MAY_NOT_AUTOMATE: &str = "only the group shop-approvers may set spec.promotion.policy to Automatic";

/// Who asks: a name, and the groups that the account's kind does not bring by itself.
type User = (&'static str, &'static [&'static str]);

const DEVELOPER: User = ("ada", &["developers", "system:authenticated"]);
const APPROVER: User = ("grace", &["shop-approvers", "system:authenticated"]);
const FLUX: User = ("system:serviceaccount:flux-system:kustomize-controller", &[]);
const ARGO: User = ("system:serviceaccount:argocd:argocd-application-controller", &[]);
/// An account that nobody named, with the right to edit.
const PIPELINE: User = ("system:serviceaccount:shop:ci", &[]);
/// It may all, and is in no group that approves.
const ADMINISTRATOR: User = ("root", &["system:masters", "system:authenticated"]);
/// The operator itself, which writes an annotation.
const OPERATOR: User = ("system:serviceaccount:konigle-system:konigle-operator", &[]);

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
    let note = json!({"metadata": {"annotations": {"cloud.konigle.com/released": "7 sha256:9 now"}}});
    cases.push(Case { user: OPERATOR, before: Some("approved"), change: note, refusal: None });
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
        let account = user.0.trim_start_matches("system:serviceaccount:");
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
    wait_for("refused by the policy", async || Ok(judge(control_plane, first_refusal).await.ok())).await?;
    for case in &all {
        judge(control_plane, case).await?;
    }
    // As people do it, and for good.
    let approval = format!(r#"{{"spec":{{"promotion":{{"approvedDigest":"{DIGEST}"}}}}}}"#);
    let patch = ["-n", "shop", "patch", "kspace", "shop-production", "--type=merge", "-p", &approval];
    kubectl.run(&[&patch[..], &["--as=grace", "--as-group=shop-approvers"]].concat()).await.context("an approval")?;
    Ok(())
}

/// Asks without keeping anything; a failure where the answer is another than the case's.
async fn judge(control_plane: &ControlPlane, case: &Case) -> Result<()> {
    let client = client_of(control_plane, case.user).await?;
    let spaces: Api<KonigleSpace> = Api::namespaced(client, "shop");
    let answer = if let Some(name) = case.before {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        spaces.patch(name, &dry_run, &Patch::Merge(&case.change)).await
    } else {
        let mut resource = production("new", "Manual", None);
        json_patch::merge(&mut resource, &case.change);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        spaces.create(&dry_run, &serde_json::from_value(resource)?).await
    };
    match (case.refusal, answer) {
        (None, Ok(_)) => Ok(()),
        (Some(words), Err(kube::Error::Api(status))) if status.code == 403 && status.message.contains(words) => Ok(()),
        (expected, answer) => {
            let (user, change, target) = (case.user.0, &case.change, case.before.unwrap_or("a new resource"));
            let answer = answer.map(|_| "it is taken").map_err(|error| error.to_string());
            Err(Failure::new(format!("{user} writes {change} to {target}: expected {expected:?}, found {answer:?}")))
        }
    }
}

async fn client_of(control_plane: &ControlPlane, (name, groups): User) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = Some(name.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    Ok(Client::try_from(config)?)
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

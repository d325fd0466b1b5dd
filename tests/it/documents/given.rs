//! The states that documents speak of, which no command of theirs brings about.

use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::reader::{NAMESPACE, Reader};
use crate::support::namespace::{Namespace, promotes, wait_for};
use crate::support::simulator::{PRODUCTION, TOKEN, UAT};
use crate::support::stage::{SHOP, digest_of_wish};
use crate::support::{Failure, Result};

/// The uat Spaces of further web apps of the demo tenant.
const BLOG: &str = "7301962442809343013";
const SHOP_DEV: &str = "7301962442809343023";
/// A digest that nothing has.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

impl Reader<'_> {
    /// Brings about a state by the words of a document.
    pub(super) async fn bring_about(&mut self, given: &str) -> Result<()> {
        let stage = &self.stage;
        match given {
            "shop-uat runs v1.4.2" => {
                self.make_namespace().await?;
                self.apply(SHOP, &self.deploys("1.4.2")?).await?;
                stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
            }
            "shop-production is there, and nothing is approved" => {
                self.apply("shop-production", &promotes(PRODUCTION, SHOP)).await?;
                stage.namespace.wait_for_reason("shop-production", "AwaitingApproval").await?;
            }
            "shop-uat.yaml of first-space.md is applied, and runs" => {
                self.make_namespace().await?;
                self.take_over("docs/first-space.md", "shop-uat.yaml")?;
                self.succeed("kubectl apply -f shop-uat.yaml").await?;
                let noted = |space: &KonigleSpace| space.annotations().contains_key(RELEASED);
                stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
                stage.namespace.wait_for(SHOP, "noted as released", noted).await?;
            }
            "nothing was deployed but v1.4.2, once" => {
                let ledger = stage.simulator.ledger(UAT).await?;
                let digest = digest_of_wish(&stage.wish("1.4.2")?);
                if ledger.len() != 1 || ledger[0]["sha256"] != digest.replace("sha256:", "") {
                    return Err(Failure::new(format!("it is not so: {ledger:?}")));
                }
            }
            "another cluster with an operator; the contexts are old and new" => self.open_another_cluster().await?,
            "there is a web app shop-dev, and a namespace shop-dev with the Secret" => {
                self.add_web_app("shop-dev", SHOP_DEV).await?;
                stage.kubectl.run(&["create", "namespace", "shop-dev"]).await?;
                Namespace::named(self.control_plane, "shop-dev").await?.write_token(TOKEN).await?;
            }
            "Ada of the group developers and Grace of the group shop-approvers may edit KonigleSpaces" => {
                for role in ["konigle-operator-view", "konigle-operator-edit"] {
                    let groups = ["--group=developers", "--group=shop-approvers"];
                    let role_of = format!("--clusterrole={role}");
                    let binding = ["-n", NAMESPACE, "create", "rolebinding", role, &role_of, groups[0], groups[1]];
                    stage.kubectl.run(&binding).await?;
                }
            }
            "the policy is in force" => {
                let approval = json!({"spec": {"promotion": {"policy": "Manual", "approvedDigest": NO_DIGEST}}});
                let approval = approval.to_string();
                let ada = ["--as=ada", "--as-group=developers", "--dry-run=server"];
                let patch = ["-n", NAMESPACE, "patch", "kspace", "shop-production", "--type=merge", "-p", &approval];
                let tried = [&patch[..], &ada].concat();
                wait_for("refused", async || {
                    let refusal = stage.kubectl.run(&tried).await.err().map(|failure| failure.to_string());
                    Ok(refusal.filter(|text| text.contains("only the group shop-approvers")))
                })
                .await?;
            }
            "that deployment has ended" => {
                let ended = |space: &KonigleSpace| {
                    space.status.as_ref().is_some_and(|status| status.attempt.is_none() && status.last_attempt == 3)
                };
                stage.namespace.wait_for(SHOP, "at the end of attempt 3", ended).await?;
            }
            "the next job of the uat Space fails in a migration" => {
                let job =
                    json!({"outcome": "failed", "error": "migration 0042 failed: column \"paid\" exists already"});
                stage.simulator.change_space(UAT, &json!({"next_jobs": [job]})).await?;
            }
            "people have deployed v1.4.2 to shop by hand, in uat and production, and something else to the uat Space of blog" =>
            {
                self.make_namespace().await?;
                self.add_web_app("blog", BLOG).await?;
                let shop = digest_of_wish(&stage.wish("1.4.2")?).replace("sha256:", "");
                for (space, digest) in [(UAT, shop.as_str()), (PRODUCTION, &shop), (BLOG, &"f".repeat(64))] {
                    let deploy = json!({"human_deploy": {"sha256": digest, "job": {"seconds": 0}}});
                    stage.simulator.change_space(space, &deploy).await?;
                }
            }
            "v1.5.0 is written into the spec of shop-uat" => {
                self.apply(SHOP, &self.deploys("1.5.0")?).await?;
                stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
            }
            "somebody deploys to the uat Space by hand" => {
                stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
                stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
                stage.look_now(SHOP).await?;
                stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
            }
            "a job of shop-uat runs, and has logged two lines" => {
                stage.simulator.change_space(UAT, &json!({"job": {"seconds": 600, "lines": 0}})).await?;
                let before = stage.simulator.ledger(UAT).await?.len();
                self.apply(SHOP, &self.deploys("1.6.0")?).await?;
                let ledger = stage.wait_for_ledger(UAT, before + 1).await?;
                for message in ["Unpacking app.zip", "Running the release commands"] {
                    let line = json!({"append_log": [{"level": "info", "message": message}]});
                    stage.simulator.change_job(&ledger[before]["job"], &line).await?;
                }
                let logged = |space: &KonigleSpace| {
                    let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
                    attempt.and_then(|attempt| attempt.log.as_ref()).is_some_and(|log| log.count == 2)
                };
                stage.namespace.wait_for(SHOP, "two lines logged", logged).await?;
            }
            other => return Err(Failure::new(format!("the test does not know how to bring this about: {other}"))),
        }
        Ok(())
    }

    /// A web app on the computer web-1, with a uat Space of this id.
    async fn add_web_app(&self, name: &str, uat: &str) -> Result<()> {
        let web_app = json!({"name": name, "uat": {"id": uat}});
        let tenant = json!({"name": "demo", "computers": [{"name": "web-1", "webapps": [web_app]}]});
        self.stage.simulator.control(Method::POST, "tenants", &tenant).await.map(drop)
    }

    /// The namespace, with the Secret.
    async fn make_namespace(&self) -> Result<()> {
        self.stage.kubectl.run(&["create", "namespace", NAMESPACE]).await?;
        self.stage.namespace.write_token(TOKEN).await
    }

    /// Applies a KonigleSpace as the commands of documents do.
    async fn apply(&self, name: &str, spec: &Value) -> Result<()> {
        let space = json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        });
        self.stage.kubectl.run_with_input(&["apply", "-f", "-"], &space.to_string()).await.map(drop)
    }

    /// The spec that deploys this version to the uat Space, as the documents write it.
    fn deploys(&self, version: &str) -> Result<Value> {
        let mut wish = self.stage.wish(version)?;
        wish["source"]["http"]["revision"] = json!(format!("v{version}"));
        Ok(wish)
    }
}

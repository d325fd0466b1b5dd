//! The states that documents speak of, which no command of theirs brings about.

use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::reader::{NAMESPACE, Reader};
use crate::support::artifacts::tar_gz;
use crate::support::flux_source::{FluxSource, install_crds};
use crate::support::namespace::{Namespace, promotes, wait_for};
use crate::support::simulator::{PRODUCTION, TOKEN, UAT};
use crate::support::stage::{SHOP, digest_of_wish};
use crate::support::{Failure, Result};

/// The uat Spaces of further web apps of the demo tenant.
const BLOG: &str = "7301962442809343013";
const SHOP_DEV: &str = "7301962442809343023";
/// A digest that nothing has.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The Flux source that documents speak of.
const SHOP_SOURCE: &str = "shop";

/// The files of an application below a folder, by path and content.
fn files_of(folder: &str, version: &str) -> Vec<(String, String)> {
    let manifest =
        "[app]\nname = \"shop\"\nruntime = \"python3\"\n\n[processes.web]\ncommand = \"serve\"\nhttp = true\n";
    [("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", manifest), ("version.txt", version)]
        .map(|(name, content)| (format!("{folder}{name}"), content.to_owned()))
        .into()
}

fn as_texts(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect()
}

impl Reader<'_> {
    /// Brings about a state by the words of a document.
    pub(super) async fn bring_about(&mut self, given: &str) -> Result<()> {
        match given {
            "the namespace shop is there" => {
                self.stage.kubectl.run(&["create", "namespace", NAMESPACE]).await.map(drop)
            }
            "shop-uat runs v1.4.2" => self.deploy_to_uat().await,
            "no answer comes to a deploy of v1.5.0 to shop-uat, and a person is asked" => self.lose_an_answer().await,
            "shop-production is there, and nothing is approved" => self.add_production().await,
            "v1.5.0 is written into the spec of shop-uat" => self.wish_while_suspended().await,
            "somebody deploys to the uat Space by hand" => self.drift().await,
            "a job of shop-uat runs, and has logged two lines" => self.log_two_lines().await,

            "that deployment has ended" => self.until_attempt_has_ended(3).await,
            "the next job of the uat Space fails in a migration" => self.fail_the_next_job().await,

            "shop-uat.yaml of first-space.md is applied, and runs" => self.follow_first_space().await,
            "Ada of the group developers and Grace of the group shop-approvers may edit KonigleSpaces" => {
                self.let_ada_and_grace_edit().await
            }
            "the policy is in force" => self.until_ada_may_not_approve().await,

            "people have deployed v1.4.2 to shop by hand, in uat and production, and something else to the uat Space of blog" => {
                self.deploy_by_hand().await
            }

            "the application is in the folder shop, and its tar.gz at ci.example.com" => self.publish_a_folder(),
            "the registry registry.example.com answers robot only" => self.open_registry().await,
            "Flux is installed" => install_crds(&self.stage.kubectl).await,
            "Flux has fetched a commit" => self.fetch_a_commit().await,

            "nothing was deployed but v1.4.2, once" => self.is_deployed_once().await,
            "another cluster with an operator; the contexts are old and new" => self.open_another_cluster().await,
            "there is a web app shop-dev, and a namespace shop-dev with the Secret" => self.add_shop_dev().await,

            other => Err(Failure::new(format!("the test does not know how to bring this about: {other}"))),
        }
    }

    async fn deploy_to_uat(&self) -> Result<()> {
        self.make_namespace().await?;
        self.apply(SHOP, &self.deploys("1.4.2")?).await?;
        self.stage.namespace.wait_for_reason(SHOP, "Succeeded").await.map(drop)
    }

    async fn add_production(&self) -> Result<()> {
        self.apply("shop-production", &promotes(PRODUCTION, SHOP)).await?;
        self.stage.namespace.wait_for_reason("shop-production", "AwaitingApproval").await.map(drop)
    }

    async fn wish_while_suspended(&self) -> Result<()> {
        self.apply(SHOP, &self.deploys("1.5.0")?).await?;
        self.stage.namespace.wait_for_reason(SHOP, "Suspended").await.map(drop)
    }

    async fn lose_an_answer(&self) -> Result<()> {
        self.stage.simulator.fault(&json!({"operation": "deploy", "action": "drop"})).await?;
        let mut wish = self.deploys("1.5.0")?;
        wish["unknownOutcomePolicy"] = json!("Hold");
        let mut impatient = wish.clone();
        // For as long as a job may run, evidence is awaited.
        impatient["timeout"] = json!("1s");
        self.apply(SHOP, &impatient).await?;
        self.stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?;
        // What is released next may take its time.
        self.apply(SHOP, &wish).await
    }

    async fn drift(&self) -> Result<()> {
        let stage = &self.stage;
        // Within five seconds of the operator's own job a move could not be told from it.
        stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
        stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
        stage.look_now(SHOP).await?;
        stage.namespace.wait_for_reason(SHOP, "Drifted").await.map(drop)
    }

    async fn log_two_lines(&self) -> Result<()> {
        let stage = &self.stage;
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
        stage.namespace.wait_for(SHOP, "two lines logged", logged).await.map(drop)
    }

    async fn until_attempt_has_ended(&self, number: i64) -> Result<()> {
        let ended = |space: &KonigleSpace| {
            space.status.as_ref().is_some_and(|status| status.attempt.is_none() && status.last_attempt == number)
        };
        self.stage.namespace.wait_for(SHOP, "at the end of the attempt", ended).await.map(drop)
    }

    async fn fail_the_next_job(&self) -> Result<()> {
        let job = json!({"outcome": "failed", "error": "migration 0042 failed: column \"paid\" exists already"});
        self.stage.simulator.change_space(UAT, &json!({"next_jobs": [job]})).await.map(drop)
    }

    async fn follow_first_space(&self) -> Result<()> {
        self.make_namespace().await?;
        self.take_over("docs/first-space.md", "shop-uat.yaml")?;
        self.succeed("kubectl apply -f shop-uat.yaml").await?;
        let noted = |space: &KonigleSpace| space.annotations().contains_key(RELEASED);
        self.stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
        self.stage.namespace.wait_for(SHOP, "noted as released", noted).await.map(drop)
    }

    async fn let_ada_and_grace_edit(&self) -> Result<()> {
        for role in ["konigle-operator-view", "konigle-operator-edit"] {
            let of = format!("--clusterrole={role}");
            let groups = ["--group=developers", "--group=shop-approvers"];
            let binding = ["-n", NAMESPACE, "create", "rolebinding", role, &of];
            self.stage.kubectl.run(&[&binding[..], &groups].concat()).await?;
        }
        Ok(())
    }

    /// The API server enforces a policy a moment after it was made.
    async fn until_ada_may_not_approve(&self) -> Result<()> {
        let approval = json!({"spec": {"promotion": {"policy": "Manual", "approvedDigest": NO_DIGEST}}}).to_string();
        let patch = ["-n", NAMESPACE, "patch", "kspace", "shop-production", "--type=merge", "-p", &approval];
        let tried = [&patch[..], &["--as=ada", "--as-group=developers", "--dry-run=server"]].concat();
        let refused = async || {
            let refusal = self.stage.kubectl.run(&tried).await.err().map(|failure| failure.to_string());
            Ok(refusal.filter(|text| text.contains("only the group shop-approvers")))
        };
        wait_for("refused", refused).await.map(drop)
    }

    async fn deploy_by_hand(&self) -> Result<()> {
        self.make_namespace().await?;
        self.add_web_app("blog", BLOG).await?;
        let shop = digest_of_wish(&self.stage.wish("1.4.2")?).replace("sha256:", "");
        for (space, digest) in [(UAT, shop.as_str()), (PRODUCTION, &shop), (BLOG, &"f".repeat(64))] {
            let deploy = json!({"human_deploy": {"sha256": digest, "job": {"seconds": 0}}});
            self.stage.simulator.change_space(space, &deploy).await?;
        }
        Ok(())
    }

    fn publish_a_folder(&self) -> Result<()> {
        let files = files_of("", "1.4.2");
        for (path, content) in &files {
            self.write(&format!("shop/{path}"), content)?;
        }
        let archive = tar_gz(&as_texts(&files))?;
        self.write_bytes("shop-1.4.2.tar.gz", &archive)?;
        self.stage.artifacts.serve("/shop-1.4.2.tar.gz", archive);
        Ok(())
    }

    async fn fetch_a_commit(&self) -> Result<()> {
        let mut files = files_of("apps/shop/", "1.6.0");
        files.push(("README.md".to_owned(), "All that the shop is made of.\n".to_owned()));
        let source = FluxSource::named(&self.stage.namespace, "GitRepository", SHOP_SOURCE);
        let revision = "main@sha1:5c1e0ba2c1a8d6a2a2a7b6d6e3a2d7e9f0c4b8a1";
        source.store(&self.stage.artifacts, tar_gz(&as_texts(&files))?, revision).await.map(drop)
    }

    async fn is_deployed_once(&self) -> Result<()> {
        let ledger = self.stage.simulator.ledger(UAT).await?;
        let digest = digest_of_wish(&self.stage.wish("1.4.2")?).replace("sha256:", "");
        let is_so = ledger.len() == 1 && ledger[0]["sha256"] == digest;
        is_so.then_some(()).ok_or_else(|| Failure::new(format!("the simulator's ledger: {ledger:?}")))
    }

    async fn add_shop_dev(&self) -> Result<()> {
        self.add_web_app("shop-dev", SHOP_DEV).await?;
        self.stage.kubectl.run(&["create", "namespace", "shop-dev"]).await?;
        Namespace::named(self.control_plane, "shop-dev").await?.write_token(TOKEN).await
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

//! The floor: the calls that nobody can deploy without, made one after the other by a client that does nothing else.
//!
//! GET the Secret, GET the Space, write the status, POST the ZIP. Its connections are warm and it checks nothing.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use reqwest::header::AUTHORIZATION;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::stage::{Stage, now_ms, spec, token};
use crate::support::namespace::{Namespace, SECRET};
use crate::support::{Context, Failure, Result};

/// A bare client, in a namespace that no operator watches.
pub(crate) struct Floor {
    namespace: Namespace,
    spaces: Vec<String>,
    http: reqwest::Client,
    next: usize,
}

impl Floor {
    /// For so many deploys.
    pub(crate) async fn prepare(stage: &Stage, deploys: usize) -> Result<Self> {
        let namespace = stage.namespace("floor").await?;
        let spaces = stage.spaces(&namespace, deploys, &json!({})).await?;
        for (number, space) in spaces.iter().enumerate() {
            namespace.apply(&name(number), &spec(space, &stage.artifact)).await?;
        }
        Ok(Self { namespace, spaces, http: reqwest::Client::builder().no_proxy().build()?, next: 0 })
    }

    /// One deploy; the milliseconds until the head of its POST arrived.
    pub(crate) async fn deploy(&mut self, stage: &Stage) -> Result<f64> {
        let began = now_ms();
        let space = self.send(stage).await?;
        Ok(stage.arrivals(&[space]).await?.iter().sum::<f64>() - began)
    }

    /// One deploy, to a Space that had none yet: it is given.
    pub(crate) async fn send(&mut self, stage: &Stage) -> Result<String> {
        let space = self.spaces.get(self.next).ok_or_else(|| Failure::new("no Space is left for the floor"))?.clone();
        self.calls(stage, &space, &name(self.next)).await.context("the floor")?;
        self.next += 1;
        Ok(space)
    }

    async fn calls(&self, stage: &Stage, space: &str, name: &str) -> Result<()> {
        let secret = self.namespace.api::<Secret>().get(SECRET).await?;
        let stored = secret.data.as_ref().and_then(|data| data.get("token")).map(|bytes| bytes.0.as_slice());
        if stored != Some(token(&self.namespace).as_bytes()) {
            return Err(Failure::new("the Secret holds another token"));
        }
        let base = format!("{}/cloud/api/v1/spaces/{space}", stage.simulator.base_url());
        let token = format!("Token {}", token(&self.namespace));
        let look = self.http.get(&base).header(AUTHORIZATION, &token).send().await?.error_for_status()?;
        let shown: serde_json::Value = look.json().await?;
        let status = json!({"status": {
            "observedGeneration": 1,
            "space": {"id": space, "status": shown["status"]},
            "attempt": {"number": 1, "digest": stage.artifact.digest, "nonce": "k00000000", "startedAt": "2026-11-24T08:30:00Z"},
        }});
        self.namespace.spaces().patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        let part = Part::bytes(stage.zip.clone()).file_name("app.zip").mime_str("application/zip")?;
        let form = Form::new().text("display_name", name.to_owned()).part("zip_file", part);
        let post = self.http.post(format!("{base}/deploy")).header(AUTHORIZATION, &token).multipart(form);
        post.send().await?.error_for_status()?.bytes().await?;
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("shop-{number}")
}

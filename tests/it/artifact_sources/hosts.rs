//! Hosts inside the network, on an operator that allows no insecure artifacts: those that its flags name are asked, each for
//! the origins that it is named for, and no others.

use axum::Router;
use axum::routing::get;
use konigle_operator::api::KonigleSpace;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{archive, wish};
use crate::support::Result;
use crate::support::artifacts::{application, digest_of};
use crate::support::certificates::{Authority, TlsListener};
use crate::support::flux_source::{FluxSource, install_crds};
use crate::support::namespace::ready_reason;
use crate::support::operator::OperatorOptions;
use crate::support::simulator::UAT;
use crate::support::stage::{JOB_SECONDS, SHOP, Stage};

/// A web server over https on loopback, that has the application at every path. Dropping it closes it.
struct Private {
    host: String,
    digest: String,
    task: JoinHandle<()>,
}

impl Private {
    async fn start(authority: &Authority, version: &str) -> Result<Self> {
        let bytes = application(version)?;
        let digest = digest_of(&bytes);
        let listener = TlsListener::bind(authority).await?;
        let host = listener.address().to_string();
        let router = Router::new().fallback(get(async move || bytes));
        let task = tokio::spawn(async move {
            // Ends only with the listener.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { host, digest, task })
    }

    fn source(&self) -> Value {
        json!({"http": {
            "url": format!("https://{}/shop.zip", self.host), "digest": self.digest, "secretRef": {"name": "ci"},
        }})
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// With an operator that allows no insecure artifacts, and has this flag.
pub(super) async fn open_secure(purpose: &str, flag: &str) -> Result<Stage> {
    let secure = |options: OperatorOptions| OperatorOptions { insecure_artifacts: false, ..options.flag(flag) };
    Stage::open_with(purpose, JOB_SECONDS, secure).await
}

impl Stage {
    /// Applies this source, and waits until its address is refused with this in the message, for a person to act.
    async fn refuses(&self, source: &Value, words: &[&str]) -> Result<()> {
        self.namespace.apply(SHOP, &wish(source)).await?;
        let refused = |space: &KonigleSpace| {
            let message = space.status.as_ref().and_then(|status| Some(&status.condition("Stalled")?.message));
            ready_reason(space) == Some("InvalidSpec")
                && message.is_some_and(|message| words.iter().all(|word| message.contains(word)))
        };
        self.namespace.wait_for(SHOP, &format!("refused with {words:?}"), refused).await.map(drop)
    }
}

#[tokio::test]
async fn a_private_host_is_asked_only_where_the_flag_names_it() -> Result<()> {
    let authority = Authority::new()?;
    let (named, other) = (Private::start(&authority, "1.0").await?, Private::start(&authority, "2.0").await?);
    let stage = open_secure("private", &format!("--private-artifact-hosts=registry.internal,{}", named.host)).await?;
    stage.namespace.write_secret("ci", &json!({"ca.crt": authority.pem()?})).await?;
    stage.deploys(&named.source(), &named.digest).await?;

    // The same machine by another port is another host.
    stage.refuses(&other.source(), &[&other.host, "--private-artifact-hosts"]).await?;
    // And https is spoken all the same.
    let plain = stage.artifacts.serve_application("3.0")?;
    let url = format!("http://{}/shop.zip", named.host);
    stage.refuses(&json!({"http": {"url": url, "digest": plain.digest}}), &["only https"]).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_host_of_flux_is_asked_for_sources_alone() -> Result<()> {
    let stage = open_secure("hosts", "--flux-artifact-hosts=127.0.0.1").await?;
    install_crds(&stage.kubectl).await?;
    let source = FluxSource::create(&stage.namespace, "GitRepository", "shop").await?;
    let stored = source.store(&stage.artifacts, archive("", "1.0")?, "main@sha1:1").await?;
    let reference = json!({"sourceRef": source.reference()});
    stage.deploys(&reference, &stored.digest).await?;
    let path = stored.url.replace(&stage.artifacts.url(""), "");
    assert_eq!(stage.artifacts.requests(&path), 1);

    // Whoever writes such an address into a spec gets nothing.
    let of_others = stage.artifacts.serve("/gitrepository/other/shop/latest.tar.gz", archive("", "2.0")?);
    stage.refuses(&json!({"http": {"url": of_others.url, "digest": of_others.digest}}), &["only https"]).await?;

    // Whoever can write the status of a source gets nothing from another host, and no other namespace's artifacts.
    for (url, word) in [
        (of_others.url.replace("127.0.0.1", "localhost"), "--flux-artifact-hosts"),
        (of_others.url.clone(), "namespace"),
    ] {
        let artifact = json!({"url": url, "path": "shop.tar.gz", "digest": of_others.digest, "revision": word,
            "lastUpdateTime": "2026-11-24T09:00:00Z"});
        source.write_status(&json!({"artifact": artifact})).await?;
        stage.refuses(&reference, &[word]).await?;
    }
    assert_eq!(stage.artifacts.requests("/gitrepository/other/shop/latest.tar.gz"), 0);
    assert_eq!(stage.deploys_of(UAT).await?, 1);

    // The same artifact at an address of its own: nobody has to ask for another try.
    let stored = source.store(&stage.artifacts, archive("", "2.0")?, "main@sha1:2").await?;
    assert_eq!(stored.digest, of_others.digest);
    stage.comes_to_run(&stored.digest).await?;
    Ok(())
}

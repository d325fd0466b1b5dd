//! The controller in the test's own process, on a client whose answers panic while they are read: a real panic in the
//! code that ships, and nothing in that code knows of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{Request, Response};
use clap::Parser;
use futures::stream;
use konigle_operator::cluster::Clients;
use konigle_operator::config::Config;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use reqwest::Method;

use super::stage::Stage;
use super::{Context, Result};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// What the operator of this stage would be started with.
pub(crate) fn config(stage: &Stage) -> Result<Config> {
    config_with(stage, &[])
}

/// As [`config`], with further flags.
pub(crate) fn config_with(stage: &Stage, flags: &[&str]) -> Result<Config> {
    let artifacts = stage.kubeconfig.with_extension("artifacts");
    let own = [
        "test".to_owned(),
        format!("--konigle-base-url={}", stage.simulator.base_url()),
        format!("--watch-namespace={}", stage.namespace.name()),
        format!("--artifact-dir={}", artifacts.display()),
        "--allow-insecure-artifacts".to_owned(),
        "--unknown-outcome-settle=3s".to_owned(),
    ];
    let all = own.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned()));
    Ok(Flags::try_parse_from(all).context("reading the flags")?.config)
}

/// The clients of this stage's operator.
pub(crate) async fn clients(stage: &Stage) -> Result<Clients> {
    clients_of(&stage.kubeconfig).await
}

/// The clients of an operator with this kubeconfig file.
pub(crate) async fn clients_of(kubeconfig: &Path) -> Result<Clients> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Clients::new(&config)?)
}

/// The first `times` answers to such requests panic when they are read. The requests themselves take effect.
#[expect(clippy::panic, reason = "it is what this is for")]
pub(crate) fn panicking(client: Client, method: Method, path: &'static str, times: usize) -> Client {
    let left = Arc::new(AtomicUsize::new(times));
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (client, left) = (client.clone(), left.clone());
        let uri = request.uri().to_string();
        let meets = *request.method() == method && uri.contains(path);
        async move {
            let (parts, body) = client.send(request).await?.into_parts();
            let fewer = |left: usize| left.checked_sub(1);
            let body = if meets && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
                Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<std::io::Result<String>>> {
                    panic!("a bug that this test makes up")
                }))
            } else {
                Body::new(body)
            };
            Ok::<_, kube::Error>(Response::from_parts(parts, body))
        }
    });
    Client::new(service, namespace)
}

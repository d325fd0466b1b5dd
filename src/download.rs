//! Fetches a wanted artifact beside the passes: a slow host must not keep other resources from being looked at.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tracing::{Instrument as _, info, warn};

use crate::api::KonigleSpace;
use crate::artifact::{ArtifactCredentials, FetchError, HttpSource, SourceField};
use crate::context::Context;
use crate::credentials::{self, CredentialsError};
use crate::desired::{Desired, HttpWish, Wish};
use crate::memory::uid;
use crate::observation::Problem;
use crate::observe::download_key;
use crate::telemetry;

/// Starts the download of the wanted artifact, unless it runs already. Its end wakes the resource.
pub fn begin(context: &Arc<Context>, resource: &KonigleSpace, desired: &Desired) {
    let Wish::Deploy(wish) = &desired.wish else { return };
    let (uid, key) = (uid(resource), download_key(wish));
    if !context.memory.begin_download(&uid, &key) {
        return;
    }
    let (context, wish) = (context.clone(), wish.clone());
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let reference = ObjectRef::new(&name).within(&namespace);
    let span = telemetry::download_span(&namespace, &name);
    let downloading = async move {
        // A panic must not leave the download as running for ever.
        let result = AssertUnwindSafe(fetch(&context, &namespace, &wish)).catch_unwind().await;
        let result =
            result.unwrap_or_else(|_| Err(FetchError::Disk { reason: "this is a bug in the operator".to_owned() }));
        match &result {
            Ok(()) => info!(digest = %wish.digest.short(), "artifact fetched"),
            Err(error) => warn!(digest = %wish.digest.short(), %error, "artifact not fetched"),
        }
        context.memory.end_download(&uid, &key, result.err());
        context.wake(&uid, reference);
    };
    tokio::spawn(downloading.instrument(span));
}

async fn fetch(context: &Context, namespace: &str, wish: &HttpWish) -> Result<(), FetchError> {
    // A bounded number at a time, each for its own file: the disk and the hosts are shared.
    let _turn = context.downloads.take(namespace).await.map_err(|_| FetchError::Stopped)?;
    let credentials = match &wish.secret {
        None => ArtifactCredentials::default(),
        Some(secret) => match credentials::artifact(&context.api, namespace, secret).await {
            Ok(credentials) => credentials,
            // It was usable when the download was asked for; the next pass says what is wrong with it now.
            Err(CredentialsError::Problem(Problem { message: reason, .. }) | CredentialsError::Unavailable(reason)) => {
                return Err(FetchError::Unavailable { location: format!("Secret {secret}"), reason });
            }
        },
    };
    let source = HttpSource {
        url: wish.url.clone(),
        digest: wish.digest,
        auth: credentials.auth,
        ca: credentials.ca,
        field: SourceField::Http,
    };
    context.artifacts.fetch(&source, &context.shutdown).await.map(|_| ())
}

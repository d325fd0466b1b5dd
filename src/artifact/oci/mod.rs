//! OCI registries: which digest a tag names, which layer of it is the artifact, and that layer's bytes.
//!
//! An own client of three requests: the crate for it (oci-client 0.18) resolves names and follows redirects as it likes,
//! asks whatever URL a registry names for tokens and sends it the credentials, and reads manifests of any size. Here every
//! hop goes through [`Transport`], as for artifacts over HTTP.
//!
//! **Guarantees.** Looking at a tag again is one HEAD, as long as the registry's token is good. What comes was hashed:
//! manifests here, blobs by whoever reads them. Bounded memory, whatever a registry says and however many there are.
//! **Where credentials go.** To the registry, and, where that wants a token, to the token service that it names: registries
//! do have these elsewhere (Docker Hub's is `auth.docker.io`). Only over https and where the guard of URLs lets one go;
//! never along a redirect to another origin, such as the storage of the blobs.
//! **Absent.** Pushing, lists of tags, signatures, and choosing among platforms.

mod challenge;
mod manifest;
mod repository;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::Url;

pub use repository::{InvalidRepository, Repository};

use self::challenge::{Challenge, Token};
use self::manifest::Content;
use super::digest::Hasher;
use super::http::{Answer, Ask, Body, Question, Resume, Transport, limited, location, unavailable};
use super::{ArtifactCredentials, Auth, Digest, FetchError, Limits, SourceField};
use crate::{address, crash, retry_after};

const FIELD: SourceField = SourceField::Oci;
/// The largest manifest, which is what registries take.
const LARGEST_MANIFEST: usize = 4 << 20;
/// The largest answer of a token service, and the largest error that is read.
const LARGEST_ANSWER: usize = 64 << 10;
/// So many repositories have their way of being asked remembered; those used longest ago are forgotten first, which
/// costs two requests each.
const MOST_SESSIONS: usize = 2000;
/// So many CAs have connections; then all are given up.
const MOST_TRANSPORTS: usize = 100;
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
const CONTENT_DIGEST: &str = "docker-content-digest";

/// The layer of an artifact that is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its bytes, as they come from [`Registries::blob`].
    pub digest: Digest,
    /// Its size in bytes, as the manifest says.
    pub size: u64,
    /// Its media type, as the manifest says. What the bytes are must be seen in them: `oras push` calls a ZIP a tar unless
    /// it is told otherwise.
    pub media_type: String,
    /// The folder within the archive that is its root: what `oras push DIR` makes.
    pub folder: Option<String>,
}

/// All registries that this process asks. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Registries {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// By the digest of the CA.
    transports: Mutex<HashMap<Option<Digest>, Arc<Transport>>>,
    /// By the digest of registry, repository and credentials.
    sessions: Mutex<HashMap<Digest, Session>>,
}

/// How a repository wants to be asked.
#[derive(Debug)]
struct Session {
    challenge: Challenge,
    token: Option<(Auth, Instant)>,
    used: Instant,
}

/// One repository as one source sees it.
#[derive(Clone)]
struct Access {
    shared: Arc<Shared>,
    transport: Arc<Transport>,
    repository: Repository,
    auth: Option<Auth>,
    scheme: &'static str,
    session: Digest,
}

/// What is asked for, for the advice where it is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Tag,
    Content,
}

impl Registries {
    /// None is asked yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let shared = Shared { limits: limits.clone(), transports: Mutex::default(), sessions: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The digest of what a tag names now. One HEAD, unless the registry must be asked for a token or does not tell the
    /// digest.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: the registry did not say, or may not be asked.
    pub async fn resolve(
        &self,
        repository: &Repository,
        tag: &str,
        access: &ArtifactCredentials,
    ) -> Result<Digest, FetchError> {
        if !repository::is_tag(tag) {
            let reason = "a tag has at most 128 letters, digits, `_`, `.` and `-`: correct spec.source.oci.tag";
            return Err(FetchError::Refused { location: repository.to_string(), reason: reason.to_owned() });
        }
        let access = Access::new(&self.shared, repository, access)?;
        crash::around("resolve-a-tag", access.resolve(tag)).await
    }

    /// The layer to deploy of what a manifest's digest names: the one of this media type, or the only one. An index that
    /// names one manifest is followed.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: the manifest did not come, is another one, or has no such layer.
    pub async fn layer(
        &self,
        repository: &Repository,
        manifest: &Digest,
        layer_media_type: Option<&str>,
        access: &ArtifactCredentials,
    ) -> Result<Layer, FetchError> {
        let access = Access::new(&self.shared, repository, access)?;
        let mut content = manifest::read(&access.manifest(manifest).await?, layer_media_type)?;
        if let Content::Manifest(digest) = content {
            content = manifest::read(&access.manifest(&digest).await?, layer_media_type)?;
        }
        match content {
            Content::Layer(layer) => Ok(layer),
            Content::Manifest(_) => {
                let reason = "it is an index of an index: push one artifact, or write the digest of one into \
                              spec.source.oci.digest";
                Err(FetchError::Rejected { reason: reason.to_owned() })
            }
        }
    }

    /// The bytes of a layer, as they arrive; not hashed yet.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: the registry does not hand it over, or it is too large.
    pub async fn blob(
        &self,
        repository: &Repository,
        layer: &Layer,
        access: &ArtifactCredentials,
    ) -> Result<Body, FetchError> {
        let access = Access::new(&self.shared, repository, access)?;
        let url = access.url(&format!("blobs/{}", layer.digest))?;
        let limits = self.shared.limits.clone();
        if layer.size > limits.max_size {
            return Err(FetchError::TooLarge { location: location(&url), limit: limits.max_size });
        }
        crash::around("download", {
            let ask: Ask = Box::new(move |resume| Box::pin(access.clone().file(url.clone(), resume)));
            Body::begin(ask, FIELD, &limits)
        })
        .await
    }
}

impl Access {
    fn new(
        shared: &Arc<Shared>,
        repository: &Repository,
        ArtifactCredentials { auth, ca }: &ArtifactCredentials,
    ) -> Result<Self, FetchError> {
        let (shared, repository, auth) = (shared.clone(), repository.clone(), auth.clone());
        let ca_digest = ca.as_deref().map(Digest::of);
        let transport = shared.transport(ca.as_deref(), ca_digest)?;
        let is_local = repository.url("http", "").is_some_and(|url| address::is_loopback(&url));
        let is_plain = shared.limits.allow_insecure && ca.is_none() && is_local;
        let scheme = if is_plain { "http" } else { "https" };
        let session = session_key(&repository, auth.as_ref(), ca_digest);
        Ok(Self { shared, transport, repository, auth, scheme, session })
    }

    fn url(&self, rest: &str) -> Result<Url, FetchError> {
        self.repository.url(self.scheme, rest).ok_or_else(|| FetchError::Refused {
            location: self.repository.to_string(),
            reason: "it makes no URL: correct spec.source.oci.repository".to_owned(),
        })
    }

    /// What a tag names.
    async fn resolve(&self, tag: &str) -> Result<Digest, FetchError> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let answer = self.ask_for(Method::HEAD, &url, manifests(), What::Tag).await?;
        if let Some(digest) = told_digest(&answer)? {
            return Ok(digest);
        }
        self.manifest_at(&url, What::Tag).await.map(|bytes| Digest::of(&bytes))
    }

    /// The manifest or index with this digest.
    async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        let url = self.url(&format!("manifests/{digest}"))?;
        let bytes = crash::around("read-a-manifest", self.manifest_at(&url, What::Content)).await?;
        let got = Digest::of(&bytes);
        if got == *digest {
            return Ok(bytes);
        }
        let hint = "; the registry holds another manifest than it says: push the artifact again".to_owned();
        Err(FetchError::DigestMismatch { location: location(&url), wanted: *digest, got, hint })
    }

    /// The manifest at this URL.
    async fn manifest_at(&self, url: &Url, what: What) -> Result<Vec<u8>, FetchError> {
        let answer = self.ask_for(Method::GET, url, manifests(), what).await?;
        whole(answer, LARGEST_MANIFEST, &self.shared.limits).await
    }

    /// The blob at this URL, or its rest.
    async fn file(self, url: Url, resume: Option<Resume>) -> Result<Answer, FetchError> {
        let mut headers = Resume::headers(resume.as_ref());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let answer = self.ask(Method::GET, &url, headers).await?;
        if Resume::accepts(resume.as_ref(), answer.status()) {
            return Ok(answer);
        }
        Err(self.answered(answer, What::Content).await)
    }

    /// Asks, and takes 200 only.
    async fn ask_for(&self, method: Method, url: &Url, headers: HeaderMap, what: What) -> Result<Answer, FetchError> {
        let answer = self.ask(method, url, headers).await?;
        if answer.status() == StatusCode::OK { Ok(answer) } else { Err(self.answered(answer, what).await) }
    }

    /// Asks as the registry wanted to be asked the last time, and once more if it now wants something else.
    async fn ask(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<Answer, FetchError> {
        let known = self.shared.session(&self.session);
        let auth = match known {
            Some((_, Some(token))) => Some(token),
            Some((challenge, None)) => self.authorize(challenge).await?,
            None => None,
        };
        let question = Question { method: method.clone(), url, auth: auth.as_ref(), headers: headers.clone() };
        let answer = self.transport.ask(question).await?;
        // What another host wants is not for this registry's credentials.
        if answer.status() != StatusCode::UNAUTHORIZED || !answer.at_home {
            return Ok(answer);
        }
        let Some(challenge) = Challenge::of(answer.response.headers(), self.repository.path()) else {
            return Ok(answer);
        };
        let same_again = challenge == Challenge::Basic && (auth.is_some() || self.auth.is_none());
        if same_again {
            return Ok(answer);
        }
        let auth = self.authorize(challenge).await?;
        self.transport.ask(Question { method, url, auth: auth.as_ref(), headers }).await
    }

    /// What is sent to a registry that wants this. A token is remembered until it ends.
    async fn authorize(&self, challenge: Challenge) -> Result<Option<Auth>, FetchError> {
        let (Challenge::Bearer(url), None | Some(Auth::Basic { .. })) = (&challenge, &self.auth) else {
            self.shared.remember(self.session, challenge, None);
            return Ok(self.auth.clone());
        };
        let asked = Instant::now();
        match self.token(url).await {
            Ok(Token { text, life }) => {
                let token = Auth::Bearer(text);
                self.shared.remember(self.session, challenge, Some((token.clone(), asked + life)));
                Ok(Some(token))
            }
            Err(error) => {
                // The registry may want something else by now.
                lock(&self.shared.sessions).remove(&self.session);
                Err(error)
            }
        }
    }

    async fn token(&self, url: &Url) -> Result<Token, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let question = Question { method: Method::GET, url, auth: self.auth.as_ref(), headers };
        let answer = self.transport.ask(question).await?;
        if answer.status() != StatusCode::OK {
            return Err(token_refused(&answer, self.auth.is_some()));
        }
        let place = location(&answer.url);
        let bytes = whole(answer, LARGEST_ANSWER, &self.shared.limits).await?;
        Token::read(&bytes).ok_or_else(|| {
            let reason = "the registry's token service answered with no token that can be used; see to the registry";
            unavailable(place, reason.to_owned())
        })
    }

    /// Why there is no answer to go on with.
    async fn answered(&self, answer: Answer, what: What) -> FetchError {
        let (status, place, at_home) = (answer.status().as_u16(), location(&answer.url), answer.at_home);
        let advice = match (status, what) {
            (401 | 403, _) if !at_home => {
                "; the registry redirects to another origin, to which no credentials are sent: see whom that host lets in"
            }
            (404, What::Content) => "; it may not be pushed yet, or have been deleted",
            (401 | 403 | 404 | 408 | 429 | 500..=599, _) => "",
            _ => "; wanted 200",
        };
        let asked = retry_after::of_headers(answer.response.headers());
        let code = error_code(answer, &self.shared.limits).await.map(|code| format!(" ({code})")).unwrap_or_default();
        let reason = format!("the registry answered {status}{code}{advice}");
        match (status, what) {
            (401 | 403, _) if at_home => {
                FetchError::Denied { location: place, reason, with_credentials: self.auth.is_some() }
            }
            (404, What::Tag) => FetchError::NoTag { location: place, reason },
            (429, _) => limited(place, &reason, asked, less_often(self.auth.is_some())),
            _ => unavailable(place, reason),
        }
    }
}

impl Shared {
    fn transport(&self, ca: Option<&[u8]>, key: Option<Digest>) -> Result<Arc<Transport>, FetchError> {
        // Made outside the lock: it reads the machine's certificates.
        if let Some(transport) = lock(&self.transports).get(&key) {
            return Ok(transport.clone());
        }
        let made = Arc::new(Transport::new(FIELD, ca, &self.limits)?);
        let mut transports = lock(&self.transports);
        if transports.len() >= MOST_TRANSPORTS {
            transports.clear();
        }
        Ok(transports.entry(key).or_insert(made).clone())
    }

    /// What a repository wanted the last time, and the token that is still good.
    fn session(&self, key: &Digest) -> Option<(Challenge, Option<Auth>)> {
        let now = Instant::now();
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(key)?;
        session.used = now;
        let token = session.token.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone());
        Some((session.challenge.clone(), token))
    }

    fn remember(&self, key: Digest, challenge: Challenge, token: Option<(Auth, Instant)>) {
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= MOST_SESSIONS && !sessions.contains_key(&key) {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        sessions.insert(key, Session { challenge, token, used: Instant::now() });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No secret is kept for it: the key is a hash.
fn session_key(repository: &Repository, auth: Option<&Auth>, ca: Option<Digest>) -> Digest {
    let mut hasher = Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    add(repository.registry());
    add(repository.path());
    add(&ca.map(|ca| ca.to_string()).unwrap_or_default());
    match auth {
        None => add("none"),
        Some(Auth::Basic { username, password }) => {
            add("basic");
            add(username);
            add(password.expose_secret());
        }
        Some(Auth::Bearer(token)) => {
            add("bearer");
            add(token.expose_secret());
        }
    }
    hasher.finish()
}

fn manifests() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))])
}

/// The digest that the registry tells beside its answer.
fn told_digest(answer: &Answer) -> Result<Option<Digest>, FetchError> {
    let Some(value) = answer.response.headers().get(CONTENT_DIGEST) else { return Ok(None) };
    let digest = value.to_str().ok().and_then(|text| Digest::parse(text).ok());
    digest.map(Some).ok_or_else(|| FetchError::Rejected {
        reason: format!(
            "the digest of {} is not of sha256, the only one that is read: push it with sha256",
            location(&answer.url)
        ),
    })
}

/// The whole of a small answer.
async fn whole(answer: Answer, largest: usize, limits: &Limits) -> Result<Vec<u8>, FetchError> {
    let place = location(&answer.url);
    let mut response = answer.response;
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(chunk) = response.chunk().await.map_err(|_| "the answer broke off".to_owned())? {
            if bytes.len() + chunk.len() > largest {
                return Err(format!("the answer is larger than {largest} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let outcome = timeout(limits.stall_timeout, reading).await;
    match outcome.unwrap_or_else(|_| Err(format!("the answer took longer than {:?}", limits.stall_timeout))) {
        Ok(()) => Ok(bytes),
        Err(reason) => Err(unavailable(place, reason)),
    }
}

/// The registry's own word for an error, such as `MANIFEST_UNKNOWN`; none where it is anything but a word.
async fn error_code(answer: Answer, limits: &Limits) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    let bytes = whole(answer, LARGEST_ANSWER, limits).await.ok()?;
    let code = serde_json::from_slice::<Errors>(&bytes).ok()?.errors.into_iter().next()?.code;
    let is_word = code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    (is_word && !code.is_empty()).then_some(code)
}

/// What helps against a limit of a registry.
fn less_often(has_credentials: bool) -> &'static str {
    if has_credentials {
        ": make spec.interval longer"
    } else {
        ": make spec.interval longer, or name a Secret in spec.source.oci.secretRef if it allows more to whom it knows"
    }
}

fn token_refused(answer: &Answer, has_credentials: bool) -> FetchError {
    let (status, place) = (answer.status().as_u16(), location(&answer.url));
    let what = format!("the registry's token service answered {status}");
    let advice = match status {
        400 | 401 | 403 => {
            return FetchError::Denied { location: place, reason: what, with_credentials: has_credentials };
        }
        429 => {
            let asked = retry_after::of_headers(answer.response.headers());
            return limited(place, &what, asked, less_often(has_credentials));
        }
        408 | 500..=599 => "",
        _ => "; wanted 200",
    };
    unavailable(place, format!("{what}{advice}"))
}

//! A server of tokens for the registry, by its published specification: the registry checks each token that it signs, and
//! the real programs that push ask it for them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use konigle_operator::clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{PASSWORD, USERNAME};
use crate::support::{Context, Result};

/// What everybody may read: repositories below this one.
const PUBLIC: &str = "public/";
const SERVICE: &str = "test-bed";
const ISSUER: &str = "test-bed-tokens";
const KEY_ID: &str = "test-bed-key";
const LIFETIME_SECONDS: i64 = 300;

/// A running token server. Dropping it closes it.
pub(super) struct Tokens {
    address: SocketAddr,
    state: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    key: EcdsaKeyPair,
    given: AtomicUsize,
    scopes: Mutex<Vec<String>>,
}

impl Tokens {
    /// Starts it on a port of its own.
    pub(super) async fn start() -> Result<Self> {
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref())?;
        let state = Arc::new(Shared { key, given: AtomicUsize::new(0), scopes: Mutex::default() });
        let listener =
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("starting the token server")?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/token", get(give)).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move {
            // Ends only with the listener.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, task })
    }

    /// What the registry's configuration has below `auth`; its key goes into a file of this folder.
    pub(super) fn config(&self, folder: &Path) -> Result<Value> {
        let (public, file) = (self.state.key.public_key().as_ref(), folder.join("jwks.json"));
        // An uncompressed point: a byte that says so, and both coordinates.
        let (x, y) = (URL_SAFE_NO_PAD.encode(&public[1..33]), URL_SAFE_NO_PAD.encode(&public[33..65]));
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID, "x": x, "y": y});
        fs::write(&file, json!({"keys": [key]}).to_string()).context("writing the key of the token server")?;
        // By the name that the registry has, too: see there.
        let realm = format!("http://localhost:{}/token", self.address.port());
        Ok(json!({"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "jwks": file}}))
    }

    /// How many tokens it gave.
    pub(super) fn given(&self) -> usize {
        self.state.given.load(Ordering::Acquire)
    }

    /// The scopes that it was asked for, oldest first.
    pub(super) fn scopes(&self) -> Vec<String> {
        self.state.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn give(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    let account = format!("Basic {}", STANDARD.encode(format!("{USERNAME}:{PASSWORD}")));
    let is_known = match headers.get(AUTHORIZATION) {
        Some(value) if value.as_bytes() == account.as_bytes() => true,
        Some(_) => return (StatusCode::UNAUTHORIZED, json!({"details": "incorrect username or password"}).to_string()),
        None => false,
    };
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let asked = query.filter(|(key, _)| key == "scope").map(|(_, scope)| scope.into_owned());
    // Some programs write several into one parameter.
    let asked: Vec<String> =
        asked.flat_map(|scopes| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    let access: Vec<Value> = asked.iter().filter_map(|scope| granted(scope, is_known)).collect();
    shared.scopes.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
    match token(&shared.key, &access) {
        Ok(token) => {
            shared.given.fetch_add(1, Ordering::AcqRel);
            (StatusCode::OK, json!({"token": token, "expires_in": LIFETIME_SECONDS}).to_string())
        }
        Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()),
    }
}

/// What of `repository:NAME:ACTIONS` is granted.
fn granted(scope: &str, is_known: bool) -> Option<Value> {
    let [kind, name, actions] = scope.split(':').collect::<Vec<_>>().try_into().ok()?;
    let may = |action: &&str| is_known || (name.starts_with(PUBLIC) && *action == "pull");
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

/// A JSON Web Token that the registry believes.
fn token(key: &EcdsaKeyPair, access: &[Value]) -> Result<String> {
    let now = clock::now().as_second();
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": KEY_ID});
    let claims = json!({"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + LIFETIME_SECONDS, "nbf": now, "iat": now,
        "jti": "1", "access": access});
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encoded(&header), encoded(&claims));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

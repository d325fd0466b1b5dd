//! The real OCI registry (distribution) on loopback, and the real programs that push to it.

pub(crate) mod files;
mod push;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use self::tokens::Tokens;
use super::certificates::Authority;
use super::parts::part;
use super::process::{Port, Process, free_port};
use super::run_folder::new_folder;
use super::trace::Witness;
use super::{ANSWER_LIMIT, Context, Failure, Result};

/// Who may read and write where the registry asks for a password.
pub(crate) const USERNAME: &str = "robot";
/// The password of [`USERNAME`].
pub(crate) const PASSWORD: &str = "registry-password";
/// [`USERNAME`] and the bcrypt hash of [`PASSWORD`], as `htpasswd -B -C 4` writes them.
const HTPASSWD: &str = "robot:$2y$04$KonigleOperatorTestBe.v3tnjgjGCqRMgw2b93iRXhv1Erb68Ou\n";

/// How a registry is asked for; by default over http, and by everybody.
#[derive(Clone, Copy, Default)]
pub(crate) struct RegistryOptions {
    access: Access,
    speaks_tls: bool,
}

/// Whom a registry answers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Access {
    #[default]
    Everybody,
    Password,
    Token,
}

impl RegistryOptions {
    /// It answers [`USERNAME`] alone, by HTTP's basic authentication.
    #[must_use]
    pub(crate) fn with_password(self) -> Self {
        Self { access: Access::Password, ..self }
    }

    /// It answers whoever brings a token, as the large public registries do: a server over http gives them to [`USERNAME`],
    /// and to everybody for reading what is below `public/`.
    #[must_use]
    pub(crate) fn with_tokens(self) -> Self {
        Self { access: Access::Token, ..self }
    }

    /// It speaks https, with a certificate of an authority of its own: [`Registry::authority`].
    #[must_use]
    pub(crate) fn with_tls(self) -> Self {
        Self { speaks_tls: true, ..self }
    }

    /// Whether it does not answer everybody.
    pub(crate) fn is_private(self) -> bool {
        self.access != Access::Everybody
    }
}

/// A running registry. Dropping it stops it; what was pushed is gone with the run's folder.
pub(crate) struct Registry {
    folder: PathBuf,
    host: String,
    _port: Port,
    authority: Option<Authority>,
    tokens: Option<Tokens>,
    http: reqwest::Client,
    process: Process,
    _witness: Arc<Witness>,
}

/// A request that the registry answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) status: u16,
    /// The header `User-Agent`: programs that push are told from the operator by it.
    pub(crate) agent: String,
}

/// A manifest as the registry has it.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: String,
    pub(crate) content: Value,
}

impl Registry {
    /// Starts one that everybody may read and write, over http.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(RegistryOptions::default()).await
    }

    /// Starts one, and waits until it answers.
    pub(crate) async fn start_with(options: RegistryOptions) -> Result<Self> {
        if options.access == Access::Token && options.speaks_tls {
            return Err(Failure::new("tokens come over http here, and nobody fetches those for a registry with TLS"));
        }
        let program = tokio::task::spawn_blocking(|| part("registry")).await??;
        let folder = new_folder("registry")?;
        let port = free_port()?;
        let authority = if options.speaks_tls { Some(Authority::new()?) } else { None };
        let witness = Witness::current();
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": folder.join("storage")}, "delete": {"enabled": true}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        if let Some(authority) = &authority {
            let files = authority.certify(&folder)?;
            config["http"]["tls"] = json!({"certificate": files.certificate, "key": files.key});
        }
        let mut host = format!("127.0.0.1:{port}");
        let mut tokens = None;
        match options.access {
            Access::Everybody => {}
            Access::Password => {
                let path = folder.join("htpasswd");
                fs::write(&path, HTPASSWD).context("writing the registry's accounts")?;
                config["auth"] = json!({"htpasswd": {"realm": "test-bed", "path": path}});
            }
            Access::Token => {
                config["auth"] = tokens.insert(Tokens::start().await?).config(&folder)?;
                // The programs that push fetch no token from loopback, unless the registry has the same name there.
                host = format!("localhost:{port}");
            }
        }
        let mut accounts = json!({});
        if options.is_private() {
            witness.keep_secret("password", PASSWORD);
            accounts = docker_config(&host);
        }
        let write = |name: &str, content: &Value| {
            let path = folder.join(name);
            fs::write(&path, content.to_string()).context(format!("writing {}", path.display())).map(|()| path)
        };
        // In the folder that the programs that push have for their home.
        write("config.json", &accounts)?;
        let config = write("registry.yaml", &config)?;
        let mut command = Command::new(program);
        // It would otherwise look for a collector of traces.
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        let process = Process::start("registry", command, &folder.join("registry.log"))?;
        let http = http_client(authority.as_ref())?;
        let mut registry = Self { folder, host, _port: port, authority, tokens, http, process, _witness: witness };
        let (http, base) = (registry.http.clone(), registry.url("/v2/"));
        // A private one answers 401, and is as ready.
        registry.process.until_ready("ready", async || http.get(&base).send().await.is_ok()).await?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`, or `localhost:PORT` where it wants tokens.
    pub(crate) fn host(&self) -> String {
        self.host.clone()
    }

    /// Where the programs that push find their account for it (`DOCKER_CONFIG`).
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A repository or a reference, such as `shop` or `shop:v1`, with the registry's host in front.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// The authority that signed its certificate, where it speaks https.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The process, for signals.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file that it logs into.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The text of a Docker configuration with the account that it answers, for a Secret of the type
    /// `kubernetes.io/dockerconfigjson`.
    pub(crate) fn docker_config(&self) -> String {
        docker_config(&self.host).to_string()
    }

    /// The manifest that a tag or a digest of a repository names: `shop:v1` or `shop@sha256:…`.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Manifest> {
        let reference = self.reference(reference);
        let digest = self.crane(&["digest", &reference]).await?.trim().to_owned();
        let content = serde_json::from_str(&self.crane(&["manifest", &reference]).await?);
        Ok(Manifest { digest, content: content.context(format!("reading the manifest of {reference}"))? })
    }

    /// Takes a tag away; the manifest that it named stays.
    pub(crate) async fn untag(&self, repository: &str, tag: &str) -> Result<()> {
        let request = self.http.delete(self.url(&format!("/v2/{repository}/manifests/{tag}")));
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// All requests that it has answered, oldest first, by its own access log. A line is written after the answer was
    /// sent: who counts the newest ones waits for them.
    pub(crate) fn answered(&self) -> Result<Vec<Answered>> {
        let log = fs::read(self.log()).context("reading the registry's access log")?;
        Ok(String::from_utf8_lossy(&log).lines().filter_map(answered).collect())
    }

    /// How often this method was answered for a path that has `path` in it.
    pub(crate) fn count(&self, method: &str, path: &str) -> Result<usize> {
        let answered = self.answered()?;
        Ok(answered.iter().filter(|answered| answered.method == method && answered.path.contains(path)).count())
    }

    /// How many tokens were given, where it wants them.
    pub(crate) fn tokens_given(&self) -> usize {
        self.tokens.as_ref().map_or(0, Tokens::given)
    }

    /// The scopes that tokens were asked for, oldest first: `repository:shop:pull`.
    pub(crate) fn scopes_asked(&self) -> Vec<String> {
        self.tokens.as_ref().map(Tokens::scopes).unwrap_or_default()
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host)
    }
}

/// The account for a registry as Docker keeps it.
fn docker_config(host: &str) -> Value {
    json!({"auths": {host: {"auth": STANDARD.encode(format!("{USERNAME}:{PASSWORD}"))}}})
}

fn http_client(authority: Option<&Authority>) -> Result<reqwest::Client> {
    let mut trusted = Vec::new();
    if let Some(authority) = authority {
        trusted.push(reqwest::Certificate::from_pem(authority.pem()?.as_bytes())?);
    }
    Ok(reqwest::Client::builder().no_proxy().tls_certs_only(trusted).timeout(ANSWER_LIMIT).build()?)
}

/// A line of the access log, in the "combined" form of web servers; its other lines are none of requests.
fn answered(line: &str) -> Option<Answered> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let [method, path, protocol] = request.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let status = rest.split(' ').next()?.parse().ok()?;
    let agent = rest.trim_end_matches('"').rsplit('"').next()?.to_owned();
    protocol.starts_with("HTTP/").then(|| Answered { method: method.to_owned(), path: path.to_owned(), status, agent })
}

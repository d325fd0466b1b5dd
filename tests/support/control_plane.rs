//! A real Kubernetes control plane: etcd and kube-apiserver, and kube-controller-manager where a test needs it.
//!
//! Nothing schedules or runs pods. Without the controller-manager nothing deletes a namespace's contents or the objects
//! of an owner that is gone. The parts can be stopped and started again one by one, on the same ports and data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::OnceCell;

use super::kubectl::Kubectl;
use super::parts::built_by;
use super::process::{Port, Process, free_port};
use super::run_folder::new_folder;
use super::{Context, Failure, Result, http_client};

/// The administrator's token.
const ADMIN_TOKEN: &str = "admin-token";

/// Who asked for what, without the bodies. A watch is told of when it begins, all else when it was answered.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// A running control plane. Dropping it stops all of it.
pub(crate) struct ControlPlane {
    programs: PathBuf,
    folder: PathBuf,
    ports: Ports,
    audited: bool,
    // In the order in which they are dropped.
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Option<Process>,
}

struct Ports {
    etcd: Port,
    etcd_peer: Port,
    api_server: Port,
    controller_manager: Port,
}

impl ControlPlane {
    /// The control plane that all tests of this binary share, with the CRD installed. It ends with the binary.
    pub(crate) async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<std::result::Result<ControlPlane, String>> = OnceCell::const_new();
        let start = async {
            let control_plane = Self::start().await?;
            control_plane.install_crd().await?;
            Ok::<_, Failure>(control_plane)
        };
        // A failure is kept: each test would otherwise wait for the same one again.
        match SHARED.get_or_init(async || start.await.map_err(|failure| failure.to_string())).await {
            Ok(control_plane) => Ok(control_plane),
            Err(text) => Err(Failure::new(text)),
        }
    }

    /// Starts etcd and the API server, and waits until the API server is ready.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(false).await
    }

    /// As [`ControlPlane::start`], with an API server that writes down who asked for what: [`ControlPlane::audit_log`].
    pub(crate) async fn start_audited() -> Result<Self> {
        Self::start_with(true).await
    }

    async fn start_with(audited: bool) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(find_programs).await??;
        let folder = new_folder("control-plane")?;
        let ports = Ports {
            etcd: free_port()?,
            etcd_peer: free_port()?,
            api_server: free_port()?,
            controller_manager: free_port()?,
        };
        let mut control_plane =
            Self { programs, folder, ports, audited, controller_manager: None, api_server: None, etcd: None };
        control_plane.write_credentials().context("writing the control plane's credentials")?;
        control_plane.start_etcd().await?;
        control_plane.start_api_server().await?;
        Ok(control_plane)
    }

    /// Starts etcd, on the data that an earlier start left.
    pub(crate) async fn start_etcd(&mut self) -> Result<()> {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peers = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let mut command = self.command("etcd");
        command
            .args(["--name", "default", "--unsafe-no-fsync", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")]);
        let mut etcd = Process::start("etcd", command, &self.folder.join("etcd.log"))?;
        let readyz = format!("{clients}/readyz");
        let http = http_client()?;
        etcd.until_ready("ready", async || {
            http.get(&readyz).send().await.is_ok_and(|reply| reply.status().is_success())
        })
        .await?;
        self.etcd = Some(etcd);
        Ok(())
    }

    /// Starts the API server and waits until it is ready.
    pub(crate) async fn start_api_server(&mut self) -> Result<()> {
        let address = self.address();
        let mut command = self.command("kube-apiserver");
        command
            .args(["--etcd-servers", &format!("http://127.0.0.1:{}", self.ports.etcd)])
            .args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
            .args(["--secure-port", &self.ports.api_server.to_string()])
            .args(["--service-cluster-ip-range", "10.0.0.0/24", "--endpoint-reconciler-type", "none"])
            .args(["--authorization-mode", "RBAC", "--service-account-issuer", &address])
            .arg("--cert-dir")
            .arg(self.folder.join("certificates"))
            .arg("--token-auth-file")
            .arg(self.folder.join("tokens.csv"))
            .arg("--service-account-key-file")
            .arg(self.folder.join("service-accounts.pub"))
            .arg("--service-account-signing-key-file")
            .arg(self.folder.join("service-accounts.key"));
        if self.audited {
            let policy = self.folder.join("audit-policy.yaml");
            fs::write(&policy, AUDIT_POLICY).context("writing the audit policy")?;
            command.arg("--audit-policy-file").arg(policy).arg("--audit-log-path").arg(self.audit_log());
        }
        let mut api_server = Process::start("kube-apiserver", command, &self.folder.join("kube-apiserver.log"))?;
        let kubeconfig = self.kubeconfig();
        api_server.until_ready("ready", async || is_ready(&kubeconfig).await).await?;
        self.api_server = Some(api_server);
        Ok(())
    }

    /// Whether kube-controller-manager is there: folders for `KUBEBUILDER_ASSETS` rarely hold it.
    pub(crate) fn has_controller_manager(&self) -> bool {
        self.programs.join("kube-controller-manager").is_file()
    }

    /// Starts the controllers that a namespace's life, owner references and ServiceAccounts need.
    pub(crate) fn start_controller_manager(&mut self) -> Result<()> {
        let mut command = self.command("kube-controller-manager");
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["--bind-address", "127.0.0.1", "--leader-elect=false"])
            .args(["--secure-port", &self.ports.controller_manager.to_string()])
            .arg("--cert-dir")
            .arg(self.folder.join("controller-manager-certificates"))
            .arg("--service-account-private-key-file")
            .arg(self.folder.join("service-accounts.key"))
            .arg("--root-ca-file")
            .arg(self.certificate())
            .args([
                "--controllers",
                "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
                 serviceaccount-token-controller,root-ca-certificate-publisher-controller",
            ]);
        let log = self.folder.join("kube-controller-manager.log");
        self.controller_manager = Some(Process::start("kube-controller-manager", command, &log)?);
        Ok(())
    }

    /// Kills the API server, as a machine that fails does.
    pub(crate) fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Kills etcd, as a machine that fails does.
    pub(crate) fn stop_etcd(&mut self) {
        self.etcd = None;
    }

    /// Has etcd forget all but the newest version of everything, as it does of itself every five minutes.
    pub(crate) async fn compact_etcd(&self) -> Result<()> {
        let http = http_client()?;
        let ask = async |path: &str, body: serde_json::Value| {
            let request = http.post(format!("http://127.0.0.1:{}/v3/{path}", self.ports.etcd)).json(&body);
            request.send().await?.error_for_status()?.json::<serde_json::Value>().await
        };
        let status = ask("maintenance/status", serde_json::json!({})).await.context("asking etcd for its revision")?;
        let revision = &status["header"]["revision"];
        ask("kv/compaction", serde_json::json!({"revision": revision, "physical": true}))
            .await
            .context("compacting etcd")?;
        Ok(())
    }

    /// Stops the API server's process where it stands (`STOP`), or lets it go on (`CONT`): connections stay open and
    /// nobody answers.
    pub(crate) fn signal_api_server(&mut self, signal: &str) -> Result<()> {
        self.api_server.as_mut().map_or(Ok(()), |api_server| api_server.signal(signal))
    }

    /// The API server's address: of a TLS server with a certificate that no public authority signed.
    pub(crate) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api_server)
    }

    /// The administrator's kubeconfig file.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Where the logs and data are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The audit log: a JSON object a line, there once the request that it tells of was answered.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// A client with the administrator's rights. Each test makes its own: a client lives in the runtime of its maker.
    pub(crate) async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// kubectl with the administrator's rights.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.programs.join("kubectl"), self.kubeconfig())
    }

    /// Installs the CRD and waits until its resources are served.
    pub(crate) async fn install_crd(&self) -> Result<()> {
        self.install_changed_crd(|_| {}).await
    }

    /// Installs the CRD with a changed schema, in place of the one that is installed.
    pub(crate) async fn install_changed_crd(&self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let mut crd = serde_json::to_value(konigle_operator::api::crd())?;
        change(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        let kubectl = self.kubectl();
        kubectl.apply(&crd.to_string()).await?;
        kubectl
            .run(&["wait", "--for=condition=Established", "--timeout=60s", "crd/koniglespaces.cloud.konigle.com"])
            .await?;
        Ok(())
    }

    /// A kubeconfig file named `name` for another account of this API server.
    pub(crate) fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test-bed", "cluster": {
                "server": self.address(),
                "certificate-authority": self.certificate(),
            }}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test-bed", "context": {"cluster": "test-bed", "user": "user", "namespace": namespace}}],
            "current-context": "test-bed",
        });
        fs::write(&path, config.to_string()).context(format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The administrator's kubeconfig file with another default namespace.
    pub(crate) fn write_admin_kubeconfig(&self, namespace: &str) -> Result<PathBuf> {
        self.write_kubeconfig(&format!("admin-{namespace}"), ADMIN_TOKEN, namespace)
    }

    /// Lets all parts run on after this program has ended; their process ids.
    pub(crate) fn leave_running(self) -> Vec<u32> {
        let parts = [self.controller_manager, self.api_server, self.etcd];
        parts.into_iter().flatten().map(|mut part| part.leave_running()).collect()
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// The API server makes it at its first start, and signs it itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("certificates").join("apiserver.crt")
    }

    fn write_credentials(&self) -> Result<()> {
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref())?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        fs::write(self.folder.join("service-accounts.key"), pem("PRIVATE KEY", private.as_ref())?)?;
        fs::write(self.folder.join("service-accounts.pub"), pem("PUBLIC KEY", public.as_ref())?)?;
        fs::write(self.folder.join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"))?;
        self.write_kubeconfig("kubeconfig", ADMIN_TOKEN, "default")?;
        Ok(())
    }
}

/// A client for a kubeconfig file.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let reading = || format!("making a client from {}", kubeconfig.display());
    let config = Kubeconfig::read_from(kubeconfig).context(reading())?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.context(reading())?;
    Client::try_from(config).context(reading())
}

/// Whether the API server answers that it is ready. Its certificate is there only after a while.
async fn is_ready(kubeconfig: &Path) -> bool {
    let Ok(client) = client(kubeconfig).await else { return false };
    let Ok(request) = axum::http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok_and(|text| text == "ok")
}

/// The folder with etcd, kube-apiserver and kubectl. Builds them at the first run on a machine: some minutes.
fn find_programs() -> Result<PathBuf> {
    built_by("tests/controlplane/build", &[])
}

/// A key as a PEM file.
fn pem(label: &str, key: &[u8]) -> Result<String> {
    let base64 = serde_json::to_value(ByteString(key.to_vec()))?;
    let base64 = base64.as_str().unwrap_or_default();
    Ok(format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n"))
}

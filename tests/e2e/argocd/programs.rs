//! The real Argo CD as processes: redis-server, repo-server, application-controller and argocd-server, which is one
//! program that acts by its name; and a real Git server beside it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::go_module::install_crds;
use crate::support::kubectl::Kubectl;
use crate::support::parts::part;
use crate::support::process::{Port, Process, free_port};
use crate::support::run_folder::{new_folder, package};
use crate::support::{Context, Failure, Result, http_client};

const PART: &str = "argocd";
const MODULE: &str = "github.com/argoproj/argo-cd/v2";
/// Argo CD's own namespace.
pub(super) const NAMESPACE: &str = "argocd";
/// How often it looks at each application again, in seconds.
pub(super) const RESYNC: u64 = 20;
/// What people lay over their `argocd-cm`.
const HEALTH_AND_ACTIONS: &str = "deploy/argocd/argocd-cm.yaml";

/// The running programs. Dropping it stops them.
pub(super) struct ArgoCd {
    processes: Vec<(&'static str, Process)>,
    metrics: Port,
    server: Port,
    git: Port,
    /// Holds a folder for each repository.
    pub(super) repositories: PathBuf,
    _ports: Vec<Port>,
}

impl ArgoCd {
    /// Installs what Argo CD wants to find, starts it, and waits until it is ready.
    pub(super) async fn start(cluster: &Cluster) -> Result<Self> {
        let kubectl = cluster.control_plane.kubectl();
        install_crds(&kubectl, PART, MODULE, "manifests/crds").await?;
        install_settings(&kubectl).await?;
        let folder = new_folder(PART)?;
        let programs = Programs::new(&folder, &cluster.control_plane.kubeconfig())?;
        let [redis, repo_server, server, metrics, git] =
            [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
        let [repo_metrics, server_metrics] = [free_port()?, free_port()?];
        let repositories = folder.join("repositories");
        fs::create_dir_all(&repositories).context("making the folder of repositories")?;
        let mut processes = vec![
            ("redis-server", redis_server(&folder, &redis)?),
            ("git-daemon", git_daemon(&folder, &repositories, &git)?),
        ];

        let redis = format!("127.0.0.1:{redis}");
        let repo_server_address = format!("127.0.0.1:{repo_server}");
        let mut command = programs.command("argocd-repo-server");
        command
            .args(["--disable-tls", "--address=127.0.0.1", "--metrics-address=127.0.0.1"])
            .arg(format!("--port={repo_server}"))
            .arg(format!("--metrics-port={repo_metrics}"))
            .arg(format!("--redis={redis}"));
        let health = format!("http://127.0.0.1:{repo_metrics}/healthz");
        processes.push(("argocd-repo-server", programs.start("argocd-repo-server", command, &health).await?));

        let mut command = programs.command("argocd-application-controller");
        command
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--app-resync={RESYNC}"))
            .arg(format!("--metrics-port={metrics}"))
            .arg(format!("--repo-server={repo_server_address}"))
            .args(["--repo-server-plaintext", &format!("--redis={redis}")]);
        let health = format!("http://127.0.0.1:{metrics}/healthz");
        let name = "argocd-application-controller";
        processes.push((name, programs.start(name, command, &health).await?));

        let mut command = programs.command("argocd-server");
        command
            .args(["--insecure", "--disable-auth", "--address=127.0.0.1", "--repo-server-plaintext"])
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--port={server}"))
            .arg(format!("--metrics-port={server_metrics}"))
            .arg(format!("--staticassets={}", folder.display()))
            .arg(format!("--repo-server={repo_server_address}"))
            .arg(format!("--redis={redis}"));
        let health = format!("http://127.0.0.1:{server}/healthz");
        processes.push(("argocd-server", programs.start("argocd-server", command, &health).await?));
        let ports = vec![repo_server, repo_metrics, server_metrics];
        Ok(Self { processes, metrics, server, git, repositories, _ports: ports })
    }

    /// Where a repository is cloned from.
    pub(super) fn repository_url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.git)
    }

    /// How often applications were looked at, and compared with Git, since it was started.
    pub(super) async fn refreshes(&self) -> Result<u64> {
        let reading = "reading the application-controller's metrics";
        let reply = http_client()?.get(format!("http://127.0.0.1:{}/metrics", self.metrics)).send().await;
        let text = reply.context(reading)?.error_for_status().context(reading)?.text().await.context(reading)?;
        let counts = text.lines().filter(|line| line.starts_with("argocd_app_reconcile_count{"));
        let counts: Vec<u64> = counts.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if counts.is_empty() {
            return Err(Failure::new("the application-controller does not tell how often it looked"));
        }
        Ok(counts.iter().sum())
    }

    /// Asks argocd-server, as its web pages do, about the actions of a resource of an application: what it offers, or,
    /// with the name of one, to do it.
    pub(super) async fn actions(
        &self,
        application: &str,
        namespace: &str,
        name: &str,
        action: Option<&str>,
    ) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/applications/{application}/resource/actions", self.server);
        let http = http_client()?;
        let request = match action {
            None => http.get(url),
            Some(action) => http.post(url).json(&action),
        };
        let resource = [
            ("appNamespace", NAMESPACE),
            ("namespace", namespace),
            ("resourceName", name),
            ("group", "cloud.konigle.com"),
            ("version", "v1alpha1"),
            ("kind", "KonigleSpace"),
        ];
        let asking = || format!("asking argocd-server for the actions of {name}: {action:?}");
        let reply = request.query(&resource).send().await.context(asking())?;
        let (status, text) = (reply.status(), reply.text().await.context(asking())?);
        if !status.is_success() {
            return Err(Failure::new(format!("{}: {status}: {text}", asking())));
        }
        serde_json::from_str(&text).context(asking())
    }

    /// The ends of all logs.
    pub(super) fn see_logs(&self) -> String {
        let logs: Vec<String> =
            self.processes.iter().map(|(name, process)| format!("{name}: {}", process.see_log())).collect();
        logs.join("\n")
    }

    /// A failure if any program ended by itself.
    pub(super) fn still_run(&mut self) -> Result<()> {
        for (name, process) in &mut self.processes {
            if let Some(status) = process.ended()? {
                return Err(Failure::new(format!("{name} ended: {status}; {}", process.see_log())));
            }
        }
        Ok(())
    }
}

/// Argo CD's programs: one, under several names, each with the same surroundings.
struct Programs {
    folder: PathBuf,
    /// Where they find Helm, too.
    path: OsString,
    kubeconfig: PathBuf,
}

impl Programs {
    fn new(folder: &Path, kubeconfig: &Path) -> Result<Self> {
        let program = part(PART)?;
        for name in ["argocd-repo-server", "argocd-application-controller", "argocd-server"] {
            std::os::unix::fs::symlink(&program, folder.join(name)).context(format!("naming {name}"))?;
        }
        for name in ["gpg", "tls", "ssh", "tmp"] {
            fs::create_dir_all(folder.join(name)).context(format!("making a folder {name}"))?;
        }
        // It works in the namespace of its kubeconfig.
        let text = fs::read_to_string(kubeconfig).context("reading the administrator's kubeconfig")?;
        let mut config: Value = serde_json::from_str(&text).context("reading the administrator's kubeconfig")?;
        config["contexts"][0]["context"]["namespace"] = json!(NAMESPACE);
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).context("writing Argo CD's kubeconfig")?;
        let helm = part("helm")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(helm.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&path)))?;
        Ok(Self { folder: folder.to_owned(), path, kubeconfig })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .env("TMPDIR", self.folder.join("tmp"))
            .env("ARGOCD_GPG_ENABLED", "false")
            .env("ARGOCD_FAKE_IN_CLUSTER", "true")
            .env("ARGOCD_GNUPGHOME", self.folder.join("gpg"))
            .env("ARGOCD_TLS_DATA_PATH", self.folder.join("tls"))
            .env("ARGOCD_SSH_DATA_PATH", self.folder.join("ssh"));
        command
    }

    async fn start(&self, name: &str, command: Command, health: &str) -> Result<Process> {
        let mut process = Process::start(name, command, &self.folder.join(format!("{name}.log")))?;
        let http = http_client()?;
        let healthy = async || http.get(health).send().await.is_ok_and(|reply| reply.status().is_success());
        process.until_ready("healthy", healthy).await?;
        Ok(process)
    }
}

fn redis_server(folder: &Path, port: &Port) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder);
    Process::start("redis-server", command, &folder.join("redis-server.log"))
        .context("Argo CD needs redis-server, of which only the program is used: apt-get install redis-server")
}

/// Not by `git daemon`, which would start it as a child of its own, that outlives it.
fn git_daemon(folder: &Path, repositories: &Path, port: &Port) -> Result<Process> {
    let output = Command::new("git").arg("--exec-path").output().context("asking git for its programs")?;
    let programs = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut command = Command::new(programs.join("git-daemon"));
    command
        .args(["--export-all", "--listen=127.0.0.1", "--informative-errors", &format!("--port={port}")])
        .arg(format!("--base-path={}", repositories.display()))
        .arg(repositories);
    Process::start("git-daemon", command, &folder.join("git-daemon.log"))
}

/// What Argo CD's own installation brings, and ours beside it, as `deploy/argocd/` tells people to.
async fn install_settings(kubectl: &Kubectl) -> Result<()> {
    let metadata = |name: &str| {
        let labels = json!({"app.kubernetes.io/part-of": "argocd"});
        json!({"name": name, "namespace": NAMESPACE, "labels": labels})
    };
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("argocd-secret"),
            "stringData": {"server.secretkey": "of-no-use-to-anybody"}}),
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
            "metadata": {"name": "default", "namespace": NAMESPACE},
            "spec": {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}],
                "clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}}),
    ];
    let names = [
        "argocd-cm",
        "argocd-rbac-cm",
        "argocd-cmd-params-cm",
        "argocd-tls-certs-cm",
        "argocd-ssh-known-hosts-cm",
        "argocd-gpg-keys-cm",
    ];
    items.extend(names.map(|name| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name)})));
    kubectl.run(&["create", "namespace", NAMESPACE]).await?;
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).await?;
    let patch = package().join(HEALTH_AND_ACTIONS).display().to_string();
    kubectl.run(&["-n", NAMESPACE, "patch", "configmap", "argocd-cm", "--patch-file", &patch]).await?;
    Ok(())
}

//! The operator as it ships: the built program, as a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Port, Process, free_port};
use super::run_folder::{new_folder, program};
use super::trace::{Started, Witness};
use super::{Context, Failure, Result, http_client};

/// The folder of artifacts, in the folder of the operator.
const ARTIFACTS: &str = "artifacts";

/// Becomes a command in a mount namespace of its own, in which a folder is a disk of so many MiB: the kernel takes both
/// away with the last process in it. Arguments: the folder, the size, the command.
const OWN_DISK: &str = r#"
if unshare --mount true; then as_root=
elif unshare --map-root-user --mount true; then as_root=--map-root-user
else
    echo "a small disk cannot be made: run this as root, or where users may make namespaces" >&2
    exit 1
fi
exec unshare $as_root --mount sh -c '
    mount -t tmpfs -o size="$1m" tmpfs "$0" || { echo "a small disk cannot be mounted at $0" >&2; exit 1; }
    shift
    exec "$@"' "$@"
"#;

/// What an operator is started with.
#[derive(Clone)]
pub(crate) struct OperatorOptions {
    /// The program; without it the one that cargo built beside this one.
    pub(crate) program: Option<PathBuf>,
    /// The account that it acts as.
    pub(crate) kubeconfig: PathBuf,
    /// `--konigle-base-url`.
    pub(crate) konigle_base_url: String,
    /// `--watch-namespace`; all namespaces without it.
    pub(crate) watch_namespace: Option<String>,
    /// Whether artifacts may come over http and from loopback, as the test bed's do.
    pub(crate) insecure_artifacts: bool,
    /// Further flags, which win over the ones that the test bed gives.
    pub(crate) flags: Vec<String>,
    /// Environment variables.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether the flags are its whole command line, but for where it listens and where its artifacts are.
    pub(crate) flags_are_all: bool,
    /// What a shell does before it becomes the operator, such as `ulimit -f 2048`.
    pub(crate) prelude: String,
    /// Of how many MiB the disk of its artifacts is; without it that is the one that all share.
    pub(crate) disk: Option<u32>,
}

impl OperatorOptions {
    /// Watches one namespace, and speaks to this Konigle.
    pub(crate) fn new(kubeconfig: &Path, konigle_base_url: &str, namespace: &str) -> Self {
        Self {
            program: None,
            kubeconfig: kubeconfig.to_owned(),
            konigle_base_url: konigle_base_url.to_owned(),
            watch_namespace: Some(namespace.to_owned()),
            insecure_artifacts: true,
            flags: Vec::new(),
            environment: Vec::new(),
            flags_are_all: false,
            prelude: ":".to_owned(),
            disk: None,
        }
    }

    /// Started as a container would be: with these arguments, of which only those that name its port and its folder are
    /// replaced, and these environment variables.
    pub(crate) fn container(kubeconfig: &Path, arguments: Vec<String>, environment: Vec<(String, String)>) -> Self {
        let mut options = Self::new(kubeconfig, "", "");
        (options.watch_namespace, options.flags_are_all) = (None, true);
        (options.flags, options.environment) = (arguments, environment);
        options
    }

    /// Started by a shell that does this first.
    #[must_use]
    pub(crate) fn under(mut self, prelude: &str) -> Self {
        prelude.clone_into(&mut self.prelude);
        self
    }

    /// Its artifacts on a disk of their own, of so many MiB, that is gone with it. Needs the right to make a mount namespace.
    #[must_use]
    pub(crate) fn on_a_disk_of(mut self, mebibytes: u32) -> Self {
        self.disk = Some(mebibytes);
        self
    }

    /// How long it settles for, as its flags say; what it does without is longer than any test is.
    fn settle(&self) -> Duration {
        let told =
            self.flags.iter().rev().find_map(|flag| flag.strip_prefix("--unknown-outcome-settle=")?.strip_suffix('s'));
        Duration::from_secs(told.and_then(|seconds| seconds.parse().ok()).unwrap_or(120))
    }

    /// With leader election, by a Lease in the namespace that it watches.
    #[must_use]
    pub(crate) fn electing(self) -> Self {
        let namespace = self.watch_namespace.clone().unwrap_or_default();
        self.flag("--leader-elect=true").flag(&format!("--lease-namespace={namespace}"))
    }

    /// With one more flag, written `--name=value`.
    #[must_use]
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }
}

/// A running operator. Dropping it kills it.
pub(crate) struct Operator {
    options: OperatorOptions,
    folder: PathBuf,
    port: Port,
    process: Process,
    witness: Arc<Witness>,
    started: Started,
}

impl Operator {
    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn start(options: OperatorOptions) -> Result<Self> {
        let mut operator = Self::start_unready(options)?;
        operator.until_ready().await?;
        Ok(operator)
    }

    /// Starts it and waits for nothing.
    pub(crate) fn start_unready(options: OperatorOptions) -> Result<Self> {
        let folder = new_folder(&format!("operator-{}", options.watch_namespace.as_deref().unwrap_or("all")))?;
        let port = free_port()?;
        let process = spawn(&options, &folder, &port)?;
        let witness = Witness::current();
        let started = witness.begin_life(process.log(), options.settle());
        Ok(Self { options, folder, port, process, witness, started })
    }

    /// Starts it again after it has ended, with the same options, port, log and artifacts.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.restart_unready()?;
        self.until_ready().await
    }

    /// As [`Operator::start_again`], and waits for nothing.
    pub(crate) fn restart_unready(&mut self) -> Result<()> {
        self.kill();
        self.process = spawn(&self.options, &self.folder, &self.port)?;
        self.started = self.witness.begin_life(self.process.log(), self.options.settle());
        Ok(())
    }

    /// As [`Operator::restart_unready`], with these environment variables in place of those that it had.
    pub(crate) fn restart_with(&mut self, environment: Vec<(String, String)>) -> Result<()> {
        self.options.environment = environment;
        self.restart_unready()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // One that was given a point to die at may do so at any moment.
        let is_to_die = self.options.environment.iter().any(|(name, _)| name == "KONIGLE_CRASH_AT");
        if let Ok(Some(status)) = self.process.ended_unseen()
            && !(is_to_die && status.signal() == Some(9))
        {
            self.witness.died(format!("an operator ended by itself with {status}; {}", self.process.see_log()));
        }
        self.keep_metrics();
        self.process.kill();
        self.witness.end_life(&self.started);
    }

    /// Ends it as Kubernetes does, and waits for it: a failure when it takes longer than `limit` or says that it failed.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> Result<()> {
        self.keep_metrics();
        let status = self.process.terminate(limit).await?;
        self.witness.end_life(&self.started);
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("the operator ended with {status}; {}", self.process.see_log())))
    }

    /// The process, for signals and its end.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file that it logs into.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The folder of its artifacts; where they are on a disk of their own, only while it runs.
    pub(crate) fn artifacts(&self) -> PathBuf {
        let folder = self.folder.join(ARTIFACTS);
        let Some(_) = self.options.disk else { return folder };
        // As the process sees it: it is mounted for nobody else.
        PathBuf::from(format!("/proc/{}/root{}", self.process.id(), folder.display()))
    }

    /// The files of its artifacts that are not whole: only a running download or packing may have one.
    pub(crate) fn partials(&self) -> Result<Vec<PathBuf>> {
        let is_partial =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".partial-"));
        Ok(self.stored()?.into_iter().filter(is_partial).collect())
    }

    /// All files of its artifacts.
    pub(crate) fn stored(&self) -> Result<Vec<PathBuf>> {
        files_below(&self.artifacts())
    }

    /// Its address for health, readiness and metrics.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it answers when asked whether it is ready: the HTTP status and the text. Nothing while it does not listen.
    pub(crate) async fn readiness(&self) -> Option<(u16, String)> {
        let reply = http_client().ok()?.get(self.url("/readyz")).send().await.ok()?;
        Some((reply.status().as_u16(), reply.text().await.ok()?))
    }

    /// Its metrics, in the text form that Prometheus reads.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let reading = "reading the operator's metrics";
        let reply = http_client()?.get(self.url("/metrics")).send().await.context(reading)?;
        reply.error_for_status().context(reading)?.text().await.context(reading)
    }

    /// Lets it run on after this program has ended; its process id.
    pub(crate) fn leave_running(mut self) -> u32 {
        self.process.leave_running()
    }

    /// Its metrics are searched for secrets at the end of the test, and are gone with it.
    fn keep_metrics(&mut self) {
        match self.process.ended() {
            // One that stands still answers nobody, and must not go on only to be asked.
            Ok(None) if self.process.is_stopped() => self.witness.cannot_search(format!(
                "the metrics of an operator that stood still when it was ended; {}",
                self.process.see_log()
            )),
            Ok(None) => self.witness.keep_metrics(&self.started, self.process.log(), self.url("/metrics")),
            Ok(Some(_)) | Err(_) => {}
        }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let readyz = self.url("/readyz");
        let http = http_client()?;
        let mut said = "nothing".to_owned();
        let probe = async || {
            let Ok(reply) = http.get(&readyz).send().await else { return false };
            let ready = reply.status().is_success();
            said = reply.text().await.unwrap_or_default();
            ready
        };
        let result = self.process.until_ready("ready", probe).await;
        if result.is_ok() {
            self.witness.is_ready(&self.started);
        }
        result.map_err(|failure| Failure::new(format!("/readyz said {:?}; {failure}", said.trim())))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All files below a folder; none where it is not there.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).context(format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

fn spawn(options: &OperatorOptions, folder: &Path, port: &Port) -> Result<Process> {
    let operator = options.program.clone().map_or_else(|| program("konigle-operator"), Ok)?;
    let mut command = Command::new("sh");
    let become_it = format!("{}; exec \"$0\" \"$@\"", options.prelude);
    match options.disk {
        None => command.args(["-c", &become_it]),
        Some(mebibytes) => {
            let artifacts = folder.join(ARTIFACTS);
            std::fs::create_dir_all(&artifacts).context("making the folder of an operator's artifacts")?;
            command
                .args(["-c", OWN_DISK, "sh"])
                .arg(artifacts)
                .arg(mebibytes.to_string())
                .args(["sh", "-c", &become_it])
        }
    };
    command
        .arg(operator)
        .args(arguments(options, folder, port))
        .env("KUBECONFIG", &options.kubeconfig)
        .envs(options.environment.iter().map(|(name, value)| (name, value)));
    Process::start("konigle-operator", command, &folder.join("operator.log"))
}

fn arguments(options: &OperatorOptions, folder: &Path, port: &Port) -> Vec<String> {
    let listen = format!("--listen=127.0.0.1:{port}");
    let artifacts = format!("--artifact-dir={}", folder.join(ARTIFACTS).display());
    if options.flags_are_all {
        let own = |flag: &String| match flag.split_once('=') {
            Some(("--listen", _)) => listen.clone(),
            Some(("--artifact-dir", _)) => artifacts.clone(),
            _ => flag.clone(),
        };
        return options.flags.iter().map(own).collect();
    }
    let base_url = format!("--konigle-base-url={}", options.konigle_base_url);
    let mut arguments = vec!["run".to_owned(), base_url, listen, artifacts];
    arguments.extend(options.watch_namespace.iter().map(|namespace| format!("--watch-namespace={namespace}")));
    arguments.extend(options.insecure_artifacts.then(|| "--allow-insecure-artifacts".to_owned()));
    arguments.push("--leader-elect=false".to_owned());
    arguments.extend_from_slice(&options.flags);
    arguments
}

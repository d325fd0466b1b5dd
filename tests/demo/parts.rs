//! The parts of the demo: what is started, in which order, and how it is left running.

use std::fmt::Write as _;
use std::process::Command;

use konigle_operator::api::KonigleSpace;
use kube::Api;

use crate::examples;
use crate::screen::{Screen, print};
use crate::support::artifacts::Artifacts;
use crate::support::control_plane::ControlPlane;
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::process::{Process, free_port};
use crate::support::rights::{INSTALL, installed_account};
use crate::support::run_folder::{keep, new_folder, package, run_folder};
use crate::support::simulator::Simulator;
use crate::support::{Context, Failure, Result, http_client};

/// The mode in which this program serves the demo's artifact: a process of its own, so that `KEEP=1` can leave it.
pub(crate) const SERVE_ARTIFACTS: &str = "serve-artifacts";

/// How long a job of the simulator takes: long enough to be watched.
const JOB_SECONDS: f64 = 8.0;

/// Everything that runs. Dropping it stops everything, the operator first.
pub(crate) struct Parts {
    operator: Operator,
    artifacts: Process,
    simulator: Simulator,
    pub(crate) control_plane: ControlPlane,
    /// The address of the artifact server.
    pub(crate) artifacts_url: String,
}

impl Parts {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(screen: &Screen) -> Result<Self> {
        screen.say("demo", &format!("logs and data: {}", run_folder()?.display()));
        screen.say("control plane", "starting etcd and kube-apiserver");
        let control_plane =
            screen.while_waiting("control plane", ControlPlane::start()).await.context("control plane")?;

        screen.say("simulator", "starting konigle-sim, in place of Konigle Cloud");
        let simulator = screen.while_waiting("simulator", Simulator::start(JOB_SECONDS)).await.context("simulator")?;

        screen.say("artifacts", "starting a web server that holds shop-1.4.2.zip, as CI would have left it");
        let (artifacts, artifacts_url) =
            screen.while_waiting("artifacts", start_artifacts()).await.context("artifact server")?;

        screen.say("kubectl", &format!("apply --server-side -k {INSTALL}"));
        let kubectl = control_plane.kubectl();
        let install = package().join(INSTALL).display().to_string();
        print(&kubectl.run(&["apply", "--server-side", "-k", &install]).await?);

        screen.say(
            "operator",
            "starting it as a process, for nothing runs pods here, with the rights of its ServiceAccount",
        );
        let mut options = OperatorOptions::new(&installed_account(&control_plane).await?, &simulator.base_url(), "");
        options.watch_namespace = None;
        let options = options.flag("--unknown-outcome-settle=10s");
        let operator = screen.while_waiting("operator", Operator::start(options)).await.context("operator")?;
        Ok(Self { operator, artifacts, simulator, control_plane, artifacts_url })
    }

    /// The production resource, once both are known to run this digest, and want nothing else.
    pub(crate) async fn runs_everywhere(&self, digest: &str) -> Result<KonigleSpace> {
        let spaces: Api<KonigleSpace> = Api::namespaced(self.control_plane.client().await?, examples::NAMESPACE);
        for name in ["shop-uat", "shop-production"] {
            let space = spaces.get(name).await?;
            if !examples::runs(&space, digest) {
                let status = serde_saphyr::to_string(&space.status)?;
                return Err(Failure::new(format!("{name} does not run {digest}; its status:\n{status}")));
            }
        }
        Ok(spaces.get("shop-production").await?)
    }

    /// Lets everything run on, and says how to reach and how to stop it.
    pub(crate) fn leave_running(mut self) -> Result<()> {
        let environment = self.control_plane.kubectl().environment()?;
        let (simulator, metrics) = (self.simulator.base_url(), self.operator.url("/metrics"));
        let logs = [("operator", self.operator.log()), ("simulator", self.simulator.log())]
            .map(|(name, log)| format!("  {name:<12}{}\n", log.display()));
        let (operator, artifacts) = (self.operator.leave_running(), self.artifacts.leave_running());
        let mut processes = vec![operator, artifacts, self.simulator.leave_running()];
        let apart = processes.len();
        processes.extend(self.control_plane.leave_running());
        keep(&processes)?;
        let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
        let mut text = format!(
            "\nEverything runs on. To use it from a shell:\n  export {environment}\n  kubectl get kspace -A\n  \
             kubectl konigle status -A\n\n\
             The operator is a process here, not a pod: `kubectl rollout status`, `logs` and `scale` of its Deployment do \
             not work.\nIt takes 10 s for what `--unknown-outcome-settle` gives 120 s by default.\n\n  \
             simulator   {simulator}/_sim/ (ledger, faults, readings), token {}\n  metrics     {metrics}\n  \
             artifacts   {}\n\nLogs:\n{}\nProcesses:\n",
            examples::TOKEN,
            self.artifacts_url,
            logs.concat(),
        );
        for (name, process) in ["operator", "artifacts", "simulator"].iter().zip(&processes) {
            let _ = writeln!(text, "  {name:<12}{process}");
        }
        let _ = writeln!(text, "  API server  {} (with etcd and all that belongs to it)", processes[apart..].join(" "));
        // Not by SIGTERM: an API server whose etcd is gone takes minutes to end.
        let _ = writeln!(text, "  stop all    kill -9 {}", processes.join(" "));
        print(&text);
        Ok(())
    }
}

/// Serves the demo's artifact until the process is ended.
pub(crate) async fn serve_artifacts(port: &str) -> Result<()> {
    let artifacts = Artifacts::start_on(port.parse()?).await?;
    artifacts.serve_application(examples::VERSION)?;
    std::future::pending().await
}

async fn start_artifacts() -> Result<(Process, String)> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([SERVE_ARTIFACTS, &port.to_string()]);
    let log = new_folder("artifacts")?.join("artifacts.log");
    let mut process = Process::start("the artifact server", command, &log)?;
    let url = format!("http://127.0.0.1:{port}");
    let zip = examples::artifact_url(&url);
    let http = http_client()?;
    let probe = async || http.get(&zip).send().await.is_ok_and(|reply| reply.status().is_success());
    process.until_ready("ready", probe).await?;
    Ok((process, url))
}

//! The Konigle API simulator, `konigle-sim`, as a process of its own, and its control API.
//!
//! A process, unlike `konigle_operator::sim::Simulator` in the test's own process, can be killed and outlives its maker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::process::{Port, Process, free_port};
use super::run_folder::{new_folder, program};
use super::trace::{Run, Witness};
use super::{Context, Failure, Result, http_client};

/// The token of the demo tenant.
pub(crate) const TOKEN: &str = "demo-token";
/// The id of the demo tenant's uat Space: computer `web-1`, web app `shop`.
pub(crate) const UAT: &str = "7301962442809343003";
/// The id of the demo tenant's production Space.
pub(crate) const PRODUCTION: &str = "7301962442809343004";

/// A running simulator with the demo tenant. Dropping it kills it.
pub(crate) struct Simulator {
    folder: PathBuf,
    port: Port,
    job_seconds: f64,
    seed: Option<PathBuf>,
    process: Process,
    http: reqwest::Client,
    witness: Arc<Witness>,
    run: Run,
}

impl Simulator {
    /// Starts it, with jobs that take so many seconds.
    pub(crate) async fn start(job_seconds: f64) -> Result<Self> {
        Self::start_with(job_seconds, &Value::Null).await
    }

    /// As [`Simulator::start`], with what this seed holds in place of the demo tenant.
    pub(crate) async fn start_with(job_seconds: f64, seed: &Value) -> Result<Self> {
        let folder = new_folder("simulator")?;
        let path = folder.join("seed.json");
        std::fs::write(&path, seed.to_string()).context("writing the seed")?;
        let seed = (!seed.is_null()).then_some(path);
        let port = free_port()?;
        let process = spawn(&folder, &port, job_seconds, seed.as_deref())?;
        let http = http_client()?;
        let witness = Witness::current();
        let run = witness.begin_run();
        let mut simulator = Self { folder, port, job_seconds, seed, process, http, witness, run };
        simulator.until_ready().await?;
        Ok(simulator)
    }

    /// Ends it as `kill -9` does: connections are refused, and what it knew is lost.
    pub(crate) fn kill(&mut self) {
        self.keep_trace();
        self.process.kill();
    }

    /// Starts it again at the same address, with nothing deployed.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.kill();
        self.process = spawn(&self.folder, &self.port, self.job_seconds, self.seed.as_deref())?;
        self.run = self.witness.begin_run();
        self.until_ready().await
    }

    /// The process, for signals: a stopped one accepts connections and never answers.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file that it logs into.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// For `--konigle-base-url`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One request of the control API; `path` is what follows `/_sim/`.
    pub(crate) async fn control(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        // What these forget belongs to the trace.
        if (method == Method::DELETE && path == "requests") || path == "reset" {
            let kept = self.witness.keep_run(&self.run, &self.base_url());
            kept.then_some(()).ok_or_else(|| Failure::new("the simulator does not tell what it did"))?;
        }
        let asking = || format!("asking the simulator: {method} /_sim/{path}");
        let mut request = self.http.request(method.clone(), format!("{}/_sim/{path}", self.base_url()));
        if !body.is_null() {
            request = request.json(body);
        }
        let reply = request.send().await.context(asking())?;
        let status = reply.status();
        let text = reply.text().await.context(asking())?;
        if status.is_success() {
            return serde_json::from_str(&text).context(asking());
        }
        Err(Failure::new(format!("{}: {status}: {text}", asking())))
    }

    /// Sets how the server answers one of the questions that the official SDK leaves open.
    pub(crate) async fn reading(&self, name: &str, value: impl Into<Value>) -> Result<()> {
        self.control(Method::PATCH, "readings", &json!({name: value.into()})).await.map(drop)
    }

    /// Adds a fault, such as `{"operation": "deploy", "when": "after", "action": "drop"}`.
    pub(crate) async fn fault(&self, fault: &Value) -> Result<()> {
        self.control(Method::POST, "faults", fault).await.map(drop)
    }

    /// Every accepted write on a Space, oldest first.
    pub(crate) async fn ledger(&self, space: &str) -> Result<Vec<Value>> {
        let ledger = self.control(Method::GET, &format!("ledger?space={space}"), &Value::Null).await?;
        Ok(ledger.as_array().cloned().unwrap_or_default())
    }

    /// A Space, and what runs in it.
    pub(crate) async fn space(&self, space: &str) -> Result<Value> {
        self.control(Method::GET, &format!("spaces/{space}"), &Value::Null).await
    }

    /// Changes a Space from outside, or sets how its jobs go.
    pub(crate) async fn change_space(&self, space: &str, change: &Value) -> Result<Value> {
        self.control(Method::PATCH, &format!("spaces/{space}"), change).await
    }

    /// A job, by the id that the ledger has.
    pub(crate) async fn job(&self, id: &Value) -> Result<Value> {
        self.control(Method::GET, &format!("jobs/{}", id.as_str().unwrap_or_default()), &Value::Null).await
    }

    /// Changes a job, by the id that the ledger has.
    pub(crate) async fn change_job(&self, id: &Value, change: &Value) -> Result<Value> {
        self.control(Method::PATCH, &format!("jobs/{}", id.as_str().unwrap_or_default()), change).await
    }

    /// Gives the demo tenant another computer, with a web app for each of these uat Spaces: `COMPUTER-0` and so on.
    pub(crate) async fn add_uat_spaces(&self, computer: &str, ids: &[String]) -> Result<()> {
        let webapp = |(number, id)| json!({"name": format!("{computer}-{number}"), "uat": {"id": id}});
        let webapps: Vec<Value> = ids.iter().enumerate().map(webapp).collect();
        let tenant = json!({"name": "demo", "computers": [{"name": computer, "webapps": webapps}]});
        self.control(Method::POST, "tenants", &tenant).await.map(drop)
    }

    /// Deploys to a Space as a person in Konigle's console does.
    pub(crate) async fn deploy_by_a_person(&self, space: &str) -> Result<()> {
        self.change_space(space, &json!({"human_deploy": {}})).await.map(drop)
    }

    /// How often what was asked for.
    pub(crate) async fn requests(&self) -> Result<Value> {
        self.control(Method::GET, "requests", &Value::Null).await
    }

    /// Lets it run on after this program has ended; its process id.
    pub(crate) fn leave_running(mut self) -> u32 {
        self.process.leave_running()
    }

    /// What it did belongs to the trace, and is gone with it.
    fn keep_trace(&mut self) {
        if let Ok(None) = self.process.ended() {
            // One that was stopped tells nothing.
            let _ = self.process.signal("CONT");
            self.witness.end_run(&self.run, &self.base_url());
        }
    }

    async fn until_ready(&mut self) -> Result<()> {
        let readings = format!("{}/_sim/readings", self.base_url());
        let http = self.http.clone();
        let probe = async || http.get(&readings).send().await.is_ok_and(|reply| reply.status().is_success());
        self.process.until_ready("ready", probe).await
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, port: &Port, job_seconds: f64, seed: Option<&Path>) -> Result<Process> {
    let mut command = Command::new(program("konigle-sim")?);
    command.arg(format!("--listen=127.0.0.1:{port}")).arg(format!("--job-seconds={job_seconds}"));
    command.args(seed.map(|path| format!("--seed={}", path.display())));
    Process::start("konigle-sim", command, &folder.join("simulator.log"))
}

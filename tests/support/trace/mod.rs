//! What really happened in a test, and whether all of it was right.
//!
//! Namespaces, simulators, operators and artifact servers each hold the test's [`Witness`], whoever starts them. When the
//! last of them is dropped, at the end of the test, everything that was recorded is judged: all versions of all
//! resources, all POSTs and the ledgers ([`judge`]), and all logs, statuses, Events, metrics and requests for artifacts
//! are searched for the test's secrets ([`Canary`]). A finding fails the test, one that failed already too, and so does
//! whatever could not be read. So no test can forget it, and one that breaks a property by design says so by
//! `stage.allow(Property::..., "why")`.
//!
//! Parts belong to the test in whose thread they are started: a task that another thread runs has a trace of its own.
//! Absent: the demo and the benchmarks, which have no test to fail; there a witness looks away.

mod canary;
pub(crate) mod history;
mod promotions;
mod properties;
pub(crate) mod recorder;
mod spaces;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::artifacts::Heads;
use super::run_folder::new_folder;
use super::{Context, Failure, Result, http_client};
use history::{Job, Life, Post, Trace, milliseconds};
use recorder::{Recorder, now};

pub(crate) use canary::Canary;
pub(crate) use properties::{Finding, Property, judge};

/// How long a part may take to tell what it did. Generous, for machines are busy; parts that were stopped tell nothing.
const LIMIT: Duration = Duration::from_mins(1);
/// How long an operator may take to give its metrics.
const METRICS_LIMIT: Duration = Duration::from_secs(30);

thread_local! {
    /// The witness of the test that runs in this thread.
    static CURRENT: RefCell<Weak<Witness>> = const { RefCell::new(Weak::new()) };
}

/// Where recordings run: beside the tests, whose own runtimes stand still while their last parts are dropped.
static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// Sees everything that one test does.
#[derive(Default)]
pub(crate) struct Witness(Mutex<Seen>);

/// One start of a simulator.
pub(crate) struct Run(usize);

/// One start of an operator.
pub(crate) struct Started(usize);

#[derive(Default)]
struct Seen {
    recorders: Vec<Recorder>,
    files: Vec<PathBuf>,
    /// How many simulators were started.
    starts: usize,
    runs: BTreeMap<usize, Kept>,
    lives: Vec<Life>,
    /// Logs of operators, each with the metrics of its processes.
    logs: BTreeMap<PathBuf, Vec<String>>,
    heads: Vec<Heads>,
    canaries: Vec<Canary>,
    allowed: Vec<Allowed>,
    /// What is missing in the trace.
    missing: Vec<String>,
    /// Operators that ended by themselves, and nobody looked.
    deaths: Vec<String>,
    /// What cannot be searched for secrets.
    unsearched: Vec<String>,
}

/// What a simulator told.
#[derive(Default)]
struct Kept {
    jobs: Vec<Job>,
    posts: Vec<Post>,
    webapps: BTreeMap<String, String>,
    read_lag_ms: f64,
    /// What it told and nobody understands.
    unread: Vec<String>,
    /// Whether it was asked at its end.
    is_whole: bool,
}

struct Allowed {
    property: Property,
    why: String,
    must_break: bool,
    /// Of these resources alone; of everything without a name.
    resources: Vec<String>,
}

impl Allowed {
    fn covers(&self, finding: &Finding) -> bool {
        let is_named = finding.resource.as_ref().is_some_and(|name| self.resources.contains(name));
        self.property == finding.property && (self.resources.is_empty() || is_named)
    }
}

impl Witness {
    /// The witness of the test that runs in this thread.
    pub(crate) fn current() -> Arc<Self> {
        CURRENT.with_borrow_mut(|current| {
            current.upgrade().unwrap_or_else(|| {
                let witness = Arc::new(Self::default());
                *current = Arc::downgrade(&witness);
                witness
            })
        })
    }

    /// Records this namespace from now on.
    pub(crate) async fn watch(&self, kubeconfig: &Path, namespace: &str) -> Result<()> {
        if !is_test() {
            return Ok(());
        }
        let folder = new_folder(&format!("trace-{namespace}"))?;
        let file = folder.join("trace.jsonl");
        let (kubeconfig, namespace, path) = (kubeconfig.to_owned(), namespace.to_owned(), file.clone());
        let recorder = runtime()?.spawn(async move { Recorder::start(kubeconfig, namespace, &path).await }).await??;
        let mut seen = self.seen();
        seen.recorders.push(recorder);
        seen.files.push(file);
        Ok(())
    }

    /// A simulator was started.
    pub(crate) fn begin_run(&self) -> Run {
        let mut seen = self.seen();
        seen.starts += 1;
        Run(seen.starts)
    }

    /// A simulator is about to end: takes over what it did. One that ends by itself takes that with it.
    pub(crate) fn end_run(&self, run: &Run, base_url: &str) {
        if self.keep_run(run, base_url) {
            self.seen().runs.entry(run.0).or_default().is_whole = true;
        }
    }

    /// Takes over what a simulator did until now. To be called before it forgets. Whether it told.
    pub(crate) fn keep_run(&self, run: &Run, base_url: &str) -> bool {
        if !is_test() {
            return true;
        }
        match wait(LIMIT, ask(base_url.to_owned())) {
            Ok(told) => {
                let mut seen = self.seen();
                let kept = seen.runs.entry(run.0).or_default();
                kept.take_over(run.0, &told);
                true
            }
            Err(failure) => {
                self.seen().missing.push(format!("a simulator did not tell what it did: {failure}"));
                false
            }
        }
    }

    /// An operator was started that logs into this file and settles for so long.
    pub(crate) fn begin_life(&self, log: &Path, settle: Duration) -> Started {
        let mut seen = self.seen();
        seen.logs.entry(log.to_owned()).or_default();
        seen.lives.push(Life { begun_ms: milliseconds(now()), ready_ms: None, ended_ms: None, settle });
        Started(seen.lives.len() - 1)
    }

    /// This operator is ready.
    pub(crate) fn is_ready(&self, started: &Started) {
        self.seen().lives[started.0].ready_ms.get_or_insert_with(|| milliseconds(now()));
    }

    /// This operator was ended.
    pub(crate) fn end_life(&self, started: &Started) {
        self.seen().lives[started.0].ended_ms.get_or_insert_with(|| milliseconds(now()));
    }

    /// Takes over the metrics of an operator that runs and is about to end. One that was never ready may not listen yet.
    pub(crate) fn keep_metrics(&self, started: &Started, log: &Path, url: String) {
        if !is_test() {
            return;
        }
        let told = wait(METRICS_LIMIT, get(url));
        let mut seen = self.seen();
        match told {
            Ok(text) => seen.logs.entry(log.to_owned()).or_default().push(text),
            Err(failure) if seen.lives[started.0].ready_ms.is_some() => {
                seen.unsearched.push(format!("the metrics of the operator with the log {}: {failure}", log.display()));
            }
            Err(_) => {}
        }
    }

    /// This cannot be searched for secrets.
    pub(crate) fn cannot_search(&self, what: String) {
        self.seen().unsearched.push(what);
    }

    /// An artifact server was started, and will know what it was asked for.
    pub(crate) fn keep_heads(&self, heads: Heads) {
        self.seen().heads.push(heads);
    }

    /// A test wrote a Secret with this key. Names of users and addresses are no secrets.
    pub(crate) fn keep_secret(&self, key: &str, value: &str) {
        if matches!(key, "token" | "password" | "bearerToken") {
            self.seen().canaries.extend(Canary::new(key, value));
        }
    }

    /// An operator had ended before the test ended it, and nobody looked at how.
    pub(crate) fn died(&self, how: String) {
        self.seen().deaths.push(how);
    }

    /// Suspends a property in this test.
    pub(crate) fn allow(&self, property: Property, why: &str, must_break: bool) {
        self.seen().allowed.push(Allowed { property, why: why.to_owned(), must_break, resources: Vec::new() });
    }

    /// Suspends a property for these resources.
    pub(crate) fn tolerate_of(&self, resources: &[&str], property: Property, why: &str) {
        let resources = resources.iter().map(|&name| name.to_owned()).collect();
        self.seen().allowed.push(Allowed { property, why: why.to_owned(), must_break: false, resources });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Witness {
    #[expect(clippy::panic, reason = "it fails the test")]
    fn drop(&mut self) {
        if !is_test() {
            return;
        }
        let mut seen = std::mem::take(&mut *self.seen());
        let mut text = String::new();
        for finding in seen.findings() {
            text = format!("{text}\n- {finding}");
        }
        if text.is_empty() {
            return;
        }
        let files: Vec<String> = seen.files.iter().map(|file| file.display().to_string()).collect();
        text = format!("the trace of this test breaks what must always hold:{text}\nthe trace: {}", files.join(" "));
        // Of two panics at once nothing would be seen.
        if std::thread::panicking() {
            report(&text);
            return;
        }
        for failure in Failure::kept() {
            text = format!("{text}\n\nthe test itself failed: {failure}");
        }
        panic!("{text}");
    }
}

#[expect(clippy::print_stderr, reason = "the harness shows it beside the failure of the test")]
fn report(text: &str) {
    eprintln!("{text}");
}

impl Seen {
    /// Everything that is wrong and not suspended, and everything that is suspended and was not wrong.
    fn findings(&mut self) -> Vec<Finding> {
        self.finish();
        let texts = self.texts();
        let mut findings = judge(&self.trace());
        findings.extend(self.leaks(&texts));
        let unsearched = self.unsearched.drain(..);
        findings.extend(unsearched.map(|text| Finding { property: Property::AllIsSearched, text, resource: None }));
        let held: Vec<_> = self
            .allowed
            .iter()
            .filter(|allowed| allowed.must_break && !findings.iter().any(|finding| allowed.covers(finding)))
            .map(|Allowed { property, why, .. }| Finding {
                property: *property,
                text: format!("it held, although the test says that it breaks it: {why}"),
                resource: None,
            })
            .collect();
        findings.retain(|finding| !self.allowed.iter().any(|allowed| allowed.covers(finding)));
        findings.extend(held);
        findings
    }

    /// Waits for the end of all recordings, and writes what the simulators told beside them.
    fn finish(&mut self) {
        for recorder in &self.recorders {
            let (kubeconfig, namespace) = (recorder.kubeconfig.clone(), recorder.namespace.clone());
            let caught_up = wait(LIMIT, Recorder::catch_up(kubeconfig, namespace, recorder.shared()));
            let mut recorded = recorder.recorded();
            if let Err(failure) = caught_up {
                self.missing.push(format!("the end of {} was not read: {failure}", recorder.namespace));
            }
            for kept in self.runs.values() {
                kept.posts.iter().for_each(|post| recorded.write(&json!({"post": post})));
                kept.jobs.iter().for_each(|job| recorded.write(&json!({"job": job})));
            }
        }
    }

    fn trace(&self) -> Trace {
        let mut trace = Trace::default();
        for recorder in &self.recorders {
            let recorded = recorder.recorded();
            trace.versions.extend(recorded.versions.iter().cloned());
            trace.gaps.extend(recorded.gaps.iter().cloned());
        }
        trace.lives.clone_from(&self.lives);
        trace.unread.clone_from(&self.missing);
        trace.deaths.clone_from(&self.deaths);
        for (run, kept) in &self.runs {
            trace.jobs.extend(kept.jobs.iter().cloned());
            trace.posts.extend(kept.posts.iter().cloned());
            trace.webapps.extend(kept.webapps.iter().map(|(space, webapp)| ((*run, space.clone()), webapp.clone())));
            trace.read_lag_ms = trace.read_lag_ms.max(kept.read_lag_ms);
            trace.unread.extend(kept.unread.iter().cloned());
        }
        let untold = (1..=self.starts).filter(|run| !self.runs.get(run).is_some_and(|kept| kept.is_whole));
        trace.unread.extend(untold.map(|run| format!("simulator {run} did not tell at its end what it did")));
        trace
    }

    /// Everything that must hold no secret, each with its place.
    fn texts(&mut self) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        let mut take = |place: String, text: Result<String>| match text {
            Ok(text) => texts.push((place, text)),
            Err(failure) => self.unsearched.push(format!("{place} could not be read: {failure}")),
        };
        for (log, metrics) in &self.logs {
            let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            take(format!("the log {}", log.display()), text.map_err(Failure::from));
            // An operator that ended by itself cannot be asked; one at least of the same options was.
            let text = if metrics.is_empty() { Err(Failure::new("nobody gave them")) } else { Ok(metrics.join("\n")) };
            take(format!("the metrics of the operator with the log {}", log.display()), text);
        }
        for file in &self.files {
            take(format!("a status or annotation in {}", file.display()), statuses(file));
        }
        for recorder in &self.recorders {
            let events = wait(LIMIT, recorder::events(recorder.kubeconfig.clone(), recorder.namespace.clone()));
            take(format!("an Event in {}", recorder.namespace), events);
        }
        texts
    }

    /// Secrets where they do not belong.
    fn leaks(&self, texts: &[(String, String)]) -> Vec<Finding> {
        let heads: String = self.heads.iter().flat_map(Heads::texts).collect();
        let mut leaks = Vec::new();
        for canary in &self.canaries {
            let is_token = canary.key == "token";
            let sent = is_token.then_some(("a request for an artifact", heads.as_str()));
            let texts = texts.iter().map(|(place, text)| (place.as_str(), text.as_str())).chain(sent);
            leaks.extend(texts.filter_map(|(place, text)| {
                let form = canary.found_in(text)?;
                let text = format!("{} {form} is in {place}", canary.key);
                Some(Finding { property: Property::SecretsStay, text, resource: None })
            }));
        }
        leaks
    }
}

impl Kept {
    fn take_over(&mut self, run: usize, told: &Told) {
        let unread = &mut self.unread;
        let mut miss = |entry: &Value| unread.push(format!("simulator {run} told what is not understood: {entry}"));
        let entries = |value: &Value, miss: &mut dyn FnMut(&Value)| {
            value.as_array().cloned().unwrap_or_else(|| {
                miss(value);
                Vec::new()
            })
        };
        for entry in entries(&told.ledger, &mut miss) {
            Job::read(run, &entry).map_or_else(|| miss(&entry), |job| self.jobs.push(job));
        }
        let mut known = BTreeSet::new();
        // The newest word on a job is the last one.
        self.jobs.reverse();
        self.jobs.retain(|job| known.insert(job.id.clone()));
        self.jobs.reverse();
        for post in entries(&told.requests["posts"], &mut miss).iter().filter(|post| Post::is_release(post)) {
            Post::read(run, post).map_or_else(|| miss(post), |post| self.posts.push(post));
        }
        let webapp = |space: &Value| Some((space["id"].as_str()?.to_owned(), space["webapp"].as_str()?.to_owned()));
        self.webapps.extend(entries(&told.spaces, &mut miss).iter().filter_map(webapp));
        let lag = told.readings["readings"]["read_lag_seconds"].as_f64().unwrap_or_default();
        self.read_lag_ms = self.read_lag_ms.max(lag * 1e3);
    }
}

/// The answers of a simulator's control API.
struct Told {
    ledger: Value,
    requests: Value,
    spaces: Value,
    readings: Value,
}

async fn ask(base_url: String) -> Result<Told> {
    Ok(Told {
        ledger: get_json(format!("{base_url}/_sim/ledger")).await?,
        requests: get_json(format!("{base_url}/_sim/requests")).await?,
        spaces: get_json(format!("{base_url}/_sim/spaces")).await?,
        readings: get_json(format!("{base_url}/_sim/readings")).await?,
    })
}

async fn get_json(url: String) -> Result<Value> {
    let reading = format!("reading {url}");
    serde_json::from_str(&get(url).await?).context(reading)
}

async fn get(url: String) -> Result<String> {
    Ok(http_client()?.get(url).send().await?.error_for_status()?.text().await?)
}

/// The statuses and annotations in a recording, as one text: what the operator writes on a resource.
fn statuses(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).context("reading it")?;
    let mut statuses = String::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("reading a line")?;
        if let Some(object) = line.get("version").or_else(|| line.get("deleted")) {
            statuses.extend([object["status"].to_string(), object["metadata"]["annotations"].to_string()]);
            statuses.push('\n');
        }
    }
    Ok(statuses)
}

/// The same files are compiled into the demo and the benchmarks, whose crate is named `operator`. `cfg(test)` does not
/// tell them from a test: it is set for benchmarks, too.
fn is_test() -> bool {
    !matches!(env!("CARGO_CRATE_NAME"), "demo" | "operator")
}

fn runtime() -> Result<&'static Runtime> {
    RUNTIME.as_ref().map_err(|error| Failure::new(format!("starting the runtime of recordings: {error}")))
}

/// Waits in this thread for what is done in the runtime of recordings.
fn wait<T: Send + 'static>(limit: Duration, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let task = runtime()?.spawn(async move {
        // Nobody listens once the limit is over.
        let _ = sender.send(work.await);
    });
    let result = receiver.recv_timeout(limit);
    task.abort();
    result.context("waiting in the runtime of recordings")?
}

//! A job: its settings, its states, and the log that grows while it runs.
//!
//! Absent: when a job changes, and what it does to Spaces; that is `releases`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::state::{Content, Identity, Micros, seconds};

/// How a job goes. What is not set here is taken from the Space's settings, then from the defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JobSettings {
    /// From its start to its end; 6 unless set.
    pub(super) seconds: Option<f64>,
    /// How much of that the job is `pending`; 0.5 unless set.
    pub(super) pending_seconds: Option<f64>,
    /// How many lines the log has before its last one; 10 unless set.
    pub(super) lines: Option<usize>,
    /// The text of these lines, instead of what a build prints.
    pub(super) messages: Option<Vec<String>>,
    /// `success` unless set.
    pub(super) outcome: Option<Outcome>,
    /// The last line of a failed job.
    pub(super) error: Option<String>,
}

/// How a job is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Success,
    Failed,
    /// Runs for ever, or until the reading `job_timeout_seconds`.
    Never,
}

impl JobSettings {
    /// These settings, completed by `other`.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            seconds: self.seconds.or(other.seconds),
            pending_seconds: self.pending_seconds.or(other.pending_seconds),
            lines: self.lines.or(other.lines),
            messages: self.messages.or_else(|| other.messages.clone()),
            outcome: self.outcome.or(other.outcome),
            error: self.error.or_else(|| other.error.clone()),
        }
    }

    pub(super) fn whole(&self) -> Micros {
        seconds(self.seconds.unwrap_or(6.0)).max(0)
    }

    pub(super) fn pending(&self) -> Micros {
        seconds(self.pending_seconds.unwrap_or(0.5)).clamp(0, self.whole())
    }

    fn line_count(&self) -> usize {
        self.messages.as_ref().map_or(self.lines.unwrap_or(10), Vec::len)
    }

    fn line(&self, index: usize, script: &[&str]) -> String {
        match (&self.messages, script.get(index)) {
            (Some(messages), _) => messages.get(index).cloned().unwrap_or_default(),
            (None, Some(line)) => (*line).to_owned(),
            (None, None) => format!("Waiting for the new release to become healthy ({})", index - script.len() + 1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobState {
    Pending,
    Running,
    Success,
    Failed,
}

/// What a job is for.
#[derive(Debug)]
pub(super) enum Work {
    Release(Release),
    /// A new computer, by its id.
    Computer(String),
    /// A new web app, by its id.
    Webapp(String),
}

/// A deploy or a promotion.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// The Space that changes.
    pub(super) space: String,
    /// The uat Space of a promotion.
    pub(super) source: Option<String>,
    /// What will run; of a promotion that reads late, nothing yet.
    pub(super) content: Option<Content>,
    pub(super) deployment: String,
    pub(super) display_name: String,
    /// Why it will fail, whatever the settings say.
    pub(super) defect: Option<String>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) identity: Identity,
    pub(super) work: Work,
    pub(super) settings: JobSettings,
    /// What it occupies, by the reading `busy_scope` at its acceptance.
    pub(super) locks: Vec<String>,
    pub(super) state: JobState,
    /// A word that the control API put in place of the state.
    pub(super) word: Option<String>,
    /// Answers 404 although it runs.
    pub(super) hidden: bool,
    /// Took effect: the job list shows it.
    pub(super) in_effect: bool,
    /// In effect, but waits for another job.
    pub(super) queued: bool,
    pub(super) started: Option<Micros>,
    pub(super) completed: Option<Micros>,
    pub(super) log: Vec<Value>,
    lines_written: usize,
}

impl Job {
    pub(super) fn new(identity: Identity, work: Work, settings: JobSettings, locks: Vec<String>) -> Self {
        Self {
            identity,
            work,
            settings,
            locks,
            state: JobState::Pending,
            word: None,
            hidden: false,
            in_effect: false,
            queued: false,
            started: None,
            completed: None,
            log: Vec::new(),
            lines_written: 0,
        }
    }

    pub(super) fn task_name(&self) -> &'static str {
        match &self.work {
            Work::Release(Release { source: None, .. }) => "deploy_space",
            Work::Release(Release { source: Some(_), .. }) => "promote_space",
            Work::Computer(_) => "provision_computer",
            Work::Webapp(_) => "provision_webapp",
        }
    }

    pub(super) fn release(&self) -> Option<&Release> {
        match &self.work {
            Work::Release(release) => Some(release),
            Work::Computer(_) | Work::Webapp(_) => None,
        }
    }

    /// Why it will fail, unless it is ended before: a defect of what was sent, or the settings.
    pub(super) fn planned_failure(&self) -> Option<String> {
        let defect = self.release().and_then(|release| release.defect.clone());
        let settings = (self.settings.outcome == Some(Outcome::Failed)).then(|| self.settings.error.clone());
        let error =
            |error: Option<String>| error.unwrap_or_else(|| "Health check failed: GET / answered 502".to_owned());
        defect.or_else(|| settings.map(error))
    }

    /// The word of `status`.
    pub(super) fn status(&self) -> Value {
        self.word.as_ref().map_or_else(|| json!(self.state), |word| json!(word))
    }

    /// Whether it has not ended and occupies one of these.
    pub(super) fn occupies(&self, locks: &[String]) -> bool {
        self.completed.is_none() && self.locks.iter().any(|lock| locks.contains(lock))
    }

    /// Writes the log lines that are due at `time`.
    pub(super) fn write_log(&mut self, time: Micros) {
        let (Some(started), None) = (self.started, self.completed) else { return };
        let script = match &self.work {
            Work::Release(Release { source: None, .. }) => DEPLOY_SCRIPT,
            Work::Release(Release { source: Some(_), .. }) => PROMOTE_SCRIPT,
            Work::Computer(_) | Work::Webapp(_) => PROVISION_SCRIPT,
        };
        let count = self.settings.line_count();
        let step = (self.settings.whole() - self.settings.pending()) / micros(count + 1);
        while self.lines_written < count && started + step * micros(self.lines_written + 1) <= time {
            self.log.push(log_entry("info", &self.settings.line(self.lines_written, script)));
            self.lines_written += 1;
        }
    }

    /// Writes the last line and ends.
    pub(super) fn end(&mut self, time: Micros, failure: Option<&str>) {
        self.write_log(time);
        self.completed = Some(time);
        self.queued = false;
        let (state, level, message) = match failure {
            Some(failure) => (JobState::Failed, "error", failure),
            None => (JobState::Success, "info", "Done."),
        };
        self.state = state;
        self.log.push(log_entry(level, message));
    }
}

/// A count of log lines as a factor of a span.
fn micros(count: usize) -> Micros {
    Micros::try_from(count).unwrap_or(Micros::MAX)
}

/// One entry of a job's log.
pub(super) fn log_entry(level: &str, message: &str) -> Value {
    json!({"level": level, "message": message})
}

const DEPLOY_SCRIPT: &[&str] = &[
    "Unpacking app.zip",
    "Reading bentocloud.toml",
    "Building the image from Dockerfile",
    "Step 1/3 : FROM python:3.13-slim",
    "Step 2/3 : COPY . /app",
    "Step 3/3 : RUN pip install -r requirements.txt",
    "Pushing the image to the registry",
    "Running the release commands",
    "Starting the processes of the new release",
    "Health check: GET / answered 200",
];

const PROMOTE_SCRIPT: &[&str] = &[
    "Reading the image tag of the uat space",
    "Copying the image tag to the production space",
    "Pulling the image",
    "Running the release commands",
    "Starting the processes of the new release",
    "Health check: GET / answered 502, waiting",
    "Health check: GET / answered 503, waiting",
    "Health check: GET / answered 200",
    "Switching the router to the new release",
    "Stopping the processes of the old release",
];

const PROVISION_SCRIPT: &[&str] = &[
    "Requesting resources",
    "Waiting for the machine",
    "Installing the runtime",
    "Configuring the network",
    "Requesting certificates",
    "Configuring the web server",
    "Starting services",
];

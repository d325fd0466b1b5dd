//! Deploys, promotions and what their jobs do to Spaces.
//!
//! A write is checked, accepted into the ledger, and from then on goes its way in [`World::settle`], in the order of due
//! times. Absent: HTTP and the machine's clock.

use jiff::Timestamp;

use super::jobs::{Job, JobSettings, JobState, Outcome, Release, Work, log_entry};
use super::readings::{
    BusyPolicy, BusyScope, Dedupe, FailedDeployStatus, Moves, PromoteNeeds, ReadsImage, SpaceType, Verdict,
    WordMeanwhile, YesNo, ZipCheck,
};
use super::requests::milliseconds;
use super::state::{Content, LedgerEntry, Micros, Refusal, Space, Stamp, World, seconds};

/// What is due at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// An accepted request takes effect.
    Effect(String),
    /// A job leaves `pending`.
    Run(String),
    /// A job ends, unless it has.
    End { job: String, failure: Option<String> },
    /// The word of a Space follows its time.
    Word { space: String, word: String },
}

/// An upload that was read to its end.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) display_name: Option<String>,
    /// Lower-case hex.
    pub(super) sha256: String,
    /// In bytes.
    pub(super) size: u64,
    /// What is wrong with the ZIP.
    pub(super) defect: Option<String>,
}

/// What a deploy or promotion is answered with.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) deployment: String,
    pub(super) display_name: String,
    pub(super) space: String,
    pub(super) job: String,
    pub(super) created: Micros,
}

/// A write that passed all checks.
struct Write {
    by: &'static str,
    space: String,
    source: Option<String>,
    upload: Option<Upload>,
}

impl Verdict {
    fn judge(self, message: &str) -> Result<(), Refusal> {
        match self {
            Self::Accept => Ok(()),
            Self::Refuse400 => Err(Refusal::new(400, message)),
            Self::Refuse409 => Err(Refusal::new(409, message)),
        }
    }
}

impl World {
    /// `POST /spaces/{id}/deploy`.
    pub(super) fn deploy(&mut self, tenant: &str, space: &str, mut upload: Upload) -> Result<Accepted, Refusal> {
        let space = self.own(&self.spaces, tenant, space)?;
        if space.production {
            self.readings.deploy_on_production.judge("Deploy to the uat space and promote it.")?;
        }
        if space.shown.status != "running" {
            self.readings.deploy_on_unready.judge("The space is not running.")?;
        }
        let limit = self.readings.display_name_limit;
        if upload.display_name.as_ref().is_some_and(|name| name.chars().count() > limit) {
            let message = format!("display_name: Ensure this field has no more than {limit} characters.");
            return Err(Refusal::new(400, message));
        }
        match (self.readings.zip_check, &upload.defect) {
            (ZipCheck::Refuse, Some(defect)) => return Err(Refusal::new(400, format!("zip_file: {defect}"))),
            (ZipCheck::Accept, Some(_)) => upload.defect = None,
            (ZipCheck::Job, _) | (_, None) => {}
        }
        if let (Dedupe::Newest, Some((newest, false))) = (self.readings.dedupe, &space.newest)
            && newest.sha256 == upload.sha256
        {
            return Ok(Accepted {
                deployment: newest.deployment.clone(),
                display_name: newest.display_name.clone(),
                space: space.identity.id.clone(),
                job: newest.job.clone(),
                created: self.jobs.get(&newest.job).map_or(self.now, |job| job.identity.created),
            });
        }
        self.check_free(&self.locks(space, None))?;
        let write = Write { by: "api", space: space.identity.id.clone(), source: None, upload: Some(upload) };
        Ok(self.accept(tenant, write))
    }

    /// `POST /spaces/{id}/promote`.
    pub(super) fn promote(&mut self, tenant: &str, space: &str) -> Result<Accepted, Refusal> {
        let space = self.own(&self.spaces, tenant, space)?;
        if space.production {
            self.readings.promote_on_production.judge("Only a uat space can be promoted.")?;
        }
        let (uat, production) = self.pair_of(space).ok_or_else(Refusal::not_found)?;
        if self.readings.promote_needs == PromoteNeeds::Content && uat.running.is_none() {
            return Err(Refusal::new(400, "Nothing was deployed to the uat space yet."));
        }
        if uat.running.is_some() && uat.newest.as_ref().is_some_and(|(_, failed)| *failed) {
            self.readings.promote_when_uat_failed.judge("The last deployment of the uat space failed.")?;
        }
        if production.shown.status != "running" {
            self.readings.deploy_on_unready.judge("The production space is not running.")?;
        }
        self.check_free(&self.locks(production, Some(uat)))?;
        let uat = uat.identity.id.clone();
        let space = production.identity.id.clone();
        let write = Write { by: "api", space, source: Some(uat.clone()), upload: None };
        let mut accepted = self.accept(tenant, write);
        if self.readings.promote_space_id == SpaceType::Uat {
            accepted.space = uat;
        }
        Ok(accepted)
    }

    /// A deploy by a person in Konigle's console: nothing is checked.
    pub(super) fn deploy_by_person(&mut self, space: &str, upload: Upload) -> Result<Accepted, Refusal> {
        let space = self.spaces.get(space).ok_or_else(Refusal::not_found)?;
        let tenant = space.identity.tenant.clone();
        let write = Write { by: "person", space: space.identity.id.clone(), source: None, upload: Some(upload) };
        Ok(self.accept(&tenant, write))
    }

    /// Starts the job that makes a computer or web app ready, and answers with its id.
    pub(super) fn provision(&mut self, tenant: &str, work: Work) -> String {
        let (kind, object) = match &work {
            Work::Computer(id) => ("computer", Some(id.clone())),
            Work::Webapp(id) => ("webapp", Some(id.clone())),
            Work::Release(_) => ("deploy", None),
        };
        let id = self.uuid();
        let identity = self.identity(tenant, Some(id.clone()));
        let entry = LedgerEntry { kind, by: "api", object, job: id.clone(), ..self.ledger_entry(tenant) };
        self.ledger.push(entry);
        self.start(Job::new(identity, work, self.job_defaults.clone(), Vec::new()));
        id
    }

    /// Ends a job now, unless it has ended.
    pub(super) fn finish(&mut self, job: &str, failure: Option<String>) {
        self.end(self.now, job, failure);
    }

    /// Lets everything happen that is due.
    pub(super) fn run_due_events(&mut self) {
        while let Some(first) = self.events.first_entry()
            && first.key().0 <= self.now
        {
            let ((at, _), event) = first.remove_entry();
            match event {
                Event::Effect(job) => self.take_effect(at, &job),
                Event::Run(job) => self.run(at, &job),
                Event::End { job, failure } => self.end(at, &job, failure),
                Event::Word { space, word } => {
                    if let Some(space) = self.spaces.get_mut(&space) {
                        space.change(at, |shown| shown.last_deployment_status = Some(word));
                    }
                }
            }
        }
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        let number = self.next_number();
        self.events.insert((at, number), event);
    }

    fn ledger_entry(&self, tenant: &str) -> LedgerEntry {
        let (time, accepted_ms) = (self.timestamp(), milliseconds(self.real));
        LedgerEntry { tenant: tenant.to_owned(), time, accepted_ms, ..LedgerEntry::default() }
    }

    /// What a job on `space` occupies.
    fn locks(&self, space: &Space, source: Option<&Space>) -> Vec<String> {
        match (self.readings.busy_scope, self.webapp_of(space)) {
            (BusyScope::Webapp, Some((webapp, _))) => vec![webapp.identity.id.clone()],
            (BusyScope::Computer, Some((_, computer))) => vec![computer.identity.id.clone()],
            (BusyScope::Space, _) | (_, None) => {
                [Some(space), source].into_iter().flatten().map(|space| space.identity.id.clone()).collect()
            }
        }
    }

    fn check_free(&self, locks: &[String]) -> Result<(), Refusal> {
        let status = match self.readings.busy_policy {
            BusyPolicy::Refuse409 => 409,
            BusyPolicy::Refuse423 => 423,
            BusyPolicy::Parallel | BusyPolicy::Queue => return Ok(()),
        };
        if self.jobs.values().any(|job| job.occupies(locks)) {
            return Err(Refusal::new(status, "Another deployment is in progress."));
        }
        Ok(())
    }

    /// Adds jobs of a Space that have ended: of its past, which the ledger does not tell.
    pub(super) fn add_ended_jobs(&mut self, space: &str, count: usize) {
        let Some(tenant) = self.spaces.get(space).map(|space| space.identity.tenant.clone()) else { return };
        for _ in 0..count {
            let (deployment, id) = (self.uuid(), self.uuid());
            let release = Release {
                space: space.to_owned(),
                source: None,
                content: None,
                deployment,
                display_name: String::new(),
                defect: None,
            };
            let identity = self.identity(&tenant, Some(id.clone()));
            let mut job = Job::new(identity, Work::Release(release), JobSettings::default(), Vec::new());
            job.in_effect = true;
            job.end(self.now, None);
            self.jobs.insert(id, job);
        }
    }

    /// Writes the accepted request into the ledger and starts its job.
    fn accept(&mut self, tenant: &str, write: Write) -> Accepted {
        let (deployment, id) = (self.uuid(), self.uuid());
        let identity = self.identity(tenant, Some(id.clone()));
        let created = identity.created;
        let kind = if write.source.is_some() { "promote" } else { "deploy" };
        let invented = format!("{} {}", if kind == "promote" { "Promotion" } else { "Deployment" }, identity.number);
        let (upload_name, defect, uploaded) = match write.upload {
            Some(upload) => (upload.display_name, upload.defect, Some((upload.sha256, upload.size))),
            None => (None, None, None),
        };
        let display_name = upload_name.filter(|name| !name.is_empty()).unwrap_or(invented);
        let release = Release {
            space: write.space.clone(),
            source: write.source,
            content: None,
            deployment,
            display_name,
            defect,
        };
        let content = match uploaded {
            Some((sha256, size)) => Some(release.content(&id, sha256, size)),
            None if self.readings.promote_reads_image == ReadsImage::Accept => self.read_image(&id, &release),
            None => None,
        };
        self.ledger.push(LedgerEntry {
            kind,
            by: write.by,
            space: Some(release.space.clone()),
            source: release.source.clone(),
            sha256: content.as_ref().map(|content| content.sha256.clone()),
            size: content.as_ref().map(|content| content.size),
            display_name: Some(release.display_name.clone()),
            deployment: Some(release.deployment.clone()),
            job: id.clone(),
            ..self.ledger_entry(tenant)
        });
        let accepted = Accepted {
            deployment: release.deployment.clone(),
            display_name: release.display_name.clone(),
            space: release.space.clone(),
            job: id,
            created,
        };
        let mut settings = self.job_defaults.clone();
        let mut locks = Vec::new();
        if let Some(space) = self.spaces.get(&release.space) {
            locks = self.locks(space, release.source.as_ref().and_then(|source| self.spaces.get(source)));
        }
        if let Some(space) = self.spaces.get_mut(&release.space) {
            settings = space.next_jobs.pop_front().unwrap_or_default().or(&space.job).or(&settings);
            space.newest = content.clone().map(|content| (content, false));
        }
        self.start(Job::new(identity, Work::Release(Release { content, ..release }), settings, locks));
        accepted
    }

    /// What the uat Space runs, as content of this promotion.
    fn read_image(&self, job: &str, release: &Release) -> Option<Content> {
        let running = self.spaces.get(release.source.as_ref()?)?.running.as_ref()?;
        Some(release.content(job, running.sha256.clone(), running.size))
    }

    fn start(&mut self, job: Job) {
        let id = job.identity.id.clone();
        self.jobs.insert(id.clone(), job);
        self.schedule(self.now + seconds(self.readings.effect_lag_seconds), Event::Effect(id));
        self.run_due_events();
    }

    fn take_effect(&mut self, at: Micros, id: &str) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.in_effect = true;
        if let Some(release) = job.release().cloned() {
            if self.readings.display_name_in_log == YesNo::Yes {
                job.log.push(log_entry("info", &format!("Deployment \"{}\"", release.display_name)));
            }
            if let Some(space) = self.spaces.get_mut(&release.space) {
                let readings = &self.readings;
                space.change(at, |shown| {
                    if matches!(readings.last_deployed_at_moves, Moves::Accept | Moves::Both) {
                        shown.last_deployed_at = Some(Stamp::At(at));
                    }
                    match readings.status_while_running {
                        WordMeanwhile::Previous => {}
                        WordMeanwhile::Word => shown.last_deployment_status = Some(readings.running_word.clone()),
                        WordMeanwhile::Null => shown.last_deployment_status = None,
                    }
                });
            }
        }
        self.begin_or_queue(at, id);
    }

    fn begin_or_queue(&mut self, at: Micros, id: &str) {
        let Some(job) = self.jobs.get(id) else { return };
        let queued = self.readings.busy_policy == BusyPolicy::Queue && self.is_behind_another(job);
        let run_at = at + job.settings.pending();
        let ending = self.ending(at, job);
        if let Some(job) = self.jobs.get_mut(id) {
            job.queued = queued;
        }
        if queued {
            return;
        }
        self.schedule(run_at, Event::Run(id.to_owned()));
        if let Some((end_at, failure)) = ending {
            self.schedule(end_at, Event::End { job: id.to_owned(), failure });
        }
    }

    fn is_behind_another(&self, job: &Job) -> bool {
        let number = job.identity.number;
        self.jobs.values().any(|other| other.identity.number < number && other.occupies(&job.locks))
    }

    /// When a job that begins at `at` ends, and how; none where it never does.
    fn ending(&self, at: Micros, job: &Job) -> Option<(Micros, Option<String>)> {
        let failure = job.planned_failure();
        let never = job.settings.outcome == Some(Outcome::Never) && failure.is_none();
        let limit = seconds(self.readings.job_timeout_seconds);
        if limit > 0 && (never || job.settings.whole() > limit) {
            return Some((at + limit, Some("The job took too long and was stopped.".to_owned())));
        }
        (!never).then(|| (at + job.settings.whole(), failure))
    }

    fn run(&mut self, at: Micros, id: &str) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.completed.is_none()) {
            job.state = JobState::Running;
            job.started = Some(at);
        }
    }

    fn end(&mut self, at: Micros, id: &str, failure: Option<String>) {
        let Some(job) = self.jobs.get(id).filter(|job| job.completed.is_none()) else { return };
        let release = job.release().cloned();
        let content = match &release {
            Some(Release { content: None, .. }) => release.as_ref().and_then(|release| self.read_image(id, release)),
            Some(release) => release.content.clone(),
            None => None,
        };
        let nothing = release.is_some() && content.is_none();
        let failure = failure.or_else(|| nothing.then(|| "Nothing runs in the uat space.".to_owned()));
        if let Some(job) = self.jobs.get_mut(id) {
            job.end(at, failure.as_deref());
        }
        let outcome = Some(if failure.is_some() { "failed" } else { "success" });
        if let Some(entry) = self.ledger.iter_mut().rev().find(|entry| entry.job == id) {
            entry.outcome = outcome;
            entry.ended = Timestamp::from_microsecond(at).ok();
            entry.ended_ms = Some(milliseconds(self.real));
            entry.sha256 = content.as_ref().map(|content| content.sha256.clone());
            entry.size = content.as_ref().map(|content| content.size);
        }
        match release {
            Some(release) => self.release_ended(at, &release, content, failure.is_some()),
            None => self.provision_ended(at, id, failure.is_some()),
        }
        let mut queued: Vec<_> = self.jobs.values().filter(|job| job.queued).map(|job| &job.identity).collect();
        queued.sort_by_key(|identity| identity.number);
        for id in queued.into_iter().map(|identity| identity.id.clone()).collect::<Vec<_>>() {
            self.begin_or_queue(at, &id);
        }
    }

    fn release_ended(&mut self, at: Micros, release: &Release, content: Option<Content>, failed: bool) {
        let readings = &self.readings;
        let Some(space) = self.spaces.get_mut(&release.space) else { return };
        let word = if failed { readings.failed_word.clone() } else { readings.success_word.clone() };
        let lag = seconds(readings.status_lag_seconds);
        space.change(at, |shown| {
            let moves = match readings.last_deployed_at_moves {
                Moves::Accept => false,
                Moves::End | Moves::Both => true,
                Moves::Success => !failed,
            };
            if moves {
                shown.last_deployed_at = Some(Stamp::At(at));
            }
            if lag == 0 {
                shown.last_deployment_status = Some(word.clone());
            }
            match (failed, readings.failed_deploy_status) {
                (true, FailedDeployStatus::Error) => "error".clone_into(&mut shown.status),
                (false, _) if shown.status == "error" => "running".clone_into(&mut shown.status),
                (_, _) => {}
            }
        });
        if let Some((newest, newest_failed)) = &mut space.newest
            && newest.deployment == release.deployment
        {
            *newest_failed = failed;
        }
        if !failed {
            space.running = content;
        }
        if lag > 0 {
            let space = release.space.clone();
            self.schedule(at + lag, Event::Word { space, word });
        }
    }

    fn provision_ended(&mut self, at: Micros, id: &str, failed: bool) {
        match self.jobs.get(id).map(|job| &job.work) {
            Some(Work::Computer(computer)) => {
                if let Some(computer) = self.computers.get_mut(computer) {
                    if failed { "error" } else { "ready" }.clone_into(&mut computer.status);
                    computer.public_ip = (!failed).then(|| "203.0.113.10".to_owned());
                }
            }
            Some(Work::Webapp(webapp)) => {
                let status = if failed { "error" } else { "running" };
                for space in self.spaces.values_mut().filter(|space| space.webapp == *webapp) {
                    space.change(at, |shown| status.clone_into(&mut shown.status));
                }
            }
            Some(Work::Release(_)) | None => {}
        }
    }
}

impl Release {
    fn content(&self, job: &str, sha256: String, size: u64) -> Content {
        let (display_name, deployment) = (self.display_name.clone(), self.deployment.clone());
        Content { sha256, size, display_name, deployment, job: job.to_owned() }
    }
}

//! Every single fault at every pass, against a toy of the remote under every reading of its open questions.
//!
//! The functions that ship decide; what is around them here is small: one resource with a version, one process with a
//! memory, one Space with its jobs. A crash forgets the memory. Each schedule must come to rest or ask for a person, and
//! never may two releases overlap, a digest be released twice, or an older digest follow a newer one.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use super::{Step, claim, next_step};
use crate::api::{AttemptResult, KonigleSpaceStatus, PairStatus};
use crate::judge::{judge, last_sent};
use crate::konigle::model::{Deployment, JobStatus};
use crate::konigle::{Answer, Rejection};
use crate::observation::{AttemptFacts, JobTimes};
use crate::test_facts::*;
use crate::{status, time};

/// Between two passes while faults happen, in seconds; later ones are further apart.
const PACE: i64 = 30;
/// Passes in which the one fault may happen.
const FAULTY_PASSES: usize = 12;

/// What the API does not tell.
#[derive(Clone, Copy, Debug)]
struct Reading {
    moves: Moves,
    word_while_running: Option<&'static str>,
    refuses_when_busy: bool,
    /// How old the Space is when it is read, in seconds.
    lag: i64,
}

/// When `last_deployed_at` moves.
#[derive(Clone, Copy, Debug)]
enum Moves {
    Accept,
    End,
    Success,
}

#[derive(Clone, Copy, Debug)]
struct Scenario {
    job_seconds: i64,
    first_fails: bool,
    edited_in_pass: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    StaleRead,
    CrashBeforeWrite,
    CrashAfterWrite,
    CrashAfterClaim,
    RequestLost,
    RequestDelayed,
    AnswerLost,
    CrashAfterEffect,
    CrashAfterReceipt,
}

#[derive(Clone, Debug)]
struct RemoteJob {
    digest: String,
    from: i64,
    to: i64,
    succeeds: bool,
}

/// What the process knows of the attempt with this nonce.
#[derive(Clone)]
struct Memory {
    nonce: String,
    first_seen: i64,
    answer: Option<(i64, Answer)>,
    ended_since: Option<i64>,
}

struct World {
    reading: Reading,
    scenario: Scenario,
    fault: Option<(usize, Fault)>,
    reached: BTreeSet<(usize, Fault)>,
    pass: usize,
    now: i64,
    jobs: Vec<RemoteJob>,
    status: KonigleSpaceStatus,
    version: u64,
    before: (KonigleSpaceStatus, u64),
    memory: Option<Memory>,
    /// What holds in every pass.
    constant: Facts,
}

/// The process died: the pass ends here.
struct Crash;

fn at(seconds: i64) -> String {
    time::text(now().checked_add(SignedDuration::from_secs(seconds)).unwrap())
}

impl World {
    fn new(reading: Reading, scenario: Scenario, fault: Option<(usize, Fault)>) -> Self {
        let status = KonigleSpaceStatus::default();
        let before = (status.clone(), 0);
        let (reached, jobs, constant) = (BTreeSet::new(), Vec::new(), Facts::uat());
        Self {
            reading,
            scenario,
            fault,
            reached,
            pass: 0,
            now: 0,
            jobs,
            status,
            version: 0,
            before,
            memory: None,
            constant,
        }
    }

    fn hits(&mut self, fault: Fault) -> bool {
        self.reached.insert((self.pass, fault));
        self.fault == Some((self.pass, fault))
    }

    /// Somebody deployed an hour before; then came our jobs.
    fn shown(&self) -> PairStatus {
        let read_at = self.now - self.reading.lag;
        let word = |succeeds: bool| if succeeds { "success" } else { "failed" };
        let (mut last_at, mut last_word) = (BEFORE.to_owned(), "success");
        for job in self.jobs.iter().filter(|job| job.from <= read_at) {
            let runs = read_at < job.to;
            match self.reading.moves {
                Moves::Accept => last_at = at(job.from),
                Moves::End if !runs => last_at = at(job.to),
                Moves::Success if !runs && job.succeeds => last_at = at(job.to),
                Moves::End | Moves::Success => {}
            }
            last_word = if runs { self.reading.word_while_running.unwrap_or(last_word) } else { word(job.succeeds) };
        }
        pair(Some(&last_at), Some(last_word))
    }

    fn accept(&mut self, digest: &str, delay: i64) -> Answer {
        let from = self.now + delay;
        if self.reading.refuses_when_busy && self.jobs.iter().any(|job| from < job.to) {
            return Answer::Rejected(Rejection::Busy { code: 409, detail: None });
        }
        let succeeds = !(self.scenario.first_fails && self.jobs.is_empty());
        self.jobs.push(RemoteJob { digest: digest.to_owned(), from, to: from + self.scenario.job_seconds, succeeds });
        let job_id = (self.jobs.len() - 1).to_string();
        Answer::Accepted(Deployment { job_id, id: None, space_id: None, created_at: None, display_name: None })
    }

    fn facts(&mut self, status: KonigleSpaceStatus) -> Facts {
        let shown = self.shown();
        let mut facts = self
            .constant
            .clone()
            .shows(shown.last_deployed_at.as_ref().unwrap(), shown.last_deployment_status.as_ref().unwrap());
        facts.desired.timeout = Duration::from_mins(5);
        if self.scenario.edited_in_pass.is_some_and(|edited| edited <= self.pass) {
            (facts.desired.wish, facts.desired.generation) = (deploys(B), 2);
        }
        facts.seen.now = now().checked_add(SignedDuration::from_secs(self.now)).unwrap();
        let job = |id: &String| &self.jobs[id.parse::<usize>().unwrap()];
        if let Some(attempt) = &status.attempt {
            let fresh = Memory { nonce: attempt.nonce.clone(), first_seen: self.now, answer: None, ended_since: None };
            let known = self.memory.take().filter(|known| known.nonce == attempt.nonce);
            let memory = self.memory.insert(known.unwrap_or(fresh));
            let found = attempt.job_id.as_ref().map(job);
            let ended = found.is_some_and(|job| job.to <= self.now);
            memory.ended_since = ended.then(|| memory.ended_since.unwrap_or(self.now));
            let since = |then: i64| Duration::from_secs(u64::try_from(self.now - then).unwrap());
            facts.seen.attempt = Some(AttemptFacts {
                seen_for: since(memory.first_seen),
                answer: memory.answer.clone().map(|(then, answer)| (since(then), answer)),
                job: found.map(|found| Ok(as_read(found, self.now))),
                job_ended_for: memory.ended_since.map_or(Duration::ZERO, since),
                ..AttemptFacts::default()
            });
        } else if status.settled.as_ref().is_some_and(|settled| *settled != shown) {
            let times =
                |found: &RemoteJob| JobTimes { created_at: Some(at(found.from)), completed_at: Some(at(found.to)) };
            facts.seen.last_job =
                last_sent(&status).and_then(|entry| entry.job_id.as_ref()).map(|id| Ok(times(job(id))));
        }
        facts.status = status;
        facts
    }

    /// A guarded write: it lands on the version that was read, or not at all.
    fn write(&mut self, read: u64, status: KonigleSpaceStatus) -> Result<bool, Crash> {
        if self.hits(Fault::CrashBeforeWrite) {
            return Err(Crash);
        }
        if read != self.version {
            return Ok(false);
        }
        if status == self.status {
            return Ok(true);
        }
        self.before = (std::mem::replace(&mut self.status, status), self.version);
        self.version += 1;
        if self.hits(Fault::CrashAfterWrite) { Err(Crash) } else { Ok(true) }
    }

    /// One pass; gives the step that it came to.
    fn run(&mut self) -> Result<Option<Step>, Crash> {
        let stale = self.hits(Fault::StaleRead);
        let (read, version) = if stale { self.before.clone() } else { (self.status.clone(), self.version) };
        let mut facts = self.facts(read);
        let judged = facts.judge();
        let step = next_step(&facts.desired, &facts.seen, &judged);
        let Step::Start(release) = &step else {
            let rendered = status::render(&facts.desired, &facts.seen, &judged, &step);
            return Ok(self.write(version, rendered)?.then_some(step));
        };
        let nonce = format!("k{}-{}", self.pass, self.version);
        let claimed = claim(&judged, &facts.desired, &facts.seen, release, nonce.clone());
        let rendered = status::render(&facts.desired, &facts.seen, &claimed, &step);
        if !self.write(version, rendered)? {
            return Ok(None);
        }
        if self.hits(Fault::CrashAfterClaim) {
            return Err(Crash);
        }
        let answer = self.submit(&release.wanted.digest)?;
        self.memory =
            Some(Memory { nonce, first_seen: self.now, answer: Some((self.now, answer.clone())), ended_since: None });
        if let Answer::Accepted(deployment) = answer {
            // The receipt lands whatever else was written meanwhile.
            let written = self.status.attempt.as_mut().map(|attempt| attempt.job_id = Some(deployment.job_id));
            self.version += u64::from(written.is_some());
            return if self.hits(Fault::CrashAfterReceipt) { Err(Crash) } else { Ok(Some(step)) };
        }
        facts.seen.attempt = Some(AttemptFacts { answer: Some((Duration::ZERO, answer)), ..AttemptFacts::default() });
        let judged = judge(&self.status, &facts.desired, &facts.seen);
        let step = next_step(&facts.desired, &facts.seen, &judged);
        let rendered = status::render(&facts.desired, &facts.seen, &judged, &step);
        Ok(self.write(self.version, rendered)?.then_some(step))
    }

    fn submit(&mut self, digest: &str) -> Result<Answer, Crash> {
        let unknown = || Answer::Unknown("the connection broke".to_owned());
        if self.hits(Fault::RequestLost) {
            return Ok(unknown());
        }
        if self.hits(Fault::RequestDelayed) {
            let _ = self.accept(digest, 100);
            return Ok(unknown());
        }
        let answer = self.accept(digest, 0);
        if self.hits(Fault::CrashAfterEffect) {
            return Err(Crash);
        }
        Ok(if self.hits(Fault::AnswerLost) { unknown() } else { answer })
    }

    /// Runs until all waits are over, and gives the last step.
    fn settle(&mut self) -> Option<Step> {
        let mut last = None;
        for pass in 0..FAULTY_PASSES + 16 {
            self.pass = pass;
            let version = self.version;
            match self.run() {
                Ok(step) => last = step,
                Err(Crash) => self.memory = None,
            }
            if pass >= FAULTY_PASSES && version == self.version && matches!(last, Some(Step::Rest(_))) {
                break;
            }
            self.now += if pass < FAULTY_PASSES { PACE } else { 10 * PACE };
        }
        last
    }

    fn assert_safe(&self, last: Option<&Step>) {
        let schedule = || format!("{:?} {:?} {:?}: {:#?}", self.reading, self.scenario, self.fault, self.jobs);
        for (earlier, later) in self.jobs.iter().zip(self.jobs.iter().skip(1)) {
            assert!(earlier.to <= later.from, "two releases overlap: {}", schedule());
            assert!(earlier.digest <= later.digest, "an older digest followed a newer one: {}", schedule());
            let again = earlier.digest == later.digest && earlier.succeeds;
            assert!(!again, "a digest was released twice: {}", schedule());
        }
        match last {
            Some(Step::Rest(_)) => {
                let runs = self.jobs.iter().rfind(|job| job.succeeds).map(|job| job.digest.as_str());
                let wanted = if self.scenario.edited_in_pass.is_some() { B } else { A };
                let recorded = self.status.release.as_ref().map(|release| release.digest.as_str());
                assert_eq!((runs, recorded), (Some(wanted), Some(wanted)), "{}", schedule());
                assert_eq!(self.status.history[0].result, AttemptResult::Succeeded);
            }
            Some(Step::Stall(_)) => {
                assert!(self.fault.is_some(), "a person is asked without any fault: {}", schedule());
            }
            other => panic!("{other:?} is neither rest nor a question to a person: {}", schedule()),
        }
    }
}

fn as_read(job: &RemoteJob, now: i64) -> crate::konigle::model::Job {
    let ended = if job.succeeds { JobStatus::Success } else { JobStatus::Failed };
    let job_status = if now < job.to { JobStatus::Running } else { ended };
    let completed_at = job_status.ended().then(|| at(job.to));
    crate::konigle::model::Job { created_at: Some(at(job.from)), completed_at, ..crate::test_facts::job(job_status) }
}

fn readings(moves: Moves) -> Vec<Reading> {
    let mut readings = Vec::new();
    for word_while_running in [None, Some("running"), Some("blue")] {
        for (refuses_when_busy, lag) in [(true, 0), (false, 0), (false, 60)] {
            readings.push(Reading { moves, word_while_running, refuses_when_busy, lag });
        }
    }
    readings
}

/// Runs every schedule with at most one fault.
fn check(moves: Moves) {
    let mut schedules = 0;
    for reading in readings(moves) {
        for job_seconds in [0, 90, 270] {
            for (first_fails, edited_in_pass) in [(false, None), (true, None), (false, Some(2))] {
                let scenario = Scenario { job_seconds, first_fails, edited_in_pass };
                let mut calm = World::new(reading, scenario, None);
                let last = calm.settle();
                calm.assert_safe(last.as_ref());
                // Up to its fault a schedule is the calm one: only what that one reached can go wrong.
                for fault in calm.reached.iter().copied().filter(|(pass, _)| *pass < FAULTY_PASSES) {
                    let mut world = World::new(reading, scenario, Some(fault));
                    let last = world.settle();
                    world.assert_safe(last.as_ref());
                    schedules += 1;
                }
            }
        }
    }
    assert!(schedules > 2500, "only {schedules} schedules");
}

#[test]
fn no_fault_makes_two_releases_of_one_where_the_time_moves_at_accept() {
    check(Moves::Accept);
}

#[test]
fn no_fault_makes_two_releases_of_one_where_the_time_moves_at_the_end() {
    check(Moves::End);
}

#[test]
fn no_fault_makes_two_releases_of_one_where_the_time_moves_at_success() {
    check(Moves::Success);
}

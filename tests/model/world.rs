//! The whole state: resources, processes, the server, and what may still go wrong; and everything that may happen next.

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpaceStatus, UnknownOutcomePolicy};
use konigle_operator::judge::last_sent;

use crate::facts::{RETRY_LIMIT, SECOND, UAT, begin, canonical, digest, ticks_after, uid_text};
use crate::process::{Flow, Process};
use crate::properties::Broken;
use crate::server::{FOREIGN, Nonce, Root, Server};
use crate::setting::{Budget, Second, Setting};
use crate::shared::Shared;

pub type Status = Shared<KonigleSpaceStatus>;

/// A `KonigleSpace`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    pub uid: u8,
    pub generation: u8,
    pub resets: u8,
    pub status: Status,
    /// What the operator noted on it.
    pub released: Option<String>,
}

/// The attempt of a deleted resource that the present one took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TakenOver {
    pub nonce: Nonce,
    /// Of the present one, when it did.
    pub uid: u8,
    pub generation: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub resources: [Option<Resource>; 2],
    pub processes: Vec<Process>,
    pub server: Server,
    pub budget: Budget,
    /// How many resources of this name there were.
    pub made: [u8; 2],
    /// What was noted on the resource that was deleted.
    pub backup: [Option<String>; 2],
    /// The highest number that was ever given to an attempt of the present resource.
    pub numbers: [u8; 2],
    /// What the present run of attempts goes back to; a successor goes on with what it takes over.
    pub roots: [Root; 2],
    pub inherited: [Option<TakenOver>; 2],
    pub broken: Broken,
    /// Only where records are kept whole: the real time.
    pub elapsed: i64,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A process looks at everything and plans; with `stale`, its reads of Konigle are as old as they may be.
    Pass {
        process: u8,
        slot: u8,
        stale: bool,
    },
    /// What was planned is written, or meets a conflict.
    Write {
        process: u8,
        slot: u8,
    },
    /// The claim is stored, but its writer does not hear of it.
    WriteUnheard {
        process: u8,
        slot: u8,
    },
    /// Whoever claimed looks whether another has a release open there.
    GiveWay {
        process: u8,
        slot: u8,
    },
    /// A promotion takes its hold.
    Hold {
        process: u8,
    },
    /// It compares the uat Space with what was pinned.
    Compare {
        process: u8,
        stale: bool,
    },
    /// It reads both resources again.
    ReadAgain {
        process: u8,
    },
    /// The request is sent, and comes to this.
    Send {
        process: u8,
        slot: u8,
        course: Course,
    },
    /// The job's id is recorded.
    Receipt {
        process: u8,
        slot: u8,
    },
    /// The job's id is noted in the hold.
    Note {
        process: u8,
    },
    Crash {
        process: u8,
    },
    /// A late request takes effect.
    Arrive {
        index: u8,
    },
    End {
        index: u8,
        succeeds: bool,
    },
    Edit {
        slot: u8,
    },
    /// Somebody else deploys to this Space.
    Human {
        space: u8,
    },
    Reset {
        slot: u8,
    },
    Delete {
        slot: u8,
    },
    Make {
        slot: u8,
    },
    Tick,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Course {
    /// It is answered as the server means it.
    Answered,
    /// It took effect, and the answer is a 500, or another that does not say so.
    AnswerLost,
    /// It takes effect some time later; the answer is lost.
    Late,
    /// It never arrives, and nobody can know.
    Lost,
    /// No connection stood, or the fence had passed.
    Unsent,
    /// The server turns it away for now.
    TurnedAway,
    /// The server refuses it for good.
    Refused,
}

impl World {
    pub fn new(setting: &Setting) -> Self {
        Self {
            resources: [UAT, SECOND].map(|slot| setting.has(slot).then(|| Self::made_now(1, None))),
            processes: vec![Process::default(); setting.replicas],
            server: Server::new(setting),
            budget: setting.budget,
            made: [1, 1],
            backup: [None, None],
            numbers: [0, 0],
            roots: [Root::default(), Root::default()],
            inherited: [None, None],
            broken: Broken::default(),
            elapsed: 0,
        }
    }

    fn made_now(uid: u8, released: Option<String>) -> Resource {
        Resource { uid, generation: 1, resets: 0, status: Shared::new(KonigleSpaceStatus::default()), released }
    }

    pub fn now(&self) -> jiff::Timestamp {
        ticks_after(begin(), self.elapsed)
    }

    pub fn resource(&self, slot: u8) -> Option<&Resource> {
        self.resources[usize::from(slot)].as_ref()
    }

    /// The record as it is kept.
    pub fn kept(&self, status: KonigleSpaceStatus, setting: &Setting) -> Status {
        if setting.exact { Shared::new(status) } else { Shared::new(canonical(status, self.now(), setting)) }
    }

    /// All that may happen.
    pub fn actions(&self, setting: &Setting, actions: &mut Vec<Action>) {
        if self.broken.any() || self.is_cut(setting) {
            return;
        }
        for (index, _) in (0..).zip(&self.server.pending) {
            actions.push(Action::Arrive { index });
        }
        for (index, job) in (0..).zip(&self.server.jobs) {
            if job.state == crate::server::State::Running {
                actions.push(Action::End { index, succeeds: true });
                if self.budget.left().failures > 0 {
                    actions.push(Action::End { index, succeeds: false });
                }
            }
        }
        // What is due comes before everything else: the assumptions say "within".
        if self.server.is_due(setting) {
            return;
        }
        for process in 0..setting.replicas {
            self.actions_of(setting, process, actions);
        }
        self.outside(setting, actions);
        if self.slow() <= self.budget.left().slow {
            actions.push(Action::Tick);
        }
    }

    fn actions_of(&self, setting: &Setting, index: usize, actions: &mut Vec<Action>) {
        let process = u8::try_from(index).expect("few processes");
        let mut busy = self.processes[index] != Process::default();
        for slot in [UAT, SECOND] {
            let flow = &self.processes[index].flows[usize::from(slot)];
            busy |= *flow != Flow::Idle;
            match flow {
                Flow::Idle if self.resource(slot).is_some() => {
                    actions.push(Action::Pass { process, slot, stale: false });
                    if self.server.lags(setting) {
                        actions.push(Action::Pass { process, slot, stale: true });
                    }
                }
                Flow::Idle => {}
                Flow::Record { .. } => actions.push(Action::Write { process, slot }),
                Flow::Claim { .. } => {
                    actions.push(Action::Write { process, slot });
                    if self.budget.left().unheard > 0 {
                        actions.push(Action::WriteUnheard { process, slot });
                    }
                }
                Flow::GiveWay(_) => actions.push(Action::GiveWay { process, slot }),
                Flow::Hold(_) => actions.push(Action::Hold { process }),
                Flow::Compare(_) => {
                    actions.push(Action::Compare { process, stale: false });
                    if self.server.lags(setting) {
                        actions.push(Action::Compare { process, stale: true });
                    }
                }
                Flow::ReadAgain(_) => actions.push(Action::ReadAgain { process }),
                Flow::Send(sending) => {
                    if sending.late() {
                        actions.push(Action::Send { process, slot, course: Course::Unsent });
                    } else {
                        for course in self.courses(setting) {
                            actions.push(Action::Send { process, slot, course });
                        }
                    }
                }
                Flow::Receipt { .. } => actions.push(Action::Receipt { process, slot }),
                Flow::Note { .. } => actions.push(Action::Note { process }),
            }
        }
        if busy && self.budget.left().crashes > 0 {
            actions.push(Action::Crash { process });
        }
    }

    fn courses(&self, setting: &Setting) -> impl Iterator<Item = Course> {
        let lost = self.budget.left().lost > 0;
        let late = lost && setting.effect_lag != Some(0);
        let refused = self.budget.left().refused > 0;
        [
            (Course::Answered, true),
            (Course::AnswerLost, lost),
            (Course::Late, late),
            (Course::Lost, lost),
            (Course::TurnedAway, refused),
            (Course::Refused, refused),
        ]
        .into_iter()
        .filter_map(|(course, may)| may.then_some(course))
    }

    fn outside(&self, setting: &Setting, actions: &mut Vec<Action>) {
        for slot in [UAT, SECOND] {
            let there = setting.has(slot);
            if self.resource(slot).is_some() {
                let edited = !setting.promotes(slot) || !setting.automatic || setting.timeout_after_an_edit.is_some();
                if self.budget.left().edits > 0 && edited {
                    actions.push(Action::Edit { slot });
                }
                if self.budget.left().resets > 0 {
                    actions.push(Action::Reset { slot });
                }
                if self.budget.left().deletions > 0 {
                    actions.push(Action::Delete { slot });
                }
            } else if there && !self.server.lags(setting) {
                // One that knows nothing would not know an old state.
                actions.push(Action::Make { slot });
            }
            if self.budget.left().humans > 0 && there && setting.space_of(slot) == slot {
                actions.push(Action::Human { space: slot });
            }
        }
    }

    /// What comes of it. `None`: nothing changes, or it cannot happen.
    pub fn after(&self, setting: &Setting, action: Action) -> Option<Self> {
        let mut next = self.clone();
        next.happen(setting, action);
        next.budget.spent_since(self.budget);
        (next != *self).then_some(next)
    }

    /// The same, with the processes in order: they are alike.
    pub fn in_order(mut self) -> Self {
        self.processes.sort_by_cached_key(Process::order);
        self
    }

    fn happen(&mut self, setting: &Setting, action: Action) {
        match action {
            Action::Pass { process, slot, stale } => {
                self.pass(setting, process, slot, stale);
                if !stale {
                    self.server.was_read(setting);
                }
            }
            Action::Write { process, slot } => self.write(setting, process, slot),
            Action::WriteUnheard { process, slot } => {
                self.budget.unheard -= 1;
                self.write_unheard(setting, process, slot);
            }
            Action::GiveWay { process, slot } => self.give_way(setting, process, slot),
            Action::Hold { process } => self.hold(setting, process),
            Action::Compare { process, stale } => self.compare(setting, process, stale),
            Action::ReadAgain { process } => self.read_again(setting, process),
            Action::Send { process, slot, course } => self.send(setting, process, slot, course),
            Action::Receipt { process, slot } => self.receipt(setting, process, slot),
            Action::Note { process } => self.note(process),
            Action::Crash { process } => {
                self.budget.crashes -= 1;
                self.processes[usize::from(process)] = Process::default();
            }
            Action::Arrive { index } => self.arrive(setting, usize::from(index)),
            Action::End { index, succeeds } => self.end(setting, usize::from(index), succeeds),
            Action::Edit { slot } => {
                self.budget.edits -= 1;
                self.change(slot, |resource| resource.generation += 1);
            }
            Action::Human { space } => {
                self.budget.humans -= 1;
                self.server.accept(setting.reading, space, Some(FOREIGN), None);
            }
            Action::Reset { slot } => {
                self.budget.resets -= 1;
                self.change(slot, |resource| resource.resets += 1);
            }
            Action::Delete { slot } => {
                self.budget.deletions -= 1;
                self.notice_deletion(slot);
                let gone = self.resources[usize::from(slot)].take();
                self.backup[usize::from(slot)] = gone.and_then(|gone| gone.released).filter(|_| setting.restored);
                self.touched(slot);
            }
            Action::Make { slot } => {
                let index = usize::from(slot);
                self.made[index] += 1;
                self.numbers[index] = 0;
                self.inherited[index] = None;
                self.resources[index] = Some(Self::made_now(self.made[index], self.backup[index].take()));
            }
            Action::Tick => self.tick(setting),
        }
        self.server.forget(setting);
    }

    /// Changes a resource: whoever read it before can no longer write.
    pub fn change(&mut self, slot: u8, change: impl FnOnce(&mut Resource)) {
        if let Some(resource) = &mut self.resources[usize::from(slot)] {
            change(resource);
        }
        self.touched(slot);
    }

    fn touched(&mut self, slot: u8) {
        for process in &mut self.processes {
            process.flows[usize::from(slot)].overtaken();
        }
    }

    /// How many claims miss their fence if time goes on now.
    fn slow(&self) -> u8 {
        let flows = self.processes.iter().flat_map(|process| &process.flows);
        let slow = flows.filter_map(Flow::unsent).filter(|sending| sending.is_nearly_late()).count();
        u8::try_from(slow).expect("few processes")
    }

    fn tick(&mut self, setting: &Setting) {
        self.budget.slow = self.budget.slow.saturating_sub(self.slow());
        self.server.tick(setting);
        if setting.exact {
            self.elapsed += 1;
        } else {
            let later = ticks_after(begin(), 1);
            let age = |status: &Status| {
                setting.memo.aged(status, || Shared::new(canonical((**status).clone(), later, setting)))
            };
            for resource in self.resources.iter_mut().flatten() {
                resource.status = age(&resource.status);
            }
            for flow in self.processes.iter_mut().flat_map(|process| &mut process.flows) {
                if let Some(status) = flow.status_mut() {
                    *status = age(status);
                }
            }
            // A successor takes it over with its deadline.
            for lost in self.processes.iter_mut().flat_map(|process| &mut process.lost) {
                lost.status = age(&lost.status);
            }
        }
        for process in &mut self.processes {
            process.tick(setting);
        }
    }

    /// Whether there are more attempts than the setting looks at.
    pub fn is_cut(&self, setting: &Setting) -> bool {
        self.numbers.iter().any(|number| *number >= setting.most_attempts)
    }

    /// Whether nothing is left to do: every wish is met and says so, or a person is asked where the setting expects it.
    pub fn is_done(&self, setting: &Setting) -> bool {
        [UAT, SECOND]
            .into_iter()
            .filter(|slot| setting.has(*slot))
            .all(|slot| self.resource(slot).is_some_and(|resource| self.is_settled(setting, slot, resource)))
    }

    fn is_settled(&self, setting: &Setting, slot: u8, resource: &Resource) -> bool {
        let status = &resource.status;
        if status.observed_generation != i64::from(resource.generation) {
            return false;
        }
        if let Some(stalled) = status.condition("Stalled").filter(|stalled| stalled.status == "True") {
            return self.may_ask(setting, slot, &stalled.reason);
        }
        if setting.promotes(slot) && self.resource(UAT).is_none_or(|uat| uat.status.is_true("Stalled")) {
            // What it waits for is a person's to mend.
            return status.attempt.is_none();
        }
        let uat_runs =
            self.resource(UAT).and_then(|uat| uat.status.release.as_ref()).map(|release| release.digest.clone());
        if setting.promotes(slot) && !setting.automatic && uat_runs != Some(digest(setting.wanted(resource.generation)))
        {
            // Approved is what uat does not run: that is a person's to change.
            return status.attempt.is_none();
        }
        let wanted = if setting.promotes(slot) && setting.automatic {
            uat_runs
        } else {
            Some(digest(setting.wanted(resource.generation)))
        };
        let runs = status.release.as_ref().map(|release| release.digest.clone());
        let met = status.is_true("Ready") && status.attempt.is_none() && runs == wanted;
        met || (setting.promotes(slot) && self.is_refused(resource))
    }

    /// A promotion from what the last request of the uat resource does not prove is refused until a person asks for a
    /// reset.
    fn is_refused(&self, resource: &Resource) -> bool {
        let Some(uat) = self.resource(UAT).map(|uat| &uat.status) else { return false };
        let proven = uat.release.as_ref().is_some_and(|release| {
            let last = last_sent(uat)
                .is_some_and(|sent| sent.result == AttemptResult::Succeeded && sent.digest == release.digest);
            last && release.attribution == Attribution::Confirmed
        });
        !proven && uat.attempt.is_none() && resource.status.attempt.is_none()
    }

    fn may_ask(&self, setting: &Setting, slot: u8, reason: &str) -> bool {
        let human = setting.budget.humans > 0;
        match reason {
            "OutcomeUnknown" => setting.unknown_outcome == UnknownOutcomePolicy::Hold || human,
            // What was promoted has no source any more that could be compared.
            "ContentNotVerified" if setting.budget.deletions > 0 => true,
            "Drifted" | "ContentNotVerified" | "DriftLoop" => {
                human || setting.effect_lag.is_none() || setting.second == Second::Twin
            }
            "RetriesExceeded" => i64::from(self.numbers[usize::from(slot)]) >= RETRY_LIMIT,
            "RequestRejected" | "ArtifactRejected" | "ArtifactTooLarge" => setting.budget.refused > 0,
            "SpaceConflict" => setting.second == Second::Twin,
            "SourceNotFound" => setting.budget.deletions > 0,
            _ => false,
        }
    }

    /// What the resources say and what the server has, for people.
    pub fn tell(&self) -> String {
        let mut told = Vec::new();
        for (slot, resource) in self.resources.iter().enumerate() {
            let Some(Resource { uid, generation, status, .. }) = resource else { continue };
            let short = |digest: &str| digest.chars().last().unwrap_or('-');
            let conditions: Vec<String> = status
                .conditions
                .iter()
                .map(|condition| format!("{}={} {}", condition.condition_type, condition.status, condition.reason))
                .collect();
            let history: Vec<String> = status
                .history
                .iter()
                .map(|sent| format!("{}: {} {:?} {:?}", sent.number, short(&sent.digest), sent.cause, sent.result))
                .collect();
            let release = status.release.as_ref().map(|release| (short(&release.digest), release.attribution));
            let open = status.attempt.as_ref().map(|open| (open.number, short(&open.digest), open.job_id.clone()));
            told.push(format!(
                "resource {slot}, uid {uid}, generation {generation}: {}\n  release {release:?}, open {open:?}, history [{}], retry {:?}, held {:?}",
                conditions.join(", "),
                history.join(", "),
                status.next_retry_time,
                status.held_by.as_ref().map(|held| &held.nonce),
            ));
        }
        told.push(self.server.tell());
        told.join("\n")
    }

    pub fn nonce(&self, slot: u8, number: i64) -> Option<Nonce> {
        Some(Nonce { slot, uid: self.resource(slot)?.uid, number: u8::try_from(number).ok()? })
    }

    /// Whether this is still the resource of that UID.
    pub fn is_live(&self, slot: u8, uid: u8) -> bool {
        self.resource(slot).is_some_and(|resource| resource.uid == uid)
    }

    pub fn live_uid(&self, slot: u8) -> Option<String> {
        self.resource(slot).map(|resource| uid_text(slot, resource.uid))
    }
}

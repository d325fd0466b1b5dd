//! What `reconcile`, `observe`, `release` and `record` do, one call after the other. All decisions are the functions that
//! ship; here is only what carries them out.

use konigle_operator::api::{AttemptType, BaselineSource, Cause, HeldBy, KonigleSpace, KonigleSpaceStatus};
use konigle_operator::desired::Desired;
use konigle_operator::footprint::{Footprint, conflict};
use konigle_operator::judge::{
    holder_now, holder_timeout, is_first_contact, is_spent, is_stale, judge, last_job, listed, refusal,
};
use konigle_operator::konigle::model::JobStatus;
use konigle_operator::konigle::{Answer, Write};
use konigle_operator::observation::{
    AttemptFacts, Holder, HolderFacts, JobTimes, LookError, Observation, PairProof, Predecessor, Refusal, SourceFacts,
};
use konigle_operator::plan::{Step, claim, next_step};
use konigle_operator::released::Released;
use konigle_operator::status::render;
use konigle_operator::wish::{Gate, gate, may_hold, still_holds};

use crate::facts::{
    self, PRODUCTION, SECOND, UAT, blank, canonical, desired, name, space_facts, space_id, ticks, uid_text,
};
use crate::memo;
use crate::mutants::Mutant;
use crate::process::{Flow, Lost, Said, Sending};
use crate::server::{ACCEPTED, BUSY, Content, FAILED_AFTER, Nonce, Owner, REFUSED, Root, TURNED_AWAY};
use crate::setting::{Second, Setting};
use crate::world::{Course, Resource, Status, TakenOver, World};

impl World {
    fn flow(&mut self, process: u8, slot: u8) -> &mut Flow {
        &mut self.processes[usize::from(process)].flows[usize::from(slot)]
    }

    fn take(&mut self, process: u8, slot: u8) -> Flow {
        std::mem::take(self.flow(process, slot))
    }

    /// One pass up to its first write.
    pub fn pass(&mut self, setting: &Setting, process: u8, slot: u8, stale: bool) {
        let Some(resource) = self.resource(slot).cloned() else { return };
        let wish = (slot, resource.generation, resource.resets, resource.released.clone());
        let released = resource.released.as_deref().and_then(Released::parse);
        let desired =
            setting.memo.desired(&wish, || desired(setting, slot, resource.generation, resource.resets, released));
        let mut before = (*resource.status).clone();
        Mutant::before(setting, &mut before, &desired);
        let mut seen = self.observe(setting, (process, slot, stale), &resource, (&desired, &before));
        Mutant::seen(setting, &mut seen, &before);
        let source = self.resource(UAT).filter(|_| setting.promotes(slot)).map(|uat| &uat.status);
        let key = memo::key(&wish, &resource.status, source, &seen);
        if let Some(status) = setting.memo.pass(key) {
            self.check_said(setting, slot, &status);
            let flow = Flow::Record { uid: resource.uid, status, fresh: true };
            return self.record(setting, (process, slot), &resource.status, flow);
        }
        let judged = judge(&before, &desired, &seen);
        let step = next_step(&desired, &seen, &judged);
        let Step::Start(release) = &step else {
            let status = self.kept(render(&desired, &seen, &judged, &step), setting);
            setting.memo.learn(key, status.clone());
            self.check_said(setting, slot, &status);
            let flow = Flow::Record { uid: resource.uid, status, fresh: true };
            return self.record(setting, (process, slot), &resource.status, flow);
        };
        let number = Mutant::number(setting, &judged.status);
        let Some(nonce) = self.nonce(slot, number) else { return };
        let mut claimed = claim(&judged, &desired, &seen, release, nonce.text());
        claimed.status.last_attempt = number;
        if let Some(attempt) = &mut claimed.status.attempt {
            attempt.number = number;
        }
        let status = self.kept(render(&desired, &seen, &claimed, &step), setting);
        self.check_said(setting, slot, &status);
        let content = release.wanted.digest.chars().last().unwrap_or_default();
        let owner = self.owner(&resource, nonce, release.cause, content, setting);
        let sending = Sending::new(resource.uid, owner, status, ((*desired).clone(), seen));
        *self.flow(process, slot) = match setting.mutant {
            Some(Mutant::NoWriteAhead) => Flow::Send(sending),
            Some(Mutant::HoldBeforeClaim) if setting.promotes(slot) => Flow::Hold(sending),
            _ => Flow::Claim(sending),
        };
    }

    fn owner(&self, resource: &Resource, nonce: Nonce, cause: Cause, digest: Content, setting: &Setting) -> Owner {
        // Each version of each uat resource, of which there are few.
        let uat = self.resource(UAT).map_or(0, |uat| 16 * uat.uid + uat.generation);
        let fresh = |cause, epoch| Root { cause, epoch };
        let root = match cause {
            Cause::Retry => self.roots[usize::from(nonce.slot)],
            // What a promotion brings changes with the uat resource.
            Cause::Spec | Cause::Other if setting.promotes(nonce.slot) => fresh(0, uat),
            Cause::Spec | Cause::Other => fresh(0, 0),
            Cause::Drift => fresh(1, setting.budget.humans - self.budget.humans),
            Cause::Reset => fresh(2, resource.resets),
            Cause::Person => fresh(3, 0),
        };
        Owner { nonce, generation: resource.generation, root, digest }
    }

    /// Puts a write in hand, unless it would change nothing.
    fn record(&mut self, setting: &Setting, (process, slot): (u8, u8), before: &Status, flow: Flow) {
        let Flow::Record { status, .. } = &flow else { return };
        let same = if setting.exact {
            let as_read = |status: &Status| canonical((**status).clone(), self.now(), setting);
            as_read(status) == as_read(before)
        } else {
            status == before
        };
        *self.flow(process, slot) = if same { Flow::Idle } else { flow };
    }

    fn observe(
        &mut self,
        setting: &Setting,
        (process, slot, stale): (u8, u8, bool),
        resource: &Resource,
        (desired, status): (&Desired, &KonigleSpaceStatus),
    ) -> Observation {
        let mut seen = blank(setting, slot, resource.uid, self.now());
        if setting.promotes(slot) {
            seen.source = Some(self.source(setting));
        }
        self.look_at_attempt(setting, (process, slot, stale), status, &mut seen);
        let job_runs = seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()).is_some_and(|job| match job {
            Ok(job) => !job.status.ended(),
            Err(error) => !matches!(error, LookError::NotFound(_)),
        });
        if !job_runs {
            let space = setting.space_of(slot);
            let pair = self.server.pair(space, stale);
            let known = &mut self.processes[usize::from(process)].memory[usize::from(slot)];
            let stale = is_stale(status, &pair);
            let old = known.stale_for(stale) < ticks(setting.settle) && stale;
            seen.space = Some(if old {
                Err(LookError::Unavailable("an old state".to_owned()))
            } else {
                Ok(space_facts(space, pair))
            });
        }
        self.look_at_last_job(setting, status, &mut seen);
        self.look_at_others(setting, (process, slot), resource, (desired, status), &mut seen);
        if status.attempt.is_none() && matches!(gate(desired, &seen), Some(Gate::Open(_))) {
            seen.pair = PairProof::Proven;
        }
        self.look_at_hold(setting, process, status, &mut seen);
        if status.attempt.is_none() && self.processes[usize::from(process)].jobs_served == Some(true) {
            let jobs = self.server.list(setting, stale);
            seen.newest_job = jobs.into_iter().filter_map(|job| job.created_at).max();
        }
        seen
    }

    /// The uat resource, as it is now.
    fn source(&self, setting: &Setting) -> SourceFacts {
        let mut facts = self.resource(UAT).map_or_else(SourceFacts::default, |uat| SourceFacts {
            exists: true,
            unreadable: false,
            uid: uid_text(UAT, uat.uid),
            deleting: false,
            status: (*uat.status).clone(),
        });
        Mutant::source(setting, &mut facts);
        facts
    }

    fn look_at_attempt(
        &mut self,
        setting: &Setting,
        (process, slot, stale): (u8, u8, bool),
        status: &KonigleSpaceStatus,
        seen: &mut Observation,
    ) {
        let Some(attempt) = &status.attempt else { return };
        let Some(nonce) = Nonce::parse(&attempt.nonce) else { return };
        let jobs = setting.reading.listed.then(|| self.server.list(setting, stale));
        let own = attempt.job_id.as_ref().and_then(|id| id.parse().ok()).map(|id| self.server.job(id, setting.reading));
        let known = &mut self.processes[usize::from(process)];
        let memory = known.memory[usize::from(slot)].attempt(nonce);
        let mut facts =
            AttemptFacts { seen_for: memory.seen_for(), answer: memory.answer(), ..AttemptFacts::default() };
        if let Some(job) = own {
            facts.job_ended_for = memory.job_ended(job.status.ended());
            facts.job = Some(Ok(job));
        } else if !memory.is_proof() {
            known.jobs_served = Some(jobs.is_some());
            if let Some(jobs) = jobs {
                let told = listed(attempt, &jobs);
                let all_ended = told.ended.is_some();
                let ended = told.ended.map(|ended| ended.into_iter().collect());
                facts.job_with_nonce = told.with_nonce;
                facts.later_jobs_ended = memory.jobs_ended(ended) >= ticks(setting.settle) && all_ended;
            }
        }
        let ended = facts.job.as_ref().is_none_or(|job| job.as_ref().is_ok_and(|job| job.status.ended()));
        if attempt.attempt_type == AttemptType::Promote && ended {
            facts.source = attempt.baseline.source.as_ref().map(|pinned| {
                let pair = self.server.pair(UAT, stale);
                Ok(BaselineSource {
                    uid: self.live_uid(UAT).unwrap_or_default(),
                    last_deployed_at: pair.last_deployed_at,
                    last_deployment_status: pair.last_deployment_status,
                    ..pinned.clone()
                })
            });
        }
        seen.attempt = Some(facts);
    }

    fn look_at_last_job(&self, setting: &Setting, status: &KonigleSpaceStatus, seen: &mut Observation) {
        let (None, Some(settled), Some(pair)) = (&status.attempt, &status.settled, seen.pair_seen()) else { return };
        if pair == *settled {
            return;
        }
        let id = last_job(status).and_then(|entry| entry.job_id.as_ref()).and_then(|id| id.parse().ok());
        seen.last_job = id.map(|id| {
            let job = self.server.job(id, setting.reading);
            JobTimes { created_at: job.created_at, completed_at: job.completed_at }
        });
    }

    fn look_at_hold(&mut self, setting: &Setting, process: u8, status: &KonigleSpaceStatus, seen: &mut Observation) {
        let Some(held) = &status.held_by else { return };
        let Some(nonce) = Nonce::parse(&held.nonce) else { return };
        let uid = self.live_uid(PRODUCTION).filter(|_| setting.promotes(SECOND));
        let production = self.resource(PRODUCTION);
        let attempt = production.and_then(|holder| holder.status.attempt.as_ref());
        let holder = holder_now(held, uid.as_deref(), attempt);
        let spec = production.map(|holder| ticks(setting.timeout_of(holder.generation)));
        let timeout = (holder != Holder::Gone).then(|| holder_timeout(spec, held, attempt)).flatten();
        let job = held.job_id.as_ref().and_then(|id| id.parse().ok());
        let gone = holder == Holder::Gone;
        let job_ended = job
            .filter(|_| gone)
            .map(|id| matches!(self.server.job(id, setting.reading).status, JobStatus::Success | JobStatus::Failed));
        let memory = &mut self.processes[usize::from(process)].memory[usize::from(UAT)];
        let (seen_for, timeout) = memory.hold(nonce, timeout);
        seen.holder = Some(HolderFacts { holder: Some(holder), seen_for, timeout, job_ended });
    }

    /// As `observe::others` does.
    fn look_at_others(
        &mut self,
        setting: &Setting,
        (process, slot): (u8, u8),
        resource: &Resource,
        (desired, status): (&Desired, &KonigleSpaceStatus),
        seen: &mut Observation,
    ) {
        let alone = setting.second == Second::None && self.processes[usize::from(process)].lost.is_empty();
        if alone || seen.space_seen().is_none() {
            return;
        }
        let whole = facts::resource(setting, slot, resource.uid, status);
        let mut own = Footprint::of(&whole);
        own.names(Some(space_id(setting.space_of(slot))));
        own.names(setting.promotes(slot).then_some(space_id(UAT)));
        "9".clone_into(&mut own.webapp);
        "https://tim.konigle.com".clone_into(&mut own.base_url);
        let other_slot = 1 - slot;
        let whole_of =
            |other: &Resource| (facts::resource(setting, other_slot, other.uid, &other.status), other.status.clone());
        let other: Option<(KonigleSpace, Status)> = self.resource(other_slot).map(whole_of);
        seen.conflict = conflict(other.iter().map(|(whole, _)| whole), &whole, space_id(setting.space_of(slot)));
        if status.attempt.is_some() {
            return;
        }
        if let Some((whole, other_status)) = other.filter(|(_, status)| status.attempt.is_some()) {
            let other = Footprint::of(&whole);
            let known = &self.processes[usize::from(process)].memory[usize::from(other_slot)];
            if known.is_over(&other, &other_status, setting) {
                // It holds up nobody.
            } else if own.is_promoted_by(&other) {
                seen.promotions.push(other.name);
            } else if own.gives_way_to(&other) && own.promotes_from.as_ref() != Some(&other.name) {
                seen.rivals.push(other.full_name());
            }
        }
        self.look_at_lost_attempts(setting, (process, slot), &own, (desired, status), seen);
    }

    fn look_at_lost_attempts(
        &mut self,
        setting: &Setting,
        (process, slot): (u8, u8),
        own: &Footprint,
        (desired, status): (&Desired, &KonigleSpaceStatus),
        seen: &mut Observation,
    ) {
        let own_type = if desired.promotes() { AttemptType::Promote } else { AttemptType::Deploy };
        let jobs = self.server.clone();
        let others_are_at_it = !seen.rivals.is_empty() || !seen.promotions.is_empty();
        for lost in &mut self.processes[usize::from(process)].lost {
            let whole = facts::resource(setting, lost.slot, lost.uid, &lost.status);
            let footprint = Footprint::of(&whole);
            let Some(mut attempt) = lost.status.attempt.clone() else { continue };
            if !own.gives_way_to(&footprint) || lost.memory.is_over(&footprint, &lost.status, setting) {
                continue;
            }
            attempt.job_id = attempt.job_id.or(lost.memory.told_job().map(|job| job.to_string()));
            let fits = attempt.attempt_type == own_type && attempt.sent_to.space_id == space_id(setting.space_of(slot));
            if fits && is_first_contact(status) && !(lost.ended && others_are_at_it) {
                let predecessor = Predecessor { resource: footprint.full_name(), uid: footprint.uid, attempt };
                seen.predecessor = Some(predecessor);
                return;
            }
            if lost.ended {
                continue;
            }
            let job = attempt.job_id.as_ref().and_then(|id| id.parse().ok());
            let ended = job.is_some_and(|id| jobs.job(id, setting.reading).status.ended());
            if ended || is_spent(&attempt, lost.memory.seen_for(), seen.settle) {
                lost.ended = true;
            } else {
                seen.rivals.push(format!("{} (deleted)", footprint.full_name()));
            }
        }
    }

    /// A resource goes: the processes keep its open attempt, as the watch told it.
    pub fn notice_deletion(&mut self, slot: u8) {
        let Some(gone) = self.resource(slot).cloned() else { return };
        let nonce = gone.status.attempt.as_ref().and_then(|attempt| Nonce::parse(&attempt.nonce));
        for process in &mut self.processes {
            let Some(nonce) = nonce else { continue };
            let memory = process.memory[usize::from(slot)].take(nonce);
            if !memory.is_proof() || memory.told_job().is_some() {
                process.lost.push(Lost { slot, uid: gone.uid, status: gone.status.clone(), memory, ended: false });
            }
        }
    }

    /// After its claim: another's open release on the pair goes first, also that of a resource which is gone. Whoever is gone
    /// itself, or has no open attempt any more, sends nothing.
    pub fn give_way(&mut self, setting: &Setting, process: u8, slot: u8) {
        let Flow::GiveWay(sending) = self.take(process, slot) else { return };
        let live = self.resource(slot).filter(|live| live.uid == sending.uid && live.status.attempt.is_some());
        if live.is_none() {
            return self.answered(setting, (process, slot), &sending, Said::Unsent);
        }
        let own = Footprint::of(&facts::resource(setting, slot, sending.uid, &sending.status));
        let known = &self.processes[usize::from(process)].memory[usize::from(1 - slot)];
        let goes_first = |other: &Resource| {
            let footprint = Footprint::of(&facts::resource(setting, 1 - slot, other.uid, &other.status));
            own.gives_way_to(&footprint) && !known.is_over(&footprint, &other.status, setting)
        };
        let meets = |lost: &Lost| {
            let footprint = Footprint::of(&facts::resource(setting, lost.slot, lost.uid, &lost.status));
            own.gives_way_to(&footprint) && !lost.memory.is_over(&footprint, &lost.status, setting)
        };
        let lost = &self.processes[usize::from(process)].lost;
        if self.resource(1 - slot).is_some_and(goes_first) || lost.iter().any(|lost| meets(lost) && !lost.ended) {
            return self.give_up(setting, (process, slot), &sending);
        }
        // What has ended is nobody's any more. The product reserves it first, and lets it go when the request does.
        self.processes[usize::from(process)].lost = lost.iter().filter(|lost| !meets(lost)).cloned().collect();
        *self.flow(process, slot) = if setting.promotes(slot) { Flow::Hold(sending) } else { Flow::Send(sending) };
    }

    /// The write that is in hand.
    pub fn write(&mut self, setting: &Setting, process: u8, slot: u8) {
        let unguarded = setting.mutant == Some(Mutant::UnguardedWrites);
        match self.take(process, slot) {
            Flow::Record { uid, status, fresh } => {
                if self.is_live(slot, uid) && (fresh || unguarded) && self.may_inherit(process, (slot, uid), &status) {
                    self.inherit((slot, uid), &status);
                    self.store(setting, slot, status);
                }
            }
            Flow::Claim(mut sending) => {
                if !self.is_live(slot, sending.uid) || !(sending.fresh || unguarded) || self.would_collide(slot) {
                    return;
                }
                self.store(setting, slot, sending.status.clone());
                self.check_number(slot, sending.nonce.number);
                self.roots[usize::from(slot)] = sending.owner.root;
                self.processes[usize::from(process)].memory[usize::from(slot)].attempt(sending.nonce);
                (sending.stored, sending.fresh) = (true, true);
                *self.flow(process, slot) = match setting.mutant {
                    Some(Mutant::HoldBeforeClaim) if setting.promotes(slot) => Flow::Compare(sending),
                    _ => Flow::GiveWay(sending),
                };
            }
            other => *self.flow(process, slot) = other,
        }
    }

    /// So often has one given way that it is not looked into once more: the pass is as if it had not begun. A hold that the
    /// uat resource has not cleared yet stops a promotion like an open attempt.
    fn would_collide(&self, slot: u8) -> bool {
        let other = self.resource(1 - slot).map(|other| &other.status);
        let stops = other.is_some_and(|status| status.attempt.is_some() || status.held_by.is_some());
        self.budget.collisions == 0 && stops
    }

    /// The request is not sent, for the sake of another resource.
    fn give_up(&mut self, setting: &Setting, (process, slot): (u8, u8), sending: &Sending) {
        self.budget.collisions = self.budget.collisions.saturating_sub(1);
        self.answered(setting, (process, slot), sending, Said::Unsent);
    }

    /// Whether this status may be written, where it takes over what a deleted resource left open: nobody has it yet, and
    /// no other release has begun since.
    fn may_inherit(&self, process: u8, (slot, uid): (u8, u8), status: &Status) -> bool {
        let nonce_of = |status: &Status| status.attempt.as_ref().and_then(|attempt| Nonce::parse(&attempt.nonce));
        let Some(nonce) = nonce_of(status).filter(|nonce| (nonce.slot, nonce.uid) != (slot, uid)) else { return true };
        let has_it = self.resource(slot).is_some_and(|stored| nonce_of(&stored.status) == Some(nonce));
        let lost = &self.processes[usize::from(process)].lost;
        has_it || lost.iter().any(|lost| lost.memory.nonce() == nonce)
    }

    /// The attempt of a deleted resource is this one's now, and every process sees that.
    fn inherit(&mut self, (slot, uid): (u8, u8), status: &Status) {
        let nonce = status.attempt.as_ref().and_then(|attempt| Nonce::parse(&attempt.nonce));
        let Some(nonce) = nonce.filter(|nonce| (nonce.slot, nonce.uid) != (slot, uid)) else { return };
        let generation = self.resource(slot).map_or(1, |resource| resource.generation);
        self.inherited[usize::from(slot)].get_or_insert(TakenOver { nonce, uid, generation });
        for process in &mut self.processes {
            let Some(index) = process.lost.iter().position(|lost| lost.memory.nonce() == nonce) else { continue };
            let lost = process.lost.remove(index);
            process.memory[usize::from(slot)].inherit(lost.memory);
        }
    }

    fn store(&mut self, setting: &Setting, slot: u8, status: Status) {
        let Some(before) = self.resource(slot).map(|resource| resource.status.clone()) else { return };
        self.check_written(setting, slot, &before, &status);
        let noted = Released::of(&status).map(|released| released.to_string());
        self.change(slot, |resource| {
            resource.released = noted.filter(|_| setting.restored).or(resource.released.take());
            resource.status = status;
        });
        self.check_receipts(setting);
    }

    /// The claim was stored, and its writer was not told: it sends nothing.
    pub fn write_unheard(&mut self, setting: &Setting, process: u8, slot: u8) {
        let Flow::Claim(sending) = self.flow(process, slot).clone() else { return };
        self.write(setting, process, slot);
        if *self.flow(process, slot) == Flow::Idle {
            // It met a conflict: there is nothing to hear of.
            return;
        }
        *self.flow(process, slot) = Flow::Idle;
        self.processes[usize::from(process)].memory[usize::from(slot)].attempt(sending.nonce).answered(Said::Unsent);
    }

    pub fn hold(&mut self, setting: &Setting, process: u8) {
        let Flow::Hold(sending) = self.take(process, PRODUCTION) else { return };
        let Some(pinned) = pinned(&sending) else { return };
        let own_uid = uid_text(PRODUCTION, sending.uid);
        let (desired, _) = &*sending.facts;
        if may_hold(desired, &self.source(setting), &pinned, &own_uid).is_err() {
            return self.give_up(setting, (process, PRODUCTION), &sending);
        }
        let held_by = held_by(&sending);
        self.change(UAT, |uat| {
            let status = KonigleSpaceStatus { held_by: Some(held_by), ..(*uat.status).clone() };
            uat.status = Status::new(status);
        });
        *self.flow(process, PRODUCTION) = if sending.stored { Flow::Compare(sending) } else { Flow::Claim(sending) };
    }

    pub fn compare(&mut self, setting: &Setting, process: u8, stale: bool) {
        let Flow::Compare(sending) = self.take(process, PRODUCTION) else { return };
        if pinned(&sending).is_some_and(|pinned| pinned.pair() == self.server.pair(UAT, stale)) {
            *self.flow(process, PRODUCTION) = match setting.mutant {
                Some(Mutant::HoldBeforeClaim) => Flow::Send(sending),
                _ => Flow::ReadAgain(sending),
            };
        } else {
            self.give_up(setting, (process, PRODUCTION), &sending);
        }
    }

    pub fn read_again(&mut self, setting: &Setting, process: u8) {
        let Flow::ReadAgain(sending) = self.take(process, PRODUCTION) else { return };
        let (own, uat) = (self.live_uid(PRODUCTION), self.live_uid(UAT));
        let status = |slot| self.resource(slot).map(|resource| &*resource.status);
        let own = (own.as_deref(), status(PRODUCTION));
        let uat = (uat.as_deref(), status(UAT));
        if pinned(&sending).is_some_and(|pinned| still_holds(own, uat, &pinned, &held_by(&sending))) {
            *self.flow(process, PRODUCTION) = Flow::Send(sending);
        } else {
            self.give_up(setting, (process, PRODUCTION), &sending);
        }
    }

    pub fn send(&mut self, setting: &Setting, process: u8, slot: u8, course: Course) {
        let Flow::Send(sending) = self.take(process, slot) else { return };
        match course {
            Course::AnswerLost | Course::Late | Course::Lost => self.budget.lost -= 1,
            Course::Refused | Course::TurnedAway => self.budget.refused -= 1,
            Course::Unsent | Course::Answered => {}
        }
        if course != Course::Unsent {
            self.check_sent(slot, &sending);
        }
        let content = (!setting.promotes(slot)).then_some(sending.owner.digest);
        let space = setting.space_of(slot);
        let replied = |codes, job| replied(setting, sending.nonce, codes, job);
        let said = match course {
            Course::Answered => match self.accept(setting, slot, &sending) {
                None => replied(BUSY, None),
                job => replied(ACCEPTED, job),
            },
            Course::AnswerLost => {
                self.accept(setting, slot, &sending);
                replied(FAILED_AFTER, None)
            }
            Course::Late => {
                self.server.delay(space, content, sending.owner, setting.effect_lag.unwrap_or(1));
                Said::Broken
            }
            Course::Lost => Said::Broken,
            Course::Unsent => Said::Unsent,
            Course::TurnedAway => replied(TURNED_AWAY, None),
            Course::Refused => replied(REFUSED, None),
        };
        let said = Mutant::said(setting, said);
        if let Some(job) = said.job() {
            self.server.jobs[usize::from(job)].told = true;
            self.remember(process, slot, sending.nonce, said);
            *self.flow(process, slot) = Flow::Receipt { sending, job };
        } else {
            self.answered(setting, (process, slot), &sending, said);
        }
    }

    /// What this process was answered; of a resource that is gone it knows so too.
    fn remember(&mut self, process: u8, slot: u8, nonce: Nonce, said: Said) {
        let process = &mut self.processes[usize::from(process)];
        let Some(index) = process.lost.iter().position(|lost| lost.memory.nonce() == nonce) else {
            return process.memory[usize::from(slot)].attempt(nonce).answered(said);
        };
        match said.answer() {
            Answer::Accepted(_) | Answer::Unknown(_) => process.lost[index].memory.answered(said),
            // Nothing came of it, whoever asks.
            Answer::Unsent(_) | Answer::Rejected(_) => drop(process.lost.remove(index)),
        }
    }

    fn accept(&mut self, setting: &Setting, slot: u8, sending: &Sending) -> Option<u8> {
        let content = (!setting.promotes(slot)).then_some(sending.owner.digest);
        let job = self.server.accept(setting.reading, setting.space_of(slot), content, Some(sending.owner));
        if job.is_some() {
            self.check_accepted(sending.owner);
        }
        job
    }

    pub fn arrive(&mut self, setting: &Setting, index: usize) {
        let owner = self.server.pending[index].owner;
        let before = self.server.jobs.len();
        self.server.arrive(setting.reading, index);
        if self.server.jobs.len() > before {
            self.check_accepted(owner);
        }
    }

    pub fn end(&mut self, setting: &Setting, index: usize, succeeds: bool) {
        self.budget.failures -= u8::from(!succeeds);
        self.server.end(setting.reading, index, succeeds);
        self.check_ended(index);
    }

    /// Nothing was accepted: the rest of the pass, up to its write.
    fn answered(&mut self, setting: &Setting, (process, slot): (u8, u8), sending: &Sending, said: Said) {
        if !sending.stored {
            // Without a claim there is nothing to close.
            return;
        }
        self.remember(process, slot, sending.nonce, said);
        if !self.is_live(slot, sending.uid) {
            return;
        }
        let memory = self.processes[usize::from(process)].memory[usize::from(slot)].attempt(sending.nonce);
        let (seen_for, answer) = (memory.seen_for(), memory.answer());
        let (desired, seen) = &*sending.facts;
        let mut seen = seen.clone();
        seen.attempt = Some(AttemptFacts { seen_for, answer, ..AttemptFacts::default() });
        // It is remembered for less than a tick.
        seen.refusal = refusal(&said.answer()).map(|problem| Refusal { problem, times: 1 });
        seen.now = self.now();
        let judged = judge(&sending.status, desired, &seen);
        let step = next_step(desired, &seen, &judged);
        let status = self.kept(render(desired, &seen, &judged, &step), setting);
        let flow = Flow::Record { uid: sending.uid, status, fresh: sending.fresh };
        self.record(setting, (process, slot), &sending.status, flow);
    }

    pub fn receipt(&mut self, setting: &Setting, process: u8, slot: u8) {
        let Flow::Receipt { sending, job } = self.take(process, slot) else { return };
        if !sending.stored {
            // Without a write-ahead record the attempt is written with its job, as any status is.
            let mut status = (*sending.status).clone();
            if let Some(attempt) = &mut status.attempt {
                attempt.job_id = Some(job.to_string());
            }
            let flow = Flow::Record { uid: sending.uid, status: Status::new(status), fresh: sending.fresh };
            *self.flow(process, slot) = flow;
            return;
        }
        if setting.mutant == Some(Mutant::GuardedReceipt) && !sending.fresh {
            self.processes[usize::from(process)].memory[usize::from(slot)].attempt(sending.nonce).forget_answer();
            self.check_receipts(setting);
            return;
        }
        let stored = self.resource(slot).filter(|resource| resource.uid == sending.uid);
        let open = stored.and_then(|resource| resource.status.attempt.as_ref());
        if open.is_some_and(|open| open.nonce == sending.nonce.text()) {
            self.change(slot, |resource| {
                let mut status = (*resource.status).clone();
                if let Some(attempt) = &mut status.attempt {
                    attempt.job_id = Some(job.to_string());
                    attempt.job_status = Some("pending".to_owned());
                }
                resource.status = Status::new(status);
            });
        }
        if setting.promotes(slot) {
            *self.flow(process, slot) = Flow::Note { nonce: sending.nonce, job };
        }
    }

    pub fn note(&mut self, process: u8) {
        let Flow::Note { nonce, job } = self.take(process, PRODUCTION) else { return };
        let held = self.resource(UAT).and_then(|uat| uat.status.held_by.clone());
        let Some(mut held) = held.filter(|held| held.nonce == nonce.text()) else { return };
        held.job_id = Some(job.to_string());
        self.change(UAT, |uat| {
            uat.status = Status::new(KonigleSpaceStatus { held_by: Some(held), ..(*uat.status).clone() });
        });
    }
}

/// The server's reply. All its codes of one kind occur: which, goes by the attempt and by the server.
fn replied(setting: &Setting, nonce: Nonce, codes: &[u16], job: Option<u8>) -> Said {
    let write = if setting.promotes(nonce.slot) { Write::Promote } else { Write::Deploy };
    let server = 3 * setting.reading.moves as usize + setting.reading.standing as usize;
    let which = usize::from(nonce.slot) + usize::from(nonce.number) + server;
    Said::Replied { write, code: codes[which % codes.len()], job }
}

/// The uat side as the claim pinned it.
fn pinned(sending: &Sending) -> Option<BaselineSource> {
    sending.status.attempt.as_ref()?.baseline.source.clone()
}

fn held_by(sending: &Sending) -> HeldBy {
    HeldBy {
        name: name(PRODUCTION).to_owned(),
        uid: uid_text(PRODUCTION, sending.uid),
        attempt: i64::from(sending.nonce.number),
        nonce: sending.nonce.text(),
        job_id: None,
    }
}

//! What must never happen, as `reliability.md` 4.6 numbers it, and what the states show of it.

use konigle_operator::api::{Attribution, KonigleSpaceStatus, ReleaseStatus};

use crate::facts::{PRODUCTION, UAT, digest};
use crate::process::Sending;
use crate::server::Owner;
use crate::setting::{Second, Setting};
use crate::world::World;

/// The properties, each with what it says.
pub const PROPERTIES: [(&str, &str); 10] = [
    ("S1", "an attempt has at most one job"),
    ("S1d", "at most one job that did not fail for each digest, generation and cause"),
    ("S2", "no job of an older generation ends after one of a newer"),
    ("S3", "Confirmed is our own last success"),
    ("S3i", "Inferred is, too, where nobody else deploys"),
    ("S4", "one open job of the operator for each pair"),
    ("S5", "no request without a stored claim of the same process"),
    ("S6", "no request for an attempt that is no longer the resource's"),
    ("S7", "what is said to be promoted and verified runs"),
    ("S10", "an attempt's number is never given twice, and no answered job's id is lost by a process that lives"),
];

/// Which of them do not hold any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken(u16);

impl Broken {
    pub fn any(self) -> bool {
        self.0 != 0
    }

    pub fn has(self, name: &str) -> bool {
        PROPERTIES.iter().position(|(known, _)| *known == name).is_some_and(|index| self.0 & (1 << index) != 0)
    }

    pub fn names(self) -> Vec<&'static str> {
        PROPERTIES.iter().map(|(name, _)| *name).filter(|name| self.has(name)).collect()
    }

    fn note(&mut self, name: &str, holds: bool) {
        let index = PROPERTIES.iter().position(|(known, _)| *known == name).expect("it is a property");
        if !holds {
            self.0 |= 1 << index;
        }
    }
}

/// Whether this is another release than the one recorded before.
fn is_new(before: &KonigleSpaceStatus, release: &ReleaseStatus) -> bool {
    before.release.as_ref().is_none_or(|known| known.job_id != release.job_id || known.digest != release.digest)
}

impl World {
    /// What was released twice. An attempt that a resource took over counts as its own.
    pub fn duplicates(&self) -> usize {
        self.server.duplicates(|Owner { nonce, generation, .. }| {
            let mut taken = (0_u8..).zip(self.inherited).filter_map(|(slot, taken)| Some((slot, taken?)));
            let heir = taken.find(|(_, taken)| taken.nonce == nonce);
            heir.map_or((nonce.slot, nonce.uid, generation), |(slot, taken)| (slot, taken.uid, taken.generation))
        })
    }

    /// Whether this resource's own job, or one that it took over, brought what runs in its Space.
    fn runs_its_own(&self, setting: &Setting, slot: u8) -> bool {
        let taken_over = self.inherited[usize::from(slot)].map(|taken| taken.nonce);
        let owner = self.server.last_owner(setting.space_of(slot));
        owner.is_some_and(|owner| owner.nonce.slot == slot || taken_over == Some(owner.nonce))
    }

    /// A job of the operator was accepted.
    pub fn check_accepted(&mut self, owner: Owner) {
        let same = |job: &&crate::server::Job| job.owner.is_some_and(|other| other.nonce == owner.nonce);
        let attempts = self.server.jobs.iter().filter(same).count();
        let open = self.server.open_of_ours().count();
        let duplicates = self.duplicates();
        self.broken.note("S1", attempts <= 1);
        self.broken.note("S1d", duplicates == 0);
        self.broken.note("S4", open <= 1);
    }

    /// A job ended.
    pub fn check_ended(&mut self, index: usize) {
        let Some(owner) = self.server.jobs[index].owner else { return };
        let newer = self.server.jobs.iter().enumerate().filter(|(other, job)| *other != index && !job.is_open()).any(
            |(_, job)| {
                job.owner.is_some_and(|other| {
                    other.nonce.slot == owner.nonce.slot
                        && other.nonce.uid == owner.nonce.uid
                        && other.generation > owner.generation
                })
            },
        );
        self.broken.note("S2", !newer);
    }

    /// A request is about to be sent.
    pub fn check_sent(&mut self, slot: u8, sending: &Sending) {
        let stored = self.resource(slot).filter(|resource| resource.uid == sending.uid);
        let attempt = stored.map(|resource| resource.status.attempt.as_ref().map(|attempt| attempt.nonce.clone()));
        // A resource that is deleted at this very moment tells nothing any more.
        let is_ours = attempt.is_none_or(|nonce| nonce == Some(sending.nonce.text()));
        self.broken.note("S5", sending.stored);
        self.broken.note("S6", is_ours);
    }

    /// A status was written.
    pub fn check_written(
        &mut self,
        setting: &Setting,
        slot: u8,
        before: &KonigleSpaceStatus,
        after: &KonigleSpaceStatus,
    ) {
        let Some(release) = after.release.as_ref().filter(|release| before.release.as_ref() != Some(release)) else {
            return;
        };
        let is_new = is_new(before, release);
        let space = setting.space_of(slot);
        // What was taken over at first contact is known by its note, and not by a job.
        let noted = release.job_id.is_none() && after.history.is_empty();
        let ours = noted || self.runs_its_own(setting, slot);
        let runs = ours && digest(self.server.content(space)) == release.digest;
        // Another resource for the same Space is somebody else, too.
        let alone = setting.budget.humans == 0;
        let single = alone && setting.second != Second::Twin;
        match release.attribution {
            Attribution::Confirmed if is_new && alone => self.broken.note("S3", runs),
            Attribution::Inferred if is_new && single => self.broken.note("S3i", runs),
            _ => {}
        }
        if setting.promotes(slot) && alone && after.is_true("ContentVerified") {
            self.broken.note("S7", digest(self.server.content(PRODUCTION)) == release.digest);
        }
    }

    /// A pass says this of what it has just read. Where somebody else deploys, that is another thing a moment later: so what
    /// is said to be ours is judged here, and the promoted content by the promotion's own job. Not told apart, and not
    /// promised, is a deployment in one Space while our own job runs there.
    pub fn check_said(&mut self, setting: &Setting, slot: u8, after: &KonigleSpaceStatus) {
        let Some(release) = after.release.as_ref().filter(|_| setting.budget.humans > 0 && setting.read_lag == 0)
        else {
            return;
        };
        let job = release.job_id.as_ref().and_then(|id| id.parse().ok());
        let brought = job.and_then(|job| self.server.brought(job, slot)).map(digest).as_ref() == Some(&release.digest);
        let brought = brought || (setting.promotes(slot) && self.server.ran_beside_ours(UAT, &release.digest));
        if setting.promotes(slot) && after.is_true("ContentVerified") {
            self.broken.note("S7", brought);
        }
        let is_new = self.resource(slot).is_some_and(|known| is_new(&known.status, release));
        if is_new && release.attribution == Attribution::Confirmed {
            let runs = self.runs_its_own(setting, slot) || job.is_some_and(|job| self.server.ran_beside(job));
            self.broken.note("S3", brought && runs);
        }
    }

    /// A claim was stored, with this number.
    pub fn check_number(&mut self, slot: u8, number: u8) {
        let known = &mut self.numbers[usize::from(slot)];
        let grows = number > *known;
        *known = number.max(*known);
        self.broken.note("S10", grows);
    }

    /// An answer that named a job is in the record, or in the hands of a process.
    pub fn check_receipts(&mut self, setting: &Setting) {
        if self.budget.crashes < setting.budget.crashes {
            return;
        }
        let mut lost = false;
        for job in self.server.jobs.iter().filter(|job| job.told) {
            let Some(owner) = job.owner else { continue };
            let Some(resource) = self.resource(owner.nonce.slot).filter(|resource| resource.uid == owner.nonce.uid)
            else {
                continue;
            };
            let open = resource.status.attempt.as_ref();
            let without = open.is_some_and(|open| open.nonce == owner.nonce.text() && open.job_id.is_none());
            lost |= without && !self.processes.iter().any(|process| process.knows_job_of(owner.nonce));
        }
        self.broken.note("S10", !lost);
    }
}

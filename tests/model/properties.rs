//! What must never happen, as `reliability.md` 4.6 numbers it, and what the states show of it.

use konigle_operator::api::{Attribution, KonigleSpaceStatus};

use crate::facts::{PRODUCTION, digest};
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

impl World {
    /// A job of the operator was accepted.
    pub fn check_accepted(&mut self, owner: Owner) {
        let same = |job: &&crate::server::Job| job.owner.is_some_and(|other| other.nonce == owner.nonce);
        let attempts = self.server.jobs.iter().filter(same).count();
        let open = self.server.open_of_ours().count();
        let duplicates = self.server.duplicates();
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
        let is_new = before
            .release
            .as_ref()
            .is_none_or(|known| known.job_id != release.job_id || known.digest != release.digest);
        let space = setting.space_of(slot);
        // What was taken over at first contact is known by its note, and not by a job.
        let noted = release.job_id.is_none() && after.history.is_empty();
        let ours = noted || self.server.runs_by(space, slot);
        let runs = ours && digest(self.server.content(space)) == release.digest;
        // Another resource for the same Space is somebody else, too.
        let alone = setting.budget.humans == 0;
        let single = alone && setting.second != Second::Twin;
        match release.attribution {
            Attribution::Confirmed if is_new && alone => self.broken.note("S3", runs),
            Attribution::Inferred if is_new && single => self.broken.note("S3i", runs),
            _ => {}
        }
        if setting.promotes(slot) && after.is_true("ContentVerified") {
            self.broken.note("S7", digest(self.server.content(PRODUCTION)) == release.digest);
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

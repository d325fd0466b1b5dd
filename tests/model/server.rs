//! The server, as little as is known of it: two Spaces, their jobs, and requests that are still on their way.
//!
//! Each event of a job gets the next rank; ranks are the server's clock. Ages count ticks.

use std::collections::BTreeSet;

use konigle_operator::api::PairStatus;
use konigle_operator::konigle::model::{Job as ReadJob, JobStatus};

use crate::facts::{digest, rank_text};
use crate::setting::{Busy, Image, Moves, Reading, Setting, Standing};

/// What runs in a Space: a letter that is a hexadecimal digit, so that a digest can be made of it.
pub type Content = char;

/// What somebody else released.
pub const FOREIGN: Content = 'f';

/// What it says where it accepted a request: with a job's id.
pub const ACCEPTED: &[u16] = &[200, 201, 202];
/// Where it accepted it, and fails on the way to the answer, or names no job in it.
pub const FAILED_AFTER: &[u16] = &[500, 502, 503, 504, 408, 200, 303];
pub const BUSY: &[u16] = &[409, 423];
/// Where something else must heal first.
pub const TURNED_AWAY: &[u16] = &[429, 401, 403, 404];
/// Where it refuses it for good.
pub const REFUSED: &[u16] = &[422, 405, 413, 400, 415, 411];

/// Which attempt a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce {
    pub slot: u8,
    pub uid: u8,
    pub number: u8,
}

impl Nonce {
    pub fn text(self) -> String {
        format!("k{}-{}-{}", self.slot, self.uid, self.number)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('k')?.split('-').map(|part| part.parse().ok());
        Some(Self { slot: parts.next()??, uid: parts.next()??, number: parts.next()?? })
    }
}

/// Why a job was asked for: what S1d counts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Root {
    pub cause: u8,
    pub epoch: u8,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub nonce: Nonce,
    pub generation: u8,
    pub root: Root,
    pub digest: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub space: u8,
    /// What it brings; for a promotion what uat ran when it read it.
    pub content: Option<Content>,
    /// `None`: somebody else's.
    pub owner: Option<Owner>,
    pub state: State,
    accepted: u8,
    ended: Option<u8>,
    /// Since it was accepted.
    age: u8,
    /// Since its last event, for lists that lag.
    since: u8,
    /// The operator heard of it in an answer.
    pub told: bool,
}

impl Job {
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Queued | State::Running)
    }
}

/// A request of which the effect is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    pub space: u8,
    pub content: Option<Content>,
    pub owner: Owner,
    left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    at: Option<u8>,
    word: Option<Word>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Success,
    Failed,
    Running,
    Odd,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Space {
    pair: Pair,
    /// What it showed before, newest first, with how long that is over.
    before: Vec<(Pair, u8)>,
    content: Content,
    /// The last job that succeeded there.
    last: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    spaces: [Space; 2],
    pub jobs: Vec<Job>,
    pub pending: Vec<Pending>,
    rank: u8,
}

impl Server {
    pub fn new(setting: &Setting) -> Self {
        let pair = if setting.deployed_before {
            Pair { at: Some(0), word: Some(Word::Success) }
        } else {
            Pair { at: None, word: None }
        };
        let space = Space { pair, before: Vec::new(), content: FOREIGN, last: None };
        Self { spaces: [space.clone(), space], jobs: Vec::new(), pending: Vec::new(), rank: 1 }
    }

    pub fn content(&self, space: u8) -> Content {
        self.spaces[usize::from(space)].content
    }

    /// Whose job brought what runs there.
    pub fn last_owner(&self, space: u8) -> Option<Owner> {
        let last = self.spaces[usize::from(space)].last;
        last.and_then(|job| self.jobs[usize::from(job)].owner)
    }

    /// What this resource's job brought, if it did.
    pub fn brought(&self, job: u8, slot: u8) -> Option<Content> {
        let job = &self.jobs[usize::from(job)];
        let ours = job.state == State::Succeeded && job.owner.is_some_and(|owner| owner.nonce.slot == slot);
        job.content.filter(|_| ours)
    }

    /// Whether another job ran in its Space while it did.
    pub fn ran_beside(&self, job: u8) -> bool {
        let ours = &self.jobs[usize::from(job)];
        let until = |job: &Job| job.ended.unwrap_or(u8::MAX);
        let beside = |other: &Job| other.accepted < until(ours) && ours.accepted < until(other);
        self.jobs.iter().any(|other| other.space == ours.space && other.accepted != ours.accepted && beside(other))
    }

    /// Whether another job ran in its Space while one of this resource's did that brought this digest.
    pub fn ran_beside_ours(&self, slot: u8, brought: &str) -> bool {
        (0_u8..).zip(&self.jobs).any(|(index, _)| {
            self.brought(index, slot).is_some_and(|content| digest(content) == brought) && self.ran_beside(index)
        })
    }

    /// Whether something must happen before time or anybody else goes on.
    pub fn is_due(&self, setting: &Setting) -> bool {
        self.pending.iter().any(|pending| pending.left == 0)
            || self.jobs.iter().any(|job| {
                let generation = job.owner.map_or(1, |owner| owner.generation);
                job.is_open() && job.age >= setting.longest_job_of(generation)
            })
    }

    /// A request arrives. `None`: refused, for the Space is busy.
    pub fn accept(
        &mut self,
        reading: Reading,
        space: u8,
        content: Option<Content>,
        owner: Option<Owner>,
    ) -> Option<u8> {
        let busy = self.jobs.iter().any(|job| job.space == space && job.is_open());
        if busy && reading.busy == Busy::Refuse {
            return None;
        }
        let rank = self.next_rank();
        let state = if busy && reading.busy == Busy::Queue { State::Queued } else { State::Running };
        let content = content.or((reading.image == Image::AtAccept).then(|| self.content(0)));
        self.jobs.push(Job {
            space,
            content,
            owner,
            state,
            accepted: rank,
            ended: None,
            age: 0,
            since: 0,
            told: false,
        });
        let mut pair = self.spaces[usize::from(space)].pair;
        if reading.moves == Moves::Accept {
            pair.at = Some(rank);
        }
        match reading.standing {
            Standing::OldWord => {}
            Standing::Running => pair.word = Some(Word::Running),
            Standing::OddWord => pair.word = Some(Word::Odd),
        }
        self.show(space, pair);
        u8::try_from(self.jobs.len() - 1).ok()
    }

    /// A request is on its way for at most so many ticks.
    pub fn delay(&mut self, space: u8, content: Option<Content>, owner: Owner, left: u8) {
        self.pending.push(Pending { space, content, owner, left });
    }

    pub fn arrive(&mut self, reading: Reading, index: usize) {
        let pending = self.pending.remove(index);
        self.accept(reading, pending.space, pending.content, Some(pending.owner));
    }

    /// A request that takes effect now at the latest.
    pub fn due_arrival(&self) -> Option<usize> {
        self.pending.iter().position(|pending| pending.left == 0)
    }

    pub fn end(&mut self, reading: Reading, index: usize, succeeds: bool) {
        let rank = self.next_rank();
        let uat = self.content(0);
        let job = &mut self.jobs[index];
        job.state = if succeeds { State::Succeeded } else { State::Failed };
        job.ended = Some(rank);
        job.since = 0;
        let content = *job.content.get_or_insert(uat);
        let space = job.space;
        let mut pair = self.spaces[usize::from(space)].pair;
        if reading.moves == Moves::End || (reading.moves == Moves::Success && succeeds) {
            pair.at = Some(rank);
        }
        pair.word = Some(if succeeds { Word::Success } else { Word::Failed });
        self.show(space, pair);
        if succeeds {
            let shown = &mut self.spaces[usize::from(space)];
            shown.content = content;
            shown.last = u8::try_from(index).ok();
        }
        if let Some(next) = self.jobs.iter_mut().find(|job| job.space == space && job.state == State::Queued) {
            next.state = State::Running;
            next.since = 0;
        }
    }

    pub fn tick(&mut self, setting: &Setting) {
        for pending in &mut self.pending {
            pending.left = pending.left.saturating_sub(u8::from(setting.effect_lag.is_some()));
        }
        for job in &mut self.jobs {
            job.age = if job.is_open() { job.age.saturating_add(1) } else { 0 };
            job.since = (job.since + 1).min(setting.read_lag);
        }
        for space in &mut self.spaces {
            for (_, since) in &mut space.before {
                *since += 1;
            }
        }
    }

    /// Everything was read as it is now: no later read is older.
    pub fn was_read(&mut self, setting: &Setting) {
        if setting.goes_back {
            return;
        }
        for space in &mut self.spaces {
            space.before.clear();
        }
        for job in &mut self.jobs {
            job.since = setting.read_lag;
        }
    }

    /// What no read shows any more.
    pub fn forget(&mut self, setting: &Setting) {
        for space in &mut self.spaces {
            space.before.retain(|(_, since)| *since < setting.read_lag);
        }
    }

    /// Whether a read that lags would tell anything else.
    pub fn lags(&self, setting: &Setting) -> bool {
        self.spaces.iter().any(|space| !space.before.is_empty())
            || (setting.reading.listed && self.jobs.iter().any(|job| job.since < setting.read_lag))
    }

    /// The pair of a Space, as a read shows it.
    pub fn pair(&self, space: u8, stale: bool) -> PairStatus {
        let space = &self.spaces[usize::from(space)];
        let pair = space.before.last().filter(|_| stale).map_or(space.pair, |(pair, _)| *pair);
        let word = |word| match word {
            Word::Success => "success",
            Word::Failed => "failed",
            Word::Running => "running",
            Word::Odd => "blue",
        };
        PairStatus {
            last_deployed_at: pair.at.map(rank_text),
            last_deployment_status: pair.word.map(|known| word(known).to_owned()),
        }
    }

    /// A job, as it is.
    pub fn job(&self, index: u8, reading: Reading) -> ReadJob {
        let job = &self.jobs[usize::from(index)];
        let status = match job.state {
            State::Queued => JobStatus::Pending,
            State::Running => JobStatus::Running,
            State::Succeeded => JobStatus::Success,
            State::Failed => JobStatus::Failed,
        };
        let nonce = job.owner.filter(|_| reading.nonce_visible).map(|owner| owner.nonce.text());
        ReadJob {
            id: index.to_string(),
            status,
            log_tail: Vec::new(),
            log_count: 0,
            space_id: None,
            created_at: Some(rank_text(job.accepted)),
            completed_at: job.ended.map(rank_text),
            mentions: nonce.into_iter().collect(),
        }
    }

    /// The list of jobs; one that lags lacks what is too new.
    pub fn list(&self, setting: &Setting, stale: bool) -> Vec<ReadJob> {
        let mut list = Vec::new();
        for (index, job) in (0_u8..).zip(&self.jobs) {
            let too_new = stale && job.since < setting.read_lag;
            let mut read = self.job(index, setting.reading);
            if too_new && job.ended.is_none() {
                continue;
            }
            if too_new {
                read.status = JobStatus::Running;
                read.completed_at = None;
            }
            list.push(read);
        }
        list
    }

    /// What it has, for people.
    pub fn tell(&self) -> String {
        let mut told = Vec::new();
        for (index, job) in self.jobs.iter().enumerate() {
            let whose = job.owner.map_or_else(|| "somebody else".to_owned(), |owner| owner.nonce.text());
            told.push(format!("job {index} of {whose} in Space {}: {:?} {:?}", job.space, job.content, job.state));
        }
        for (index, space) in self.spaces.iter().enumerate() {
            told.push(format!("Space {index}: {:?}, runs {}", space.pair, space.content));
        }
        told.push(format!("on their way: {}", self.pending.len()));
        told.join("\n")
    }

    /// The digests of all open jobs of the operator, in either Space.
    pub fn open_of_ours(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| job.owner.is_some() && job.is_open())
    }

    /// The jobs of the operator that S1d counts together and that did not fail; `wish` tells which resource's
    /// they are, and of which generation.
    pub fn duplicates(&self, wish: impl Fn(Owner) -> (u8, u8, u8)) -> usize {
        let mut known = BTreeSet::new();
        let sent = self.jobs.iter().filter(|job| job.state != State::Failed).filter_map(|job| job.owner);
        sent.filter(|owner| !known.insert((wish(*owner), owner.root.cause, owner.root.epoch, owner.digest))).count()
    }

    fn show(&mut self, space: u8, pair: Pair) {
        let space = &mut self.spaces[usize::from(space)];
        if space.pair != pair {
            space.before.insert(0, (space.pair, 0));
            space.pair = pair;
        }
    }

    fn next_rank(&mut self) -> u8 {
        self.rank += 1;
        self.rank - 1
    }
}

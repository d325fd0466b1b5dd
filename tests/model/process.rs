//! A process: what it has in hand of each resource, and what it remembers until it dies.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use konigle_operator::desired::Desired;
use konigle_operator::footprint::Footprint;
use konigle_operator::judge::is_spent;
use konigle_operator::konigle::{Answer, Write, classify};
use konigle_operator::observation::Observation;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::facts::ticks;
use crate::server::{Nonce, Owner};
use crate::setting::Setting;
use crate::shared::Shared;
use crate::world::Status;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// The pass over each resource; one at a time of each, as kube-runtime has it.
    pub flows: [Flow; 2],
    pub memory: [Memory; 2],
    pub jobs_served: Option<bool>,
    /// The open attempts of deleted resources.
    pub lost: Vec<Lost>,
}

/// The open attempt of a deleted resource, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lost {
    pub slot: u8,
    pub uid: u8,
    pub status: Status,
    pub memory: AttemptMemory,
    /// Its job was read as ended, or nothing can come of it any more: nobody waits for it.
    pub ended: bool,
}

/// Where a pass stands between two of its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flow {
    #[default]
    Idle,
    /// A status is to be written on the version that was read.
    Record {
        uid: u8,
        status: Status,
        fresh: bool,
    },
    /// The claim is to be written.
    Claim(Sending),
    /// The claim is stored; another's open release on the pair goes before it.
    GiveWay(Sending),
    /// A promotion takes its hold.
    Hold(Sending),
    Compare(Sending),
    ReadAgain(Sending),
    /// The request is to be sent.
    Send(Sending),
    /// The job's id is to be recorded.
    Receipt {
        sending: Sending,
        job: u8,
    },
    /// And noted in the hold.
    Note {
        nonce: Nonce,
        job: u8,
    },
}

/// A release on its way from the claim to the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sending {
    pub uid: u8,
    pub nonce: Nonce,
    pub owner: Owner,
    /// The status with the claim.
    pub status: Status,
    /// What the pass was given.
    pub facts: Shared<(Desired, Observation)>,
    /// Nobody wrote since the version on which this rests.
    pub fresh: bool,
    /// The claim was stored by this process.
    pub stored: bool,
    /// Since the claim was begun.
    age: u8,
}

impl Sending {
    pub fn new(uid: u8, owner: Owner, status: Status, facts: (Desired, Observation)) -> Self {
        Self { uid, nonce: owner.nonce, owner, status, facts: Shared::new(facts), fresh: true, stored: false, age: 0 }
    }

    /// The fence passes with this tick.
    pub fn is_nearly_late(&self) -> bool {
        self.age == 1
    }

    /// The fence has passed. A claim at the end of a tick may still be sent at the begin of the next.
    pub fn late(&self) -> bool {
        self.age > 1
    }
}

impl Flow {
    /// The resource was written meanwhile.
    pub fn overtaken(&mut self) {
        match self {
            Self::Record { fresh, .. } => *fresh = false,
            other => {
                if let Some(sending) = other.sending_mut() {
                    sending.fresh = false;
                }
            }
        }
    }

    pub fn status_mut(&mut self) -> Option<&mut Status> {
        match self {
            Self::Record { status, .. } => Some(status),
            _ => self.sending_mut().map(|sending| &mut sending.status),
        }
    }

    /// What is claimed and not yet sent.
    pub fn unsent(&self) -> Option<&Sending> {
        match self {
            Self::Claim(sending)
            | Self::GiveWay(sending)
            | Self::Hold(sending)
            | Self::Compare(sending)
            | Self::ReadAgain(sending)
            | Self::Send(sending) => Some(sending),
            Self::Receipt { .. } | Self::Idle | Self::Record { .. } | Self::Note { .. } => None,
        }
    }

    fn sending_mut(&mut self) -> Option<&mut Sending> {
        match self {
            Self::Claim(sending)
            | Self::GiveWay(sending)
            | Self::Hold(sending)
            | Self::Compare(sending)
            | Self::ReadAgain(sending)
            | Self::Send(sending)
            | Self::Receipt { sending, .. } => Some(sending),
            Self::Idle | Self::Record { .. } | Self::Note { .. } => None,
        }
    }
}

/// What a process remembers of one resource, as `memory.rs` does; ages stop where no wait is longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    attempt: Option<AttemptMemory>,
    hold: Option<RememberedHold>,
    /// Since when the Space has been shown in an old state.
    stale: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RememberedHold {
    nonce: Nonce,
    seen: u8,
    timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptMemory {
    nonce: Nonce,
    seen: u8,
    answer: Option<(u8, Said)>,
    job_ended: Option<u8>,
    /// The jobs that the list showed, all ended, and since when.
    ended: Option<(Vec<String>, u8)>,
}

/// What a request came to, as its process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// The server answered with this code, and named this job.
    Replied { write: Write, code: u16, job: Option<u8> },
    /// No connection stood, or the fence had passed.
    Unsent,
    /// The connection broke after all of it was sent.
    Broken,
}

impl Said {
    /// What it proves: of what the server said, that is the client's to tell.
    pub fn answer(self) -> Answer {
        match self {
            Self::Replied { write, code, job } => {
                let body = job.map_or_else(
                    || r#"{"detail": "words"}"#.to_owned(),
                    |job| format!(r#"{{"id": "d{job}", "job_id": "{job}"}}"#),
                );
                let status = StatusCode::from_u16(code).expect("it is a code");
                classify(write, status, &HeaderMap::new(), body.as_bytes())
            }
            Self::Unsent => Answer::Unsent("no connection".to_owned()),
            Self::Broken => Answer::Unknown("the connection broke".to_owned()),
        }
    }

    /// The job that it names, where it says that it was accepted.
    pub fn job(self) -> Option<u8> {
        match self.answer() {
            Answer::Accepted(deployment) => deployment.job_id.parse().ok(),
            Answer::Rejected(_) | Answer::Unsent(_) | Answer::Unknown(_) => None,
        }
    }

    /// It says nothing of what came of it.
    pub fn is_unknown(self) -> bool {
        matches!(self.answer(), Answer::Unknown(_))
    }
}

impl Memory {
    /// What is known of this attempt; the first call is its first sight.
    pub fn attempt(&mut self, nonce: Nonce) -> &mut AttemptMemory {
        let known = self.attempt.take().filter(|known| known.nonce == nonce);
        self.attempt.insert(known.unwrap_or(AttemptMemory {
            nonce,
            seen: 0,
            answer: None,
            job_ended: None,
            ended: None,
        }))
    }

    /// How long this hold has been known, and how long a job of the holder may run, as it was last read.
    pub fn hold(&mut self, nonce: Nonce, timeout: Option<Duration>) -> (Duration, Option<Duration>) {
        let known = self.hold.filter(|known| known.nonce == nonce);
        let hold = self.hold.insert(known.unwrap_or(RememberedHold { nonce, seen: 0, timeout: None }));
        hold.timeout = timeout.or(hold.timeout);
        (ticks(hold.seen), hold.timeout)
    }

    /// How long the Space has been shown in an old state.
    pub fn stale_for(&mut self, stale: bool) -> Duration {
        self.stale = stale.then(|| self.stale.unwrap_or(0));
        ticks(self.stale.unwrap_or(0))
    }

    /// Whether only a person's word is awaited, and it was known for as long as anything may still come of it.
    pub fn is_over(&self, other: &Footprint, status: &Status, setting: &Setting) -> bool {
        self.attempt.as_ref().is_some_and(|known| known.is_over(other, status, setting))
    }

    /// What is known of this attempt, if anything is.
    pub fn take(&mut self, nonce: Nonce) -> AttemptMemory {
        self.attempt(nonce);
        self.attempt.take().expect("it was just made")
    }

    /// The attempt of a deleted resource is this one's.
    pub fn inherit(&mut self, memory: AttemptMemory) {
        self.attempt = Some(memory);
    }
}

impl AttemptMemory {
    pub fn is_over(&self, footprint: &Footprint, status: &Status, setting: &Setting) -> bool {
        let undecided = footprint.undecided.as_ref().is_some_and(|nonce| *nonce == self.nonce.text());
        let spent = |attempt| is_spent(attempt, self.seen_for(), ticks(setting.settle));
        undecided && status.attempt.as_ref().is_some_and(spent)
    }

    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The job that the answer named.
    pub fn told_job(&self) -> Option<u8> {
        self.answer.and_then(|(_, said)| said.job())
    }

    fn age(&mut self, longest: u8) {
        let older = |age: &mut u8| *age = (*age + 1).min(longest);
        older(&mut self.seen);
        if let Some((age, _)) = &mut self.answer {
            older(age);
        }
        if let Some(age) = &mut self.job_ended {
            older(age);
        }
        if let Some((_, age)) = &mut self.ended {
            older(age);
        }
    }

    pub fn seen_for(&self) -> Duration {
        ticks(self.seen)
    }

    pub fn answer(&self) -> Option<(Duration, Answer)> {
        self.answer.map(|(age, said)| (ticks(age), said.answer()))
    }

    /// Whether the answer leaves nothing to look for.
    pub fn is_proof(&self) -> bool {
        self.answer.is_some_and(|(_, said)| !said.is_unknown())
    }

    pub fn answered(&mut self, said: Said) {
        self.answer = Some((0, said));
    }

    pub fn forget_answer(&mut self) {
        self.answer = None;
    }

    pub fn job_ended(&mut self, ended: bool) -> Duration {
        self.job_ended = ended.then(|| self.job_ended.unwrap_or(0));
        ticks(self.job_ended.unwrap_or(0))
    }

    /// How long the list has shown these jobs and no others, all ended.
    pub fn jobs_ended(&mut self, ended: Option<Vec<String>>) -> Duration {
        let Some(ended) = ended else {
            self.ended = None;
            return Duration::ZERO;
        };
        let known = self.ended.take().filter(|(known, _)| *known == ended);
        ticks(self.ended.insert(known.unwrap_or((ended, 0))).1)
    }
}

impl Process {
    pub fn order(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the id of this attempt's job is in this process's hands.
    pub fn knows_job_of(&self, nonce: Nonce) -> bool {
        let held = self.flows.iter().any(|flow| match flow {
            Flow::Receipt { sending, .. } => sending.nonce == nonce,
            // A write that is about to land, or to meet a conflict.
            Flow::Record { .. } => true,
            _ => false,
        });
        let remembered = self
            .memory
            .iter()
            .filter_map(|memory| memory.attempt.as_ref())
            .any(|known| known.nonce == nonce && known.told_job().is_some());
        held || remembered
    }

    pub fn tick(&mut self, setting: &Setting) {
        let longest = setting.longest();
        for flow in &mut self.flows {
            if let Some(sending) = flow.sending_mut() {
                sending.age = (sending.age + 1).min(2);
            }
        }
        for memory in &mut self.memory {
            if let Some(hold) = &mut memory.hold {
                hold.seen = (hold.seen + 1).min(longest);
            }
            if let Some(age) = &mut memory.stale {
                *age = (*age + 1).min(setting.settle);
            }
            if let Some(attempt) = &mut memory.attempt {
                attempt.age(longest);
            }
        }
        for lost in &mut self.lost {
            lost.memory.age(longest);
        }
    }
}

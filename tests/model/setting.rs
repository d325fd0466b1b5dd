//! One setting of the model: what is there, how the server behaves, and what may go wrong how often.

use konigle_operator::api::{AdoptionPolicy, DriftPolicy, UnknownOutcomePolicy};

use std::sync::Arc;

use crate::facts::SECOND;
use crate::memo::Memo;
use crate::mutants::Mutant;
use crate::server::Content;

/// When `last_deployed_at` moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    Accept,
    End,
    Success,
}

/// Which word stands while a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    OldWord,
    Running,
    OddWord,
}

/// What the server does with a request while a job runs in that Space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    Refuse,
    Queue,
    Parallel,
}

/// When a promotion reads what uat runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    AtAccept,
    AtEnd,
}

/// What there is beside the uat resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    None,
    /// A production resource that promotes what it runs.
    Production,
    /// Another uat resource for the same Space.
    Twin,
}

/// The open questions of the API.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub moves: Moves,
    pub standing: Standing,
    /// Whether the list of jobs is served.
    pub listed: bool,
    /// Whether a job in the list shows the nonce.
    pub nonce_visible: bool,
    pub busy: Busy,
    pub image: Image,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// The process dies, and starts anew without its memory.
    pub crashes: u8,
    /// A request or its answer is lost, or the effect comes late.
    pub lost: u8,
    /// The server refuses the request, for now or for good.
    pub refused: u8,
    /// A job fails.
    pub failures: u8,
    /// The spec asks for another digest.
    pub edits: u8,
    /// Somebody else deploys.
    pub humans: u8,
    /// A person asks for a reset.
    pub resets: u8,
    /// A resource is deleted, and later made again.
    pub deletions: u8,
    /// The answer to a status write is lost, though it was stored.
    pub unheard: u8,
    /// A process that claimed is too slow, and its fence passes.
    pub slow: u8,
    /// How much of all that may happen in one history.
    pub total: u8,
    /// Two resources claim at once, and one gives way or both do. That is no fault and not counted in the total, but
    /// without a bound it could go on for ever. After it nobody claims beside another's open attempt.
    pub collisions: u8,
}

impl Budget {
    /// What is left, where the total allows anything at all.
    pub fn left(self) -> Self {
        if self.total == 0 { Self::default() } else { self }
    }

    fn sum(self) -> u8 {
        let Self { crashes, lost, refused, failures, edits, humans, resets, deletions, unheard, slow, .. } = self;
        crashes + lost + refused + failures + edits + humans + resets + deletions + unheard + slow
    }

    /// Counts what was spent since.
    pub fn spent_since(&mut self, before: Self) {
        self.total = self.total.saturating_sub(before.sum() - self.sum());
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Setting {
    pub name: &'static str,
    pub replicas: usize,
    /// What there is beside the uat resource.
    pub second: Second,
    /// A resource that is made anew comes from a backup: with its annotations, and without its status.
    pub restored: bool,
    pub reading: Reading,
    /// In ticks, like all that follows.
    pub settle: u8,
    pub timeout: u8,
    /// What an edit does: lowers `timeout` to this, or, where it is `None`, asks for another digest.
    pub timeout_after_an_edit: Option<u8>,
    /// How long a job really takes at most.
    pub longest_job: u8,
    /// How long a request may still take effect; `None`: without bound.
    pub effect_lag: Option<u8>,
    /// How old a read may be.
    pub read_lag: u8,
    /// Whether a read may be older than one before it.
    pub goes_back: bool,
    /// Whether the Spaces were deployed to before, by somebody else.
    pub deployed_before: bool,
    pub unknown_outcome: UnknownOutcomePolicy,
    pub adoption: AdoptionPolicy,
    pub drift: DriftPolicy,
    pub automatic: bool,
    pub budget: Budget,
    /// Attempts of one resource; a state with more is not looked into.
    pub most_attempts: u8,
    pub mutant: Option<Mutant>,
    /// Records are kept as they are, with all texts and the real time, and not only what decisions read.
    pub exact: bool,
    pub memo: Arc<Memo>,
}

impl Setting {
    /// One uat resource, one process, a server that moves the time at the end and serves no list.
    pub fn uat(name: &'static str) -> Self {
        Self {
            name,
            replicas: 1,
            second: Second::None,
            restored: false,
            reading: Reading {
                moves: Moves::End,
                standing: Standing::OldWord,
                listed: false,
                nonce_visible: false,
                busy: Busy::Parallel,
                image: Image::AtEnd,
            },
            settle: 2,
            timeout: 2,
            timeout_after_an_edit: None,
            longest_job: 2,
            effect_lag: Some(2),
            read_lag: 0,
            goes_back: false,
            deployed_before: true,
            unknown_outcome: UnknownOutcomePolicy::Resolve,
            adoption: AdoptionPolicy::Deploy,
            drift: DriftPolicy::Warn,
            automatic: true,
            budget: Budget::default(),
            most_attempts: 5,
            mutant: None,
            exact: false,
            memo: Arc::default(),
        }
    }

    /// The same with a production resource that promotes what the uat resource runs.
    pub fn pair(name: &'static str) -> Self {
        Self { second: Second::Production, most_attempts: 8, ..Self::uat(name) }
    }

    pub fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn server(self, moves: Moves, standing: Standing, listed: bool) -> Self {
        self.but(|setting| {
            setting.reading = Reading { moves, standing, listed, ..setting.reading };
        })
    }

    pub fn within(self, budget: Budget) -> Self {
        self.but(|setting| setting.budget = budget)
    }

    /// Whether this resource promotes.
    pub fn promotes(&self, slot: u8) -> bool {
        slot == SECOND && self.second == Second::Production
    }

    /// Which Space it names.
    pub fn space_of(&self, slot: u8) -> u8 {
        u8::from(self.promotes(slot))
    }

    /// Whether there is such a resource.
    pub fn has(&self, slot: u8) -> bool {
        slot != SECOND || self.second != Second::None
    }

    /// What this version of a spec asks for.
    pub fn wanted(&self, generation: u8) -> Content {
        let edits = if self.timeout_after_an_edit.is_some() { 0 } else { generation - 1 };
        ['a', 'b'][usize::from(edits % 2)]
    }

    /// How long this version lets a job run.
    pub fn timeout_of(&self, generation: u8) -> u8 {
        self.timeout_after_an_edit.filter(|_| generation > 1).unwrap_or(self.timeout)
    }

    /// How long a job of this version really takes at most.
    pub fn longest_job_of(&self, generation: u8) -> u8 {
        self.timeout_after_an_edit.filter(|_| generation > 1).unwrap_or(self.longest_job)
    }

    /// How long a wait can be at most; longer ages are all the same.
    pub fn longest(&self) -> u8 {
        self.settle + self.timeout + 2
    }
}

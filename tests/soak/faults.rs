//! A fault a second: which, and how long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::Bed;
use crate::support::process::POLL;
use crate::support::wire::Fault;
use crate::support::{Failure, Result};

/// How long the operator may take to end when it is asked to: a request that waits for its answer is given a minute.
const STOP_LIMIT: Duration = Duration::from_secs(100);

/// The numbers of a seed (splitmix64): the same seed gives the same faults.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % limit.max(1) as u64).unwrap_or_default()
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    fn seconds(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from * 1000 + self.below((to - from) * 1000 + 1)) as u64)
    }
}

/// What was done, and what is to be undone when.
#[derive(Default)]
pub(crate) struct Faults {
    /// By kind.
    pub(crate) counts: BTreeMap<&'static str, usize>,
    konigle_until: Option<Instant>,
    kubernetes_until: Option<Instant>,
    stopped_until: Option<Instant>,
    /// Since when the operator is to end.
    ending: Option<Instant>,
}

impl Faults {
    /// One fault; a restart of the operator only where `restarts`.
    pub(crate) async fn inflict(&mut self, bed: &mut Bed, random: &mut Random, restarts: bool) -> Result<()> {
        self.undo(bed, false)?;
        let kind = match random.below(100) {
            50..58 if self.konigle_until.is_none() => self.wire_of_konigle(bed, random),
            58..66 => Self::connections_of_konigle(bed, random),
            66..76 if self.kubernetes_until.is_none() => self.wire_of_kubernetes(bed, random),
            76..82 => {
                bed.fail_a_job(random).await?;
                "failed job"
            }
            82..87 => {
                bed.deploy_by_a_person(random).await?;
                "deploy by a person"
            }
            87..90 => {
                bed.rotate_token().await?;
                "token rotated"
            }
            90..94 if self.stopped_until.is_none() => {
                self.stopped_until = Some(Instant::now() + random.seconds(1, 6));
                bed.operator.process().signal("STOP")?;
                "SIGSTOP"
            }
            94..98 if restarts => {
                // A stopped process dies too.
                bed.operator.kill();
                bed.operator.restart_unready()?;
                self.ending = None;
                "kill -9"
            }
            98..100 if restarts && self.ending.is_none() => {
                self.undo(bed, true)?;
                self.terminate(bed, random).await?
            }
            // Half of all, and in place of what goes on already or may not be.
            _ => Self::answer(bed, random).await?,
        };
        *self.counts.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Ends all that goes on.
    pub(crate) async fn stop(&mut self, bed: &mut Bed) -> Result<()> {
        self.undo(bed, true)?;
        while self.ending.is_some() {
            tokio::time::sleep(POLL).await;
            self.undo(bed, true)?;
        }
        bed.simulator.control(reqwest::Method::DELETE, "faults", &Value::Null).await.map(drop)
    }

    fn undo(&mut self, bed: &mut Bed, all: bool) -> Result<()> {
        let is_over = |until: &mut Option<Instant>| until.take_if(|until| all || Instant::now() >= *until).is_some();
        if is_over(&mut self.konigle_until) {
            bed.konigle.set(None);
        }
        if is_over(&mut self.kubernetes_until) {
            bed.kubernetes.set(None);
        }
        if is_over(&mut self.stopped_until) {
            bed.operator.process().signal("CONT")?;
        }
        let ended = bed.operator.process().ended()?;
        if let (None, Some(status)) = (self.ending, ended) {
            return Err(Failure::new(format!("the operator ended by itself with {status}")));
        }
        if let Some(since) = self.ending {
            if let Some(status) = ended {
                self.ending = None;
                bed.operator.restart_unready()?;
                if !status.success() {
                    return Err(Failure::new(format!("asked to end, the operator ended with {status}")));
                }
            } else if since.elapsed() > STOP_LIMIT {
                return Err(Failure::new(format!("asked to end, the operator had not after {STOP_LIMIT:?}")));
            }
        }
        Ok(())
    }

    /// Asks the operator to end, where it can hear that: the shell that it is started by, which may not have become it
    /// yet, cannot.
    async fn terminate(&mut self, bed: &mut Bed, random: &mut Random) -> Result<&'static str> {
        if bed.operator.readiness().await.is_none() {
            return Self::answer(bed, random).await;
        }
        bed.operator.process().signal("TERM")?;
        self.ending = Some(Instant::now());
        Ok("SIGTERM")
    }

    /// Something that the simulator does to the next such request.
    async fn answer(bed: &Bed, random: &mut Random) -> Result<&'static str> {
        let (kind, when, action) = random
            .one_of(&[
                ("500 before", "before", json!({"status": 500})),
                ("500 after", "after", json!({"status": 500})),
                ("503 before", "before", json!({"status": 503})),
                ("reset before", "before", json!("reset")),
                ("reset after", "after", json!("reset")),
                ("dropped after", "after", json!("drop")),
                ("truncated", "after", json!("truncate")),
                ("HTML", "after", json!("html")),
                ("429", "before", json!({"answer": {"status": 429, "retry_after": 2}})),
                ("409", "before", json!({"status": 409})),
                ("delay before", "before", json!({"delay_ms": 1500})),
                ("delay after", "after", json!({"delay_ms": 1500})),
            ])
            .clone();
        // Deploys twice as often: they are what this is about.
        let operation = random.one_of(&["deploy", "deploy", "get_space", "get_job"]);
        bed.simulator.fault(&json!({"operation": operation, "when": when, "action": action})).await?;
        Ok(kind)
    }

    /// For no longer than a request may still take effect: what a black hole holds back passes when it ends.
    fn wire_of_konigle(&mut self, bed: &Bed, random: &mut Random) -> &'static str {
        let (kind, fault) = *random.one_of(&[
            ("Konigle black hole", Fault::BlackHole),
            ("Konigle slow", Fault::Latency(Duration::from_millis(400))),
        ]);
        self.konigle_until = Some(Instant::now() + random.seconds(1, 3));
        bed.konigle.set(Some(fault));
        kind
    }

    fn connections_of_konigle(bed: &Bed, random: &mut Random) -> &'static str {
        let bytes = random.below(300);
        let (kind, fault) =
            *random.one_of(&[("Konigle reset", Fault::Reset(bytes)), ("Konigle cut short", Fault::Truncate(bytes))]);
        let beginning = if random.below(2) == 0 { "POST" } else { "GET" };
        bed.konigle.next(beginning, 1, fault);
        kind
    }

    fn wire_of_kubernetes(&mut self, bed: &Bed, random: &mut Random) -> &'static str {
        let (kind, fault) = *random.one_of(&[
            ("API server black hole", Fault::BlackHole),
            ("API server slow", Fault::Latency(Duration::from_millis(200))),
            ("API server reset", Fault::Reset(0)),
        ]);
        if matches!(fault, Fault::Reset(_)) {
            bed.kubernetes.next("", 1, fault);
        } else {
            self.kubernetes_until = Some(Instant::now() + random.seconds(1, 4));
            bed.kubernetes.set(Some(fault));
        }
        kind
    }
}

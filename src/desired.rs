//! From a resource to what it asks for: parsed once, valid ever after.
//!
//! Pure: no clock, no I/O, no log. The API server's CEL rules refuse most of what is refused here; an older CRD or
//! an object stored before a rule existed is why it is checked again.

use std::time::Duration;

use kube::ResourceExt;

use crate::api::{
    AdoptionPolicy, DriftPolicy, KonigleSpace, KonigleSpaceSpec, KonigleSpaceStatus, PromotionPolicy, RECONCILE_AT,
    REDEPLOY_AT, RELEASED, RESET_AT, RESOLVE_ATTEMPT, SpaceReference, SpaceType, UnknownOutcomePolicy,
};
use crate::artifact::Digest;
use crate::origin::{Origin, parse_digest};
use crate::released::Released;

/// How many characters of an annotation's value count: people write them, and each is copied into the status.
const LONGEST_ANNOTATION: usize = 256;

/// What a resource asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The generation of the spec that this was parsed from.
    pub generation: i64,
    /// Which Space.
    pub space: SpaceReference,
    /// The Secret with the token.
    pub secret: String,
    /// What should run there.
    pub wish: Wish,
    /// How often to look when nothing moves.
    pub interval: Duration,
    /// How long one job may run.
    pub timeout: Duration,
    /// Failed attempts of one digest before it is quarantined.
    pub retry_limit: i64,
    /// What to do when somebody else deployed.
    pub drift_policy: DriftPolicy,
    /// What to do at first contact.
    pub adoption_policy: AdoptionPolicy,
    /// What to do when nothing was seen of a request whose outcome is unknown.
    pub unknown_outcome_policy: UnknownOutcomePolicy,
    /// Never write to Konigle.
    pub suspended: bool,
    /// How many ended attempts to keep.
    pub history_limit: usize,
    /// What people ask for by annotation.
    pub requests: Requests,
    /// What the operator itself noted of its last release.
    pub released: Option<Released>,
}

/// What should run in the Space.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// An artifact.
    Deploy(Origin),
    /// What another resource runs.
    Promote {
        /// The uat resource's name.
        from: String,
        /// Which digest of it.
        approval: Approval,
    },
}

/// Which digest of the uat resource is promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Exactly this one, once it was approved.
    Manual(Option<Digest>),
    /// Whatever is confirmed to run there.
    Automatic,
}

/// What people ask for by annotation; each value is any request id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Look now.
    pub reconcile_at: Option<String>,
    /// Forget failures; deploy again where what runs is not known for certain.
    pub reset_at: Option<String>,
    /// Release the same digest once more.
    pub redeploy_at: Option<String>,
    /// The answer to an unknown outcome, as written.
    pub resolve_attempt: Option<String>,
}

/// A person's answer to an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took effect.
    Succeeded,
    /// It took effect and failed.
    Failed,
    /// Try again.
    Retry,
}

impl Requests {
    /// Whether a look is asked for that was not acted on yet.
    #[must_use]
    pub fn look(&self, status: &KonigleSpaceStatus) -> bool {
        is_pending(self.reconcile_at.as_ref(), status.last_handled_reconcile_at.as_ref())
    }

    /// Whether a reset is asked for that was not acted on yet.
    #[must_use]
    pub fn reset(&self, status: &KonigleSpaceStatus) -> bool {
        is_pending(self.reset_at.as_ref(), status.last_handled_reset_at.as_ref())
    }

    /// Whether a redeploy is asked for that was not acted on yet.
    #[must_use]
    pub fn redeploy(&self, status: &KonigleSpaceStatus) -> bool {
        is_pending(self.redeploy_at.as_ref(), status.last_handled_redeploy_at.as_ref())
    }

    /// The answer that was given for the attempt with this nonce.
    #[must_use]
    pub fn answer_for(&self, nonce: &str) -> Option<Answer> {
        let (named, answer) = self.resolve_attempt.as_deref()?.split_once('=')?;
        if named.trim() != nonce {
            return None;
        }
        match answer.trim() {
            "succeeded" => Some(Answer::Succeeded),
            "failed" => Some(Answer::Failed),
            "retry" => Some(Answer::Retry),
            _ => None,
        }
    }
}

fn is_pending(asked: Option<&String>, handled: Option<&String>) -> bool {
    asked.is_some() && asked != handled
}

/// Why a spec asks for nothing that can be done. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Desired {
    /// Parses a resource's spec and annotations.
    ///
    /// # Errors
    ///
    /// [`Invalid`], with a message for the person who wrote the spec.
    pub fn parse(resource: &KonigleSpace) -> Result<Self, Invalid> {
        let spec = &resource.spec;
        let wish = parse_wish(spec)?;
        let promotes = matches!(wish, Wish::Promote { .. });
        if let Some(space_type) = spec.space.space_type {
            check_type(space_type, promotes)?;
        }
        if promotes && spec.drift_policy == DriftPolicy::Redeploy {
            return Err(invalid("spec.driftPolicy: Redeploy cannot be used with spec.promotion: write Warn or Ignore"));
        }
        let space = &spec.space;
        let by_names = space.computer.is_some() && space.webapp.is_some() && space.space_type.is_some();
        let any_name = space.computer.is_some() || space.webapp.is_some() || space.space_type.is_some();
        if space.id.is_some() == by_names || (space.id.is_some() && any_name) {
            return Err(invalid("write either spec.space.id, or all of computer, webapp and type in spec.space"));
        }
        let annotation =
            |name: &str| resource.annotations().get(name).map(|value| value.chars().take(LONGEST_ANNOTATION).collect());
        Ok(Self {
            generation: resource.metadata.generation.unwrap_or_default(),
            space: space.clone(),
            secret: spec.credentials.secret_ref.name.clone(),
            wish,
            interval: parse_duration("spec.interval", &spec.interval)?.max(Duration::from_secs(30)),
            timeout: parse_duration("spec.timeout", &spec.timeout)?,
            retry_limit: i64::from(spec.retry.limit.max(1)),
            drift_policy: spec.drift_policy,
            adoption_policy: spec.adoption_policy.unwrap_or(if promotes {
                AdoptionPolicy::AssumeCurrent
            } else {
                AdoptionPolicy::Deploy
            }),
            unknown_outcome_policy: spec.unknown_outcome_policy.unwrap_or(if promotes {
                UnknownOutcomePolicy::Hold
            } else {
                UnknownOutcomePolicy::Resolve
            }),
            suspended: spec.suspend,
            history_limit: usize::try_from(spec.history_limit.clamp(1, 20)).unwrap_or(10),
            requests: Requests {
                reconcile_at: annotation(RECONCILE_AT),
                reset_at: annotation(RESET_AT),
                redeploy_at: annotation(REDEPLOY_AT),
                resolve_attempt: annotation(RESOLVE_ATTEMPT),
            },
            released: resource.annotations().get(RELEASED).and_then(|value| Released::parse(value)),
        })
    }

    /// Whether the resource promotes, and so names a production Space.
    #[must_use]
    pub fn promotes(&self) -> bool {
        matches!(self.wish, Wish::Promote { .. })
    }
}

/// Artifacts are deployed to uat and promoted to production.
fn check_type(space_type: SpaceType, promotes: bool) -> Result<(), Invalid> {
    match (space_type, promotes) {
        (SpaceType::Uat, false) | (SpaceType::Production, true) => Ok(()),
        (SpaceType::Uat, true) => {
            Err(invalid("this is a uat Space: write spec.source; spec.promotion is for production Spaces"))
        }
        (SpaceType::Production, false) => {
            Err(invalid("this is a production Space: write spec.promotion; spec.source is for uat Spaces"))
        }
    }
}

fn parse_wish(spec: &KonigleSpaceSpec) -> Result<Wish, Invalid> {
    match (&spec.source, &spec.promotion) {
        (Some(source), None) => Ok(Wish::Deploy(Origin::parse(source).map_err(Invalid)?)),
        (None, Some(promotion)) => Ok(Wish::Promote {
            from: promotion.from.name.clone(),
            approval: match (promotion.policy, &promotion.approved_digest) {
                (PromotionPolicy::Automatic, None) => Approval::Automatic,
                (PromotionPolicy::Automatic, Some(_)) => {
                    return Err(invalid(
                        "spec.promotion.approvedDigest is for policy Manual: remove it, or write policy: Manual",
                    ));
                }
                (PromotionPolicy::Manual, None) => Approval::Manual(None),
                (PromotionPolicy::Manual, Some(digest)) => {
                    Approval::Manual(Some(parse_digest("spec.promotion.approvedDigest", digest).map_err(Invalid)?))
                }
            },
        }),
        _ => Err(invalid("write exactly one of spec.source and spec.promotion")),
    }
}

/// The longest duration that the CRD allows.
const LONGEST: u64 = 24 * 3600;

/// Parses `30s`, `5m` or `1h30m`.
fn parse_duration(field: &str, text: &str) -> Result<Duration, Invalid> {
    let wrong = || invalid(format!("write {field} as a duration of at most 24h, such as 30s, 5m or 1h30m"));
    let mut seconds: u64 = 0;
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let unit = match character {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        digits.clear();
    }
    if seconds == 0 || seconds > LONGEST || !digits.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

fn invalid(message: impl Into<String>) -> Invalid {
    Invalid(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h30m", 5400), ("24h", 86_400), ("90s", 90)] {
            assert_eq!(parse_duration("f", text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "5x", "5m3", "-5m", "1.5h", "99999999999999999999h", "0s", "25h"] {
            assert!(parse_duration("f", text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_answer_counts_only_for_the_nonce_it_names() {
        let requests = |text: &str| Requests { resolve_attempt: Some(text.to_owned()), ..Requests::default() };
        assert_eq!(requests("k3f2=retry").answer_for("k3f2"), Some(Answer::Retry));
        assert_eq!(requests("k3f2=succeeded").answer_for("k3f2"), Some(Answer::Succeeded));
        assert_eq!(requests("k3f2=failed").answer_for("k3f2"), Some(Answer::Failed));
        for other in ["other=retry", "k3f2", "k3f2=maybe", "retry", ""] {
            assert_eq!(requests(other).answer_for("k3f2"), None, "{other}");
        }
    }
}

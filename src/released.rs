//! The annotation that outlives a status: what was released last, and the Space's time of it.
//!
//! Pure. A backup keeps annotations and drops the status; a resource that is restored so finds here what it deployed, and
//! deploys nothing a second time.

use std::fmt;

use crate::api::{Attribution, KonigleSpaceStatus, SpaceStatus};

/// The longest value that is read, in characters.
const LONGEST: usize = 1024;

/// What was released last to which Space, and its `last_deployed_at` then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The Space's id.
    pub space_id: String,
    /// The digest.
    pub digest: String,
    /// `last_deployed_at` as the server sent it.
    pub last_deployed_at: String,
}

impl Released {
    /// What a status has to say; `None` where it proves nothing, or where the Space tells no time.
    #[must_use]
    pub fn of(status: &KonigleSpaceStatus) -> Option<Self> {
        let release = status.release.as_ref()?;
        let proven = matches!(release.attribution, Attribution::Confirmed | Attribution::Inferred);
        let space_id = status.space.as_ref()?.id.clone();
        let last_deployed_at = release.last_deployed_at_seen.clone()?;
        let complete = !space_id.is_empty() && !last_deployed_at.is_empty() && !release.digest.is_empty();
        (proven && complete).then(|| Self { space_id, digest: release.digest.clone(), last_deployed_at })
    }

    /// Reads the annotation's value; `None` where it is not one that this operator writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text: String = text.chars().take(LONGEST).collect();
        let mut parts = text.splitn(3, ' ').map(str::to_owned);
        let (space_id, digest, last_deployed_at) = (parts.next()?, parts.next()?, parts.next()?);
        digest.parse::<crate::artifact::Digest>().ok()?;
        Some(Self { space_id, digest, last_deployed_at })
    }

    /// Whether the Space still shows exactly this: its id, and the time of the release.
    #[must_use]
    pub fn is_shown_by(&self, space: &SpaceStatus) -> bool {
        space.id == self.space_id && space.last_deployed_at.as_ref() == Some(&self.last_deployed_at)
    }
}

impl fmt::Display for Released {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.space_id, self.digest, self.last_deployed_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_facts::*;

    #[test]
    fn what_is_written_is_read_again() {
        let facts = Facts::uat().runs(A);
        let status = KonigleSpaceStatus { space: Some(facts.space().status.clone()), ..facts.status.clone() };
        let released = Released::of(&status).unwrap();
        assert_eq!(released.to_string(), format!("7301 {A} {BEFORE}"));
        assert_eq!(Released::parse(&released.to_string()), Some(released.clone()));
        assert!(released.is_shown_by(&facts.space().status));
        assert!(!released.is_shown_by(&facts.shows(LATER, "success").space().status), "somebody deployed since");
    }

    #[test]
    fn what_is_only_assumed_is_not_written() {
        let facts = Facts::uat().runs(A).attributed(Attribution::Assumed);
        let status = KonigleSpaceStatus { space: Some(facts.space().status.clone()), ..facts.status.clone() };
        assert_eq!(Released::of(&status), None);
    }

    #[test]
    fn other_values_are_ignored() {
        for text in ["", "7301", "7301 sha256:aa 2026", &format!("7301 {A}")] {
            assert_eq!(Released::parse(text), None, "{text}");
        }
        let spaced = Released::parse(&format!("7301 {A} 2026-11-24 08:00:00")).unwrap();
        assert_eq!(spaced.last_deployed_at, "2026-11-24 08:00:00", "a server may write its times so");
    }
}

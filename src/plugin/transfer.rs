//! How far a download or an upload is: a bar where there is room for one, words elsewhere.
//!
//! Pure. How fast it goes and when it ends is not shown: a status is written every few seconds and tells neither.

use super::screen::Look;
use crate::api::{KonigleSpaceStatus, TransferStatus};
use crate::text::how_far;

/// The longest bar, in columns.
const LONGEST_BAR: usize = 40;
/// The shortest bar that shows anything.
const SHORTEST_BAR: usize = 10;

/// A transfer that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    direction: Direction,
    far: TransferStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// From where the artifact was published.
    Down,
    /// To Konigle.
    Up,
}

/// A stage of a transfer that is worth a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage(Direction, i64);

impl Transfer {
    /// The one that a status tells of. An upload has ended when its job is known.
    pub fn of(status: &KonigleSpaceStatus) -> Option<Self> {
        let upload = status.attempt.as_ref().filter(|attempt| attempt.job_id.is_none());
        let upload = upload.and_then(|attempt| attempt.upload.clone()).map(|far| (Direction::Up, far));
        let download = || status.artifact.as_ref().and_then(|artifact| artifact.download.clone());
        let (direction, far) = upload.or_else(|| download().map(|far| (Direction::Down, far)))?;
        Some(Self { direction, far })
    }

    /// Whether it goes to Konigle.
    pub fn is_upload(&self) -> bool {
        self.direction == Direction::Up
    }

    /// How far it is: `42 %, 430 MiB of 1.0 GiB`.
    pub fn words(&self) -> String {
        how_far(self.far.bytes, self.far.total, self.far.percent)
    }

    /// The same with a bar before it, in so many columns. Without a total, or where it has no room, there is none.
    pub fn bar(&self, look: Look) -> String {
        let arrow = match self.direction {
            Direction::Down => "↓",
            Direction::Up => "↑",
        };
        let words = self.words();
        let taken = 4 + 2 + words.chars().count();
        let room = look.width.map_or(LONGEST_BAR, |width| width.saturating_sub(taken)).min(LONGEST_BAR);
        match self.far.percent {
            Some(percent) if room >= SHORTEST_BAR => {
                let percent = usize::try_from(percent.clamp(0, 100)).unwrap_or_default();
                let full = room * percent / 100;
                format!("  {arrow} {}{}  {words}", "█".repeat(full), "░".repeat(room - full))
            }
            _ => look.cut(&format!("  {arrow} {words}"), 0),
        }
    }

    /// Tells every tenth of it from the one before; without a total, each time that it has doubled.
    pub fn stage(&self) -> Stage {
        let doublings = || (self.far.bytes.max(1) >> 20).checked_ilog2().map_or(-1, i64::from);
        Stage(self.direction, self.far.percent.map_or_else(doublings, |percent| percent / 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ArtifactStatus, Attempt};

    const MIB: u64 = 1 << 20;

    fn down(bytes: u64, total: Option<u64>) -> Transfer {
        let download = Some(TransferStatus::of(bytes, total));
        let artifact = Some(ArtifactStatus { download, ..ArtifactStatus::default() });
        Transfer::of(&KonigleSpaceStatus { artifact, ..KonigleSpaceStatus::default() }).unwrap()
    }

    #[test]
    fn the_bar_fits_and_is_left_out_where_it_tells_nothing() {
        let at = |width| Look { colour: false, width };
        let half = down(512 * MIB, Some(1024 * MIB));
        let whole = "  ↓ ████████████████████░░░░░░░░░░░░░░░░░░░░  50 %, 512 MiB of 1.0 GiB";
        assert_eq!(half.bar(at(Some(120))), whole);
        assert_eq!(half.bar(at(None)), whole);
        assert_eq!(half.bar(at(Some(40))), "  ↓ █████░░░░░  50 %, 512 MiB of 1.0 GiB");
        assert_eq!(half.bar(at(Some(39))), "  ↓ 50 %, 512 MiB of 1.0 GiB", "no room");
        assert_eq!(half.bar(at(Some(20))), "  ↓ 50 %, 512 MiB o…");
        assert_eq!(down(3 * MIB, None).bar(at(Some(120))), "  ↓ 3.0 MiB so far", "no total");
        for width in 1..120 {
            for bar in [half.bar(at(Some(width))), down(0, Some(0)).bar(at(Some(width)))] {
                assert!(bar.chars().count() <= width, "{width}: {bar}");
            }
        }
        assert!(down(0, Some(MIB)).bar(at(None)).contains(&"░".repeat(40)));
        assert!(down(2 * MIB, Some(MIB)).bar(at(None)).contains(&"█".repeat(40)), "more came than was said");
    }

    #[test]
    fn an_upload_is_shown_until_its_job_is_known() {
        let upload = Some(TransferStatus::of(MIB, Some(4 * MIB)));
        let mut attempt = Attempt { upload, ..Attempt::default() };
        let of = |attempt: &Attempt| {
            Transfer::of(&KonigleSpaceStatus { attempt: Some(attempt.clone()), ..KonigleSpaceStatus::default() })
        };
        let shown = of(&attempt).unwrap();
        assert!(shown.is_upload() && shown.words() == "25 %, 1.0 MiB of 4.0 MiB", "{shown:?}");
        assert!(shown.bar(Look { colour: false, width: None }).starts_with("  ↑ ██████████░"));
        attempt.job_id = Some("job-1".to_owned());
        assert_eq!(of(&attempt), None);
    }

    #[test]
    fn a_stage_is_a_tenth_or_a_doubling() {
        let stages = |total: Option<u64>| {
            let mut stages: Vec<Stage> = (0..=1000).map(|bytes| down(bytes * MIB, total).stage()).collect();
            stages.dedup();
            stages.len()
        };
        assert_eq!(stages(Some(1000 * MIB)), 11);
        assert_eq!(stages(None), 11, "below 1 MiB, and from 1, 2, 4 … 512 MiB on");
    }
}

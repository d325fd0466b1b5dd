//! What one archive takes of its limits, counted while it is read.

use super::Limits;
use super::inspect::{InspectError, rejected};

/// Less than this is no bomb, however well it is compressed, in bytes.
const RATIO_FLOOR: u64 = 64 << 20;

/// Counts entries and unpacked bytes, and refuses what goes beyond.
pub(super) struct Budget<'a> {
    limits: &'a Limits,
    packed: u64,
    entries: u64,
    unpacked: u64,
}

impl<'a> Budget<'a> {
    /// For an archive of `packed` bytes.
    pub(super) fn new(limits: &'a Limits, packed: u64) -> Self {
        Self { limits, packed, entries: 0, unpacked: 0 }
    }

    /// One more entry.
    pub(super) fn entry(&mut self) -> Result<(), InspectError> {
        self.entries += 1;
        if self.entries > self.limits.max_entries { too_many_entries(self.limits.max_entries) } else { Ok(()) }
    }

    /// So many more bytes may be unpacked.
    pub(super) fn room(&self) -> u64 {
        let by_ratio = self.packed.saturating_mul(self.limits.max_ratio).max(RATIO_FLOOR);
        self.limits.max_unpacked.min(by_ratio).saturating_sub(self.unpacked)
    }

    /// So many more unpacked bytes.
    pub(super) fn unpack(&mut self, bytes: u64) -> Result<(), InspectError> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        let (most, ratio) = (self.limits.max_unpacked, self.limits.max_ratio);
        if self.unpacked > most {
            return rejected(format!(
                "it unpacks to more than {most} bytes, which is all that this operator allows: leave out what the app \
                 does not need, or raise the operator's `--artifact-max-unpacked`"
            ));
        }
        if self.unpacked > RATIO_FLOOR && self.unpacked > self.packed.saturating_mul(ratio) {
            return rejected(format!(
                "it unpacks to more than {ratio} times its size, as a bomb does: leave out what the app does not need, \
                 or raise the operator's `--artifact-max-ratio`"
            ));
        }
        Ok(())
    }
}

pub(super) fn too_many_entries<T>(most: u64) -> Result<T, InspectError> {
    rejected(format!(
        "it has more than {most} entries, files and folders, which is all that this operator allows: leave out what the \
         app does not need, or raise the operator's `--artifact-max-entries`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_counts_from_64_mib() {
        const MIB: u64 = 1 << 20;
        let limits = Limits { max_ratio: 100, ..Limits::default() };
        for (packed, unpacked, is_refused) in [
            (0, 64 * MIB, false),
            (64 << 10, 64 * MIB, false),
            (64 << 10, 64 * MIB + 1, true),
            (MIB, 100 * MIB, false),
            (MIB, 100 * MIB + 1, true),
        ] {
            let mut budget = Budget::new(&limits, packed);
            let outcome = budget.unpack(unpacked / 2).and_then(|()| budget.unpack(unpacked - unpacked / 2));
            assert_eq!(outcome.is_err(), is_refused, "{packed} to {unpacked}");
            if let Err(error) = outcome {
                assert!(error.to_string().contains("--artifact-max-ratio"), "{error}");
            }
        }
    }
}

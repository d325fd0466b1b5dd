//! The name of an artifact: the SHA-256 of its bytes. No other algorithm exists here.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

const PREFIX: &str = "sha256:";
/// Of reads of a whole file, in bytes.
const BUFFER: usize = 256 << 10;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; SHA256_OUTPUT_LEN]);

/// A text is no [`Digest`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "a digest is `sha256:` followed by 64 lower-case hexadecimal digits, as in `sha256:` and the first word that `sha256sum FILE` prints"
)]
pub struct InvalidDigest;

impl Digest {
    /// Reads the canonical form; upper-case digits are refused, so that equal digests are equal texts.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidDigest)?;
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Self(bytes))
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// `sha256:` and the first 12 digits: for people, not for comparing.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{PREFIX}{:.12}", self.hex())
    }

    /// The first 128 bits as a number.
    pub(super) fn first_half(&self) -> u128 {
        self.0.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    /// The 64 digits without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        formatter.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Hashes bytes as they pass by.
pub(super) struct Hasher(Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

/// The digest and the size in bytes of all that a reader has; `None` where it was stopped before its end.
pub(super) fn digest_of(mut reader: impl Read, stop: &CancellationToken) -> io::Result<Option<(Digest, u64)>> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    while !stop.is_cancelled() {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Some((hasher.finish(), size))),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_the_canonical_form_is_read() {
        let digits = EMPTY.strip_prefix(PREFIX).unwrap();
        for (text, because) in [
            (String::new(), "empty"),
            (digits.to_owned(), "the algorithm is missing"),
            (format!("sha512:{digits}"), "another algorithm"),
            (format!("SHA256:{digits}"), "the algorithm is lower-case"),
            (EMPTY.to_uppercase().replace("SHA256", "sha256"), "upper-case digits"),
            (format!("{PREFIX}{}", &digits[1..]), "63 digits"),
            (format!("{EMPTY}0"), "65 digits"),
            (format!("{EMPTY}00"), "66 digits"),
            (format!("{PREFIX}g{}", &digits[1..]), "no hexadecimal digit"),
            (format!(" {EMPTY}"), "a blank in front"),
            (format!("{EMPTY}\n"), "a newline at the end"),
            (format!("{PREFIX}ä{}", &digits[2..]), "no ASCII"),
        ] {
            assert_eq!(Digest::parse(&text), Err(InvalidDigest), "{because}");
        }
    }

    #[test]
    fn a_digest_prints_as_it_was_read() {
        let digest = Digest::parse(EMPTY).unwrap();
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(format!("{digest:?}"), EMPTY);
        assert_eq!(digest.short(), "sha256:e3b0c44298fc");
        assert_eq!(EMPTY.parse(), Ok(digest));
    }
}

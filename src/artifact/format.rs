//! Which kind of file an artifact is, told by its first bytes.

use std::io::{Read, Seek, SeekFrom};

use super::inspect::{InspectError, rejected};

/// A kind of archive that can be deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Sent as it is. What has no known beginning is taken for one, for a ZIP is known by its end.
    Zip,
    /// A tar file in gzip, packed anew.
    Gzip,
    /// A bare tar file, packed anew.
    Tar,
}

impl Format {
    /// The format of a file; others are refused by name.
    pub(super) fn of<R: Read + Seek>(mut reader: R) -> Result<Self, InspectError> {
        let mut head = Vec::new();
        reader.seek(SeekFrom::Start(0))?;
        reader.take(265).read_to_end(&mut head)?;
        let other = match head.as_slice() {
            [] => "an empty file",
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "an xz file (.tar.xz?)",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file (.tar.zst?)",
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => "a bzip2 file (.tar.bz2?)",
            [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z file",
            _ if head.get(257..262) == Some(b"ustar") => return Ok(Self::Tar),
            _ if super::http::looks_like_html(&head) => "an HTML page",
            _ => return Ok(Self::Zip),
        };
        rejected(format!("it is {other}; publish the app as a ZIP file or as a .tar.gz"))
    }
}

//! What is uploaded and packed: made anew by each run, and the same each time.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::support::run_folder::new_folder;
use crate::support::{Context, Failure, Result};

const MIB: usize = 1 << 20;
/// How many different words a text file has.
const OWN_WORDS: usize = 200;
/// How many lines of a hundred are like an earlier one.
const REPEATED_LINES: usize = 15;
/// The files of an application, without its content.
const APPLICATION: [(&str, &str); 2] = [
    ("Dockerfile", "FROM scratch\n"),
    ("bentocloud.toml", "[app]\nname = \"shop\"\n\n[processes.web]\ncommand = \"serve\"\nhttp = true\n"),
];

/// An application whose files no packing makes smaller, as a folder and as a ZIP of it. Dropping it removes both.
pub(crate) struct Large {
    folder: PathBuf,
}

impl Large {
    /// Of so many MiB.
    pub(crate) fn make(mebibytes: usize) -> Result<Self> {
        let large = Self { folder: new_folder("large")? };
        let files = large.files();
        write_application(&files)?;
        let mut random = Rng::with_seed(6);
        let mut piece = vec![0; MIB];
        let mut data = create(&files.join("data"))?;
        for _ in 0..mebibytes {
            random.fill(&mut piece);
            data.write_all(&piece)?;
        }
        data.flush()?;
        let mut writer = ZipWriter::new(create(&large.zip())?);
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        for name in ["Dockerfile", "bentocloud.toml", "data"] {
            writer.start_file(name, stored)?;
            std::io::copy(&mut BufReader::with_capacity(MIB, File::open(files.join(name))?), &mut writer)?;
        }
        writer.finish()?.flush()?;
        Ok(large)
    }

    /// A tar.gz of it, made now.
    pub(crate) fn tar_gz(&self) -> Result<PathBuf> {
        let path = self.folder.join("app.tar.gz");
        // Its content gets no smaller anyhow.
        let mut writer = tar::Builder::new(GzEncoder::new(create(&path)?, Compression::fast()));
        writer.append_dir_all("", self.files()).context("packing the large application")?;
        writer.into_inner()?.finish()?.flush()?;
        Ok(path)
    }

    /// The folder with its files.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.join("app")
    }

    /// The ZIP.
    pub(crate) fn zip(&self) -> PathBuf {
        self.folder.join("app.zip")
    }
}

/// An application as teams have it in a repository: mostly text, some pictures. Dropping it removes its files.
pub(crate) struct Tree {
    folder: PathBuf,
    /// All files together, in bytes.
    pub(crate) bytes: u64,
    /// How many files there are.
    pub(crate) files: usize,
}

impl Tree {
    /// Of so many MiB.
    pub(crate) fn make(mebibytes: usize) -> Result<Self> {
        let mut tree = Self { folder: new_folder("tree")?, bytes: 0, files: 0 };
        write_application(&tree.root())?;
        let mut random = Rng::with_seed(6);
        let words: Vec<String> = (0..4000).map(|_| word(&mut random)).collect();
        while tree.bytes < u64::try_from(mebibytes * MIB)? {
            let module = tree.root().join(format!("src/module-{}", tree.files / 40));
            fs::create_dir_all(&module).context(format!("making {}", module.display()))?;
            // One file in forty is a picture of some hundred KiB, which comes to a quarter of all bytes.
            let (name, content) = if tree.files % 40 == 39 {
                let mut picture = vec![0; random.usize(20_000..400_000)];
                random.fill(&mut picture);
                ("picture.png".to_owned(), picture)
            } else {
                // From half a KiB to 64 KiB, small ones as often as large ones.
                let least = 512_usize << random.u32(0..7);
                let size = random.usize(least..2 * least);
                (format!("file-{}.py", tree.files % 40), text(&mut random, &words, size))
            };
            fs::write(module.join(name), &content).context(format!("writing into {}", module.display()))?;
            tree.bytes += u64::try_from(content.len())?;
            tree.files += 1;
        }
        Ok(tree)
    }

    /// The folder with its files.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("app")
    }

    /// A new file beside them.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn word(random: &mut Rng) -> String {
    (0..random.usize(2..12)).map(|_| random.lowercase()).collect()
}

/// Indented lines of words, as in a program: each file has few of the words, some of them are frequent, and lines come
/// again. It deflates to a third, as this package's own sources do.
fn text(random: &mut Rng, words: &[String], size: usize) -> Vec<u8> {
    let own: Vec<&String> = (0..OWN_WORDS).map(|_| &words[random.usize(0..words.len())]).collect();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut text = Vec::with_capacity(size + 128);
    while text.len() < size {
        if lines.is_empty() || random.usize(0..100) >= REPEATED_LINES {
            let mut line = vec![b' '; 4 * random.usize(0..4)];
            for _ in 0..random.usize(1..12) {
                // The product of two makes small numbers frequent.
                line.extend(own[OWN_WORDS * random.usize(0..1000) * random.usize(0..1000) / 1_000_000].as_bytes());
                line.push(*random.choice(b"  .,=()_").unwrap_or(&b' '));
            }
            line.push(b'\n');
            text.extend(&line);
            lines.push(line);
        } else {
            text.extend(&lines[random.usize(0..lines.len())]);
        }
    }
    text.truncate(size);
    text
}

impl Drop for Large {
    fn drop(&mut self) {
        // Otherwise the next run removes it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write_application(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(format!("making {}", folder.display()))?;
    for (name, text) in APPLICATION {
        fs::write(folder.join(name), text).context(format!("writing {name}"))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).context(format!("making {}", path.display()))?;
    Ok(BufWriter::with_capacity(MIB, file))
}

/// The SHA-256 of a file, as a resource names it.
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).context(format!("reading {}", path.display()))?;
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut piece = vec![0; MIB];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finish()))),
            read => hash.update(&piece[..read]),
        }
    }
}

/// A size in MiB from the environment, so that a short run is possible.
pub(crate) fn mebibytes(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Failure::new(format!("{variable} must be a number of MiB, such as 64"))),
        },
        _ => Ok(default),
    }
}

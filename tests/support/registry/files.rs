//! What is pushed: one application in each form in which people push it.

use std::fs;
use std::path::PathBuf;

use crate::support::Result;
use crate::support::artifacts::{application, tar_gz};
use crate::support::run_folder::new_folder;

/// An application as a folder, as a ZIP and as a tar.gz.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) zip: PathBuf,
    pub(crate) layer: PathBuf,
}

impl Files {
    pub(crate) fn new() -> Result<Self> {
        let parent = new_folder("pushed")?;
        let files =
            Self { folder: parent.join("app"), zip: parent.join("shop.zip"), layer: parent.join("shop.tar.gz") };
        let contents = [
            ("Dockerfile", "FROM scratch\n"),
            ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n"),
            ("src/main.py", "print('shop')\n"),
        ];
        fs::create_dir_all(files.folder.join("src"))?;
        for (name, text) in contents {
            fs::write(files.folder.join(name), text)?;
        }
        fs::write(&files.zip, application("1")?)?;
        fs::write(&files.layer, tar_gz(&contents)?)?;
        Ok(files)
    }
}

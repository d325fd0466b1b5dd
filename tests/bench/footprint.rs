//! The memory that deploying a large artifact takes, of the operator and of the official CLI.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::content::{Large, digest_of};
use crate::memory::Memory;
use crate::official::{Measured, Official};
use crate::report::{Report, short};
use crate::stage::{Stage, spec, token};
use crate::support::artifacts::Artifact;
use crate::support::namespace::WAIT_LIMIT;
use crate::support::namespace::ready_reason;
use crate::support::{Context, Failure, Result};

/// Over what the operator has when it rests, in MiB.
const AIM: f64 = 32.0;

/// One deploy by each, to the simulator.
pub(crate) async fn measure(stage: &Stage, large: &Large, report: &mut Report) -> Result<()> {
    let size = large.zip().metadata()?.len();
    report.section(&format!("Memory while {} MiB are deployed, at its highest over that before", size >> 20));
    let namespace = stage.namespace("footprint").await?;
    let spaces = stage.spaces(&namespace, 4, &json!({})).await?;
    let [small_space, zip_space, tar_gz_space, official_space] = &spaces[..] else {
        return Err(Failure::new("not all Spaces were made"));
    };
    let mut operator = stage.operator(&namespace, &[]).await?;
    // So that what the first deploy of a process takes for good is not in the figures.
    namespace.apply("small", &spec(small_space, &stage.artifact)).await?;
    namespace.wait_for_reason("small", "Succeeded").await?;
    let idle = Memory::begin(operator.process())?.resident;
    report.row("the operator before", format!("{} MiB", short(idle)));
    let deploys = [
        ("zip", zip_space, large.zip(), "the operator: downloads, inspects, uploads"),
        ("tar-gz", tar_gz_space, large.tar_gz()?, "the operator, from a tar.gz: packs a ZIP besides"),
    ];
    for (name, space, file, what) in deploys {
        let size = usize::try_from(file.metadata()?.len())?;
        let artifact = Artifact { url: serve(&file)?, digest: digest_of(&file)?, size };
        Memory::begin(operator.process())?;
        let began = Instant::now();
        namespace.apply(name, &spec(space, &artifact)).await?;
        let deployed = |space: &_| ready_reason(space) == Some("Succeeded");
        namespace.wait_longer_for(name, "Succeeded", WAIT_LIMIT * 5, deployed).await?;
        let took = began.elapsed().as_secs_f64();
        report.aim(what, (Memory::of(operator.process())?.highest - idle, AIM), " MiB");
        report.row("the same, from apply to Succeeded", format!("{} s", short(took)));
    }

    let official = Official::prepare().await?;
    let (account, token) = (stage.simulator.base_url(), token(&namespace));
    let webapp = format!("{}-{}", namespace.name(), spaces.len() - 1);
    for (mode, git) in [("directory", false), ("git", true)] {
        let measured = official.deploy(&large.files(), (&account, &token), (namespace.name(), &webapp), git).await?;
        let Measured { before, highest, git, seconds, .. } = measured;
        report.row(&format!("the official CLI, {mode} mode"), format!("{} MiB", short(highest - before)));
        if mode == "git" {
            report.row("the git that it runs, in all", format!("{} MiB", short(git)));
        }
        report.row("the same, from its start to its upload's end", format!("{} s", short(seconds)));
    }
    let sent = stage.simulator.ledger(official_space).await?.len();
    if sent == 2 { Ok(()) } else { Err(Failure::new(format!("the official CLI deployed {sent} times, not twice"))) }
}

/// Serves a file from disk, whatever is asked for, until the program ends; its address.
fn serve(file: &Path) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("starting a file server")?;
    let address: SocketAddr = listener.local_addr()?;
    let (file, name) = (PathBuf::from(file), file.file_name().unwrap_or_default().display().to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked sees that it broke off.
            let _ = send(stream, &file);
        }
    });
    Ok(format!("http://{address}/{name}"))
}

fn send(mut stream: TcpStream, path: &Path) -> Result<()> {
    let mut head = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    std::io::copy(&mut file, &mut stream)?;
    Ok(())
}

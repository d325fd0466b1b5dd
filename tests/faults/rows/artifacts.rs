//! Rows about the artifact and the disk.

use std::time::Duration;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use konigle_operator::api::{AttemptResult, KonigleSpace};
use serde_json::json;

use super::secrets::Door;
use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{check, check_results, deploy_once, deployed_once, lasts, posted, quick};
use crate::support::Result;
use crate::support::artifacts::{Artifact, application, bombs, digest_of, hostile_names, large_application, zip};
use crate::support::namespace::{SECRET, deploys, ready_reason};
use crate::support::proxy::claims;
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish};

const EMPTY: HeaderValue = HeaderValue::from_static("");

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "38",
            row_38_the_artifact_changes_under_its_url,
            "Another file stands under the artifact's URL: before it is fetched, or between the fetch and the request",
            "What is posted has the digest of the spec, always; another file is `DigestMismatch`"
        ),
        row!(
            "39",
            row_39_a_download_that_goes_wrong,
            "The download is cut short, is an error page or another's, is encoded, redirects without end or elsewhere",
            "No attempt is made; it is tried again, or says what to do; once the file is there it is deployed once"
        )
        .tested_by(&[
            ("tests/it/bad_input/artifacts.rs", "artifacts_that_cannot_be_deployed"),
            ("tests/it/artifact.rs", "a_body_cut_short_is_never_a_mismatch"),
            ("tests/it/artifact.rs", "redirects_end"),
        ]),
        row!(
            "40",
            row_40_bombs,
            "A ZIP that is a bomb: ratio, number of entries, sizes and counts that lie",
            "Refused before any attempt, in bounded memory; nothing is extracted"
        )
        .tested_by(&[
            ("src/artifact/inspect.rs", "the_declared_size_and_count_are_limited"),
            ("src/artifact/inspect.rs", "sizes_that_lie_are_found_out"),
            ("src/artifact/inspect.rs", "a_count_that_lies_hides_nothing"),
        ]),
        row!(
            "41",
            row_41_names_that_lead_elsewhere,
            "Names in a ZIP that lead elsewhere, doubles, names that are no text",
            "Refused before any attempt; nothing is extracted"
        )
        .tested_by(&[
            ("src/artifact/inspect.rs", "names_that_lead_elsewhere_are_refused"),
            ("src/artifact/inspect.rs", "doubles_and_passwords_are_refused"),
        ]),
        row!(
            "42",
            row_42_as_large_as_allowed,
            "An artifact beyond `--artifact-max-size`, or as large as that",
            "Refused before or while it is fetched, or deployed once; memory does not grow with the size"
        )
        .tested_by(&[
            ("tests/it/artifact.rs", "a_file_over_the_limit_is_not_downloaded"),
            ("tests/it/artifact.rs", "memory_is_bounded"),
        ]),
        row!(
            "43",
            row_43_a_disk_without_room,
            "The disk takes no more while an artifact is fetched",
            "No attempt is made and the reason is told; nothing is left behind, and what fits is deployed"
        ),
        row!(
            "44",
            row_44_addresses_that_are_not_public,
            "An artifact URL or a `baseURL` that leads to an internal address, by name or spelling (by a redirect: the tests elsewhere)",
            "Nobody is connected to; the Konigle token never goes to an artifact's host"
        )
        .tested_by(&[
            ("tests/it/artifact.rs", "addresses_that_are_not_public_see_no_connection"),
            ("tests/it/artifact.rs", "credentials_go_to_their_origin_only"),
            ("tests/it/bad_input/credentials.rs", "credentials_that_cannot_be_used"),
            ("src/address.rs", "refuses_addresses_in_urls_however_they_are_written"),
        ]),
    ]
}

async fn row_38_the_artifact_changes_under_its_url(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let manifest = "[processes.web]\ncommand = \"other\"\n";
    let other = zip(&[("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", manifest)])?;
    let wish = stage.wish("1.0")?;
    let path = "/shop-1.0.zip";
    let proxy = stage.put_proxy_before_the_api_server().await?;
    if *case.pick(&[true, false]) {
        // Fetched, checked, and changed before the request.
        let gate = proxy.hold(claims());
        stage.namespace.apply(SHOP, &wish).await?;
        gate.arrived().await?;
        stage.artifacts.serve(path, other);
        lasts(case.moment(Duration::from_secs(1))).await?;
        gate.open();
    } else {
        stage.artifacts.serve(path, other);
        stage.namespace.apply(SHOP, &wish).await?;
        let space = stage.namespace.wait_for_reason(SHOP, "DigestMismatch").await?;
        let attempts = space.status.map(|status| status.last_attempt);
        check(attempts == Some(0), || "an attempt was made".to_owned())?;
        check(posted(&stage, UAT).await?.is_empty(), || "another file was posted".to_owned())?;
        stage.artifacts.serve_application("1.0")?;
        stage.look_now(SHOP).await?;
    }
    // The ledger has the digest of what came.
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(&stage, UAT).await?.len() == 1, || "more than one file was posted".to_owned())
}

async fn row_43_a_disk_without_room(case: &Case) -> Result<()> {
    // No file may grow beyond a mebibyte: the kernel answers further writes as a full disk does. Blocks of 512 bytes.
    let full = "trap '' XFSZ; ulimit -f 2048";
    let stage = case.open_with(JOB_SECONDS, |options| options.under(full)).await?;
    let size = *case.pick(&[2 << 20, 5 << 20, (1 << 20) + 1]);
    let artifact = stage.artifacts.serve("/large.zip", large_application(size)?);
    stage.namespace.apply(SHOP, &deploys(UAT, &artifact.url, &artifact.digest)).await?;
    let told = |space: &KonigleSpace| {
        let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
        ready.is_some_and(|ready| ready.message.contains("cannot be stored"))
            && ready_reason(space) == Some("ArtifactUnavailable")
    };
    let space = stage.namespace.wait_for(SHOP, "told that it cannot be stored", told).await?;
    let attempts = space.status.map(|status| status.last_attempt);
    check(attempts == Some(0), || "an attempt was made".to_owned())?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    let left = stage.operator.stored()?;
    check(left.is_empty(), || format!("left behind: {left:?}"))?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])
}

/// Wishes for an artifact that cannot be deployed, and sees that it is told so before any attempt is made.
async fn is_refused(stage: &Stage, what: &str, artifact: &Artifact, reason: &str) -> Result<()> {
    stage.namespace.apply(SHOP, &deploys(UAT, &artifact.url, &artifact.digest)).await?;
    let refused = |space: &KonigleSpace| ready_reason(space) == Some(reason);
    let space = stage.namespace.wait_for(SHOP, &format!("{reason} for {what}"), refused).await?;
    let attempts = space.status.map(|status| status.last_attempt);
    check(attempts == Some(0), || format!("{what}: an attempt was made"))
}

/// Sees that all of it left no trace, and that what follows is deployed once.
async fn goes_on(stage: &Stage) -> Result<()> {
    check(posted(stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    let space = deploy_once(stage, &stage.wish("1.0")?).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(stage, UAT).await?.len() == 1, || "posted more than once".to_owned())
}

async fn row_39_a_download_that_goes_wrong(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let (unavailable, mismatch) = ("ArtifactUnavailable", "DigestMismatch");
    let mut ways = ["half", "page", "refused", "loop", "elsewhere", "encoded", "missing"];
    // What is mended is the last one.
    ways.rotate_left(*case.pick(&[1, 4, 0]));
    let page = b"<!doctype html><title>Log in</title>".to_vec();
    let mut last = None;
    for way in ways {
        let path = format!("/{way}.zip");
        let bytes = application(way)?;
        let artifact = Artifact { url: stage.artifacts.url(&path), digest: digest_of(&bytes), size: bytes.len() };
        let with = |name, value: &str| HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap_or(EMPTY))]);
        let (status, headers, body, reason) = match way {
            "half" => {
                stage.artifacts.serve_broken(&path, bytes.clone());
                is_refused(&stage, way, &artifact, unavailable).await?;
                last = Some((path, bytes));
                continue;
            }
            "page" => (StatusCode::OK, with(CONTENT_TYPE, "text/html"), page.clone(), mismatch),
            "refused" => (StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), page.clone(), unavailable),
            "loop" => (StatusCode::FOUND, with(LOCATION, &path), Vec::new(), unavailable),
            "elsewhere" => (StatusCode::FOUND, with(LOCATION, "file:///etc/passwd"), Vec::new(), "InvalidSpec"),
            // Bytes are bytes: what an encoding would make of them does not count.
            "encoded" => {
                (StatusCode::OK, with(CONTENT_ENCODING, "gzip"), [&[0x1f, 0x8b, 8], &bytes[..]].concat(), mismatch)
            }
            _ => (StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new(), unavailable),
        };
        stage.artifacts.answer_with(&path, status, headers, body);
        is_refused(&stage, way, &artifact, reason).await?;
        last = Some((path, bytes));
    }
    lasts(case.moment(Duration::from_secs(2))).await?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    let Some((path, bytes)) = last else { return Ok(()) };
    let mended = stage.artifacts.serve(&path, bytes);
    stage.look_now(SHOP).await?;
    let space = deployed_once(&stage, &mended.digest).await?;
    check_results(&space, &[AttemptResult::Succeeded])
}

/// The most memory that the operator ever had resident, in KiB.
fn peak_kib(stage: &mut Stage) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.operator.process().id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default())
}

/// Each of these is refused before any attempt; nothing is unpacked, in memory or on disk.
async fn are_refused(case: &Case, files: Vec<(&'static str, Vec<u8>)>) -> Result<()> {
    let mut stage = case.open().await?;
    goes_on_after(&mut stage, async |stage| {
        for (number, (what, bytes)) in files.into_iter().enumerate() {
            let artifact = stage.artifacts.serve(&format!("/bad-{number}.zip"), bytes);
            is_refused(stage, what, &artifact, "ArtifactRejected").await?;
        }
        Ok(())
    })
    .await
}

/// Memory stays bounded meanwhile, and the operator's folder holds its log and its artifacts only.
async fn goes_on_after(stage: &mut Stage, refused: impl AsyncFnOnce(&Stage) -> Result<()>) -> Result<()> {
    let before = peak_kib(stage)?;
    refused(stage).await?;
    let grown = peak_kib(stage)? - before;
    check(grown < 48 << 10, || format!("memory grew by {grown} KiB"))?;
    let artifacts = stage.operator.artifacts();
    let beside = std::fs::read_dir(artifacts.parent().unwrap_or(&artifacts))?.flatten();
    let names: Vec<_> = beside.map(|entry| entry.file_name()).filter(|name| name != "operator.log").collect();
    check(names.len() == 1, || format!("something was unpacked: {names:?}"))?;
    goes_on(stage).await
}

async fn row_40_bombs(case: &Case) -> Result<()> {
    let mut bombs = bombs()?;
    bombs.rotate_left(*case.pick(&[0, 1, 2]));
    are_refused(case, bombs).await
}

async fn row_41_names_that_lead_elsewhere(case: &Case) -> Result<()> {
    let mut names = hostile_names()?;
    names.rotate_left(*case.pick(&[0, 4, 8]));
    are_refused(case, names).await
}

async fn row_42_as_large_as_allowed(case: &Case) -> Result<()> {
    let bytes = large_application(*case.pick(&[48 << 20, 64 << 20, 40 << 20]))?;
    let flag = format!("--artifact-max-size={}", bytes.len());
    let mut stage = case.open_with(JOB_SECONDS, |options| options.flag(&flag)).await?;
    let before = peak_kib(&mut stage)?;
    let larger = stage.artifacts.serve("/larger.zip", [&bytes[..], &[0]].concat());
    is_refused(&stage, "a byte more", &larger, "ArtifactTooLarge").await?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    let largest = stage.artifacts.serve("/largest.zip", bytes);
    let space = deploy_once(&stage, &deploys(UAT, &largest.url, &largest.digest)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    let grown = peak_kib(&mut stage)? - before;
    check(grown < 32 << 10, || format!("memory grew by {grown} KiB"))
}

async fn row_44_addresses_that_are_not_public(case: &Case) -> Result<()> {
    let stage = case
        .open_with(JOB_SECONDS, |mut options| {
            options.insecure_artifacts = false;
            options
        })
        .await?;
    let door = Door::open().await?;
    let port = door.port();
    let mut hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f000001",
        "2130706433",
        "127.1",
        "0.0.0.0",
        "017700000001",
    ];
    hosts.rotate_left(*case.pick(&[0, 3, 6]));
    let digest = format!("sha256:{}", "a".repeat(64));
    for host in hosts {
        let url = format!("https://{host}:{port}/shop.zip");
        stage.namespace.apply(SHOP, &deploys(UAT, &url, &digest)).await?;
        stage.namespace.wait_for_reason(SHOP, "InvalidSpec").await?;
    }
    stage.namespace.apply(SHOP, &deploys(UAT, "https://169.254.169.254/latest/meta-data", &digest)).await?;
    stage.namespace.wait_for_reason(SHOP, "InvalidSpec").await?;
    for host in &hosts[..4] {
        let keys = json!({"token": TOKEN, "baseURL": format!("https://{host}:{port}")});
        stage.namespace.write_secret(SECRET, &keys).await?;
        stage.look_now(SHOP).await?;
        stage.namespace.wait_for_reason(SHOP, "SecretInvalid").await?;
    }
    stage.namespace.write_token(TOKEN).await?;
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "InvalidSpec").await?;
    check(!door.was_knocked_at(), || "somebody was connected to".to_owned())?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())
}

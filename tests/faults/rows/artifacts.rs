//! Rows about bytes: the artifact and the disk, and what comes from Konigle as text.

use std::time::Duration;

use konigle_operator::api::{AttemptResult, KonigleSpace};

use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{check, check_results, deployed_once, lasts, posted, quick};
use crate::support::Result;
use crate::support::artifacts::{large_application, zip};
use crate::support::namespace::{deploys, ready_reason};
use crate::support::proxy::claims;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, digest_of_wish};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "38",
            row_38_the_artifact_changes_under_its_url,
            "Another file stands under the artifact's URL: before it is fetched, or between the fetch and the request",
            "What is posted has the digest of the spec, always; another file is `DigestMismatch`"
        ),
        Row::tested(
            "39",
            "The download is cut short, has a wrong length, is an error page, redirects without end",
            "No attempt is made; it is tried again, or says what to do",
            &[
                ("tests/it/bad_input/artifacts.rs", "artifacts_that_cannot_be_deployed"),
                ("tests/it/artifact.rs", "a_body_cut_short_is_never_a_mismatch"),
                ("tests/it/artifact.rs", "redirects_end"),
            ],
        ),
        Row::tested(
            "40",
            "A ZIP that is a bomb: ratio, number of entries, sizes that lie",
            "Refused before any attempt, in bounded memory; nothing is extracted",
            &[
                ("src/artifact/inspect.rs", "the_declared_size_and_count_are_limited"),
                ("src/artifact/inspect.rs", "sizes_that_lie_are_found_out"),
                ("src/artifact/inspect.rs", "a_count_that_lies_hides_nothing"),
            ],
        ),
        Row::tested(
            "41",
            "Names in a ZIP that lead elsewhere, doubles, names that are no text",
            "Refused before any attempt; nothing is extracted",
            &[
                ("src/artifact/inspect.rs", "names_that_lead_elsewhere_are_refused"),
                ("src/artifact/inspect.rs", "doubles_and_passwords_are_refused"),
            ],
        ),
        Row::tested(
            "42",
            "An artifact beyond `--artifact-max-size`, or as large as that",
            "Refused before or while it is fetched; memory does not grow with the size",
            &[
                ("tests/it/artifact.rs", "a_file_over_the_limit_is_not_downloaded"),
                ("tests/it/artifact.rs", "memory_is_bounded"),
            ],
        ),
        row!(
            "43",
            row_43_a_disk_without_room,
            "The disk takes no more while an artifact is fetched",
            "No attempt is made and the reason is told; nothing is left behind, and what fits is deployed"
        ),
        Row::tested(
            "44",
            "An artifact URL or a `baseURL` that leads to an internal address, by name, redirect or spelling",
            "Nobody is connected to; the Konigle token never goes to an artifact's host",
            &[
                ("tests/it/artifact.rs", "addresses_that_are_not_public_see_no_connection"),
                ("tests/it/artifact.rs", "credentials_go_to_their_origin_only"),
                ("tests/it/bad_input/credentials.rs", "credentials_that_cannot_be_used"),
                ("src/address.rs", "refuses_addresses_in_urls_however_they_are_written"),
            ],
        ),
        Row::tested(
            "45",
            "A job log of ten megabytes, of strange entries, of no UTF-8, with secrets and control characters",
            "The last lines, redacted, in a status of at most 32 KiB; the deploy goes on",
            &[
                ("tests/it/bad_input/jobs.rs", "jobs_that_do_not_succeed"),
                ("src/konigle/job.rs", "keeps_the_end_of_a_log_of_any_length"),
                ("src/konigle/job.rs", "takes_invalid_utf8_and_never_cuts_a_secret_in_two"),
            ],
        ),
        Row::tested(
            "46",
            "Fields of an answer are missing, null, of another type, or new; dates and ids are odd",
            "Read at their loosest; a request's answer that tells no job is row 19",
            &[
                ("src/konigle/model.rs", "a_space_needs_only_its_id"),
                ("src/konigle/model.rs", "a_deployment_needs_only_its_job"),
                ("src/konigle/answer.rs", "success_needs_a_job_id"),
                ("tests/it/bad_input/answers.rs", "answers_that_start_nothing"),
            ],
        ),
        Row::tested(
            "48",
            "The job list is long, shifts between pages, or fails on one of them",
            "A list that may not be whole is no evidence",
            &[
                ("src/konigle/list.rs", "refuses_a_list_that_may_not_be_whole"),
                ("tests/it/client/reads.rs", "a_page_that_fails_fails_the_list"),
                ("tests/it/crash/readings.rs", "the_list_of_jobs_does_not_outrun_the_space"),
            ],
        ),
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

/// The size of a folder's files, in bytes.
fn size_of(folder: &std::path::Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

async fn row_43_a_disk_without_room(case: &Case) -> Result<()> {
    // No file may grow beyond a mebibyte: the kernel answers further writes as a full disk does. Blocks of 512 bytes.
    let full = "trap '' XFSZ; ulimit -f 2048";
    let stage = case.open_with(JOB_SECONDS, |options| options.under(full)).await?;
    let artifacts = stage.operator.artifacts();
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
    let left = size_of(&artifacts)?;
    check(left < 1 << 16, || format!("{left} bytes are left behind"))?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])
}

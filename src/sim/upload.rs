//! Reads the multipart body of a deploy: the ZIP is hashed and spooled to an unnamed temporary file, never held in
//! memory, and looked at there. Absent: what a defect leads to; that is a reading.

use std::fs::File;
use std::io::{BufReader, Read};

use aws_lc_rs::digest::{Context, SHA256};
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use tokio::io::{AsyncWriteExt, BufWriter};
use zip::ZipArchive;

use super::readings::OversizeAnswer;
use super::releases::Upload;
use super::state::Refusal;

/// The longest `display_name` that is read, in bytes; a reading has the limit that is answered with an error.
const TEXT_LIMIT: usize = 64 << 10;
/// The most of a `bentocloud.toml` that is read, in bytes.
const TOML_LIMIT: u64 = 1 << 20;
/// How much is gathered before it is written to the file, in bytes.
const BUFFER: usize = 1 << 20;

/// The size of the largest ZIP, in bytes, and when a larger one is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeLimit {
    pub(super) bytes: u64,
    pub(super) answer: OversizeAnswer,
}

/// Reads the request to its end.
pub(super) async fn receive(request: Request, limit: SizeLimit) -> Result<Upload, Refusal> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if limit.answer == OversizeAnswer::AtOnce && length.is_some_and(|length| length > limit.bytes + BUFFER as u64) {
        return Err(too_large(limit));
    }
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|_| Refusal::new(415, "Unsupported media type in request: multipart/form-data is expected."))?;
    let mut display_name = None;
    let mut file = None;
    while let Some(mut field) = form.next_field().await.map_err(|error| broken(&error))? {
        match (field.name(), field.file_name()) {
            (Some("display_name"), _) => display_name = Some(text(field).await?),
            (Some("zip_file"), Some(_)) => file = Some(spool(field, limit).await?),
            (_, _) => while field.chunk().await.map_err(|error| broken(&error))?.is_some() {},
        }
    }
    let Some((sha256, size, file)) = file else {
        return Err(Refusal::new(400, "zip_file: No file was submitted."));
    };
    let defect = tokio::task::spawn_blocking(move || inspect(file)).await.map_err(|_| internal())?;
    Ok(Upload { display_name, sha256, size, defect })
}

async fn text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        let room = TEXT_LIMIT.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new(400, "display_name: Not a valid string."))
}

/// Writes the field to a temporary file that has no name, and hashes it on the way.
async fn spool(mut field: Field<'_>, limit: SizeLimit) -> Result<(String, u64, File), Refusal> {
    let file = tempfile::tempfile().map_err(|_| internal())?;
    let mut writer = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file));
    let mut hash = Context::new(&SHA256);
    let mut size = 0;
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        size += chunk.len() as u64;
        if size > limit.bytes {
            match limit.answer {
                OversizeAnswer::AtOnce => return Err(too_large(limit)),
                OversizeAnswer::AfterBody => continue,
            }
        }
        hash.update(&chunk);
        writer.write_all(&chunk).await.map_err(|_| internal())?;
    }
    if size > limit.bytes {
        return Err(too_large(limit));
    }
    writer.flush().await.map_err(|_| internal())?;
    let file = writer.into_inner().into_std().await;
    Ok((hex::encode(hash.finish()), size, file))
}

fn broken(error: &MultipartError) -> Refusal {
    Refusal::new(400, format!("Multipart form parse error: {}", error.body_text()))
}

fn internal() -> Refusal {
    Refusal::new(500, "The upload could not be kept.")
}

fn too_large(limit: SizeLimit) -> Refusal {
    Refusal::new(413, format!("The ZIP is larger than {} bytes.", limit.bytes))
}

/// What is wrong with a ZIP, if anything. The entries are not extracted; of one no more than [`TOML_LIMIT`] is read.
fn inspect(file: File) -> Option<String> {
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else {
        return Some("This is not a readable ZIP archive.".to_owned());
    };
    if archive.index_for_name("Dockerfile").is_none() {
        return Some("There is no Dockerfile at the root of the archive.".to_owned());
    }
    let Ok(entry) = archive.by_name("bentocloud.toml") else {
        return Some("There is no bentocloud.toml at the root of the archive.".to_owned());
    };
    let mut text = String::new();
    if entry.take(TOML_LIMIT).read_to_string(&mut text).is_err() {
        return Some("bentocloud.toml cannot be read.".to_owned());
    }
    match toml::from_str::<toml::Table>(&text) {
        Ok(table) if table.get("processes").and_then(toml::Value::as_table).is_some_and(|table| !table.is_empty()) => {
            None
        }
        Ok(_) => Some("bentocloud.toml has no [processes].".to_owned()),
        Err(error) => Some(format!("bentocloud.toml is not valid TOML: {}", error.message())),
    }
}

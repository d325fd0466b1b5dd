//! What the Konigle API says, as values: Spaces, jobs, deployments, computers, web apps.
//!
//! Pure: no HTTP, no clock, no logging. Decoding is tolerant (see the module above); it fails only where an id is
//! missing or is no string. No word is interpreted beyond telling the known ones from the others: what
//! `last_deployment_status` means for a decision is `plan`'s.

use std::fmt;

use serde_json::{Map, Value};

use crate::redact::Redactor;

/// Ids and words beyond this many bytes are not taken over: no real one comes near, and a status has no room for them.
const LONGEST_TEXT: usize = 512;

/// What a reply lacks to be usable; the text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Undecodable {
    /// What was expected and is not there, in words for a person.
    pub what: String,
}

impl Undecodable {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// `last_deployed_at` and `last_deployment_status` together, as the strings the server sent them.
///
/// Only ever compared with another `Pair`: the server's clock, time zone, precision and words are its own. Absent, null
/// and a changed type count too: a value that is no string stands here as its JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pair {
    /// When the server says it was deployed last; at acceptance or at the end of the job, that is not known.
    pub last_deployed_at: Option<String>,
    /// The outcome of the last deployment, a free word.
    pub last_deployment_status: Option<String>,
}

/// Which half of a web app a Space is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SpaceType {
    /// `uat`
    Uat,
    /// `production`
    Production,
    /// Any other word, as it was sent; empty if none was.
    Unknown(String),
}

impl SpaceType {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uat => "uat",
            Self::Production => "production",
            Self::Unknown(word) => word,
        }
    }
}

impl From<String> for SpaceType {
    fn from(word: String) -> Self {
        match word.as_str() {
            "uat" => Self::Uat,
            "production" => Self::Production,
            _ => Self::Unknown(word),
        }
    }
}

impl fmt::Display for SpaceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One environment of a web app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its id, a Snowflake.
    pub id: String,
    /// uat or production.
    pub space_type: SpaceType,
    /// `provisioning`, `running`, `stopped`, `error`, or a word that this version does not know; empty if absent.
    pub status: String,
    /// The id of its web app; the server may leave it out of a reply for one Space.
    pub webapp: Option<String>,
    /// The host name the platform gave it, without scheme; empty if absent.
    pub platform_domain: String,
    /// The host name its owner gave it; empty if there is none.
    pub custom_domain: String,
    /// `pending`, `active`, `failed`, `unmapped` or another word; empty if absent.
    pub custom_domain_status: String,
    /// What it shows of its last deployment.
    pub pair: Pair,
}

impl Space {
    /// Where people reach it: the custom domain if that is active, else the platform's; none if there is no usable name.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let custom = self.custom_domain_status == "active" && !self.custom_domain.is_empty();
        let host = if custom { &self.custom_domain } else { &self.platform_domain };
        let usable = !host.is_empty() && host.chars().all(|letter| letter.is_alphanumeric() || "-.:".contains(letter));
        usable.then(|| format!("https://{host}"))
    }

    /// The same without secrets in its words. Its id is one that was asked for, or was looked at.
    pub(super) fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |word: String| redactor.clean(&word);
        Self {
            id: self.id,
            space_type: SpaceType::from(clean(self.space_type.as_str().to_owned())),
            status: clean(self.status),
            webapp: self.webapp.map(clean),
            platform_domain: clean(self.platform_domain),
            custom_domain: clean(self.custom_domain),
            custom_domain_status: clean(self.custom_domain_status),
            pair: Pair {
                last_deployed_at: self.pair.last_deployed_at.map(clean),
                last_deployment_status: self.pair.last_deployment_status.map(clean),
            },
        }
    }

    pub(super) fn decode(json: &str) -> Result<Self, Undecodable> {
        let object = object(json)?;
        Ok(Self {
            id: id(&object, "id")?,
            space_type: SpaceType::from(text(&object, "space_type").unwrap_or_default()),
            status: text(&object, "status").unwrap_or_default(),
            webapp: text(&object, "webapp").filter(|webapp| !webapp.is_empty()),
            platform_domain: text(&object, "platform_domain").unwrap_or_default(),
            custom_domain: text(&object, "custom_domain").unwrap_or_default(),
            custom_domain_status: text(&object, "custom_domain_status").unwrap_or_default(),
            pair: Pair {
                last_deployed_at: text(&object, "last_deployed_at"),
                last_deployment_status: text(&object, "last_deployment_status"),
            },
        })
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// `pending`
    Pending,
    /// `running`
    Running,
    /// `success`; terminal
    Success,
    /// `failed`; terminal
    Failed,
    /// Any other word: it proves nothing, the job counts as running.
    Unknown(String),
}

impl JobStatus {
    /// Whether the job has ended, by a word that is known to say so.
    #[must_use]
    pub fn ended(&self) -> bool {
        match self {
            Self::Success | Self::Failed => true,
            Self::Pending | Self::Running | Self::Unknown(_) => false,
        }
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Unknown(word) => word,
        }
    }
}

impl From<String> for JobStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "success" => Self::Success,
            "failed" => Self::Failed,
            _ => Self::Unknown(word),
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One asynchronous piece of work of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id, a UUID.
    pub id: String,
    /// How far it is.
    pub status: JobStatus,
    /// The last 20 lines of its log: `message`, or `[LEVEL] message` for warnings and worse; each one printable line of at
    /// most 512 bytes, without the account's token. Empty in a job that came from a list.
    pub log_tail: Vec<String>,
    /// How many entries the log had, as far as it was read (8 MiB).
    pub log_count: u64,
    /// The Space that it is for, where the server says it.
    pub space_id: Option<String>,
    /// When it was made, by the server's clock, as sent.
    pub created_at: Option<String>,
    /// When it ended, by the server's clock, as sent.
    pub completed_at: Option<String>,
    /// The attempt markers, as in `[k3f2a9c1d]`, that any of its texts holds, without brackets; at most 16.
    pub mentions: Vec<String>,
}

impl Job {
    /// Whether any text of the job holds the marker of this attempt in brackets, as a deploy's `display_name` does.
    #[must_use]
    pub fn mentions(&self, nonce: &str) -> bool {
        self.mentions.iter().any(|found| found == nonce)
    }
}

/// What the server answers to a deploy or a promote. It cannot be read again: only the job can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The job that does the work; never empty. A number is taken by its digits.
    pub job_id: String,
    /// The deployment's own id.
    pub id: Option<String>,
    /// The Space it targets; whether that is the production Space after a promote is not known.
    pub space_id: Option<String>,
    /// When it was accepted, by the server's clock, as sent.
    pub created_at: Option<String>,
    /// Its name for people.
    pub display_name: Option<String>,
}

impl Deployment {
    pub(super) fn decode(json: &str) -> Result<Self, Undecodable> {
        let object = object(json)?;
        let job_id = match object.get("job_id") {
            Some(Value::String(id)) if is_id(id) => id.clone(),
            Some(Value::Number(id)) if id.is_u64() || id.is_i64() => id.to_string(),
            _ => return Err(Undecodable::new("`job_id` is missing or no id")),
        };
        Ok(Self {
            job_id,
            id: text(&object, "id"),
            space_id: text(&object, "space_id"),
            created_at: text(&object, "created_at"),
            display_name: text(&object, "display_name"),
        })
    }
}

/// A virtual machine that web apps run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computer {
    /// Its id, a Snowflake.
    pub id: String,
    /// Its name, unique in the project; empty if absent.
    pub name: String,
}

impl Computer {
    pub(super) fn decode(json: &str) -> Result<Self, Undecodable> {
        let object = object(json)?;
        Ok(Self { id: id(&object, "id")?, name: text(&object, "name").unwrap_or_default() })
    }
}

/// A web app: it has two Spaces, uat and production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebApp {
    /// Its id, a Snowflake.
    pub id: String,
    /// Its name, unique everywhere; empty if absent.
    pub name: String,
    /// The id of its computer, where the server says it.
    pub computer: Option<String>,
}

impl WebApp {
    pub(super) fn decode(json: &str) -> Result<Self, Undecodable> {
        let object = object(json)?;
        Ok(Self {
            id: id(&object, "id")?,
            name: text(&object, "name").unwrap_or_default(),
            computer: text(&object, "computer").filter(|computer| !computer.is_empty()),
        })
    }
}

/// Whether a text can be an id: it must be usable as one segment of a path.
pub(super) fn is_id(text: &str) -> bool {
    let printable = text.chars().all(|letter| !letter.is_control() && !letter.is_whitespace());
    (1..=LONGEST_TEXT).contains(&text.len()) && printable && text != "." && text != ".."
}

fn object(json: &str) -> Result<Map<String, Value>, Undecodable> {
    serde_json::from_str(json).map_err(|_| Undecodable::new("the reply is no JSON object"))
}

fn id(object: &Map<String, Value>, field: &str) -> Result<String, Undecodable> {
    match object.get(field) {
        Some(Value::String(id)) if is_id(id) => Ok(id.clone()),
        _ => Err(Undecodable::new(format!("`{field}` is missing or no string"))),
    }
}

/// A text, as sent; any other value by its JSON text, so that a change of it is still seen; null and absent are none.
fn text(object: &Map<String, Value>, field: &str) -> Option<String> {
    match object.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(cut(text, LONGEST_TEXT).to_owned()),
        Some(other) => Some(cut(&other.to_string(), LONGEST_TEXT).to_owned()),
    }
}

/// The longest beginning of `text` that has at most `bytes` bytes and ends between two characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_needs_only_its_id() {
        let space = Space::decode(r#"{"id": "7301962442809344000"}"#).unwrap();
        assert_eq!(space.id, "7301962442809344000");
        assert_eq!(space.space_type, SpaceType::Unknown(String::new()));
        assert_eq!((space.url(), space.webapp, space.pair), (None, None, Pair::default()));
    }

    #[test]
    fn a_space_keeps_words_and_dates_as_they_were_sent() {
        let space = Space::decode(
            r#"{"id": "1", "space_type": "staging", "status": "paused", "webapp": null, "platform_domain": "a.example.app",
                "custom_domain": "shop.example", "custom_domain_status": "active", "more": [1, {}],
                "last_deployed_at": "2026-02-30 25:00", "last_deployment_status": 7}"#,
        )
        .unwrap();
        assert_eq!(space.space_type, SpaceType::Unknown("staging".to_owned()));
        assert_eq!(space.status, "paused");
        assert_eq!(space.url().as_deref(), Some("https://shop.example"));
        assert_eq!(space.pair.last_deployed_at.as_deref(), Some("2026-02-30 25:00"));
        assert_eq!(space.pair.last_deployment_status.as_deref(), Some("7"));
    }

    #[test]
    fn a_url_needs_a_usable_domain() {
        for (platform, custom, custom_status, expected) in [
            ("a.example.app", "", "unmapped", Some("https://a.example.app")),
            ("a.example.app", "shop.example", "pending", Some("https://a.example.app")),
            ("a.example.app", "shop.example", "active", Some("https://shop.example")),
            ("a.example.app", "", "active", Some("https://a.example.app")),
            ("", "shop.example", "failed", None),
            ("a.example/\u{1b}[31m", "", "", None),
        ] {
            let json = serde_json::json!({"id": "1", "platform_domain": platform, "custom_domain": custom, "custom_domain_status": custom_status});
            assert_eq!(Space::decode(&json.to_string()).unwrap().url().as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn ids_are_strings_only() {
        for json in [
            r#"{"id": 7301962442809344000}"#,
            r#"{"id": null}"#,
            r#"{"id": ""}"#,
            r#"{"id": ".."}"#,
            r#"{"id": "a b"}"#,
            "{}",
            "[]",
            "\"1\"",
            "",
            "<html>",
        ] {
            assert!(Space::decode(json).is_err(), "{json}");
            assert!(Computer::decode(json).is_err(), "{json}");
            assert!(WebApp::decode(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_deployment_needs_only_its_job() {
        for (json, job_id) in [
            (r#"{"job_id": "5f0c"}"#, Some("5f0c")),
            (r#"{"job_id": 7301962442809344001, "id": null, "created_at": 5}"#, Some("7301962442809344001")),
            (r#"{"job_id": 1.5}"#, None),
            (r#"{"job_id": 1e30}"#, None),
            (r#"{"job_id": 99999999999999999999999}"#, None),
            (r#"{"job_id": ""}"#, None),
            (r#"{"job_id": null}"#, None),
            (r#"{"id": "x"}"#, None),
            (r#"[{"job_id": "x"}]"#, None),
        ] {
            assert_eq!(Deployment::decode(json).ok().map(|deployment| deployment.job_id).as_deref(), job_id, "{json}");
        }
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 3), "");
    }

    #[test]
    fn only_two_words_end_a_job() {
        for (word, ended) in [
            ("pending", false),
            ("running", false),
            ("success", true),
            ("failed", true),
            ("cancelled", false),
            ("", false),
        ] {
            let status = JobStatus::from(word.to_owned());
            assert_eq!((status.ended(), status.as_str()), (ended, word));
        }
    }
}

//! What one write came to: the table of what each answer proves.
//!
//! Pure. `ARCHITECTURE.md` explains why there are four answers: *Rejected* and *Unsent* prove that nothing was started,
//! *Accepted* names the job, and everything else is *Unknown*, for it may have taken effect.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::error::{Detail, detail, redact, retry_after, says};
use super::model::Deployment;
use crate::redact::Redactor;

/// Which of the two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// An upload to one Space.
    Deploy,
    /// A copy of what runs on uat to the production Space beside it.
    Promote,
}

/// What one write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer that is not recorded is lost: the API cannot tell it again"]
pub enum Answer {
    /// It was taken on; the job does it.
    Accepted(Deployment),
    /// The server refused it: nothing was started.
    Rejected(Rejection),
    /// It never was a whole request at the server: nothing was started. The text says why.
    Unsent(String),
    /// It may have been taken on, now or some time soon. The text says what is known.
    Unknown(String),
}

/// Why the server refused a write. The text is safe for a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// 409 or 423: the Space is busy with something else. No failure.
    #[error("the Space is busy ({code}){}", says(detail.as_deref()))]
    Busy {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        detail: Option<String>,
    },
    /// 429. No failure.
    #[error("the rate limit is reached; the next request may be sent in {} s", retry_after.as_secs().max(1))]
    RateLimited {
        /// When to try again; from 1 s to 15 min.
        retry_after: Duration,
    },
    /// 401: the token is not accepted.
    #[error("Konigle does not accept the token (401){}", says(detail.as_deref()))]
    Unauthorized {
        /// The server's words.
        detail: Option<String>,
    },
    /// 403: the token is accepted and not allowed this.
    #[error("Konigle forbids this with the token (403){}", says(detail.as_deref()))]
    Forbidden {
        /// The server's words.
        detail: Option<String>,
    },
    /// 404: the Space does not exist, or not for this token.
    #[error("Konigle does not find the Space (404){}", says(detail.as_deref()))]
    NotFound {
        /// The server's words.
        detail: Option<String>,
    },
    /// 400, 413, 415 or 422 to a deploy: the artifact is refused. A failure.
    #[error("Konigle refuses the artifact ({code}){}", says(detail.as_deref()))]
    Artifact {
        /// The HTTP status; 413 says that it is too large.
        code: u16,
        /// The server's words.
        detail: Option<String>,
    },
    /// 405 or 411, or one of the codes above to a promote: the request itself is refused. A failure.
    #[error("Konigle refuses the request ({code}){}", says(detail.as_deref()))]
    Request {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        detail: Option<String>,
    },
}

/// What an answer that arrived proves about the write it answers.
///
/// `body` is the answer's body, at most 1 MiB; empty where an answer that is not 2xx broke off. The server's words in the
/// result are neither cut nor redacted yet: see [`Answer::redacted`].
pub fn classify(write: Write, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    if status.is_success() {
        return match Deployment::decode(&String::from_utf8_lossy(body)) {
            Ok(deployment) => Answer::Accepted(deployment),
            Err(problem) => Answer::Unknown(format!("Konigle answered {}, but {problem}", status.as_u16())),
        };
    }
    let body = serde_json::from_slice(body).ok();
    let detail: Detail = detail(body.as_ref());
    let code = status.as_u16();
    Answer::Rejected(match (code, write) {
        (401, _) => Rejection::Unauthorized { detail },
        (403, _) => Rejection::Forbidden { detail },
        (404, _) => Rejection::NotFound { detail },
        (409 | 423, _) => Rejection::Busy { code, detail },
        (429, _) => Rejection::RateLimited { retry_after: retry_after(headers, body.as_ref()) },
        (400 | 413 | 415 | 422, Write::Deploy) => Rejection::Artifact { code, detail },
        (400 | 405 | 411 | 413 | 415 | 422, _) => Rejection::Request { code, detail },
        _ => return Answer::Unknown(format!("Konigle answered {code}{}", says(detail.as_deref()))),
    })
}

impl Answer {
    /// The same answer without secrets in the words that came from the server. A job's id that holds one cannot be kept, so
    /// it is none.
    pub fn redacted(self, redactor: &Redactor) -> Self {
        let clean = |detail: Detail| detail.map(|detail| redact(&detail, redactor));
        match self {
            Self::Accepted(Deployment { job_id, .. }) if redactor.knows(&job_id) => {
                Self::Unknown("Konigle took it on, but the job's id holds the token".to_owned())
            }
            Self::Accepted(Deployment { job_id, id, space_id, created_at, display_name }) => {
                Self::Accepted(Deployment {
                    job_id,
                    id: clean(id),
                    space_id: clean(space_id),
                    created_at: clean(created_at),
                    display_name: clean(display_name),
                })
            }
            Self::Unsent(why) => Self::Unsent(redact(&why, redactor)),
            Self::Unknown(why) => Self::Unknown(redact(&why, redactor)),
            Self::Rejected(rejection) => Self::Rejected(match rejection {
                Rejection::Busy { code, detail } => Rejection::Busy { code, detail: clean(detail) },
                Rejection::RateLimited { retry_after } => Rejection::RateLimited { retry_after },
                Rejection::Unauthorized { detail } => Rejection::Unauthorized { detail: clean(detail) },
                Rejection::Forbidden { detail } => Rejection::Forbidden { detail: clean(detail) },
                Rejection::NotFound { detail } => Rejection::NotFound { detail: clean(detail) },
                Rejection::Artifact { code, detail } => Rejection::Artifact { code, detail: clean(detail) },
                Rejection::Request { code, detail } => Rejection::Request { code, detail: clean(detail) },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: Write, code: u16, body: &str) -> Answer {
        classify(write, StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    /// The table, a row for each code of a class: A accepted, U unknown, b busy, r rate limited, c credentials or Space,
    /// a artifact, q request.
    #[test]
    fn every_code_has_its_class() {
        let class = |answer: &Answer| match answer {
            Answer::Accepted(_) => 'A',
            Answer::Unknown(_) => 'U',
            Answer::Unsent(_) => '!',
            Answer::Rejected(Rejection::Busy { .. }) => 'b',
            Answer::Rejected(Rejection::RateLimited { .. }) => 'r',
            Answer::Rejected(
                Rejection::Unauthorized { .. } | Rejection::Forbidden { .. } | Rejection::NotFound { .. },
            ) => 'c',
            Answer::Rejected(Rejection::Artifact { .. }) => 'a',
            Answer::Rejected(Rejection::Request { .. }) => 'q',
        };
        for code in 100..1000 {
            let (deploy, promote) = match code {
                200..300 => ('A', 'A'),
                401 | 403 | 404 => ('c', 'c'),
                409 | 423 => ('b', 'b'),
                429 => ('r', 'r'),
                400 | 413 | 415 | 422 => ('a', 'q'),
                405 | 411 => ('q', 'q'),
                _ => ('U', 'U'),
            };
            let body = r#"{"job_id": "5f0c", "detail": "words"}"#;
            assert_eq!(class(&check(Write::Deploy, code, body)), deploy, "deploy {code}");
            assert_eq!(class(&check(Write::Promote, code, body)), promote, "promote {code}");
        }
    }

    #[test]
    fn success_needs_a_job_id() {
        for (body, accepted) in [
            (r#"{"job_id": "5f0c"}"#, true),
            (r#"{"job_id": 7301962442809344001}"#, true),
            (r#"{"id": "x", "job_id": "5f0c", "space_id": null, "created_at": 1}"#, true),
            (r#"{"id": "x"}"#, false),
            (r#"{"job_id": null}"#, false),
            (r#"{"job_id": "5f0"#, false),
            ("<html>ok</html>", false),
            ("", false),
        ] {
            let answer = check(Write::Deploy, 200, body);
            assert_eq!(matches!(answer, Answer::Accepted(_)), accepted, "{body}: {answer:?}");
            assert_eq!(matches!(answer, Answer::Unknown(_)), !accepted, "{body}: {answer:?}");
        }
    }

    #[test]
    fn carries_the_servers_words_redacted() {
        let answer = check(Write::Deploy, 422, r#"[{"message": "no Dockerfile for canary-1"}]"#);
        let answer = answer.redacted(&Redactor::new(["canary-1"]));
        let Answer::Rejected(rejection) = answer else { panic!("{answer:?}") };
        assert_eq!(rejection.to_string(), "Konigle refuses the artifact (422): no Dockerfile for ***");
        let answer =
            check(Write::Promote, 502, r#"{"detail": "canary-1 is gone"}"#).redacted(&Redactor::new(["canary-1"]));
        assert_eq!(answer, Answer::Unknown("Konigle answered 502: *** is gone".to_owned()));
    }

    #[test]
    fn the_ids_of_an_accepted_write_show_no_secret() {
        let accepted = |body: &str| check(Write::Deploy, 200, body).redacted(&Redactor::new(["canary-1"]));
        let answer = accepted(r#"{"job_id": "5f0c", "id": "canary-1", "space_id": "1", "created_at": "canary-1"}"#);
        let Answer::Accepted(deployment) = answer else { panic!("{answer:?}") };
        let texts = [deployment.id, deployment.space_id, deployment.created_at].map(Option::unwrap_or_default);
        assert_eq!((deployment.job_id.as_str(), texts.each_ref().map(String::as_str)), ("5f0c", ["***", "1", "***"]));
        let answer = accepted(r#"{"job_id": "job-canary-1"}"#);
        assert!(matches!(&answer, Answer::Unknown(why) if !why.contains("canary")), "{answer:?}");
    }

    #[test]
    fn a_429_says_how_long_to_wait() {
        assert_eq!(
            check(Write::Promote, 429, r#"{"retry_after": 7}"#),
            Answer::Rejected(Rejection::RateLimited { retry_after: Duration::from_secs(7) })
        );
    }
}

//! Secrets in texts: as they are, in Base64 wherever they begin, and as a URL writes them.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;

/// Shorter ones are found everywhere.
const LEAST: usize = 6;

/// A secret of a test, and what it looks like.
pub(crate) struct Canary {
    /// Where it was put, for a message.
    pub(crate) key: String,
    forms: Vec<String>,
}

impl Canary {
    /// Nothing for a text that is too short to be searched for.
    pub(crate) fn new(key: &str, secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (secret.len() >= LEAST).then(|| Self { key: key.to_owned(), forms: forms(secret) })
    }

    /// How it stands in a text.
    pub(crate) fn found_in(&self, text: &str) -> Option<&str> {
        self.forms.iter().find(|form| text.contains(form.as_str())).map(String::as_str)
    }
}

fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let in_query: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    forms.extend([in_query.replace('+', "%20"), in_query]);
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        // What stands before it moves it by 0, 1 or 2 bytes; the characters that hold only its own bits are the same.
        for before in 0..3 {
            let bytes = [&b"\0\0"[..before], secret.as_bytes()].concat();
            let text = engine.encode(&bytes);
            forms.push(text[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned());
        }
    }
    forms.sort();
    forms.dedup();
    forms.retain(|form| form.len() >= LEAST);
    forms
}

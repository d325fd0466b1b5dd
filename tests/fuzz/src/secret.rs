//! A token that must not be readable in what others see, and a reader that tries harder than the code that hides it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};

/// The token: no run of it occurs by chance, and every encoder changes it.
pub const TOKEN: &str = "kTq7Zr+9/xB\"4mW~c2Vd%Yp&Jh";
/// Where an input says this, the token stands instead.
pub const PLACEHOLDER: &str = "CANARY";
/// So many characters of the token in a row give it away.
const TELLING: usize = 10;

/// The input with the token in it.
pub fn filled(text: &str) -> String {
    text.replace(PLACEHOLDER, TOKEN)
}

/// The token as others may write it down, `form` chooses how.
pub fn written(form: u8, before: &str, after: &str) -> String {
    let percent = |upper: bool| -> String {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric();
        let digits = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        TOKEN.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { digits(byte) }).collect()
    };
    match form % 10 {
        0 => TOKEN.to_owned(),
        1 => STANDARD.encode(TOKEN),
        2 => URL_SAFE_NO_PAD.encode(TOKEN),
        3 => STANDARD.encode(format!("{before}{TOKEN}{after}")),
        4 => URL_SAFE_NO_PAD.encode(format!("{before}{TOKEN}{after}")),
        5 => percent(true),
        6 => percent(false),
        7 => url::form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect(),
        8 => serde_json::Value::from(TOKEN).to_string(),
        // As a terminal shows it, with characters in it that nobody sees; in front, what ends any escape before it.
        _ => format!("\u{7}\n{}\u{1b}[1m{}\u{200b}{}", &TOKEN[..5], &TOKEN[5..12], &TOKEN[12..]),
    }
}

/// Whether `text` holds a part of the token in any form. A fuzzer that watches comparisons writes such parts by itself, and
/// a part alone is nothing that anybody could recognise.
pub fn holds_a_part(text: &str) -> bool {
    const PART: usize = 6;
    let forms = (0..9).flat_map(|form| ["", "a", "ab"].map(|before| written(form, before, "")));
    let mut parts = forms.flat_map(|form| {
        let whole = form.into_bytes();
        whole.windows(PART).map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
    });
    parts.any(|part| text.contains(&part))
}

/// Whether somebody who reads `text` learns the token: as it stands, or base64- or URL-decoded.
pub fn is_told(text: &str) -> bool {
    let decoded = percent_decoded(text);
    let with_spaces = String::from_utf8_lossy(&decoded).replace('+', " ");
    let token_with_spaces = TOKEN.replace('+', " ");
    tells(text.as_bytes(), TOKEN)
        || tells(&decoded, TOKEN)
        || tells(with_spaces.as_bytes(), &token_with_spaces)
        || base64_runs(text).any(|bytes| tells(&bytes, TOKEN))
}

fn tells(text: &[u8], token: &str) -> bool {
    let mut parts = token.as_bytes().windows(TELLING);
    parts.any(|part| text.windows(TELLING).any(|window| window == part))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            decoded.extend(u8::try_from(high << 4 | low));
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    decoded
}

/// All that base64 at any alignment can mean, of both alphabets.
fn base64_runs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, lenient);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    text.as_bytes().split(move |byte| !letter(*byte)).flat_map(move |run| {
        let run: Vec<u8> = run
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect();
        let engine = engine.clone();
        (0..4).filter_map(move |from| {
            let run = run.get(from..)?;
            // One letter alone holds no byte.
            let whole = if run.len() % 4 == 1 { run.len() - 1 } else { run.len() };
            engine.decode(&run[..whole]).ok()
        })
    })
}

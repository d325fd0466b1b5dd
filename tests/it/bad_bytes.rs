//! Bad bytes: the fuzz functions of `tests/fuzz`, with the inputs that are kept there and with generated ones.
//!
//! `make fuzz` runs the same functions under libFuzzer. What it finds is kept in `tests/fuzz/corpus/<target>/` under a name
//! that says what it is, and has a test with a name where the mistake was in `src/`.

#[path = "../fuzz/src/lib.rs"]
mod functions;
mod guard;

use std::fs;
use std::io::{Cursor, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::support::run_folder::package;
use functions::{answers, archive, log, packing, retry_after, urls};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 6] = [
    ("answers", answers::check),
    ("archive", archive::check),
    ("log", log::check),
    ("packing", packing::check),
    ("retry_after", retry_after::check),
    ("urls", urls::check),
];

#[test]
fn every_kept_input_holds_the_promises() {
    for (target, check) in TARGETS {
        let folder = package().join("tests/fuzz/corpus").join(target);
        let mut kept = 0;
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            // So that the name is known when the check fails.
            println!("{target}/{}", entry.file_name().display());
            check(&fs::read(entry.path()).unwrap());
            kept += 1;
        }
        assert!(kept >= 10, "{} has {kept} inputs", folder.display());
    }
}

/// Too large to keep as files.
#[test]
fn large_inputs_hold_the_promises() {
    let nested = format!(r#"{{"id": "1", "status": "running", "log": {}1"#, "[".repeat(200_000));
    answers::check(nested.as_bytes());
    let lines = r#"{"level": "warn", "message": "CANARY"},"#.repeat(20_000);
    answers::check(format!(r#"{{"id": "1", "status": "success", "log": [{lines}0]}}"#).as_bytes());
    answers::check(format!(r#"{{"id": "{}", "status": "{}"}}"#, "7".repeat(600), "é".repeat(600)).as_bytes());
    let items: Vec<String> = (0..5000).map(|number| format!(r#"{{"id": "{number}"}}"#)).collect();
    answers::check(format!(r#"{{"count": 5000, "next": null, "payload": [{}]}}"#, items.join(",")).as_bytes());
    answers::check(format!(r#"{{"detail": "{}"}}"#, "x CANARY ".repeat(10_000)).as_bytes());

    for form in 0..10 {
        log::check(&[&[form, 128], "\u{1b}[31m\u{202e}a ".repeat(3000).as_bytes()].concat());
        log::check(&[&[form, 128], "YWJj".repeat(3000).as_bytes()].concat());
        log::check(&[&[form, 255], "token=\"\\\" ".repeat(3000).as_bytes()].concat());
    }

    let many: Vec<(String, String)> = (0..1200).map(|number| (format!("f{number}"), String::new())).collect();
    archive::check(&zipped(&many, CompressionMethod::Stored, ""));
    let bomb = [("Dockerfile".to_owned(), "x".to_owned()), ("bentocloud.toml".to_owned(), " ".repeat(4 << 20))];
    archive::check(&zipped(&bomb, CompressionMethod::Deflated, ""));
    archive::check(&b"PK\x05\x06".repeat(50_000));
    archive::check(&b"PK\x01\x02".repeat(50_000));
    retry_after::check(
        &[b"9".repeat(100_000), b"\n\n{\"retry_after\": ".to_vec(), b"9".repeat(400), b"}".to_vec()].concat(),
    );
    urls::check(&[b"https://".to_vec(), b"0".repeat(100_000), b"177.1/".to_vec()].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn answers_of_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        answers::check(&bytes);
    }

    #[test]
    fn answers_that_are_nearly_right(json in answer(), damage in damage()) {
        answers::check(&damaged(json.to_string().into_bytes(), &damage));
    }

    #[test]
    fn archives_of_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        archive::check(&bytes);
    }

    #[test]
    fn archives_that_are_nearly_right(
        extra in vec(("\\PC{0,12}|[./\\\\]{0,4}(Dockerfile|bentocloud.toml|x)/?", "\\PC{0,20}"), 0..4),
        deflated in any::<bool>(), comment in "\\PC{0,6}|PK\u{5}\u{6}.{18,24}", damage in damage(),
    ) {
        let mut files = vec![
            ("Dockerfile".to_owned(), "FROM scratch".to_owned()),
            ("bentocloud.toml".to_owned(), "[processes.web]\ncommand = \"serve\"\n".to_owned()),
        ];
        files.extend(extra);
        let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        archive::check(&damaged(zipped(&files, method, &comment), &damage));
    }

    #[test]
    fn tar_files_of_any_bytes(bytes in vec(any::<u8>(), 0..1500)) {
        packing::check(&bytes);
    }

    #[test]
    fn tar_files_that_are_nearly_right(kept in prop::sample::select(vec!["good", "pax-name", "gnu-name", "with-links"]), damage in damage()) {
        let good = fs::read(package().join("tests/fuzz/corpus/packing").join(kept)).unwrap();
        packing::check(&damaged(good, &damage));
    }

    #[test]
    fn waits(header in wait(), date in wait(), body in wait(), damage in damage()) {
        let text = format!("{header}\n{date}\n{{\"retry_after\": {body}}}");
        retry_after::check(text.as_bytes());
        retry_after::check(format!("{header}\n{date}\n[{{\"retry_after\": \"{body}\"}}]").as_bytes());
        retry_after::check(&damaged(text.into_bytes(), &damage));
    }

    #[test]
    fn addresses(bytes in any::<[u8; 16]>(), first in prop::sample::select(vec![0_u8, 10, 100, 127, 169, 172, 192, 198, 203, 0x20, 0x3f, 0xfe])) {
        urls::check(&bytes);
        urls::check(&[&[first], &bytes[1..]].concat());
        urls::check(&[&[0; 10], &bytes[..6]].concat());
        urls::check(&[&[first], &bytes[1..4]].concat());
    }

    #[test]
    fn urls_that_are_nearly_right(parts in vec(part_of_a_url(), 1..8), damage in damage()) {
        let text = parts.concat();
        urls::check(text.as_bytes());
        urls::check(format!("https://{text}").as_bytes());
        urls::check(&damaged(text.into_bytes(), &damage));
    }
}

proptest! {
    // Fewer: each looks for the token in every way that it may be written.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn logs(form in any::<u8>(), place in any::<u8>(), words in vec(word(), 0..40)) {
        log::check(&[vec![form, place], words.concat().into_bytes()].concat());
    }
}

/// Bytes that are written over, put in, or taken out, at a place from 0 to 1.
type Damage = Vec<(f64, u8, Vec<u8>)>;

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..5),
        Just(vec![0xff; 4]),
        Just(vec![0; 4]),
        Just(b"PK\x05\x06".to_vec()),
        Just(b"CANARY".to_vec()),
        Just(b"\\u001b".to_vec()),
    ];
    vec((0.0..1.0, 0_u8..3, bytes), 0..4)
}

fn damaged(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    for (place, kind, put) in damage {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "any place will do"
        )]
        let from = (bytes.len() as f64 * place) as usize;
        let until = if *kind == 0 { from } else { (from + put.len()).min(bytes.len()) };
        let put = if *kind == 2 { &[][..] } else { put };
        bytes.splice(from..until, put.iter().copied());
    }
    bytes
}

fn answer() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::sample::select(vec![
            "uat",
            "running",
            "success",
            "failed",
            "CANARY",
            "[k3f2a9c1d]",
            "..",
            "token=CANARY",
            "\u{1b}[31m"
        ])
        .prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
    ];
    let key = prop::sample::select(vec![
        "id",
        "status",
        "space_type",
        "webapp",
        "platform_domain",
        "custom_domain",
        "last_deployed_at",
        "last_deployment_status",
        "log",
        "level",
        "message",
        "detail",
        "retry_after",
        "count",
        "next",
        "payload",
        "results",
        "job_id",
        "created_at",
        "completed_at",
        "display_name",
        "x",
    ]);
    let any_value = leaf.prop_recursive(4, 60, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(key.clone(), inner, 0..8).prop_map(|map| serde_json::Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    });
    let item = (any_value.clone(), "[a-z0-9]{1,3}").prop_map(|(value, id)| match value {
        serde_json::Value::Object(mut fields) => {
            fields.insert("id".to_owned(), id.into());
            fields.entry("status").or_insert("running".into());
            serde_json::Value::Object(fields)
        }
        other => other,
    });
    let page = (vec(item.clone(), 0..4), any::<bool>()).prop_map(|(items, more)| {
        let count = items.len() + usize::from(more);
        serde_json::json!({"count": count, "next": more.then_some("next"), "payload": items})
    });
    prop_oneof![any_value, item, page]
}

/// What logs hold, and what hides a secret from a plain search.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "\u{1b}[1m",
            "\u{1b}]0;",
            "\u{7}",
            "\u{200b}",
            "\u{202e}",
            "\r\n",
            "\u{85}",
            "%",
            "%2",
            "=",
            "+",
            "/",
            "\"",
            "\\",
            "'",
            "token",
            "password=",
            "Authorization: ",
            "Bearer ",
            "https://",
            "u:p@",
            "?q=",
            "***",
            "YWJj",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z0-9+/]{1,9}",
        "\\PC{0,9}",
        (0_usize..3000).prop_map(|length| "x".repeat(length)),
        (0_usize..900).prop_map(|length| "\u{1b}[0m".repeat(length)),
    ]
}

fn wait() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i32>().prop_map(|number| number.to_string()),
        (0_u32..1000).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        prop::sample::select(vec!["", "inf", "-inf", "NaN", "1e400", "-0", "null", "soon", "0x10", " 7 ", "+7"])
            .prop_map(str::to_owned),
        (0_i64..4_000_000_000).prop_map(|second| {
            let date = jiff::Timestamp::from_second(second).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            jiff::fmt::rfc2822::to_string(&date).unwrap()
        }),
    ]
}

fn part_of_a_url() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "https://",
            "http://",
            "//",
            "\\\\",
            "@",
            ":",
            "/",
            "?",
            "#",
            "[",
            "]",
            "::",
            "::ffff:",
            "64:ff9b::",
            "2002:",
            "%00",
            "%2e",
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "0x7f",
            "0177",
            ".",
            "。",
            "１",
            "①",
            "localhost",
            "example.com",
            "443",
            "\t",
            "\n",
            " ",
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|number| number.to_string()),
        any::<u8>().prop_map(|number| format!("{number}.")),
        any::<u16>().prop_map(|number| format!("{number:x}:")),
        "\\PC{0,4}",
    ]
}

fn zipped(files: &[(String, String)], method: CompressionMethod, comment: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in files {
        // The writer refuses some names, twice the same one among them.
        if writer.start_file(name, options).is_ok() {
            writer.write_all(content.as_bytes()).unwrap();
        }
    }
    writer.set_comment(comment).unwrap();
    writer.finish().unwrap().into_inner()
}

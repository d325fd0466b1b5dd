//! Downloads that break off, against hosts that answer each connection by a script.

use tokio::task::JoinHandle;

use konigle_operator::artifact::{Body, Chunk};

use super::*;

const FILE: &[u8] = b"0123456789abcdefghij";
const OTHER: &[u8] = b"another file of a longer length";

/// Answers one connection each, in turn and then no more, and remembers the heads of the requests.
struct Script {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// What one connection gets before it is closed, or left open.
#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    hold: bool,
}

impl Script {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(connection.read_u8().await.unwrap());
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap().to_ascii_lowercase());
                connection.write_all(&answer.bytes).await.unwrap();
                if answer.hold {
                    open.push(connection);
                } else {
                    connection.shutdown().await.unwrap();
                }
            }
            // Whoever comes now finds nobody.
            drop(listener);
            std::future::pending::<()>().await;
        });
        Self { address, heads, task }
    }

    /// The value of a header of each request, or nothing.
    fn header(&self, name: &str) -> Vec<Option<String>> {
        let heads = self.heads.lock().unwrap();
        let value = |head: &String| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.map(str::to_owned)
        };
        heads.iter().map(value).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(head: &str, body: &[u8]) -> Answer {
    let mut bytes = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Answer { bytes, hold: false }
}

/// The first bytes of a whole file, whose end does not come.
fn cut(headers: &str, file: &[u8], length: usize) -> Answer {
    answer(&format!("200 OK\r\ncontent-length: {}\r\n{headers}", file.len()), &file[..length])
}

fn whole(headers: &str, file: &[u8]) -> Answer {
    cut(headers, file, file.len())
}

/// A part of `FILE` that says to be `range`, and is what is there from `from` to `to`.
fn part(headers: &str, range: &str, from: usize, to: usize) -> Answer {
    let length = to - from;
    answer(
        &format!("206 Partial Content\r\ncontent-length: {length}\r\ncontent-range: {range}\r\n{headers}"),
        &FILE[from..to],
    )
}

fn status(line: &str) -> Answer {
    answer(&format!("{line}\r\ncontent-length: 0"), b"")
}

/// What was read of it, how often it began anew, and how it ended.
struct Reading {
    bytes: Vec<u8>,
    restarts: usize,
    end: Result<(), FetchError>,
}

async fn read(source: &Source, limits: &Limits) -> Reading {
    let mut reading = Reading { bytes: Vec::new(), restarts: 0, end: Ok(()) };
    let Place::Url(url, field) = &source.place else { panic!("it is no URL: {source:?}") };
    let mut body = match Body::open(url, *field, &source.credentials, limits).await {
        Ok(body) => body,
        Err(error) => return Reading { end: Err(error), ..reading },
    };
    loop {
        match body.next().await {
            Ok(Some(Chunk::Bytes(bytes))) => reading.bytes.extend_from_slice(&bytes),
            Ok(Some(Chunk::Restarted)) => {
                reading.bytes.clear();
                reading.restarts += 1;
            }
            Ok(None) => return reading,
            Err(error) => return Reading { end: Err(error), ..reading },
        }
        assert_eq!(body.received(), reading.bytes.len() as u64, "progress is told as it is");
    }
}

fn shop(script: &Script) -> Source {
    source(&format!("{}/shop.zip", script.address), Digest::of(FILE))
}

const TAG: &str = "etag: \"a\"";

const FROM_8: Option<&str> = Some("bytes=8-");

fn rest() -> Answer {
    part(TAG, "bytes 8-19/20", 8, 20)
}

/// What a host answers in turn, and what each request asked for; in the end the file is there.
type Row = (&'static str, Vec<Answer>, Vec<Option<&'static str>>);

async fn check(rows: Vec<Row>, restarts: usize) {
    for (what, answers, ranges) in rows {
        let script = Script::start(answers).await;
        let reading = read(&shop(&script), &limits()).await;
        assert_eq!(reading.end, Ok(()), "{what}");
        assert_eq!(reading.restarts, restarts, "{what}");
        assert_eq!(reading.bytes, FILE, "{what}");
        let ranges: Vec<_> = ranges.into_iter().map(|range| range.map(str::to_owned)).collect();
        assert_eq!(script.header("range"), ranges, "{what}");
        let conditional = script.header("if-range");
        for (range, condition) in ranges.iter().zip(&conditional) {
            assert_eq!(range.is_some(), condition.is_some(), "{what}: a range has its condition");
        }
        assert!(conditional.iter().flatten().all(|value| !value.starts_with("w/")), "{what}: {conditional:?}");
    }
}

#[tokio::test]
async fn a_file_that_breaks_off_is_gone_on_with() {
    let dated = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\ndate: Sun, 06 Nov 1994 08:51:00 GMT";
    let chunked = format!("200 OK\r\ntransfer-encoding: chunked\r\n{TAG}");
    let parts = vec![cut(TAG, FILE, 8), part(TAG, "bytes 8-11/20", 8, 12), part(TAG, "bytes 12-19/20", 12, 20)];
    let errors = vec![cut(TAG, FILE, 8), status("503 Busy"), Answer { bytes: Vec::new(), hold: false }, rest()];
    let by_date = vec![cut(dated, FILE, 8), part(dated, "bytes 8-19/20", 8, 20)];
    let limited = vec![cut(TAG, FILE, 8), status("429 Slow Down\r\nretry-after: 0.1"), rest()];
    let rows = vec![
        ("the rest", vec![cut(TAG, FILE, 8), rest()], vec![None, FROM_8]),
        ("the rest by its date", by_date, vec![None, FROM_8]),
        ("less than the rest, and what then lacks", parts, vec![None, FROM_8, Some("bytes=12-")]),
        ("chunks without an end", vec![answer(&chunked, b"8\r\n01234567\r\n"), rest()], vec![None, FROM_8]),
        ("errors between", errors, vec![None, FROM_8, FROM_8, FROM_8]),
        ("a limit that is over soon", limited, vec![None, FROM_8, FROM_8]),
    ];
    check(rows, 0).await;
}

#[tokio::test]
async fn a_file_that_breaks_off_is_gone_on_with_only_if_it_is_the_same() {
    let b = "etag: \"b\"";
    let no_ranges = format!("{TAG}\r\naccept-ranges: none");
    let again = || whole(TAG, FILE);
    let in_its_turn = vec![cut(TAG, OTHER, 8), cut(b, FILE, 4), part(b, "bytes 4-19/20", 4, 20)];
    let of_another = vec![cut(TAG, OTHER, 8), part(b, "bytes 8-19/20", 8, 20), whole(b, FILE)];
    let from_elsewhere = vec![cut(TAG, FILE, 8), part(TAG, "bytes 9-19/20", 9, 20), again()];
    let of_nothing = vec![cut(TAG, FILE, 8), part(TAG, "bytes 8-19", 8, 20), again()];
    let shorter = vec![cut(TAG, OTHER, 20), status("416 Range Not Satisfiable"), whole(b, FILE)];
    let rows = vec![
        ("nothing yet", vec![cut(TAG, FILE, 0), again()], vec![None, None]),
        ("no validator", vec![cut("x: y", FILE, 8), whole("x: y", FILE)], vec![None, None]),
        ("a weak one", vec![cut("etag: W/\"a\"", FILE, 8), again()], vec![None, None]),
        ("no ranges", vec![cut(&no_ranges, FILE, 8), again()], vec![None, None]),
        ("ranges not served", vec![cut(TAG, FILE, 8), again()], vec![None, FROM_8]),
        ("another file, gone on with in its turn", in_its_turn, vec![None, FROM_8, Some("bytes=4-")]),
        ("the part of another file", of_another, vec![None, FROM_8, None]),
        ("that of another length", vec![cut(TAG, OTHER, 8), rest(), again()], vec![None, FROM_8, None]),
        ("a part from elsewhere", from_elsewhere, vec![None, FROM_8, None]),
        ("a part that does not say which", of_nothing, vec![None, FROM_8, None]),
        ("a file that is shorter now", shorter, vec![None, Some("bytes=20-"), None]),
    ];
    check(rows, 1).await;
}

#[tokio::test]
async fn each_try_goes_the_whole_way_from_the_url() {
    let storage = Script::start(vec![cut(TAG, FILE, 8), part(TAG, "bytes 8-19/20", 8, 20)]).await;
    let signed = |number: u8| status(&format!("302 Found\r\nlocation: {}/signed?{number}", storage.address));
    let host = Script::start(vec![signed(1), signed(2)]).await;
    let source = with_auth(shop(&host), Some(Auth::Bearer(SECRET.to_owned().into())));
    let reading = read(&source, &limits()).await;
    assert_eq!((reading.end, reading.bytes.as_slice(), reading.restarts), (Ok(()), FILE, 0));
    let asked: Vec<_> = storage.heads.lock().unwrap().iter().map(|head| head[..13].to_owned()).collect();
    assert_eq!(asked, ["get /signed?1", "get /signed?2"], "a signed URL may have ended meanwhile");
    assert_eq!(host.header("authorization"), vec![Some(format!("bearer {SECRET}")); 2]);
    assert_eq!(storage.header("authorization"), [None, None]);

    let away = status("302 Found\r\nlocation: file:///etc/passwd");
    let host = Script::start(vec![cut(TAG, FILE, 8), away]).await;
    let reading = read(&shop(&host), &limits()).await;
    assert!(matches!(reading.end, Err(FetchError::Refused { .. })), "{:?}", reading.end);
}

#[tokio::test]
async fn a_stall_is_gone_on_from_and_tries_end() {
    let limits = Limits { stall_timeout: Duration::from_millis(100), ..limits() };
    let stalled = Answer { hold: true, ..cut(TAG, FILE, 8) };
    let script = Script::start(vec![stalled, part(TAG, "bytes 8-19/20", 8, 20)]).await;
    let reading = read(&shop(&script), &limits).await;
    assert_eq!((reading.end, reading.bytes.as_slice(), reading.restarts), (Ok(()), FILE, 0));

    let step = |from: usize| part(TAG, &format!("bytes {from}-19/20"), from, from + 1);
    let script = Script::start([vec![cut(TAG, FILE, 8)], (8..20).map(step).collect()].concat()).await;
    let error = read(&shop(&script), &limits).await.end.unwrap_err();
    assert_unavailable(&error, "the download broke off after 12 bytes");
    assert_eq!(script.header("range").len(), 5, "five tries in all");

    let script = Script::start([vec![cut(TAG, FILE, 8)], vec![status("404 Not Found"); 9]].concat()).await;
    assert_unavailable(&read(&shop(&script), &limits).await.end.unwrap_err(), "answered 404");
    assert_eq!(script.header("range").len(), 5);

    let limited = status("429 Slow Down\r\nretry-after: 61");
    let script = Script::start([vec![cut(TAG, FILE, 8)], vec![limited; 9]].concat()).await;
    let error = read(&shop(&script), &limits).await.end.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_secs(61)), "{error:?}");
    assert_eq!(script.header("range").len(), 2, "nobody waits for a minute with a turn in hand");

    let patient = Limits { resume_delay: Duration::from_hours(1), ..limits.clone() };
    let script = Script::start(vec![cut(TAG, FILE, 8)]).await;
    let error = read(&shop(&script), &patient).await.end.unwrap_err();
    assert_unavailable(&error, "the download broke off after 8 bytes");

    let small = Limits { max_size: 20, ..limits };
    let script = Script::start(vec![cut(TAG, FILE, 8), whole("etag: \"b\"", OTHER)]).await;
    let error = read(&shop(&script), &small).await.end.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "a larger file in its place: {error:?}");
}

/// What was read of a file that is another by now does not stay in what is kept.
#[tokio::test]
async fn a_file_that_began_anew_is_kept_whole_and_alone() {
    let bytes = archive("a");
    let script = Script::start(vec![cut(TAG, &archive("b and more"), 90), whole("etag: \"b\"", &bytes)]).await;
    let fixture = Fixture::new(limits());
    let digest = Digest::of(&bytes);
    let artifact = fetch(&fixture.store, &source(&format!("{}/x", script.address), digest)).await.unwrap();
    assert_eq!(std::fs::read(&artifact.path).unwrap(), bytes);
    assert_eq!(fixture.files(), [digest.hex()]);
}

/// What begins anew each time comes no further, however much of it comes.
#[tokio::test]
async fn a_large_file_that_begins_anew_each_time_is_given_up() {
    let large = vec![7; 16 << 20];
    let breaks = (1..10).map(|times| cut("x: y", &large, times * (6 << 18)));
    let script = Script::start(breaks.chain([whole("x: y", &large)]).collect()).await;
    let error = read(&shop(&script), &limits()).await.end.unwrap_err();
    assert_unavailable(&error, "the download broke off after");
    assert_eq!(script.header("range"), [None, None, None, None, None], "five tries in all");
}

/// As large files come: in many pieces, and the progress with them.
#[tokio::test]
async fn a_large_file_that_breaks_off_again_and_again_is_not_sent_twice() {
    let host = crate::support::artifacts::Artifacts::start().await.unwrap();
    let bytes: Vec<u8> = (0..4_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let artifact = host.serve_breaking("/large", bytes.clone(), 7);
    let reading = read(&source(&artifact.url, Digest::of(&bytes)), &limits()).await;
    assert_eq!((reading.end, reading.restarts), (Ok(()), 0));
    assert!(reading.bytes == bytes, "{} bytes", reading.bytes.len());
    assert_eq!(host.requests("/large"), 8, "more than the tries of a file that comes no further");
    let range = host.last_headers("/large").unwrap()[header::RANGE].to_str().unwrap().to_owned();
    let from: usize = range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!(from >= bytes.len() / 2, "the last request was for {range}");
}

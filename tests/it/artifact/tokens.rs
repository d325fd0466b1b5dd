//! Registries that want tokens, lie, or send one elsewhere: a small server that answers as a test wants it.

use axum::http::HeaderMap;
use konigle_operator::artifact::{ArtifactCredentials, Chunk, Layer, Registries, Repository};

use super::*;
use crate::support::certificates::{Authority, TlsListener};

const MANIFEST: &str = "/v2/team/shop/manifests/v1";
const USER: &str = "robot";

fn repository(host: &Host) -> Repository {
    Repository::parse(&format!("{}/team/shop", host.address.split_once("://").unwrap().1)).unwrap()
}

fn with_password(password: &str) -> ArtifactCredentials {
    let auth = Auth::Basic { username: USER.to_owned(), password: password.to_owned().into() };
    ArtifactCredentials { auth: Some(auth), ca: None }
}

fn anonymous() -> ArtifactCredentials {
    ArtifactCredentials::default()
}

fn basic(password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}")))
}

/// Each request as `METHOD PATH AUTHORIZATION`, oldest first, and none of them twice.
fn taken(host: &Host) -> Vec<String> {
    let seen: Vec<_> = host.seen.lock().unwrap().drain(..).collect();
    let text = |request: &Request<()>| {
        let authorization = request.headers().get(header::AUTHORIZATION).map_or("-", |value| value.to_str().unwrap());
        format!("{} {} {authorization}", request.method(), request.uri())
    };
    seen.iter().map(text).collect()
}

fn is_authorized(request: &Request<()>, wanted: &str) -> bool {
    request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == wanted)
}

fn digest_headers(digest: &str) -> HeaderMap {
    HeaderMap::from_iter([("docker-content-digest".parse().unwrap(), digest.parse().unwrap())])
}

fn challenge(challenge: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge.to_owned())]).into_response()
}

/// Answers 401 until the newest token of `/token` is shown; each token lives so many seconds.
async fn token_registry(life: u64, newest: Arc<Mutex<u32>>) -> Host {
    Host::start(move |request| {
        if request.uri().path() == "/token" {
            let mut newest = newest.lock().unwrap();
            *newest += 1;
            return format!(r#"{{"token":"t{newest}","expires_in":{life}}}"#).into_response();
        }
        if is_authorized(request, &format!("Bearer t{}", newest.lock().unwrap())) {
            return digest_headers(&Digest::of(b"v1").to_string()).into_response();
        }
        let host = request.headers()[header::HOST].to_str().unwrap();
        challenge(&format!(r#"Bearer realm="http://{host}/token",service="fake""#))
    })
    .await
}

const TOKEN: &str = "GET /token?service=fake&scope=repository%3Ateam%2Fshop%3Apull";

#[tokio::test]
async fn a_look_at_a_tag_is_one_head_while_the_token_lasts() {
    let newest = Arc::new(Mutex::new(0));
    let host = token_registry(300, newest.clone()).await;
    let (registries, repository) = (Registries::new(&limits()), repository(&host));
    let look = async |credentials: &ArtifactCredentials| registries.resolve(&repository, "v1", credentials).await;
    let head = |authorization: &str| format!("HEAD {MANIFEST} {authorization}");
    assert_eq!(look(&anonymous()).await, Ok(Digest::of(b"v1")));
    assert_eq!(taken(&host), [head("-"), format!("{TOKEN} -"), head("Bearer t1")]);
    for _ in 0..3 {
        look(&anonymous()).await.unwrap();
    }
    assert_eq!(taken(&host), vec![head("Bearer t1"); 3], "steady");

    let secret = with_password(SECRET);
    look(&secret).await.unwrap();
    let expected = [head("-"), format!("{TOKEN} {}", basic(SECRET)), head("Bearer t2")];
    assert_eq!(
        taken(&host),
        expected,
        "tokens are not shared with other credentials, nor is the password with the rest"
    );
    look(&secret).await.unwrap();
    assert_eq!(taken(&host), [head("Bearer t2")]);
    assert!(!format!("{registries:?} {secret:?}").contains(SECRET));

    *newest.lock().unwrap() += 1;
    look(&secret).await.unwrap();
    let expected = [head("Bearer t2"), format!("{TOKEN} {}", basic(SECRET)), head("Bearer t4")];
    assert_eq!(taken(&host), expected, "a token that was taken back");
}

#[tokio::test]
async fn a_token_that_ended_costs_one_request() {
    let host = token_registry(5, Arc::default()).await;
    let (registries, repository) = (Registries::new(&limits()), repository(&host));
    for _ in 0..2 {
        registries.resolve(&repository, "v1", &anonymous()).await.unwrap();
    }
    let requests = taken(&host);
    assert_eq!(requests[3..], [format!("{TOKEN} -"), format!("HEAD {MANIFEST} Bearer t2")], "{requests:?}");
}

#[tokio::test]
async fn a_password_goes_where_it_is_asked_for_and_stays() {
    let host = Host::start(|request| {
        if is_authorized(request, &basic(SECRET)) {
            return digest_headers(&Digest::of(b"v1").to_string()).into_response();
        }
        challenge(r#"Basic realm="fake""#)
    })
    .await;
    let (registries, repository) = (Registries::new(&limits()), repository(&host));
    for _ in 0..2 {
        registries.resolve(&repository, "v1", &with_password(SECRET)).await.unwrap();
    }
    let head = |authorization: &str| format!("HEAD {MANIFEST} {authorization}");
    assert_eq!(taken(&host), [head("-"), head(&basic(SECRET)), head(&basic(SECRET))]);
    let error = registries.resolve(&repository, "v1", &with_password("wrong")).await.unwrap_err();
    assert_denied(&error, "the registry answered 401 to the credentials that it got");
    let error = registries.resolve(&repository, "v1", &anonymous()).await.unwrap_err();
    assert_denied(&error, "the registry answered 401 to a request without credentials");
}

#[tokio::test]
async fn what_a_registry_answers_is_told_with_what_to_do() {
    let code = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"{SECRET}"}}]}}"#);
    for (status, retry, body, expected, wait) in [
        (
            404,
            "",
            code("MANIFEST_UNKNOWN"),
            "answered 404 (MANIFEST_UNKNOWN); it may not be pushed yet, or have been deleted",
            None,
        ),
        (404, "", code("<b>"), "answered 404; it may not be pushed yet, or have been deleted", None),
        (404, "", "x".repeat(100_000), "answered 404; it may not be pushed yet, or have been deleted", None),
        (
            429,
            "17",
            code("TOOMANYREQUESTS"),
            "(TOOMANYREQUESTS); it limits how often it is asked, now for 17 s: make spec.interval",
            Some(17),
        ),
        (
            429,
            "Wed, 21 Oct 2099 07:28:00 GMT",
            String::new(),
            "answered 429; it limits how often it is asked, now for 3600 s: make spec.interval",
            Some(3600),
        ),
        (429, "soon", String::new(), "answered 429; it limits how often it is asked: make spec.interval", Some(0)),
        (500, "", code("UNKNOWN"), "answered 500 (UNKNOWN)", None),
        (204, "", String::new(), "answered 204; wanted 200", None),
    ] {
        let host = Host::start(move |_| {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::RETRY_AFTER, retry)], body.clone()).into_response()
        })
        .await;
        let registries = Registries::new(&limits());
        let error = registries.layer(&repository(&host), &Digest::of(b""), None, &anonymous()).await.unwrap_err();
        assert_eq!(error.wait().map(|wait| wait.as_secs()), wait, "{error:?}");
        assert!(matches!(error, FetchError::Unavailable { .. } | FetchError::Limited { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(SECRET) && error.to_string().len() < 500, "{error}");
    }
    let host = Host::start(move |_| (StatusCode::FORBIDDEN, code("DENIED")).into_response()).await;
    let registries = Registries::new(&limits());
    let error = registries.layer(&repository(&host), &Digest::of(b""), None, &anonymous()).await.unwrap_err();
    assert_denied(&error, "the registry answered 403 (DENIED) to a request without credentials");
    let host = Host::start(|_| StatusCode::NOT_FOUND.into_response()).await;
    let registries = Registries::new(&limits());
    let error = registries.resolve(&repository(&host), "v1", &anonymous()).await.unwrap_err();
    assert!(matches!(error, FetchError::NoTag { .. }), "{error:?}");
    assert!(error.to_string().ends_with("/v2/team/shop/manifests/v1: the registry answered 404"), "{error}");
    let error = registries.resolve(&repository(&host), "../x", &anonymous()).await.unwrap_err();
    assert!(error.to_string().contains("correct spec.source.oci.tag"), "{error}");
    assert_eq!(host.requests(), 1, "what is no tag is not asked for");
}

#[tokio::test]
async fn a_token_service_that_gives_none_is_told_and_asked_anew() {
    for (status, body, expected) in [
        (401, "", "token service answered 401 to the credentials that it got"),
        (503, "", "token service answered 503"),
        (200, "<html>", "answered with no token that can be used"),
        (200, r#"{"token":"a\r\nb: c"}"#, "answered with no token that can be used"),
    ] {
        let host = Host::start(move |request| {
            if request.uri().path() == "/token" {
                return (StatusCode::from_u16(status).unwrap(), body).into_response();
            }
            let host = request.headers()[header::HOST].to_str().unwrap();
            challenge(&format!(r#"Bearer realm="http://{host}/token",scope="s""#))
        })
        .await;
        let registries = Registries::new(&limits());
        for _ in 0..2 {
            let error = registries.resolve(&repository(&host), "v1", &with_password(SECRET)).await.unwrap_err();
            if status == 401 {
                assert_denied(&error, expected);
            } else {
                assert_unavailable(&error, expected);
            }
            let requests = taken(&host);
            assert_eq!(requests.len(), 2, "{requests:?}");
            assert!(
                requests[0].starts_with("HEAD") && requests[1].starts_with("GET /token?scope=s Basic"),
                "{requests:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_digest_that_is_not_told_is_hashed_and_a_wrong_manifest_is_none() {
    let manifest =
        format!(r#"{{"layers":[{{"mediaType":"application/zip","digest":"{}","size":3}}]}}"#, Digest::of(b"abc"));
    let wanted = Digest::of(manifest.as_bytes());
    let body = manifest.clone();
    let host = Host::start(move |_| body.clone().into_response()).await;
    let registries = Registries::new(&limits());
    assert_eq!(registries.resolve(&repository(&host), "v1", &anonymous()).await, Ok(wanted));
    assert_eq!(taken(&host), [format!("HEAD {MANIFEST} -"), format!("GET {MANIFEST} -")]);
    let layer = registries.layer(&repository(&host), &wanted, None, &anonymous()).await.unwrap();
    assert_eq!((layer.digest, layer.size), (Digest::of(b"abc"), 3));
    let error = registries.layer(&repository(&host), &Digest::of(b"other"), None, &anonymous()).await.unwrap_err();
    assert!(matches!(error, FetchError::DigestMismatch { got, .. } if got == wanted), "{error:?}");

    let host = Host::start(|_| digest_headers(&format!("sha512:{}", "a".repeat(128))).into_response()).await;
    let error = registries.resolve(&repository(&host), "v1", &anonymous()).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Rejected { .. }) && error.to_string().contains("push it with sha256"),
        "{error:?}"
    );

    let host = Host::start(|_| vec![b' '; (4 << 20) + 1].into_response()).await;
    let error = registries.layer(&repository(&host), &Digest::of(b""), None, &anonymous()).await.unwrap_err();
    assert_unavailable(&error, "larger than 4194304 bytes");

    let index = |digest: Digest| format!(r#"{{"manifests":[{{"digest":"{digest}","size":1}}]}}"#);
    let inner = index(wanted);
    let outer = index(Digest::of(inner.as_bytes()));
    let (top, under) = (Digest::of(outer.as_bytes()), Digest::of(inner.as_bytes()).to_string());
    let host = Host::start(move |request| {
        let is_under = request.uri().path().ends_with(&under);
        if is_under { inner.clone() } else { outer.clone() }.into_response()
    })
    .await;
    let error = registries.layer(&repository(&host), &top, None, &anonymous()).await.unwrap_err();
    assert!(matches!(&error, FetchError::Rejected { reason } if reason.contains("index of an index")), "{error:?}");
    assert_eq!(host.requests(), 2, "no chain of indexes is followed");
}

/// The blobs of many registries are with a storage service; a download that breaks off there begins at the registry again.
#[tokio::test]
async fn blobs_come_from_storage_without_the_credentials() {
    let bytes = archive("a");
    let whole = bytes.clone();
    let storage = Host::start(move |request| {
        if let Some(range) = request.headers().get(header::RANGE) {
            let from: usize = range.to_str().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap();
            let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
            let headers = [(header::CONTENT_RANGE, range), (header::ETAG, "\"e\"".to_owned())];
            return (StatusCode::PARTIAL_CONTENT, headers, whole[from..].to_vec()).into_response();
        }
        let headers = [(header::CONTENT_LENGTH, whole.len().to_string()), (header::ETAG, "\"e\"".to_owned())];
        let pieces = [Ok(whole[..40].to_vec()), Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))];
        let pieces = futures::StreamExt::then(stream::iter(pieces), async |piece| {
            tokio::task::yield_now().await;
            piece
        });
        (headers, Body::from_stream(pieces)).into_response()
    })
    .await;
    let target = storage.url("/blob?signature=1");
    let newest = Arc::new(Mutex::new(0));
    let host = Host::start(move |request| {
        if request.uri().path() == "/token" {
            let mut newest = newest.lock().unwrap();
            *newest += 1;
            // At its end when it is needed again.
            return format!(r#"{{"token":"t{newest}","expires_in":1}}"#).into_response();
        }
        if is_authorized(request, &format!("Bearer t{}", newest.lock().unwrap())) {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target.clone())]).into_response();
        }
        let host = request.headers()[header::HOST].to_str().unwrap();
        challenge(&format!(r#"Bearer realm="http://{host}/token",service="fake""#))
    })
    .await;
    let layer = Layer {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        media_type: "application/zip".to_owned(),
        folder: None,
    };
    let registries = Registries::new(&limits());
    let mut body = registries.blob(&repository(&host), &layer, &with_password(SECRET)).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        let Chunk::Bytes(bytes) = chunk else { panic!("it began anew") };
        read.extend_from_slice(&bytes);
    }
    assert_eq!(read, bytes);
    let blob = format!("GET /v2/team/shop/blobs/{}", layer.digest);
    let token = format!("{TOKEN} {}", basic(SECRET));
    let expected =
        [format!("{blob} -"), token.clone(), format!("{blob} Bearer t1"), token, format!("{blob} Bearer t2")];
    assert_eq!(taken(&host), expected);
    assert_eq!(taken(&storage), vec!["GET /blob?signature=1 -"; 2]);

    let small = Limits { max_size: 10, ..limits() };
    let error = Registries::new(&small).blob(&repository(&host), &layer, &anonymous()).await.map(drop).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
    assert_eq!(host.requests(), 0, "the manifest says how large it is");
}

/// As operators run: https and public addresses, but for the one host that the flag names.
#[tokio::test]
async fn a_registry_sends_nobody_to_private_addresses() {
    let authority = Authority::new().unwrap();
    let canary = StdListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let other = canary.local_addr().unwrap();
    for (path, target, expected) in [
        ("token", format!("https://{other}/token"), "127.0.0.1, which is not a public address"),
        ("token", format!("https://localhost:{}/token", other.port()), "127.0.0.1, which is not a public address"),
        ("token", format!("http://{other}/token"), "only https is"),
        ("token", "https://169.254.169.254/latest/meta-data".to_owned(), "169.254.169.254"),
        ("token", format!("https://{USER}:{SECRET}@{other}/token"), "127.0.0.1, which is not a public address"),
        ("away", format!("https://{other}/blob"), "127.0.0.1, which is not a public address"),
        ("away", format!("http://{other}/blob"), "only https is"),
        ("away", "https://[::ffff:169.254.169.254]/".to_owned(), "is not a public address"),
        ("away", "file:///etc/passwd".to_owned(), "the scheme must be https"),
    ] {
        let answer: super::Answer = Arc::new(move |request: &Request<()>| match path {
            "away" if is_authorized(request, &basic(SECRET)) => {
                (StatusCode::FOUND, [(header::LOCATION, target.clone())]).into_response()
            }
            "away" => challenge("Basic"),
            _ => challenge(&format!(r#"Bearer realm="{target}""#)),
        });
        let host = start_tls(&authority, answer).await;
        let private_hosts = vec![host.address.strip_prefix("https://").unwrap().to_owned()];
        let limits = Limits { private_hosts, ..Limits::default() };
        let credentials =
            ArtifactCredentials { ca: Some(authority.pem().unwrap().into_bytes()), ..with_password(SECRET) };
        let error = Registries::new(&limits).resolve(&repository(&host), "v1", &credentials).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }) && error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");

        let strict = Registries::new(&Limits::default());
        let error = strict.resolve(&repository(&host), "v1", &credentials).await.unwrap_err();
        assert!(error.to_string().contains("--private-artifact-hosts"), "{error}");
    }
    let error = canary.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
}

/// As [`Host::start`], over https.
async fn start_tls(authority: &Authority, answer: super::Answer) -> Host {
    let seen = Seen::default();
    let router = Router::new().fallback(serve).with_state((answer, seen.clone()));
    let listener = TlsListener::bind(authority).await.unwrap();
    let address = format!("https://{}", listener.address());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
    Host { address, seen, stop }
}

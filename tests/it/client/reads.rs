//! What each kind of reply, or the lack of one, makes of a read.

use super::*;

#[tokio::test]
async fn a_read_asks_as_the_contract_says() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let (head, _) = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(head).unwrap();
            stream
                .write_all(ok(r#"{"id": "a/b?c", "space_type": "uat", "status": "running"}"#).as_bytes())
                .await
                .unwrap();
        }
    })
    .await;
    let base_url = format!("{}/prefix/", server.base_url);
    let space = client_with(&base_url, limits()).space("a/b?c").await.unwrap();
    assert_eq!(space.status, "running");
    let head = receiver.await.unwrap();
    assert!(head.starts_with("GET /prefix/cloud/api/v1/spaces/a%2Fb%3Fc HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Token canary-0123456789"));
    assert_eq!(header(&head, "accept"), Some("application/json"));
    assert_eq!(header(&head, "user-agent"), Some(concat!("konigle-operator/", env!("CARGO_PKG_VERSION"))));
    assert_eq!((header(&head, "accept-encoding"), header(&head, "referer")), (None, None));
}

#[tokio::test]
async fn every_failed_read_says_how_and_never_the_token() {
    let echo = format!(r#"{{"detail": "token={TOKEN} is {TOKEN}"}}"#);
    let words = Some("token=*** is ***".to_owned());
    for (bytes, expected) in [
        (answer("401 No", &echo), ReadError::Unauthorized { detail: words.clone() }),
        (answer("403 No", &echo), ReadError::Forbidden { detail: words.clone() }),
        (answer("404 No", &format!("[{echo}]")), ReadError::NotFound { detail: words.clone() }),
        (answer("500 No", &echo), ReadError::Status { code: 500, detail: words.clone() }),
        (answer("500 No", &format!("<html>{TOKEN}</html>")), ReadError::Status { code: 500, detail: None }),
        // The code counts though the body breaks off.
        (
            "HTTP/1.1 403 No\r\ncontent-length: 99\r\n\r\n{\"detail\": \"x\"}".to_owned(),
            ReadError::Forbidden { detail: None },
        ),
        (answer("204 No Content", ""), ReadError::Undecodable { what: "the reply is no JSON object".to_owned() }),
        (ok("<html>"), ReadError::Undecodable { what: "the reply is no JSON object".to_owned() }),
        (ok(r#"{"id": 1}"#), ReadError::Undecodable { what: "`id` is missing or no string".to_owned() }),
        (
            ok(r#"{"id": "2"}"#),
            ReadError::Undecodable { what: "it is about another id than the one that was asked for".to_owned() },
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_owned() + &"x".repeat(2 << 20), ReadError::TooLarge),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(2 << 20), ReadError::TooLarge),
    ] {
        let server = Server::answering(bytes).await;
        assert_eq!(shown(server.client().space("1").await.unwrap_err()), expected);
        assert_eq!(server.connections(), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_broken_reply_is_no_reply() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\": \"1\"}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"",
        "HTTP/1.1 200",
        "",
        "nonsense\r\n\r\n",
    ] {
        let server = Server::answering(bytes).await;
        let error = shown(server.client().space("1").await.unwrap_err());
        assert!(matches!(error, ReadError::Broken { .. }), "{bytes:?}: {error:?}");
        assert_eq!(server.connections(), 1, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_body_needs_no_length() {
    let server =
        Server::answering(b"HTTP/1.1 200 OK\r\n\r\n{\"id\": \"1\", \"platform_domain\": \"\xff\"}".to_vec()).await;
    assert_eq!(server.client().space("1").await.unwrap().id, "1");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let other = Server::answering(ok(r#"{"id": "1"}"#)).await;
    for code in ["301", "302", "303", "307", "308"] {
        let bytes = format!(
            "HTTP/1.1 {code} Moved\r\nlocation: {}/cloud/api/v1/spaces/1\r\ncontent-length: 0\r\n\r\n",
            other.base_url
        );
        let server = Server::answering(bytes).await;
        assert_eq!(
            server.client().space("1").await,
            Err(ReadError::Status { code: code.parse().unwrap(), detail: None })
        );
        let answer = server.client().promote("1", &sending()).await;
        assert_eq!(answer, Answer::Unknown(format!("Konigle answered {code}")));
        let (_file, upload) = upload(1000);
        assert_eq!(
            server.client().deploy("1", upload, &sending()).await,
            Answer::Unknown(format!("Konigle answered {code}"))
        );
        assert_eq!(server.connections(), 3);
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_read_ends_in_time() {
    // Silent, before the head and in the middle of the body; the connections stay open.
    for start in ["", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"] {
        let server = Server::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(start.as_bytes()).await.unwrap();
            stream.read_u8().await.ok();
        })
        .await;
        let client = client_with(&server.base_url, impatient());
        assert_eq!(client.space("1").await, Err(ReadError::Timeout));
        assert_eq!(client.job("1").await, Err(ReadError::Timeout));
    }
}

#[tokio::test]
async fn nobody_there_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client_with(&base_url, limits());
    let error = shown(client.space("1").await.unwrap_err());
    assert!(matches!(&error, ReadError::Connect { reason } if reason.contains("refused")), "{error:?}");
    assert!(matches!(client.promote("1", &sending()).await, Answer::Unsent(why) if why.contains("refused")));
    let (_file, upload) = upload(1000);
    assert!(matches!(client.deploy("1", upload, &sending()).await, Answer::Unsent(why) if why.contains("refused")));
}

#[tokio::test]
async fn ids_that_cannot_be_any_are_not_asked_for() {
    let server = Server::answering(ok("{}")).await;
    let client = server.client();
    for id in ["", ".", "..", "a b", "a\nb"] {
        assert_eq!(client.space(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert_eq!(client.job(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert_eq!(client.spaces(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert!(matches!(client.promote(id, &sending()).await, Answer::Unsent(_)), "{id:?}");
    }
    assert_eq!(server.connections(), 0);
}

/// A Space's words go into statuses and logs, and an id may be part of a message.
#[tokio::test]
async fn no_word_of_a_space_shows_the_token() {
    let words = format!(
        r#""space_type": "{TOKEN}", "status": "{TOKEN}", "webapp": "{TOKEN}", "platform_domain": "{TOKEN}",
        "custom_domain": "{TOKEN}", "custom_domain_status": "{TOKEN}", "last_deployed_at": "at {TOKEN}",
        "last_deployment_status": "{TOKEN}""#
    );
    let server = Server::answering(ok(&format!(r#"{{"id": "1", {words}}}"#))).await;
    let space = server.client().space("1").await.unwrap();
    assert_eq!(space.pair.last_deployed_at.as_deref(), Some("at ***"));
    assert!(!format!("{space:?}").contains(TOKEN), "{space:?}");
    let listed = format!(r#"{{"count": 1, "next": null, "payload": [{{"id": "1", {words}}}]}}"#);
    let server = Server::answering(ok(&listed.replace(&format!(r#""webapp": "{TOKEN}","#), ""))).await;
    let spaces = server.client().spaces("7").await.unwrap();
    assert!(spaces.len() == 1 && !format!("{spaces:?}").contains(TOKEN), "{spaces:?}");
    let server =
        Server::answering(ok(&format!(r#"{{"count": 1, "next": null, "payload": [{{"id": "{TOKEN}"}}]}}"#))).await;
    let error = shown(server.client().computers().await.unwrap_err());
    assert!(matches!(error, ReadError::Undecodable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_429_keeps_the_whole_account_back() {
    let server =
        Server::answering("HTTP/1.1 429 Slow\r\nretry-after: 100\r\ncontent-length: 20\r\n\r\n{\"retry_after\": 200}")
            .await;
    let client = server.client();
    assert_eq!(client.space("1").await, Err(ReadError::RateLimited { retry_after: Duration::from_secs(200) }));
    let error = shown(client.job("1").await.unwrap_err());
    assert!(
        matches!(error, ReadError::RateLimited { retry_after } if retry_after > Duration::from_secs(190)),
        "{error:?}"
    );
    assert!(matches!(client.promote("1", &sending()).await, Answer::Unsent(why) if why.contains("rate limit")));
    assert_eq!(server.connections(), 1, "nothing was sent during the pause");
}

#[tokio::test]
async fn a_429_to_a_write_is_a_rejection_and_pauses_reads_too() {
    let server = Server::answering(answer("429 Slow", r#"{"retry_after": 86400}"#)).await;
    let client = server.client();
    let expected = Rejection::RateLimited { retry_after: Duration::from_mins(15) };
    assert_eq!(client.promote("1", &sending()).await, Answer::Rejected(expected));
    assert!(matches!(client.space("1").await, Err(ReadError::RateLimited { .. })));
    assert_eq!(server.connections(), 1);
}

/// Answers each request by the page that it asks for.
async fn paged(pages: &'static [(&'static str, &'static str)]) -> (Server, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Server::start(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let (head, _) = read_request(&mut stream).await;
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let number: usize =
                target.split(['?', '&']).find_map(|pair| pair.strip_prefix("page=")).unwrap().parse().unwrap();
            log.lock().unwrap().push(target);
            let (status, body) = pages[(number - 1).min(pages.len() - 1)];
            stream.write_all(answer(status, body).as_bytes()).await.unwrap();
        }
    })
    .await;
    (server, seen)
}

#[tokio::test]
async fn a_list_is_all_of_its_pages() {
    let (server, seen) = paged(&[
        ("200 OK", r#"{"count": 3, "next": "http://elsewhere/?page=2", "payload": [{"id": "1", "webapp": "w 9"}, {"id": "2"}]}"#),
        ("200 OK", r#"{"count": 3, "next": null, "payload": [{"id": "3", "webapp": "other"}]}"#),
    ])
    .await;
    let spaces = server.client().spaces("w9&x=1").await.unwrap();
    assert_eq!(
        spaces.iter().map(|space| space.id.as_str()).collect::<Vec<_>>(),
        ["2"],
        "what belongs elsewhere is left out"
    );
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/cloud/api/v1/spaces?page=1&page_size=100&webapp_id=w9%26x%3D1",
            "/cloud/api/v1/spaces?page=2&page_size=100&webapp_id=w9%26x%3D1",
        ]
    );
}

#[tokio::test]
async fn a_page_that_fails_fails_the_list() {
    let first = ("200 OK", r#"{"count": 2, "next": "x", "payload": [{"id": "1"}]}"#);
    let (server, _) = paged(Box::leak(Box::new([first, ("500 No", "{}")]))).await;
    assert_eq!(server.client().computers().await, Err(ReadError::Status { code: 500, detail: None }));
    let (server, _) =
        paged(Box::leak(Box::new([first, ("200 OK", r#"{"count": 3, "next": null, "payload": [{"id": "2"}]}"#)])))
            .await;
    assert!(matches!(server.client().webapps("1").await, Err(ReadError::Undecodable { .. })));
}

#[tokio::test]
async fn a_list_without_end_is_too_large() {
    let id = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |mut stream| {
        let id = id.fetch_add(1, Ordering::SeqCst);
        async move {
            read_request(&mut stream).await;
            let body =
                format!(r#"{{"count": 99999, "next": "x", "payload": [{{"id": "j{id}", "status": "running"}}]}}"#);
            stream.write_all(ok(&body).as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client_with(&server.base_url, Limits { pages: 3, ..limits() });
    assert_eq!(client.computers().await, Err(ReadError::TooLarge));
    assert_eq!(client.jobs().await, Ok(None));
    assert_eq!(server.connections(), 6);
}

/// Each page comes within the time of a read; all together would take as long as the server likes.
#[tokio::test]
async fn a_list_of_slow_pages_ends_in_time() {
    let pages = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |mut stream| {
        let page = pages.fetch_add(1, Ordering::SeqCst);
        async move {
            read_request(&mut stream).await;
            tokio::time::sleep(impatient().read / 2).await;
            let body = format!(r#"{{"count": 99999, "next": "x", "payload": [{{"id": "c{page}"}}]}}"#);
            stream.write_all(ok(&body).as_bytes()).await.ok();
        }
    })
    .await;
    assert_eq!(client_with(&server.base_url, impatient()).computers().await, Err(ReadError::Timeout));
    assert!(server.connections() <= 10, "{} pages", server.connections());
}

#[tokio::test]
async fn the_job_list_may_be_missing() {
    for (status, served) in
        [("403 No", true), ("404 No", true), ("405 No", true), ("501 No", true), ("500 No", false), ("401 No", false)]
    {
        let server = Server::answering(answer(status, "{}")).await;
        let jobs = server.client().jobs().await;
        assert_eq!(jobs.is_ok_and(|jobs| jobs.is_none()), served, "{status}");
    }
    let server = Server::answering(ok(
        r#"{"count": 1, "next": null, "results": [{"id": "j", "status": "odd", "created_at": "t", "log": [{"message": "[k3f2a9c1d]"}]}]}"#,
    ))
    .await;
    let jobs = server.client().jobs().await.unwrap().unwrap();
    assert!(jobs[0].mentions("k3f2a9c1d") && jobs[0].status == JobStatus::Unknown("odd".to_owned()));
}

#[tokio::test]
async fn a_job_with_an_endless_log_still_has_a_status() {
    let server = Server::start(|mut stream| async move {
        let (head, _) = read_request(&mut stream).await;
        let status = if head.contains("/early ") { r#""status": "success","# } else { "" };
        let id = if head.contains("/early ") { "early" } else { "late" };
        let start = format!("HTTP/1.1 200 OK\r\n\r\n{{\"id\": \"{id}\", {status} \"log\": [{{\"message\": \"token {TOKEN}\"}}, {{\"message\": \"");
        stream.write_all(start.as_bytes()).await.unwrap();
        // Until the client has enough and hangs up.
        let line = vec![b'x'; 1 << 16];
        while stream.write_all(&line).await.is_ok() {}
    })
    .await;
    let client = server.client();
    let job = client.job("early").await.unwrap();
    assert_eq!((job.status, job.log_count), (JobStatus::Success, 1));
    assert_eq!(job.log_tail, ["token ***"]);
    assert_eq!(client.job("late").await, Err(ReadError::TooLarge));
}

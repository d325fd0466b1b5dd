//! What goes out in a write, and which of the four answers each ending is.

use super::*;

#[tokio::test]
async fn a_deploy_is_one_multipart_post_with_its_length() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let request = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(request).unwrap();
            let body = r#"{"id": "d", "display_name": "n", "space_id": "7", "job_id": "5f0c", "created_at": "t"}"#;
            stream.write_all(answer("202 Accepted", body).as_bytes()).await.unwrap();
        }
    })
    .await;
    let (file, upload) = upload((3 << 20) + 17);
    let accepted = server.client().deploy("7", upload, &sending()).await;
    let Answer::Accepted(deployment) = accepted else { panic!("{accepted:?}") };
    assert_eq!((deployment.job_id.as_str(), deployment.id.as_deref()), ("5f0c", Some("d")));

    let (head, body) = receiver.await.unwrap();
    assert!(head.starts_with("POST /cloud/api/v1/spaces/7/deploy HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Token canary-0123456789"));
    assert_eq!((content_length(&head), header(&head, "transfer-encoding")), (body.len(), None));
    let boundary = header(&head, "content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let mut expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"display_name\"\r\n\r\nshop/shop-uat #7 [k3f2a9c1d]\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"zip_file\"; filename=\"app.zip\"\r\nContent-Type: application/zip\r\n\r\n"
    )
    .into_bytes();
    expected.extend(std::fs::read(file.path()).unwrap());
    expected.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(body == expected, "the body differs: {}", String::from_utf8_lossy(&body[..300]));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_promote_is_one_empty_post_with_its_length() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let (head, _) = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(head).unwrap();
            stream.write_all(ok(r#"{"job_id": 7301962442809344001}"#).as_bytes()).await.unwrap();
        }
    })
    .await;
    let accepted = server.client().promote("7", &sending()).await;
    assert!(
        matches!(&accepted, Answer::Accepted(deployment) if deployment.job_id == "7301962442809344001"),
        "{accepted:?}"
    );
    let head = receiver.await.unwrap();
    assert!(head.starts_with("POST /cloud/api/v1/spaces/7/promote HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "content-length"), header(&head, "content-type")), (Some("0"), None));
}

/// A write on a connection that is kept open may meet a server that closes it just then: the library would send it again.
#[tokio::test]
async fn k24_a_write_has_a_connection_of_its_own_and_is_never_sent_again() {
    // Keeps each connection open for any number of reads, and answers no write: the connection closes once it is read.
    let server = Server::start(|mut stream| async move {
        loop {
            let (head, _) = read_request(&mut stream).await;
            if !head.starts_with("GET ") {
                return;
            }
            let body = r#"{"id": "7", "type": "uat"}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = server.client();
    for _ in 0..2 {
        client.space("7").await.unwrap();
    }
    assert_eq!(server.connections(), 1, "reads share one");
    for writes in 1..=2 {
        let answer = client.promote("7", &sending()).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
        assert_eq!(server.connections(), 1 + writes);
    }
    client.space("7").await.unwrap();
    assert_eq!(server.connections(), 3, "reads still use theirs");
}

/// What a write comes to when the whole request was read and these bytes came back, after which the connection closed.
#[tokio::test]
async fn an_answer_is_classified_and_what_is_none_is_unknown() {
    #[derive(Debug, PartialEq)]
    enum Class {
        Accepted,
        Rejected,
        Unknown,
    }
    let body = format!(r#"{{"job_id": "5f0c", "detail": "{TOKEN}"}}"#);
    for (bytes, expected) in [
        (answer("201 Created", &body), Class::Accepted),
        (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), Class::Accepted),
        (answer("409 Busy", &body), Class::Rejected),
        (answer("401 No", &body), Class::Rejected),
        (format!("HTTP/1.1 422 No\r\ncontent-length: 9999\r\n\r\n{body}"), Class::Rejected),
        (answer("500 No", &body), Class::Unknown),
        (answer("502 No", "<html>"), Class::Unknown),
        (answer("408 No", &body), Class::Unknown),
        (answer("418 No", &body), Class::Unknown),
        (answer("204 None", ""), Class::Unknown),
        (ok("<html>"), Class::Unknown),
        (ok("{}"), Class::Unknown),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{body}"), Class::Unknown),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(2 << 20), Class::Unknown),
        ("HTTP/1.1 2".to_owned(), Class::Unknown),
        ("nonsense\r\n\r\n".to_owned(), Class::Unknown),
        (String::new(), Class::Unknown),
    ] {
        let server = Server::answering(bytes.as_bytes()).await;
        let (_file, upload) = upload(1000);
        let client = server.client();
        for answer in [client.deploy("7", upload, &sending()).await, client.promote("7", &sending()).await] {
            let class = match &answer {
                Answer::Accepted(_) => Class::Accepted,
                Answer::Rejected(_) => Class::Rejected,
                Answer::Unknown(_) => Class::Unknown,
                Answer::Unsent(why) => panic!("unsent, {why}: {bytes:?}"),
            };
            assert_eq!(class, expected, "{bytes:?}");
            assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
        }
        assert_eq!(server.connections(), 2, "each write is sent once: {bytes:?}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_unsent() {
    // The server reads a piece, closes, and thereby resets the connection.
    for piece in [0, 1, 1 << 20] {
        let server = Server::start(move |mut stream| async move {
            let (_, mut body) = read_head(&mut stream).await;
            while body.len() < piece {
                stream.read_buf(&mut body).await.unwrap();
            }
        })
        .await;
        let (_file, upload) = upload(LARGE);
        let answer = server.client().deploy("7", upload, &sending()).await;
        assert!(matches!(&answer, Answer::Unsent(why) if why.contains(&format!("of {LARGE} bytes"))), "{answer:?}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_counts() {
    // A server that refuses a large body at its head, and goes on reading so that its answer is not lost.
    let server = Server::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(answer("413 Too Large", r#"{"detail": "at most 1 MiB"}"#).as_bytes()).await.unwrap();
        let mut rest = vec![0; 1 << 16];
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let expected = Rejection::Artifact { code: 413, detail: Some("at most 1 MiB".to_owned()) };
    assert_eq!(server.client().deploy("7", upload, &sending()).await, Answer::Rejected(expected));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_silent_server_is_unknown_once_it_has_all_and_unsent_before() {
    let server = Server::start(|mut stream| async move {
        let (head, mut body) = read_head(&mut stream).await;
        if content_length(&head) < LARGE {
            stream.read_buf(&mut body).await.ok();
        }
        std::future::pending::<()>().await;
    })
    .await;
    let client = server.client();
    let answer = client.promote("7", &sending_for(Duration::from_millis(300))).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("no answer within")), "{answer:?}");
    let (_small, small) = upload(1000);
    let answer = client.deploy("7", small, &sending_for(Duration::from_millis(300))).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("no answer within")), "{answer:?}");
    let (_large, large) = upload(LARGE);
    let answer = client.deploy("7", large, &sending_for(Duration::from_millis(500))).await;
    assert!(matches!(&answer, Answer::Unsent(why) if why.contains("no answer within")), "{answer:?}");
}

#[tokio::test]
async fn a_head_without_the_rest_of_its_answer_is_unknown() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"job_id\":").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let answer = client_with(&server.base_url, impatient()).promote("7", &sending()).await;
    assert_eq!(answer, Answer::Unknown("Konigle answered 200, but the reply broke off".to_owned()));
}

#[tokio::test]
async fn nothing_is_sent_after_the_fence_or_at_shutdown_or_without_the_file() {
    let server = Server::answering(ok(r#"{"job_id": "5f0c"}"#)).await;
    let client = server.client();
    let late = Fence::new(
        Instant::now().checked_sub(Duration::from_secs(11)).unwrap(),
        clock::system(),
        Duration::from_secs(10),
    );
    let slept = Fence::new(Instant::now(), clock::system() - Duration::from_secs(11), Duration::from_secs(10));
    let set_back = Fence::new(Instant::now(), clock::system() + Duration::from_mins(1), Duration::from_secs(10));
    for fence in [late, slept, set_back] {
        assert!(matches!(client.promote("7", &Sending { fence, ..sending() }).await, Answer::Unsent(_)), "{fence:?}");
    }
    let ending = sending();
    ending.shutdown.cancel();
    assert_eq!(client.promote("7", &ending).await, Answer::Unsent("the operator is shutting down".to_owned()));

    let (file, upload) = upload(1000);
    let changed = Answer::Unsent("the artifact's file was changed since it was checked; it is checked anew".to_owned());
    // Of the same size, as who flips a bit leaves it.
    file.as_file().set_modified(clock::system() + Duration::from_mins(1)).unwrap();
    assert_eq!(client.deploy("7", upload.clone(), &sending()).await, changed);
    file.as_file().set_len(999).unwrap();
    assert_eq!(client.deploy("7", upload.clone(), &sending()).await, changed);
    file.close().unwrap();
    assert_eq!(
        client.deploy("7", upload, &sending()).await,
        Answer::Unsent("the artifact's file cannot be read: entity not found".to_owned())
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_fence_is_looked_at_again_once_the_connection_stands() {
    // Two connections fill the queue of a socket that listens and does not accept: the client's is held up by the kernel,
    // which drops its first packet and lets it try again after a second.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    // Before the fence begins: on a busy machine it takes its time, and a request after the fence makes no connection.
    let client = client_with(&format!("http://{address}"), limits());
    let allowed = Duration::from_millis(300);
    let fence = Fence::new(Instant::now(), clock::system(), allowed);
    let passed = tokio::time::Instant::now() + allowed;
    let server = async {
        tokio::time::sleep_until(passed).await;
        for _ in fillers {
            listener.accept().await.unwrap();
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        bytes
    };
    let sending = Sending { fence, ..sending() };
    let (answer, bytes) = tokio::join!(client.promote("7", &sending), server);
    assert_eq!(answer, Answer::Unsent("too much time has passed since the claim".to_owned()));
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn shutdown_cuts_an_upload_that_is_not_whole() {
    let sending = sending();
    let shutdown = sending.shutdown.clone();
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let (shutdown, sender) = (shutdown.clone(), Arc::clone(&sender));
        async move {
            let (head, mut body) = read_head(&mut stream).await;
            shutdown.cancel();
            while stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
            sender.lock().unwrap().take().unwrap().send((content_length(&head), body.len())).unwrap();
        }
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let answer = server.client().deploy("7", upload, &sending).await;
    assert_eq!(answer, Answer::Unsent("the operator is shutting down".to_owned()));
    let (announced, read) = receiver.await.unwrap();
    assert!(read < announced, "{read} of {announced}");
}

#[tokio::test]
async fn a_dropped_upload_stops() {
    let started = Arc::new(Notify::new());
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let notify = Arc::clone(&started);
    let server = Server::start(move |mut stream| {
        let (notify, sender) = (Arc::clone(&notify), Arc::clone(&sender));
        async move {
            let (head, mut body) = read_head(&mut stream).await;
            notify.notify_one();
            while stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
            sender.lock().unwrap().take().unwrap().send((content_length(&head), body.len())).unwrap();
        }
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let client = server.client();
    let sending = sending();
    tokio::select! {
        answer = client.deploy("7", upload, &sending) => panic!("{answer:?}"),
        () = started.notified() => {}
    }
    let (announced, read) = receiver.await.unwrap();
    assert!(read < announced, "{read} of {announced}");
}

#[tokio::test]
async fn shutdown_waits_for_the_answer_to_what_was_sent() {
    for (limits, answered) in [(limits(), true), (impatient(), false)] {
        let sending = sending();
        let shutdown = sending.shutdown.clone();
        let server = Server::start(move |mut stream| {
            let shutdown = shutdown.clone();
            async move {
                read_request(&mut stream).await;
                shutdown.cancel();
                if answered {
                    stream.write_all(ok(r#"{"job_id": "5f0c"}"#).as_bytes()).await.unwrap();
                } else {
                    std::future::pending::<()>().await;
                }
            }
        })
        .await;
        let (_file, upload) = upload(1000);
        let answer = client_with(&server.base_url, limits).deploy("7", upload, &sending).await;
        assert_eq!(matches!(answer, Answer::Accepted(_)), answered, "{answer:?}");
        assert_eq!(matches!(answer, Answer::Unknown(_)), !answered, "{answer:?}");
    }
}

#[tokio::test]
async fn a_failed_handshake_is_unsent() {
    // https to a server that speaks no TLS: it answers, or hangs up.
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let server = Server::start(move |mut stream| async move {
            stream.write_all(bytes.as_bytes()).await.ok();
        })
        .await;
        let client = client_with(&server.base_url.replace("http://", "https://"), limits());
        let (_file, upload) = upload(1000);
        assert!(matches!(client.deploy("7", upload, &sending()).await, Answer::Unsent(_)));
        assert!(matches!(client.promote("7", &sending()).await, Answer::Unsent(_)));
        assert!(matches!(shown(client.space("7").await.unwrap_err()), ReadError::Connect { .. }));
    }
}

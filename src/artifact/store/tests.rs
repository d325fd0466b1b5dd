//! What only the store itself can see.

use super::index::aside as aside_of;
use super::*;
use crate::artifact::Scope;

/// The archive is there, and what is being sent takes all of the budget.
#[tokio::test]
async fn a_zip_is_packed_only_where_what_is_in_use_leaves_room() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { store_budget: 1 << 20, ..Limits::default() };
    let store = Store::open(directory.path(), limits, Arc::default()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [("Dockerfile", ""), ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let file = (Scope::Public, Digest::of(&tar));
    fs::create_dir_all(shard(directory.path(), &file)).unwrap();
    fs::write(path(directory.path(), &file), &tar).unwrap();
    let stamp = Stamp::of_size(tar.len() as u64);
    let archive = Verified { lease: store.index().add(file.clone(), stamp), key: file.clone(), stamp };

    let sent = (Scope::Public, Digest::of(b"sent"));
    let in_use = store.index().add(sent.clone(), Stamp::of_size(1 << 20));
    store.index().is_sent(&sent);
    let (key, stop) = (Key { scope: Scope::Public, digest: file.1, part: Part::Whole }, CancellationToken::new());
    let refused = store.pack(&key, &archive, "", &stop).await.err();
    assert!(matches!(&refused, Some(FetchError::Disk { reason }) if reason.contains("no room")), "{refused:?}");
    drop(in_use);
    let packed = store.pack(&key, &archive, "", &stop).await.expect("there is room");
    assert_eq!(store.index().reserved(), 0, "the ZIP has its room by itself");
    assert!(path(directory.path(), &packed.key).is_file() && !store.index().holds(&sent));
}

/// Between the choice of a file that goes and its removal others go on.
#[tokio::test]
async fn what_is_put_in_the_place_of_an_evicted_file_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Limits::default(), Arc::default()).unwrap();
    let file = (Scope::Public, Digest::of(b"a"));
    let fetched = async || {
        let (mut whole, partial) = store.partial(&file).await.unwrap();
        io::Write::write_all(&mut whole, b"a").unwrap();
        let room = store.reserve(Purpose::Download, 1).await.unwrap();
        store.keep(file.clone(), (whole, partial), 1, room).await.unwrap()
    };
    let in_use = fetched().await;
    assert!(store.set_aside(|index| index.surplus(0)).is_none(), "it is in use");
    drop(in_use);
    let (evicted, aside) = store.set_aside(|index| index.surplus(0)).unwrap();
    assert!(evicted == file && store.known(&file).await.is_none(), "whoever asks for it now does not get it");
    let again = fetched().await;
    fs::remove_file(aside.unwrap()).unwrap();
    assert!(path(directory.path(), &again.key).is_file(), "it was put there since");
    drop(again);
    store.make_room_if_full(&Err::<(), _>(FetchError::DiskFull)).await;
    assert!(!path(directory.path(), &file).exists() && !aside_of(directory.path(), &file).exists());
}

#[test]
fn a_check_that_is_stopped_says_nothing_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "a").unwrap();
    let (right, wrong, stop) = (Digest::of(b"a"), Digest::of(b"b"), CancellationToken::new());
    assert!(matches!(hash(&path, &right, &stop), Ok(Some(stamp)) if stamp.size == 1));
    assert!(matches!(hash(&path, &wrong, &stop), Ok(None)));
    stop.cancel();
    for digest in [right, wrong] {
        assert!(matches!(hash(&path, &digest, &stop), Err(InspectError::Stopped)));
    }
}

#[tokio::test]
async fn a_failure_is_shared_only_with_those_who_waited_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Limits::default(), Arc::default()).unwrap();
    // Refused before anything is asked.
    let url = "ftp://ci.example.com/shop.zip".parse().unwrap();
    let source = Source {
        key: Key { scope: Scope::Public, digest: Digest::of(b"a"), part: Part::Whole },
        place: Place::Url(url, SourceField::Http),
        credentials: ArtifactCredentials::default(),
    };
    // Somebody still waits for the digest with a source of his own, so an old failure is still there.
    let flight = store.flight(&source.key, None);
    *flight.turn.wait().await =
        Some(Failure { source: source.clone(), error: FetchError::Stopped, at: Instant::now() });
    let error = store.fetch(&source, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
}

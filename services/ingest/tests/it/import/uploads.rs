//! What becomes of uploads that are cut off, abandoned, too many or known already, and of calls that wait.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_shorter_or_longer_than_announced_is_refused_with_both_sizes() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    let content = csv(100);
    let (whole, cut) = (content.len() as u64, &content.as_bytes()[..content.len() / 2]);
    for (sent, announced) in [(cut, whole), (content.as_bytes(), whole - 1)] {
        let status = process.create_announced(mapping(), "a.csv", sent, announced).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "UPLOAD_INCOMPLETE"));
        assert!(status.message().contains(&sent.len().to_string()) && status.message().contains(&announced.to_string()), "{status}");
    }
    world.until_spooled(false).await;
    // A size that is not known cannot be held against anything.
    let created = process.create_announced(mapping(), "a.csv", content.as_bytes(), 0).await.expect("created");
    assert_eq!(process.wait(&created.name).await.accepted, 100);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_under_another_mapping_needs_another_source() {
    for backends in backends() {
        let world = World::new(backends).await;
        let mut process = world.start().await;
        let content = csv(100);
        let first = process.import(mapping(), "a.csv", content.as_bytes()).await;
        let changed = Mapping { traits: Vec::new(), ..mapping() };
        let with_ids = Mapping { message_id_column: "n".into(), ..mapping() };
        for other in [changed.clone(), with_ids] {
            let status = process.create(other, "a.csv.gz", &gzip(content.as_bytes())).await.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "CONTENT_ALREADY_IMPORTED"));
            assert!(status.message().contains(&first.name) && status.message().contains("another `source`"), "{status}");
        }
        // To say the default is the same mapping.
        let said = process.create(Mapping { source: "import".into(), ..mapping() }, "a.csv", content.as_bytes()).await.expect("answered");
        assert!(said.already_imported && said.name == first.name, "{said:?}");
        let again = process.import(Mapping { source: "second".into(), ..changed }, "a.csv", content.as_bytes()).await;
        assert_eq!(counts(&again), (ImportState::Succeeded, 100, 100, 0, 0), "{again:?}");
        assert_eq!(world.accepted().await.len(), 200);
        world.until_spooled(false).await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_mappings_of_one_content_at_once_one_is_imported() {
    for backends in backends() {
        let world = World::new(backends).await;
        let (mut process, content) = (world.start().await, csv(100));
        let mut second = Process { imports: process.imports.clone(), tasks: process.tasks.clone(), tenant: process.tenant.clone() };
        let (one, two) = tokio::join!(
            process.create(mapping(), "a.csv", content.as_bytes()),
            second.create(Mapping { traits: Vec::new(), ..mapping() }, "a.csv", content.as_bytes()),
        );
        assert_eq!([&one, &two].iter().filter(|created| created.is_ok()).count(), 1, "{one:?} {two:?}");
        let refused = one.err().or(two.err()).expect("one is refused");
        assert_eq!(reason(&refused), "CONTENT_ALREADY_IMPORTED");
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_client_goes_away_leaves_no_files() {
    use futures::StreamExt;
    let world = World::new(backends().remove(0)).await;
    let process = world.start().await;
    // Small as it comes, and minutes of work to decompress.
    let bomb = gzip(&vec![b'\n'; 32 << 20]);
    let start = ImportStart { mapping: Some(mapping()), file_name: "a.csv.gz".into(), size_bytes: 0 };
    let parts: Vec<_> = std::iter::once(Part::Start(start))
        .chain((0..1_000).map(|_| Part::Chunk(bomb.clone())))
        .map(|part| CreateImportRequest { part: Some(part) })
        .collect();
    for complete in [false, true] {
        let (ended, mut is_ended) = tokio::sync::mpsc::channel::<()>(1);
        let rest = futures::stream::poll_fn(move |_| {
            // Everything before was taken.
            let _ = ended.try_send(());
            if complete { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
        });
        let upload = futures::stream::iter(parts.clone()).chain(rest);
        let (mut imports, request) = (process.imports.clone(), request_as(Role::Editor, &world.tenant, upload));
        tokio::select! {
            created = imports.create_import(request) => panic!("it is not done by now: {created:?}"),
            () = async {
                is_ended.recv().await.expect("the upload was taken");
                world.until_spooled(true).await;
            } => {}
        }
        // The call was dropped, as that of a client that went away is.
        world.until_spooled(false).await;
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploaded_files_are_bounded_together_and_room_returns_when_an_import_ends() {
    let world = World::new(backends().remove(0)).await;
    let (content, other) = (csv(1_000), csv(999));
    let mut config = Config::default();
    config.import.file_bytes_max = content.len() as u64;
    config.import.spool_bytes_max = content.len() as u64 + 1_000;
    let mut process = world.start_with(config.clone()).await;
    world.tenants.replace(vec![Tenant::new(world.tenant.clone(), Default::default())]);
    let waiting = process.create(mapping(), "a.csv", content.as_bytes()).await.expect("created");
    // Also what lay there when the process started counts.
    for _ in 0..2 {
        for announced in [other.len() as u64, 0] {
            let status = process.create_announced(mapping(), "b.csv", other.as_bytes(), announced).await.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "IMPORT_SPOOL_FULL"));
        }
        assert_eq!(world.spooled().len(), 1);
        process.stop().await;
        process = world.start_with(config.clone()).await;
    }
    world.tenants.replace(vec![Tenant::new(world.tenant.clone(), [Module::Ingest].into_iter().collect())]);
    assert_eq!(process.wait(&waiting.name).await.state(), ImportState::Succeeded);
    world.until_spooled(false).await;
    assert_eq!(process.import(mapping(), "b.csv", other.as_bytes()).await.accepted, 999);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_an_import_ends_when_the_process_drains() {
    let world = World::new(backends().remove(0)).await;
    let mut process = world.start().await;
    world.tenants.replace(vec![Tenant::new(world.tenant.clone(), Default::default())]);
    let created = process.create(mapping(), "a.csv", csv(10).as_bytes()).await.expect("created");
    process.tasks.draining().cancel();
    let waited = tokio::time::timeout(Duration::from_secs(10), process.wait(&created.name)).await.expect("it answers at once");
    assert_eq!(waited.state(), ImportState::Running);
    process.stop().await;
}

//! One-off processes.

use super::*;

pub(super) async fn a_one_off_tells_its_output_and_its_exit_code(bench: Bench) {
    assert_eq!(run_to_end(&*bench.scheduler, bench.one_off(&CRASH)).await, ("last words\n".to_owned(), 3));
    let one_off = bench.one_off(&HANG);
    let mut attached = bench.scheduler.run(one_off.clone()).await.unwrap();
    assert_eq!(attached.events.next().await, Some(OneOffEvent::Output(Channel::Output, "hanging\n".into())));
    assert_eq!(bench.names().await, [], "it is not observed");
    assert_eq!(bench.log(100, None).await, [""; 0], "it is not in the app's log");
    let listed = ObservedOneOff { app: bench.app.id, name: one_off.name, exit: None };
    let known = || async { (bench.second.one_offs().await.unwrap() == [listed.clone()]).then_some(()) };
    until("every controller knows of it", known).await;
    drop(attached);
    until("nothing is left", || async { bench.scheduler.one_offs().await.unwrap().is_empty().then_some(()) }).await;
}

pub(super) async fn a_one_off_reads_what_is_sent_to_it(bench: Bench) {
    let one_off = OneOff { input: true, ..bench.one_off(&CAT) };
    let Attached { mut events, input } = bench.scheduler.run(one_off).await.unwrap();
    for word in ["hello\n", "world\n"] {
        input.send(OneOffInput::Bytes(word.into())).await.unwrap();
        let event = timeout(DEADLINE, events.next()).await.expect("it answers");
        assert_eq!(event, Some(OneOffEvent::Output(Channel::Output, word.into())));
    }
    input.send(OneOffInput::End).await.unwrap();
    assert_eq!(end_of(events).await, (String::new(), 0));
    // One that nothing is sent to finds its input at its end.
    assert_eq!(run_to_end(&*bench.scheduler, bench.one_off(&CAT)).await.1, 0);
}

pub(super) async fn a_one_off_runs_on_a_terminal_of_the_clients_size(bench: Bench) {
    let size = |columns, rows| TerminalSize { columns, rows };
    let one_off = OneOff { terminal: Some(size(100, 30)), input: true, ..bench.one_off(&SIZE) };
    let Attached { mut events, input } = bench.scheduler.run(one_off).await.unwrap();
    let mut shown = String::new();
    let mut until_shown = async |wanted: &str| {
        while !shown.contains(wanted) {
            match timeout(DEADLINE, events.next()).await.expect("it prints") {
                Some(OneOffEvent::Output(Channel::Output, bytes)) => shown.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} after {shown:?}"),
            }
        }
    };
    until_shown("30 100\r\n").await;
    input.send(OneOffInput::Resize(size(120, 50))).await.unwrap();
    until_shown("50 120\r\n").await;
}

pub(super) async fn a_one_off_gets_signals(bench: Bench) {
    let Attached { mut events, input } = bench.scheduler.run(bench.one_off(&CATCH)).await.unwrap();
    let event = timeout(DEADLINE, events.next()).await.expect("it prints");
    assert_eq!(event, Some(OneOffEvent::Output(Channel::Output, "ready\n".into())));
    input.send(OneOffInput::Signal(Signal::Interrupt)).await.unwrap();
    assert_eq!(end_of(events).await, ("caught\n".to_owned(), 7));
}

pub(super) async fn a_detached_one_off_is_listed_until_it_is_ended(bench: Bench) {
    let (ended, hanging) = (bench.one_off(&CRASH), bench.one_off(&HANG));
    bench.scheduler.run_detached(ended.clone()).await.unwrap();
    bench.scheduler.run_detached(hanging.clone()).await.unwrap();
    let exits = || async {
        let listed = bench.second.one_offs().await.unwrap();
        listed.into_iter().map(|one| (one.name, one.exit)).collect::<std::collections::BTreeMap<_, _>>()
    };
    until("one has ended", || async { (exits().await.get(&ended.name) == Some(&Some(3))).then_some(()) }).await;
    until("the other goes on", || async { (exits().await.get(&hanging.name) == Some(&None)).then_some(()) }).await;
    assert_eq!(bench.names().await, [], "they are not observed");
    let log = || async {
        let mut log = bench.log(100, None).await;
        log.sort();
        (log == ["hanging", "last words"]).then_some(())
    };
    until("the app's log has what they wrote", log).await;
    for name in [&ended.name, &hanging.name, &hanging.name] {
        bench.scheduler.end_one_off(bench.app.id, name).await.unwrap();
    }
    let none = || async { exits().await.is_empty().then_some(()) };
    until("they are gone", none).await;
    let hanging = bench.one_off(&HANG);
    bench.scheduler.run_detached(hanging.clone()).await.unwrap();
    until("it is told of", || async { exits().await.contains_key(&hanging.name).then_some(()) }).await;
    bench.scheduler.remove(bench.app.id).await.unwrap();
    until("they go with their app", none).await;
}

pub(super) async fn a_one_off_is_killed_at_its_limit(bench: Bench) {
    let one_off = OneOff { limit: Duration::from_secs(1), ..bench.one_off(&HANG) };
    assert_eq!(run_to_end(&*bench.scheduler, one_off).await, ("hanging\n".to_owned(), 137));
}

//! What processes write.

use super::*;

pub(super) async fn logs_are_the_newest_lines_in_order(bench: Bench) {
    let first = bench.group(1, bench.worker(&PRINT));
    bench.run(&first).await;
    let second = group(&bench.app, "other", 2, 1, bench.worker(&PRINT));
    bench.run(&second).await;
    assert_eq!(bench.log(100, None).await, ["one", "two", "three", "one", "two", "three"]);
    assert_eq!(bench.log(4, None).await, ["three", "one", "two", "three"]);
    assert_eq!(bench.log(2, Some(&first.instances[0])).await, ["two", "three"]);
    assert_eq!(bench.log(0, None).await, [""; 0]);
    let query = LogQuery { lines: 100, ..LogQuery::default() };
    let lines: Vec<_> = bench.scheduler.logs(bench.app.id, query).await.unwrap().collect().await;
    assert!(lines.is_sorted_by_key(|line| line.moment));
    assert_eq!(lines[5].instance, second.instances[0]);
    assert_eq!((&lines[5].process_type, lines[5].release), (&second.process_type, second.release));
}

pub(super) async fn logs_follow_into_instances_that_start_later(bench: Bench) {
    bench.run(&bench.group(1, bench.worker(&PRINT))).await;
    let query = LogQuery { instance: None, lines: 1, follow: true };
    let mut log = bench.scheduler.logs(bench.app.id, query).await.unwrap();
    let later = group(&bench.app, "later", 3, 1, bench.worker(&PRINT));
    bench.scheduler.apply(&later).await.unwrap();
    let mut texts = Vec::new();
    while texts.len() < 4 {
        let line = timeout(DEADLINE, log.next()).await.expect("lines come in time").expect("the log goes on");
        assert!(texts.is_empty() || line.instance == later.instances[0]);
        texts.push(line.text);
    }
    assert_eq!(texts, ["three", "one", "two", "three"]);
}

/// The next lines, each with its app.
async fn next_lines(
    output: &mut BoxStream<'static, (uuid::Uuid, LogLine)>,
    count: usize,
) -> Vec<(uuid::Uuid, LogLine)> {
    let mut lines = Vec::new();
    while lines.len() < count {
        lines.push(timeout(DEADLINE, output.next()).await.expect("lines come in time").expect("they go on"));
    }
    lines
}

pub(super) async fn output_is_collected_from_where_it_was_left(bench: Bench) {
    let first = bench.group(1, bench.worker(&PRINT));
    bench.run(&first).await;
    let mut output = bench.scheduler.output(Ends::new()).await.unwrap();
    let lines = next_lines(&mut output, 3).await;
    assert_eq!(lines.iter().map(|(_, line)| line.text.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(lines.iter().all(|(app, line)| *app == bench.app.id && line.instance == first.instances[0]));
    // What starts later is collected too, of other apps and of detached one-offs as well.
    let foreign = group(&app("other"), "web", 2, 1, bench.worker(&PRINT));
    bench.scheduler.apply(&foreign).await.unwrap();
    let lines_of_other = next_lines(&mut output, 3).await;
    assert!(lines_of_other.iter().all(|(app, line)| *app == foreign.app.id && line.instance == foreign.instances[0]));
    let one_off = bench.one_off(&CRASH);
    bench.scheduler.run_detached(one_off.clone()).await.unwrap();
    let said = next_lines(&mut output, 1).await;
    assert_eq!((&said[0].1.instance, said[0].1.text.as_str()), (&one_off.name, "last words"));
    // Whoever comes later goes on where the one before stopped.
    let end = lines[1].1.moment;
    let foreign_end = lines_of_other[2].1.moment;
    let ends = Ends::from([
        (first.instances[0].clone(), end),
        (foreign.instances[0].clone(), foreign_end),
        (one_off.name, said[0].1.moment),
    ]);
    let mut output = bench.second.output(ends).await.unwrap();
    assert_eq!(next_lines(&mut output, 1).await[0].1.text, "three");
    let later = group(&bench.app, "later", 3, 1, bench.worker(&PRINT));
    bench.scheduler.apply(&later).await.unwrap();
    assert_eq!(next_lines(&mut output, 1).await[0].1.instance, later.instances[0], "nothing is told twice");
    bench.scheduler.remove(foreign.app.id).await.unwrap();
}

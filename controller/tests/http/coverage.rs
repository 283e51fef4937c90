//! Which test holds which answer: COVERAGE.md by our routes, CONTRACT.md by the rows of the contract; both kept whole.

use std::{collections::BTreeSet, fs, path::Path};

use crate::conformance::DOCUMENT;

/// What `tests/coverage` wrote of a run of this suite.
const TABLE: &str = include_str!("COVERAGE.md");
/// The contract's tables, each row with its tests.
const CONTRACT: &str = include_str!("CONTRACT.md");

/// What becomes of a deployment is told alike by all that deploys; tried on config and on builds.
const OF_DEPLOYMENTS: [&str; 2] = ["400", "409"];

/// A method, a path, a status.
type Row = (String, String, String);

/// The rows, each with the test that holds it.
fn rows() -> Vec<(Row, &'static str)> {
    let cells = TABLE.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"));
    let rows = cells.map(|cells| {
        let [route, status, test] = cells.split("` | `").collect::<Vec<_>>()[..] else { panic!("not a row: {cells}") };
        let (method, path) = route.split_once(' ').unwrap();
        ((method.to_owned(), path.to_owned(), status.to_owned()), test)
    });
    rows.collect()
}

#[test]
fn every_answer_of_every_route_is_held_by_a_test() {
    let mut described: BTreeSet<Row> = BTreeSet::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let deploys = operation["parameters"].to_string().contains("Prefer");
            for status in operation["responses"].as_object().unwrap().keys() {
                if deploys && OF_DEPLOYMENTS.contains(&status.as_str()) {
                    continue;
                }
                described.insert((method.to_uppercase(), path.clone(), status.clone()));
            }
        }
    }
    let held: BTreeSet<Row> = rows().into_iter().map(|(row, _)| row).collect();
    let unheld: Vec<_> = described.difference(&held).collect();
    assert!(
        unheld.is_empty(),
        "no test gets these answers; write one that does and run tests/coverage, which writes COVERAGE.md, or do not \
         announce them:\n{unheld:#?}"
    );
    let unknown: Vec<_> = held.difference(&described).filter(|row| !OF_DEPLOYMENTS.contains(&row.2.as_str())).collect();
    assert!(unknown.is_empty(), "COVERAGE.md has answers that are not described; run tests/coverage: {unknown:#?}");
}

#[test]
fn every_test_of_the_table_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http");
    let lost: BTreeSet<_> = rows()
        .into_iter()
        .map(|(_, test)| test)
        .filter(|test| {
            let (file, name) = test.split_once("::").unwrap();
            let text = fs::read_to_string(folder.join(file).with_extension("rs")).unwrap_or_default();
            !text.contains(&format!("fn {name}("))
        })
        .collect();
    assert!(lost.is_empty(), "COVERAGE.md names tests that are gone; run tests/coverage: {lost:?}");
}

/// The source of a test's file, and of the test.
fn source(test: &str) -> Option<(String, String)> {
    let (file, name) = test.split_once("::")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http");
    let whole = fs::read_to_string(folder.join(file).with_extension("rs")).ok()?;
    let begin = whole.find(&format!("fn {name}("))?;
    let body = whole.get(begin..)?;
    let end = body.find("\n}\n")?;
    let body = body.get(..end)?.to_owned();
    Some((whole, body))
}

#[test]
fn every_row_of_the_contract_is_held_by_a_test() {
    let (held, _) = CONTRACT.split_once("## Answers of the original that are not given").unwrap();
    let bare = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let mut wrong = Vec::new();
    let (mut rows, mut sections) = (0, BTreeSet::new());
    let mut section = "";
    for line in held.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<String> = cells.split(" | ").map(bare).collect();
        let [row, answer, words, test] = &cells[..] else {
            wrong.push(format!("{section}: not a row: {line}"));
            continue;
        };
        if row == "Row" {
            continue;
        }
        rows += usize::from(!row.is_empty());
        sections.insert(section);
        match source(test) {
            None => wrong.push(format!("{section}, {row}: there is no test {test}")),
            Some((whole, body)) => {
                // The status may be in what the test calls; the words are in the test.
                if !whole.contains(answer.as_str()) || !body.contains(words.as_str()) {
                    wrong.push(format!("{section}, {row}: {test} does not speak of {answer} {words}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 140 && sections.len() >= 25, "{rows} rows in {} sections: rows are lost", sections.len());
}

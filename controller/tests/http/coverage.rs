//! Which test holds which row of the contract: COVERAGE.md beside this file, kept whole.

use std::{collections::BTreeSet, fs, path::Path};

use crate::conformance::DOCUMENT;

/// What `tests/coverage` wrote of a run of this suite.
const TABLE: &str = include_str!("COVERAGE.md");
/// Refusals that are the same for every route, and are tried on some: in `wire` and in `hostile`.
const ALIKE: [&str; 5] = ["406", "408", "413", "415", "503"];

/// What becomes of a deployment is told alike by all that deploys; tried on config and on builds.
const OF_DEPLOYMENTS: [&str; 2] = ["400", "409"];
/// Answers that are known and that no test of this suite waits for: a long poll without news, in 25 seconds; a certificate
/// on domains of two apps, of which the caller may use one; an empty change of a whitelist.
const KNOWN: [(&str, &str, &str); 3] = [
    ("GET", "/v2/router/table", "204"),
    ("DELETE", "/v2/certs/{name}/domain/{domain}", "403"),
    ("DELETE", "/v2/apps/{app}/whitelist", "409"),
];

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
    let known = |row: &&Row| KNOWN.contains(&(row.0.as_str(), row.1.as_str(), row.2.as_str()));
    let unheld: Vec<_> =
        described.difference(&held).filter(|row| !ALIKE.contains(&row.2.as_str()) && !known(row)).collect();
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

//! Every statement that the controller makes finds its rows by an index, however large the tables have grown.
//!
//! Postgres itself says how it would run each, on a seeded database, with the plan that it keeps for a prepared statement.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Row as _};

/// Statements that may read a whole table, by how they begin, and why.
const MAY_READ_ALL: &[(&str, &str)] = &[
    ("SELECT a.id AS app, d.domains AS", "the routing table is of all apps"),
    ("SELECT DISTINCT key_id FROM", "once, at the start: with which keys anything is sealed"),
    ("SELECT key_id AS \"key_id!\" FROM acme_accounts", "once, at the start"),
    ("DELETE FROM route_changes", "once, at the start"),
    ("SELECT count(*) AS \"count!\" FROM", "the count of a list is of the whole list"),
    ("SELECT c.id, c.name, c.owner_id, u.username AS owner, c.common_name", "an administrator's list"),
    ("SELECT s.app_id, s.process_type, s.path_pattern", "the routing table is of all services"),
    ("SELECT c.uuid, array_agg(d.domain ORDER BY d.domain)", "the routing table is of all certificates"),
    ("SELECT d.domain, d.app_id AS \"app?\", c.expires", "whatever is to be renewed, among all that is managed"),
    ("SELECT min(greatest(coalesce(c.starts", "when the next is to be renewed, among all that is managed"),
    ("SELECT domain, token AS", "the answers to challenges are of all orders"),
    ("DELETE FROM certificates c WHERE managed", "a sweep"),
    ("DELETE FROM deploy_hooks WHERE created <", "a sweep of a table that holds a day"),
    ("DELETE FROM tokens", "an administrator ends everybody's sessions"),
    ("SELECT name, app_id, detached, created +", "all one-off processes that run, to see which are overdue"),
    ("SELECT EXISTS (SELECT FROM one_offs)", "ends at the first row"),
    ("SELECT DISTINCT app_id AS \"id!\" FROM deployments", "once, at the start: all apps are looked at"),
    (
        "SELECT app_id AS \"id!\" FROM deployments",
        "whatever is under way, in a sweep: the processes are as many as run",
    ),
];

/// Tables that stay small.
const SMALL: &[&str] = &["installation", "routing", "routers", "acme_accounts", "own_certificates"];

fn statements() -> Vec<(String, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut statements = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let stored: Value = serde_json::from_str(&text).unwrap();
        let parameters = stored["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
        statements.push((stored["query"].as_str().unwrap().to_owned(), parameters));
    }
    statements
}

/// Tables of which a plan reads every row.
fn read_whole(plan: &Value, whole: &mut Vec<String>) {
    if plan["Node Type"] == "Seq Scan"
        && let Some(table) = plan["Relation Name"].as_str()
    {
        whole.push(table.to_owned());
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        read_whole(part, whole);
    }
}

fn seed(users: u32, apps: u32, releases: u32) -> String {
    include_str!("seed.sql")
        .replace("{users}", &users.to_string())
        .replace("{apps}", &apps.to_string())
        .replace("{releases}", &releases.to_string())
}

#[sqlx::test(migrations = "./migrations")]
async fn every_statement_finds_its_rows_by_an_index(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    connection.execute(AssertSqlSafe(seed(20_000, 4000, 25))).await.unwrap();
    connection.execute("SET plan_cache_mode = force_generic_plan; SET jit = off").await.unwrap();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let statements = statements();
    assert!(statements.len() > 100, "{}", statements.len());
    for (number, (statement, parameters)) in statements.iter().enumerate() {
        connection.execute(AssertSqlSafe(format!("PREPARE seen{number} AS {statement}"))).await.unwrap();
        let nulls =
            if *parameters == 0 { String::new() } else { format!("({})", vec!["NULL"; *parameters].join(", ")) };
        let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE seen{number}{nulls}");
        let plan: Value = connection.fetch_one(AssertSqlSafe(explain)).await.unwrap().get(0);
        let mut whole = Vec::new();
        read_whole(&plan[0]["Plan"], &mut whole);
        whole.retain(|table| !SMALL.contains(&table.as_str()));
        let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let excuse = MAY_READ_ALL.iter().find(|(begin, _)| words.starts_with(begin));
        if let Some((begin, _)) = excuse {
            used.insert(*begin);
        } else if !whole.is_empty() {
            wrong.push(format!("{whole:?}: {words}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "these statements read every row of a table that grows; give each an index, or say in MAY_READ_ALL why it may:\n{}",
        wrong.join("\n")
    );
    let idle: Vec<_> = MAY_READ_ALL.iter().filter(|(begin, _)| !used.contains(begin)).collect();
    assert!(idle.is_empty(), "no statement begins like these any more: {idle:?}");
}

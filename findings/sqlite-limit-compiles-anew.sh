#!/usr/bin/env bash
# Date: 2026-11-28
# Guess: a prepared statement is compiled once. To bind other values and run it again, as `prepare_cached` is made for, costs no
#   compilation; at most LIKE, or the statistics of ANALYZE, could be a reason for one.
# Seen (SQLite as rusqlite 0.43.0 bundles it, no ANALYZE): with `LIMIT ?` each run whose bound number is another one compiles the
#   statement anew. The same query with the number in the text, or without LIMIT, does not. SQLITE_DBCONFIG_ENABLE_QPSG ends it.
# Why a user cares: "the next N rows" with what is left as N is what queues, spools and pages ask of SQLite. The cache of prepared
#   statements then saves nothing, and nothing tells; here the compilations were a tenth of a reader's processor time.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'TOML'
[package]
name = "limits"
version = "0.0.0"
edition = "2021"
[dependencies]
rusqlite = { version = "=0.43.0", features = ["bundled"] }
libsqlite3-sys = "=0.40.0"
TOML
cat > "$folder/src/main.rs" <<'RUST'
use rusqlite::config::DbConfig;
use rusqlite::{Connection, StatementStatus};

const RUNS: i64 = 100;

fn compiled_anew(connection: &Connection, limit: &str) -> i32 {
    let sql = format!("SELECT position FROM rows WHERE position >= ?1 AND position < ?2 {limit}");
    let mut statement = connection.prepare_cached(&sql).unwrap();
    for run in 0..RUNS {
        statement.raw_bind_parameter(1, run).unwrap();
        statement.raw_bind_parameter(2, run + 50).unwrap();
        if limit.ends_with("?3") {
            statement.raw_bind_parameter(3, run + 1).unwrap();
        }
        let mut rows = statement.raw_query();
        while rows.next().unwrap().is_some() {}
    }
    statement.get_status(StatementStatus::RePrepare)
}

fn main() {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE rows(position INTEGER PRIMARY KEY);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) INSERT INTO rows SELECT i FROM n;",
        )
        .unwrap();
    println!("SQLite {}, {RUNS} runs of one prepared statement, other values bound in each", rusqlite::version());
    println!("a range:                  compiled anew {} times", compiled_anew(&connection, ""));
    println!("a range, LIMIT 20:        compiled anew {} times", compiled_anew(&connection, "LIMIT 20"));
    println!("a range, LIMIT ?:         compiled anew {} times", compiled_anew(&connection, "LIMIT ?3"));
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).unwrap();
    connection.flush_prepared_statement_cache();
    println!("the same with QPSG:       compiled anew {} times", compiled_anew(&connection, "LIMIT ?3"));
}
RUST

echo "rusqlite 0.43.0"
seen=$(cargo run --quiet --manifest-path "$folder/Cargo.toml")
echo "$seen"
anew() { echo "$seen" | sed -n "$1p" | grep -o '[0-9]* times' | cut -d' ' -f1; }
if [ "$(anew 2)" != 0 ] || [ "$(anew 3)" != 0 ] || [ "$(anew 4)" -lt 90 ] || [ "$(anew 5)" != 0 ]; then
    echo "this has changed; expected were 0, 0, nearly 100, and 0" >&2
    exit 1
fi

//! House rules that the compiler does not hold: who imports whom, how long a file is, what stands in no file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

mod page;

/// Which rooms, or files of a room, alone may name an outside crate.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("object_store", &["piece_store"]),
    ("zstd", &["index", "piece", "rocketmq"]),
    ("icu_normalizer", &["index"]),
    ("rumqttc", &["mqtt/mqtt5", "mqtt/tls"]),
    ("rocketmq_model", &["rocketmq"]),
    ("rocketmq_protocol", &["rocketmq"]),
    ("backoff", &["pipeline/retry"]),
    ("rusqlite", &["index", "storage", "spool"]),
    ("prometheus", &["telemetry"]),
    ("axum", &["http"]),
    ("rust_embed", &["http"]),
    ("roombridge_embedded", &["cli"]),
    ("sd_notify", &["service_manager"]),
];

const MAX_LINES: usize = 500;

/// `docs/HAZARDS.md` counts so many.
const HAZARDS: std::ops::RangeInclusive<usize> = 1..=33;

#[test]
fn every_hazard_is_named_by_a_test() {
    let mut named = BTreeSet::new();
    for file in sources("src").into_iter().chain(sources("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        for comment in text.lines().filter_map(|line| line.trim().strip_prefix("/// Hazard")) {
            let numbers = comment.split(':').next().unwrap_or_default();
            let numbers = numbers.split(|c: char| !c.is_ascii_digit());
            named.extend(numbers.filter_map(|number| number.parse::<usize>().ok()));
        }
    }
    let missing: Vec<_> = HAZARDS.filter(|number| !named.contains(number)).collect();
    assert!(missing.is_empty(), "no test names hazard {missing:?}");
}

#[test]
fn rooms_import_only_what_their_row_allows() {
    let rows: BTreeMap<_, _> = page::rooms().into_iter().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources("src") {
        let Some(room) = room_of(&file) else { continue };
        let Some(allowed) = rows.get(&room) else {
            wrong.push(format!("{}: room {room} has no row in docs/ARCHITECTURE.md", file.display()));
            continue;
        };
        seen.insert(room.clone());
        for imported in imports(&file).rooms {
            if imported != room && rows.contains_key(&imported) && !allowed.contains(&imported) {
                wrong.push(format!("{}: {room} must not import {imported}", file.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(seen, rows.into_keys().collect::<BTreeSet<_>>(), "each row is a room that exists");
}

/// Files of one room that may import each other, in order of their names, each with its reason. There are none today.
const MAY_BE_A_CIRCLE: &[(&[&str], &str)] = &[];

/// A circle of files can only be read as a whole. What several files need stands in a file below them.
#[test]
fn no_files_of_one_room_import_each_other() {
    let mut circles = BTreeSet::new();
    for root in ["src", "embedded/src"] {
        let imported: BTreeMap<_, _> =
            sources(root).into_iter().map(|file| (file.clone(), neighbours(root, &file))).collect();
        for file in imported.keys() {
            let circle: Vec<_> = reached(&imported, file)
                .into_iter()
                .filter(|other| reached(&imported, other).contains(file))
                .map(|other| other.display().to_string())
                .collect();
            circles.insert(circle);
        }
    }
    let permitted = MAY_BE_A_CIRCLE.iter().map(|(files, reason)| {
        assert!(!reason.is_empty(), "{files:?} has no reason");
        files.iter().map(|file| (*file).to_owned()).collect()
    });
    let permitted: BTreeSet<Vec<String>> = permitted.chain([Vec::new()]).collect();
    assert_eq!(circles, permitted, "circles that are found, and circles that are permitted");
}

/// All files to which imports lead from there.
fn reached<'a>(imported: &'a BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &Path) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<_> = imported[from].iter().collect();
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            left.extend(&imported[next]);
        }
    }
    reached
}

/// The files of its room that a file imports by their own names. The file that names the room's files, and tests, are left
/// out: both know all of them.
fn neighbours(root: &str, file: &Path) -> BTreeSet<PathBuf> {
    let is_door = |file: &Path| file.ends_with("mod.rs");
    let is_left_out = |file: &Path| is_door(file) || is_test(file);
    let mut found = BTreeSet::new();
    if is_left_out(file) {
        return found;
    }
    let module = file.with_extension("");
    for path in imports(file).paths {
        let mut place = match path.first().map(String::as_str) {
            Some("crate") => PathBuf::from(root),
            Some("super" | "self") => module.clone(),
            _ => continue,
        };
        for segment in &path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => _ = place.pop(),
                name => place.push(name),
            }
            let named = place.with_extension("rs");
            if named.is_file() && named != file && !is_left_out(&named) {
                found.insert(named);
            }
        }
    }
    found
}

#[test]
fn outside_crates_are_named_in_their_place_only() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources("src") {
        // Tests stand in the folder of their room.
        let inside = file.strip_prefix("src").unwrap().with_extension("");
        let crates = imports(&file).crates;
        for (name, places) in ONLY_IN.iter().filter(|(name, _)| crates.contains(*name)) {
            used.insert(*name);
            if !places.iter().any(|place| inside.starts_with(place)) {
                wrong.push(format!("{} names {name}", file.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(used.len(), ONLY_IN.len(), "each row is a crate that is used: {used:?}");
}

#[test]
fn files_are_short_and_begin_with_what_they_are_for() {
    let files: Vec<_> = sources("src").into_iter().chain(sources("embedded/src")).collect();
    assert!(files.len() > 50, "the sources were found");
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        if text.lines().count() > MAX_LINES {
            wrong.push(format!("{} has more than {MAX_LINES} lines", file.display()));
        }
        let first = text.lines().find(|line| !line.starts_with("#![")).unwrap_or_default();
        if !first.starts_with("//!") && !is_test(&file) {
            wrong.push(format!("{} does not begin with a module doc", file.display()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Rust finds each module by its name: a folder has a `mod.rs`, and long tests of `x.rs` are in `x/tests.rs`.
#[test]
fn modules_lie_where_their_names_say() {
    let mut wrong = Vec::new();
    for file in ["src", "embedded/src", "tests"].into_iter().flat_map(sources) {
        let path = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        if text.lines().any(|line| line.trim_start().starts_with("#[path")) {
            wrong.push(format!("{path} names the file of a module; let the module's name say it"));
        }
        let folder = file.with_extension("");
        let tests_only =
            |entry: fs::DirEntry| entry.file_name() == "tests" || entry.file_name() == "tests.rs";
        if folder.is_dir() && !fs::read_dir(&folder).unwrap().all(|entry| tests_only(entry.unwrap())) {
            wrong.push(format!("{path} has a folder with more than its tests; make it a mod.rs there"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The only place that tries all addresses of a name.
const CONNECTS: &str = "src/happy_eyeballs.rs";

#[test]
fn connections_to_other_machines_are_opened_in_one_place() {
    let files = sources("src").into_iter().filter(|file| !is_test(file));
    let named = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("TcpStream::connect(");
    assert_eq!(files.filter(named).collect::<Vec<_>>(), [PathBuf::from(CONNECTS)]);
}

/// `{:#}` of an error says a cause again that the text before it holds; `in_words` of `cli` does not.
#[test]
fn an_error_is_printed_with_each_cause_once() {
    let files = sources("src").into_iter().filter(|file| !is_test(file));
    let named = |file: &PathBuf| fs::read_to_string(file).unwrap().contains(":#}");
    assert_eq!(files.filter(named).collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

/// The macros of the standard library panic when nobody reads, and wait when somebody does not.
const WRITERS: &[&str] = &["src/cli/output.rs", "src/telemetry/logging.rs"];

#[test]
fn one_writer_speaks_to_standard_output_and_standard_error() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources("src").into_iter().chain(sources("embedded/src")) {
        let mut streams = Streams::default();
        streams.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
        let is_test = file.components().any(|part| part.as_os_str() == "tests");
        let path = file.display().to_string();
        for named in streams.named.iter().filter(|_| !is_test) {
            match WRITERS.contains(&path.as_str()) && !named.ends_with('!') {
                true => _ = used.insert(path.clone()),
                false => wrong.push(format!("{path} names {named}; write through cli/output")),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(used.len(), WRITERS.len(), "each is a writer: {used:?}");
}

/// Macros and functions by which a file reaches the standard streams.
#[derive(Default)]
struct Streams {
    named: Vec<String>,
}

impl<'ast> Visit<'ast> for Streams {
    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        let name = found.path.segments.last().unwrap().ident.to_string();
        if ["print", "println", "eprint", "eprintln", "dbg"].contains(&name.as_str()) {
            self.named.push(name + "!");
        }
        syn::visit::visit_macro(self, found);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func {
            let name = function.path.segments.last().unwrap().ident.to_string();
            if ["stdout", "stderr"].contains(&name.as_str()) {
                self.named.push(name);
            }
        }
        syn::visit::visit_expr_call(self, call);
    }
}

#[test]
fn the_metrics_page_has_a_row_for_each_alert_and_no_other() {
    let page = fs::read_to_string("docs/METRICS.md").unwrap();
    let rules = fs::read_to_string("deploy/alerts.yml").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `Roombridge")?.split('`').next());
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: Roombridge"));
    assert_eq!(rows.collect::<BTreeSet<_>>(), alerts.collect::<BTreeSet<_>>(), "rows and alerts");
}

/// How the ends of messages add up; one process, at any quiet moment.
const BOOKS: &str = "received + derived + spool_depth_at_start = \
                     stored + spool_depth + dead_lettered + filtered + dropped + in_flight";

#[test]
fn the_books_have_one_formula() {
    for file in
        ["docs/ARCHITECTURE.md", "docs/GUARANTEES.md", "docs/METRICS.md", "src/pipeline/settlement.rs"]
    {
        let text = fs::read_to_string(file).unwrap().replace("//!", " ").replace('`', " ");
        let text: Vec<_> = text.split_whitespace().collect();
        assert!(text.join(" ").contains(BOOKS), "{file} has another formula, or none");
    }
}

/// What a file reaches for with `crate::room` and with the names of outside crates, its tests left out.
#[derive(Default)]
struct Imports {
    rooms: BTreeSet<String>,
    crates: BTreeSet<String>,
    paths: BTreeSet<Vec<String>>,
}

impl Imports {
    fn path(&mut self, segments: &[String]) {
        self.paths.insert(segments.to_vec());
        match segments {
            [first, room, ..] if first == "crate" => {
                self.rooms.insert(room.clone());
            }
            [first, ..] => {
                self.crates.insert(first.clone());
            }
            [] => {}
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                let mut segments = before.to_vec();
                segments.push(path.ident.to_string());
                self.tree(&segments, &path.tree);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
            syn::UseTree::Name(name) => self.leaf(before, name.ident.to_string()),
            syn::UseTree::Rename(rename) => self.leaf(before, rename.ident.to_string()),
            syn::UseTree::Glob(_) => self.path(before),
        }
    }

    fn leaf(&mut self, before: &[String], name: String) {
        let mut segments = before.to_vec();
        segments.push(name);
        self.path(&segments);
    }
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.path(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        });
        if !is_test {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

fn imports(file: &Path) -> Imports {
    let parsed = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
    let mut imports = Imports::default();
    imports.visit_file(&parsed);
    imports
}

/// `src/pipeline/ledger.rs` -> `pipeline`; the crate's own roots and tests have none.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").unwrap();
    let first = Path::new(inside.components().next().unwrap().as_os_str()).with_extension("");
    let name = first.to_string_lossy().into_owned();
    (!is_test(inside) && !["main", "lib"].contains(&name.as_str())).then_some(name)
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
        || file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(path.to_str().unwrap()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

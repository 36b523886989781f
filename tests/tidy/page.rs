//! What `docs/ARCHITECTURE.md` and `docs/HAZARDS.md` say in tables and lists that the code must keep to.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use syn::visit::Visit;

/// Of one message up, as the lists are today; the next one makes them smaller.
const MOST_FILES: usize = 15;
const MOST_STAYS: usize = 24;

const PAGE: &str = "docs/ARCHITECTURE.md";
const HAZARDS: &str = "docs/HAZARDS.md";

/// So many hazards name their tests one by one.
const HAZARDS_WITH_TESTS: usize = 16;

/// The rows of the table below a heading, cell by cell, without the two lines of its head.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let rows: Vec<_> = section(page, heading)
        .iter()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .skip(2)
        .collect();
    assert!(!rows.is_empty(), "{page} has a table below {heading:?}");
    rows
}

/// The lines between a heading and the next one.
fn section(page: &str, heading: &str) -> Vec<String> {
    let page = fs::read_to_string(page).unwrap();
    let lines = page.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading).skip(1);
    lines.take_while(|line| !line.starts_with("## ")).map(str::to_owned).collect()
}

/// Each room, and the rooms that it may import.
pub fn rooms() -> Vec<(String, BTreeSet<String>)> {
    let mut rooms: Vec<(String, BTreeSet<String>)> = Vec::new();
    for row in rows(PAGE, "Rooms") {
        let [room, _, imports] = row.as_slice() else { panic!("{row:?} has not three cells") };
        let imports = match imports.as_str() {
            "-" => BTreeSet::new(),
            "all of the above" => rooms.iter().map(|(room, _)| room.clone()).collect(),
            // What stands in brackets says what of the room is used.
            named => {
                named.split(", ").map(|name| name.split(' ').next().unwrap_or_default().to_owned()).collect()
            }
        };
        rooms.push((room.trim_matches('`').to_owned(), imports));
    }
    rooms
}

/// A file, and names that must be defined in it.
struct Place {
    file: PathBuf,
    names: Vec<String>,
}

/// In a text such as "`pipeline/ledger.rs` `ReceiptLedger::admit`, `open`": each file with the names behind it.
fn places(text: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        if quoted.ends_with(".rs") {
            let is_outside = ["embedded/", "tests/"].iter().any(|folder| quoted.starts_with(folder));
            let folder = if is_outside { "" } else { "src" };
            places.push(Place { file: PathBuf::from(folder).join(quoted), names: Vec::new() });
        } else if let Some(place) = places.last_mut() {
            place.names.extend(quoted.split("::").map(str::to_owned));
        }
    }
    places
}

/// What is wrong with the places that a text names.
fn wrong_places(text: &str) -> Vec<String> {
    let places = places(text);
    let mut wrong = Vec::new();
    if places.is_empty() {
        wrong.push(format!("no file is named: {text}"));
    }
    for Place { file, names } in places {
        let Ok(code) = fs::read_to_string(&file) else {
            wrong.push(format!("{} does not exist", file.display()));
            continue;
        };
        let mut defined = Defined::default();
        defined.visit_file(&syn::parse_file(&code).unwrap());
        if names.is_empty() {
            wrong.push(format!("{}: name the function, too", file.display()));
        }
        let missing = names.iter().filter(|name| !defined.names.contains(*name));
        wrong.extend(missing.map(|name| format!("{} defines no {name}", file.display())));
    }
    wrong
}

/// The names that a file defines, or whose methods it defines.
#[derive(Default)]
struct Defined {
    names: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Defined {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.names.insert(signature.ident.to_string());
        syn::visit::visit_signature(self, signature);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Const(item) => Some(item.ident.to_string()),
            syn::Item::Static(item) => Some(item.ident.to_string()),
            syn::Item::Struct(item) => Some(item.ident.to_string()),
            syn::Item::Enum(item) => Some(item.ident.to_string()),
            syn::Item::Trait(item) => Some(item.ident.to_string()),
            syn::Item::Impl(item) => match &*item.self_ty {
                syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
                _ => None,
            },
            _ => None,
        };
        self.names.extend(name);
        syn::visit::visit_item(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.names.insert(variant.ident.to_string());
    }
}

#[test]
fn the_map_names_files_and_functions_that_exist() {
    let rows = rows(PAGE, "Where is it decided?");
    assert!(rows.len() >= 30, "only {} questions", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [question, answer] = row.as_slice() else { panic!("{row:?} has not two cells") };
        wrong.extend(wrong_places(answer).into_iter().map(|wrong| format!("{question}: {wrong}")));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// A rule whose test was renamed or removed would look held.
#[test]
fn the_page_of_hazards_names_tests_that_exist() {
    let (mut wrong, mut with_tests) = (Vec::new(), 0);
    for row in rows(HAZARDS, "Hazards") {
        let [number, _, _, tests] = row.as_slice() else { panic!("{row:?} has not four cells") };
        if !places(tests).is_empty() {
            with_tests += 1;
            wrong.extend(wrong_places(tests).into_iter().map(|wrong| format!("hazard {number}: {wrong}")));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(with_tests >= HAZARDS_WITH_TESTS, "only {with_tests}");
}

/// The numbered steps below a heading of the third level.
fn steps(heading: &str) -> Vec<String> {
    let lines = section(PAGE, "The way of one message, step by step");
    let below = lines.iter().skip_while(|line| line.trim_start_matches('#').trim() != heading).skip(1);
    let own = below.take_while(|line| !line.starts_with("### "));
    own.filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).cloned().collect()
}

/// One message up: each file is visited at most once on the way in, and at most once on the way back.
#[test]
fn the_way_of_one_message_is_short_and_names_what_exists() {
    let mut wrong = Vec::new();
    let (mut files, mut stays) = (BTreeSet::new(), 0);
    for way in ["In", "Back"] {
        let steps = steps(way);
        assert!(steps.len() > 3, "{PAGE} has a numbered list below {way:?}");
        let mut visited = BTreeSet::new();
        for step in steps {
            wrong.extend(wrong_places(&step));
            for place in places(&step) {
                stays += 1;
                if !visited.insert(place.file.clone()) {
                    wrong.push(format!("{way}: {} is visited twice", place.file.display()));
                }
            }
        }
        files.extend(visited);
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(files.len() <= MOST_FILES && stays <= MOST_STAYS, "{} files, {stays} stays", files.len());
}

#[test]
fn a_place_that_does_not_exist_is_found() {
    assert!(wrong_places("`lifecycle.rs` `Lifecycle::spawn`").is_empty());
    assert!(wrong_places("`embedded/src/mqtt/connection.rs` `Connection::admit`").is_empty());
    assert!(wrong_places("`tests/tidy/page.rs` `a_place_that_does_not_exist_is_found`").is_empty());
    for wrong in ["`lifecycle.rs` `Lifecycle::swim`", "`nowhere.rs` `spawn`", "`lifecycle.rs`", "nothing"] {
        assert_eq!(wrong_places(wrong).len(), 1, "{wrong}");
    }
}

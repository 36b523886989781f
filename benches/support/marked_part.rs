//! The part of docs/BENCHMARKS.md that a benchmark writes itself. Must never touch what stands outside of its marks.

use std::path::Path;

/// Between the marks of the benchmark, or at the end of the page where there are none.
pub fn write(benchmark: &str, part: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/BENCHMARKS.md");
    let page = std::fs::read_to_string(&path).expect("docs/BENCHMARKS.md can be read");
    std::fs::write(&path, placed(&page, benchmark, part)).expect("docs/BENCHMARKS.md can be written");
}

fn placed(page: &str, benchmark: &str, part: &str) -> String {
    let begin = format!("<!-- written by `cargo bench --bench {benchmark}`: begin -->");
    let end = format!("<!-- written by `cargo bench --bench {benchmark}`: end -->");
    let marked = format!("{begin}\n{part}{end}");
    match page.find(&begin).zip(page.find(&end)) {
        Some((from, to)) if from < to => format!("{}{marked}{}", &page[..from], &page[to + end.len()..]),
        _ => format!("{}\n\n{marked}\n", page.trim_end()),
    }
}

/// Before all the measuring, and not after it.
pub fn try_the_marks() {
    let first = placed("# Page\n", "try", "old\n");
    let mark = |word| format!("<!-- written by `cargo bench --bench try`: {word} -->");
    assert_eq!(first, format!("# Page\n\n{}\nold\n{}\n", mark("begin"), mark("end")));
    let second = placed(&format!("{first}\nWhat others wrote.\n"), "try", "new\n");
    assert_eq!(second, format!("# Page\n\n{}\nnew\n{}\n\nWhat others wrote.\n", mark("begin"), mark("end")));
}

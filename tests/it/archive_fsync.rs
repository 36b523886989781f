//! What a power cut may take away: the system calls of the archiver, as strace writes them down.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::apache::ApacheRocketMq;
use crate::support::bridge::binary;
use crate::support::java::NewMessage;
use crate::support::process::run_to_end;
use crate::support::scratch::Scratch;
use crate::support::steps::clock_ahead;

const CALLS: &str = "trace=mkdir,mkdirat,write,fsync,fdatasync,linkat,unlink,unlinkat";

/// A call that did what it should, and the paths in it; those of open files too.
#[derive(Debug)]
struct Call {
    name: String,
    paths: Vec<String>,
    /// It says something on standard output.
    is_said: bool,
}

impl Call {
    fn is(&self, name: &str, path: &str) -> bool {
        self.name == name && self.paths.iter().any(|its| its == path)
    }
}

/// `PID call(ARGUMENTS) = RESULT`; where another thread comes between, in two lines.
fn calls(text: &str) -> Vec<Call> {
    let mut open: Vec<(&str, String)> = Vec::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let mut whole = rest.trim_start().to_owned();
        if let Some(begun) = whole.strip_suffix(" <unfinished ...>") {
            open.push((thread, begun.to_owned()));
            continue;
        }
        if let Some((_, end)) = whole.split_once(" resumed>") {
            let Some(place) = open.iter().position(|(its, _)| *its == thread) else { continue };
            // strace fills the line up to where results stand.
            let Some((end, result)) = end.rsplit_once(" = ") else { continue };
            whole = format!("{}{} = {result}", open.swap_remove(place).1, end.trim_end());
        }
        let Some((name, arguments)) = whole.split_once('(') else { continue };
        if arguments.contains(") = -1 ") || !arguments.contains(") = ") {
            continue;
        }
        // The folder of the process stands in some calls, too.
        let parts: Vec<&str> = arguments.split(['"', '<', '>']).collect();
        let is_path = |pair: &&[&str]| pair[1].starts_with('/') && !pair[0].ends_with("AT_FDCWD");
        let paths = parts.windows(2).filter(is_path).map(|pair| pair[1].to_owned());
        let is_said = name == "write" && arguments.starts_with("1<");
        calls.push(Call { name: name.to_owned(), paths: paths.collect(), is_said });
    }
    calls
}

#[test]
fn a_call_that_another_thread_comes_between_is_read_as_one() {
    let text = "7 fsync(9</a.zst#1> <unfinished ...>\n8 write(4</b>, \"x\", 1) = 1\n7 <... fsync resumed>)              = 0\n";
    let read = calls(text);
    let names: Vec<_> = read.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["write", "fsync"]);
    assert!(read[1].is("fsync", "/a.zst#1"), "{read:?}");
}

fn folder_of(path: &str) -> String {
    Path::new(path).parent().unwrap().display().to_string()
}

/// The calls of `roombridge ARGUMENTS`.
#[track_caller]
fn traced(scratch: &Scratch, arguments: &[&str], variables: &[(&str, String)]) -> Vec<Call> {
    let written = scratch.join("strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-s", "4096", "-e", CALLS, "-o"]).arg(&written);
    for (name, value) in variables {
        command.arg("-E").arg(format!("{name}={value}"));
    }
    command.arg(binary()).args(arguments).arg("-c").arg(scratch.join("archive.toml"));
    let output = run_to_end(command, Duration::from_secs(60));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    calls(&fs::read_to_string(written).unwrap())
}

/// Each piece that got its name: its bytes were fsynced before, and its folder behind that and before anything is said of it or
/// removed. Returns the names.
#[track_caller]
fn pieces_that_last(calls: &[Call]) -> BTreeSet<String> {
    let mut pieces = BTreeSet::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.name == "linkat") {
        let [first_name, name] = &call.paths[..] else { panic!("two names: {call:?}") };
        let before = &calls[..at];
        let written = before.iter().rposition(|call| call.is("write", first_name)).expect("it was written");
        let fsynced = before.iter().rposition(|call| call.is("fsync", first_name));
        assert!(fsynced > Some(written), "{name}: its bytes are not on the disk");
        let after = &calls[at..];
        let folder = after.iter().position(|call| call.is("fsync", &folder_of(name)));
        let said = after.iter().position(|call| {
            let is_of_piece = |path: &String| path.ends_with(".jsonl.zst");
            call.is_said || call.name.starts_with("unlink") && call.paths.iter().any(is_of_piece)
        });
        assert!(
            folder.is_some_and(|folder| said.is_none_or(|said| folder < said)),
            "{name}: its name is not"
        );
        pieces.insert(name.clone());
    }
    pieces
}

/// Each folder that was made stands in its own folder.
#[track_caller]
fn folders_last(calls: &[Call]) {
    let mut made = 0;
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.name.starts_with("mkdir")) {
        let [folder] = &call.paths[..] else { panic!("one name: {call:?}") };
        let above = folder_of(folder);
        assert!(calls[at..].iter().any(|call| call.is("fsync", &above)), "{folder} is not on the disk");
        made += 1;
    }
    assert!(made >= 5, "the folder of the archive, and those of a piece");
}

#[test]
fn a_power_cut_takes_no_piece_away_that_counts() {
    if let Err(error) = Command::new("strace").arg("--version").output() {
        println!(
            "SKIPPED: strace cannot be started ({error}), so nobody sees what is fsynced; run scripts/setup test"
        );
        return;
    }
    let (rocketmq, scratch) = (ApacheRocketMq::shared(), Scratch::new("fsync"));
    rocketmq.create_topic("fsynced", 2);
    let config = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nclient_id = \"none\"\n[rocketmq]\nname_servers = [\"{}\"]\n\
         [[binding]]\nfilter = \"room/#\"\ntopic = \"fsynced\"\n[archive]\ndir = \"{}\"\n",
        rocketmq.name_server(),
        scratch.join("new/archive").display()
    );
    scratch.write("archive.toml", &config);
    let mut pieces = BTreeSet::new();
    for round in ["first", "second"] {
        let messages: Vec<_> =
            (0..4).map(|number| NewMessage::new("fsynced", format!("{round} {number}"))).collect();
        rocketmq.send(&messages);
        rocketmq.read_at_least("fsynced", if round == "first" { 4 } else { 8 }, Duration::from_secs(30));
        let calls = traced(&scratch, &["archive", "flush"], &[]);
        if round == "first" {
            folders_last(&calls);
        }
        pieces.append(&mut pieces_that_last(&calls));
    }
    assert!(pieces.len() >= 3, "{pieces:?}");

    // With a clock two days ahead the day is over, and what is replaced is removed at once.
    let calls = traced(&scratch, &["archive", "merge"], &clock_ahead(Duration::from_secs(2 * 24 * 3600)));
    let merged = pieces_that_last(&calls);
    assert!(!merged.is_empty() && merged.is_disjoint(&pieces), "{merged:?}");
    let is_removed =
        |call: &Call| call.name.starts_with("unlink") && call.paths.iter().any(|path| pieces.contains(path));
    assert!(calls.iter().any(is_removed), "{calls:?}");
}

//! Keys that drive a running command: one at a time, without Enter, and not shown.
//!
//! Promises: the terminal is as it was when the command has ended, also by a signal; where standard input is no terminal, or the
//! terminal belongs to another command because this one runs in the background, nothing is read and nothing is changed.

use std::io::{self, IsTerminal, Read};

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::sync::mpsc;

/// So many keys wait; what is typed beyond is dropped.
const KEYS: usize = 16;

/// The keys that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Space,
    Left,
    Right,
    Up,
    Down,
    Quit,
}

/// The keys of the terminal, until it is dropped.
pub(crate) struct Keyboard {
    keys: mpsc::Receiver<Key>,
    before: Termios,
}

impl Keyboard {
    /// `None`: nobody can type.
    pub(crate) fn open() -> Option<Self> {
        let stdin = io::stdin();
        // To change a terminal from the background would stop the process.
        if !stdin.is_terminal() || tcgetpgrp(&stdin).ok()? != getpgrp() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        single.special_codes[SpecialCodeIndex::VMIN] = 1;
        single.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        let (typed, keys) = mpsc::channel(KEYS);
        let keyboard = Self { keys, before };
        // It ends with the process: nothing ends a read of a terminal.
        std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || read(&typed)).ok()?;
        Some(keyboard)
    }

    /// The next key; `None` = the terminal has gone.
    pub(crate) async fn next(&mut self) -> Option<Key> {
        self.keys.recv().await
    }

    /// Makes the terminal as it was, for an end without [`Drop`].
    pub(crate) fn restorer(&self) -> impl Fn() + Send + 'static + use<> {
        let before = self.before.clone();
        move || _ = tcsetattr(io::stdin(), OptionalActions::Now, &before)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // The terminal may have gone; then there is nothing to restore.
        self.restorer()();
    }
}

fn read(typed: &mpsc::Sender<Key>) {
    let mut bytes = [0; 64];
    // A terminal gives a key with all of its bytes.
    while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
        for key in keys_of(bytes.get(..count).unwrap_or_default()) {
            let _ = typed.try_send(key);
        }
        if typed.is_closed() {
            return;
        }
    }
}

fn keys_of(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        let (key, rest) = match (first, rest) {
            (0x1b, [b'[' | b'O', letter, rest @ ..]) => (arrow(*letter), rest),
            (b' ', rest) => (Some(Key::Space), rest),
            (b'q' | b'Q', rest) => (Some(Key::Quit), rest),
            (_, rest) => (None, rest),
        };
        keys.extend(key);
        bytes = rest;
    }
    keys
}

fn arrow(letter: u8) -> Option<Key> {
    match letter {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_typed_together_are_told_apart_and_others_mean_nothing() {
        assert_eq!(keys_of(b" \x1b[C\x1bODxq\x1b[A\x1b[B"), {
            [Key::Space, Key::Right, Key::Left, Key::Quit, Key::Up, Key::Down]
        });
        assert_eq!(keys_of("\x1b\x1b[\x1b[H\u{e9}".as_bytes()), [] as [Key; 0]);
    }
}

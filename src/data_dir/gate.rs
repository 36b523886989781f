//! A disk that does not answer as long as a test wants.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use super::DataDir;

#[derive(Debug, Clone, Default)]
pub(crate) struct WriteGate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// Whether a write waits for it to open.
    reached: bool,
}

impl WriteGate {
    pub(crate) fn open_data_dir(&self, path: &Path) -> DataDir {
        let gate = self.clone();
        DataDir::open_with(path, Some(Box::new(move |_| gate.wait()))).unwrap()
    }

    pub(crate) fn shut(&self) {
        self.0.0.lock().unwrap().shut = true;
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().shut = false;
        self.0.1.notify_all();
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.0.0.lock().unwrap().reached
    }

    fn wait(&self) {
        let mut state = self.0.0.lock().unwrap();
        while state.shut {
            state.reached = true;
            state = self.0.1.wait(state).unwrap();
        }
        state.reached = false;
    }
}

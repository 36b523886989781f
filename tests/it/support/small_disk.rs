//! A small file system of its own, to be filled up. Needs root and a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::scratch::Scratch;

pub struct SmallDisk {
    folder: PathBuf,
    // The last field, so that the file system is unmounted before its image goes.
    _scratch: Scratch,
}

impl SmallDisk {
    /// ext4 of so many MiB; the error says why that is not possible here.
    pub fn mount(mebibytes: u64) -> Result<SmallDisk, String> {
        let scratch = Scratch::new("small-disk");
        let (image, folder) = (scratch.join("image"), scratch.join("mounted"));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&folder))?;
        Ok(SmallDisk { folder, _scratch: scratch })
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    pub fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    pub fn free_bytes(&self) -> u64 {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.folder).output();
        let text = String::from_utf8(output.expect("df can be started").stdout).expect("df prints text");
        text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("df prints a number")
    }

    /// Leaves so many bytes free.
    pub fn fill(&self, free_bytes: u64) {
        let length = self.free_bytes().saturating_sub(free_bytes);
        std::fs::write(self.filler(), vec![0; length as usize]).expect("the filler fits");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still ends holds it for a moment.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.folder));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?}: {said}"))
}

//! A file of lines that is there as a whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::ExportError;
use super::room::Lines;
use crate::piece::compress;

/// A name that ends so holds zstd frames.
pub(super) const COMPRESSED: &str = ".zst";
/// So many bytes of lines make a frame: a file of frames is as small as one of one frame, and nothing has to wait for its end.
const FRAME_BYTES: usize = 1 << 20;
/// File systems take 255 bytes, and people like shorter names.
const STEM_CHARACTERS: usize = 40;

/// Lines on their way into a file. Until [`LinesFile::finish`] it lies beside it, under a name that begins with a dot.
pub(crate) struct LinesFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    frame: Option<Frame>,
    bytes: u64,
}

impl LinesFile {
    /// Compresses if the name ends in `.zst`. Only the owner can read the file.
    pub(crate) fn create(path: &Path) -> Result<Self, ExportError> {
        if path.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { path: path.to_owned() });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".roombridge-export-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(|source| ExportError::Write { path: path.to_owned(), source })?;
        let compressed = path.as_os_str().to_string_lossy().ends_with(COMPRESSED);
        let frame = compressed.then(Frame::default);
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), frame, bytes: 0 })
    }

    /// The file is on the disk when this returns. Gives its size.
    pub(crate) fn finish(mut self) -> Result<u64, ExportError> {
        let path = self.path.clone();
        let failed = |source| ExportError::Write { path: path.clone(), source };
        if let Some(frame) = &mut self.frame {
            self.bytes += frame.close(&mut self.file).map_err(failed)?;
        }
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(&self.path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ExportError::Exists { path });
            }
            Err(error) => return Err(failed(error.error)),
        }
        sync_folder_of(&self.path).map_err(failed)?;
        Ok(self.bytes)
    }
}

impl Lines for LinesFile {
    fn write(&mut self, line: &[u8]) -> Result<(), ExportError> {
        let written = match &mut self.frame {
            Some(frame) => frame.add(line, &mut self.file),
            None => self.file.write_all(line).map(|()| line.len() as u64),
        };
        self.bytes += written.map_err(|source| ExportError::Write { path: self.path.clone(), source })?;
        Ok(())
    }
}

/// Lines that become one zstd frame.
#[derive(Default)]
struct Frame {
    lines: Vec<u8>,
}

impl Frame {
    /// Gives how many bytes were written.
    fn add(&mut self, line: &[u8], out: &mut impl Write) -> io::Result<u64> {
        self.lines.extend_from_slice(line);
        if self.lines.len() < FRAME_BYTES { Ok(0) } else { self.close(out) }
    }

    fn close(&mut self, out: &mut impl Write) -> io::Result<u64> {
        if self.lines.is_empty() {
            return Ok(0);
        }
        let frame = compress(&self.lines)?;
        self.lines.clear();
        out.write_all(&frame)?;
        Ok(frame.len() as u64)
    }
}

/// A name that was made or renamed lasts only when its folder is on the disk.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A name for a file about a room, on every file system: what is safe of the room, and a hash, because `A` and `a` are one name on some
/// disks. The lines have the true name.
pub(crate) fn file_stem(room: &str) -> String {
    let safe = |character: char| match character {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let stem: String = room.chars().take(STEM_CHARACTERS).map(safe).collect();
    let hash = Sha256::digest(room.as_bytes());
    let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("room-{stem}-{digits}")
}

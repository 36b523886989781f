//! Asks the file system about free space, and whether it keeps its files in memory.

use std::io;
use std::path::Path;

/// Bytes that an ordinary user may still write on the file system of this folder or file.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(path)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Whether the file system keeps its files in memory, so that they are lost with the machine or its container.
#[cfg(target_os = "linux")]
pub(crate) fn lives_in_memory(path: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    #[allow(clippy::unnecessary_cast, reason = "the type of f_type differs between platforms")]
    rustix::fs::statfs(path).is_ok_and(|status| [TMPFS, RAMFS].contains(&(status.f_type as i64)))
}

/// `false`, because it is not known on this system.
#[cfg(not(target_os = "linux"))]
pub fn lives_in_memory(_path: &Path) -> bool {
    false
}

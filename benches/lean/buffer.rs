//! Bytes between a socket and a buffer that is used again and again.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const CHUNK: usize = 65_536;

/// Appends all that waits in the socket; false at its end.
pub fn read_available(socket: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let filled = buffer.len();
        buffer.reserve(CHUNK);
        buffer.resize(buffer.capacity(), 0);
        let read = socket.try_read(&mut buffer[filled..]);
        let room = buffer.len() - filled;
        buffer.truncate(filled + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => return Ok(false),
            Ok(count) if count == room => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of the buffer, and empties it.
pub async fn write(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    if !buffer.is_empty() {
        socket.write_all(buffer).await?;
        buffer.clear();
    }
    Ok(())
}

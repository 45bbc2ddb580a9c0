//! The disk operations that may fail while a spool is in use.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit in which a disk reads or fails.
const BLOCK_BYTES: usize = 4_096;

/// A disk. Tests use one that fails.
pub(super) trait Disk: std::fmt::Debug + Send {
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn read_exact_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(bytes, offset)
    }
}

/// The disk of the machine.
#[derive(Debug)]
pub(super) struct MachineDisk;

impl Disk for MachineDisk {}

/// Reads `bytes` from `offset` on. Blocks that the disk cannot read become zeros, which are then found as damage.
pub(super) fn read_at(
    disk: &dyn Disk,
    file: &File,
    bytes: &mut [u8],
    offset: u64,
) -> io::Result<()> {
    match disk.read_exact_at(file, bytes, offset) {
        Err(error) if is_unreadable(&error) => {}
        read => return read,
    }
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let into_block = usize::try_from(at % BLOCK_BYTES as u64).expect("below 4096");
        let (block, later) = rest.split_at_mut(rest.len().min(BLOCK_BYTES - into_block));
        match disk.read_exact_at(file, block, at) {
            Err(error) if is_unreadable(&error) => block.fill(0),
            read => read?,
        }
        at += block.len() as u64;
        rest = later;
    }
    Ok(())
}

/// Returns whether the medium itself failed, rather than the access to it.
fn is_unreadable(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

//! Room for the next start: it begins a segment before it lets go of anything, also on a disk that has become full to the last byte.

use super::writer::{TEMPORARY, is_full};
use crate::store::disk::{Disk, write_all};
use std::io;

/// Most bytes of it: for the header of a segment, the last batch once more, and what the file system needs for them.
const MOST: usize = 1 << 20;

/// Keeps room for a log of segments of so many bytes, as far as there is some: of the last of the disk half is left to whoever needs it
/// first. A start removes what is kept, as everything whose name ends like this.
pub(super) fn keep(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; MOST];
    let length = usize::try_from(segment_bytes).map_or(MOST, |bytes| bytes.min(MOST));
    let file = disk.create(&format!("reserve{TEMPORARY}"))?;
    let kept = write_all(&*file, &ZEROS[..length], 0).and_then(|()| file.sync());
    match kept {
        Err(error) if is_full(&error) => {
            let length = file.len()?;
            file.set_len(length / 2)?;
            file.sync()
        }
        kept => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Simulated;

    #[test]
    fn room_is_kept_and_of_too_little_half() {
        let (large, small) = (64 << 20, 64 << 10);
        let cases =
            [(2 * MOST, large, MOST), (MOST, large, MOST), (MOST, small, 64 << 10), (MOST / 4, large, MOST / 8), (0, large, 0)];
        for (free, segment_bytes, kept) in cases {
            let disk = Simulated::new();
            disk.limit(free as u64);
            keep(&*disk.disk(), segment_bytes).expect("a full disk is no failure");
            let file = disk.disk().open(&disk.names()[0]).expect("it is there");
            assert_eq!(file.len().expect("is known"), kept as u64, "of {free} bytes");
        }
    }
}

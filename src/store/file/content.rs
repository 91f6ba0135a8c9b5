//! Reading a session file: which of its two records is current.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::buffer::spare_capacity;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::inner::FileStoreInner;
use super::slots::{self, DATA, Header, Place, Slot, SlotPosition};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::{Record, RecordError};
use crate::store::files::{calls, directory};

/// Files up to this size are read whole; of larger ones only the two headers and what is current.
const WHOLE: usize = 16 << 10;
/// Slots are made of whole sectors of this size.
const SECTOR: u64 = 512;
/// No session makes a larger file, whatever `maxRecordBytes` (at most 1 GiB) was before it was lowered.
const LARGEST_FILE: u64 = 4 << 30;

/// What a session file holds.
pub(super) enum Content {
    Record(Current),
    /// Neither slot holds a whole record.
    Damaged(&'static str),
    /// It was written before the checksum had a seed.
    Unseeded,
    /// A later release wrote it, in this version of the format.
    LaterVersion(u64),
}

/// The newest whole record in a file.
pub(super) struct Current {
    pub(super) record: Record,
    pub(super) place: Place,
    /// The two slots fit together, so that no commit can have overlapped the reading.
    pub(super) is_settled: bool,
}

impl Content {
    /// The record, or why the file is damaged.
    ///
    /// # Errors
    ///
    /// For a file that must be left alone: only another version of this library can read it.
    pub(super) fn current(
        self,
        shared: &FileStoreInner,
        name: &str,
    ) -> Result<Result<Current, &'static str>> {
        let reason = match self {
            Content::Record(current) => return Ok(Ok(current)),
            Content::Damaged(reason) => return Ok(Err(reason)),
            Content::Unseeded => {
                "a version from before release 0.1.0 wrote it, and its checksum has no seed; stop \
                 all programs of that version, then remove such sessions: cgi-session uninstall"
                    .to_owned()
            }
            Content::LaterVersion(version) => {
                format!("a later release of cgi-session wrote it (version {version} of the format)")
            }
        };
        let path = shared.path(name);
        Err(Error::Format { path, reason })
    }
}

impl FileStoreInner {
    /// Reads a file. The caller holds its lock, or looks at `is_settled`.
    pub(super) fn load(
        &self,
        file: &File,
        stat: &Stat,
        digest: &SessionDigest,
        name: &str,
    ) -> Result<Content> {
        let size = directory::size(stat);
        if size > LARGEST_FILE {
            let refused = Error::refused(&self.path(name), format!("has {size} bytes"));
            return Err(refused.with_hint("no session can be so large; it was left alone"));
        }
        let content = read_slots(file, size, digest);
        content.map_err(|error| self.failed("cannot read", name, error))
    }
}

/// Reads a file of `size` bytes.
pub(super) fn read_slots(file: &File, size: u64, digest: &SessionDigest) -> io::Result<Content> {
    let loaded = match slot_size(size) {
        Some(cap) => Reader::new(file, cap).and_then(|reader| load_slots(reader, digest)),
        None => Ok(Content::Damaged("its size is not that of two slots")),
    };
    let damaged = match loaded {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it ends too early",
        Ok(Content::Damaged(reason)) => reason,
        result => return result,
    };
    Ok(if is_unseeded(file, size)? {
        Content::Unseeded
    } else {
        Content::Damaged(damaged)
    })
}

/// Whether a slot of the file was written before the checksum had a seed.
pub(super) fn is_unseeded(file: &File, size: u64) -> io::Result<bool> {
    for start in [0, size / 2] {
        let mut head = [0; DATA];
        let length = calls::retry(|| file.read_at(&mut head, start))?;
        if head.get(..length).is_some_and(slots::is_unseeded) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a damaged file is the beginning of a new one, whose writer was killed before any client had its
/// id: Linux ends a write between two pages for that. A new file ends with `]`.
pub(super) fn is_unfinished(file: &File, size: u64) -> io::Result<bool> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size == 0 {
        return Ok(true);
    }
    let head = read(file, 0, size.min(DATA))?;
    let is_new = match slots::parse(&head, SlotPosition::First, usize::MAX) {
        Slot::Written(header) => header.generation == 1,
        // Of another text of this length it is not said who needs it.
        Slot::Torn | Slot::Fresh => size < DATA && slots::may_begin(&head),
    };
    Ok(is_new && read(file, size - 1, 1)? != b"]")
}

fn slot_size(size: u64) -> Option<usize> {
    let whole = size > 0 && size.is_multiple_of(2 * SECTOR);
    usize::try_from(size / 2).ok().filter(|_| whole)
}

fn load_slots(mut reader: Reader<'_>, digest: &SessionDigest) -> io::Result<Content> {
    let first = reader.slot(SlotPosition::First)?;
    let second = reader.slot(SlotPosition::Second)?;
    let (candidates, is_settled) = match (first, second) {
        (Slot::Written(first), Slot::Written(second)) => {
            let (first, second) = ((first, SlotPosition::First), (second, SlotPosition::Second));
            let pair = if first.0.generation > second.0.generation {
                [first, second]
            } else {
                [second, first]
            };
            let apart = pair[0].0.generation - pair[1].0.generation;
            ([Some(pair[0]), Some(pair[1])], apart == 1)
        }
        (Slot::Written(only), other) => (
            [Some((only, SlotPosition::First)), None],
            other == Slot::Fresh,
        ),
        (_, Slot::Written(only)) => ([Some((only, SlotPosition::Second)), None], false),
        _ => ([None, None], false),
    };
    for (rank, (header, slot)) in candidates.into_iter().flatten().enumerate() {
        let data = reader.data(slot, &header)?;
        if let Some(seed) = header.matches(digest, data) {
            let place = Place {
                cap: reader.cap,
                slot,
                generation: header.generation,
                seed,
            };
            return Ok(match reader.into_record(slot, &header) {
                Ok(record) => Content::Record(Current {
                    record,
                    place,
                    is_settled: is_settled && rank == 0,
                }),
                Err(RecordError::Malformed(_)) => Content::Damaged("what it holds is no record"),
                Err(RecordError::LaterVersion(version)) => Content::LaterVersion(version),
            });
        }
    }
    Ok(Content::Damaged("neither of its records is whole"))
}

/// The parts of a file, from one read or from several.
struct Reader<'a> {
    file: &'a File,
    cap: usize,
    /// What was read last: the whole file, if it is small.
    bytes: Vec<u8>,
    is_whole: bool,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File, cap: usize) -> io::Result<Self> {
        let is_whole = 2 * cap <= WHOLE;
        let bytes = if is_whole {
            read(file, 0, 2 * cap)?
        } else {
            Vec::new()
        };
        Ok(Reader {
            file,
            cap,
            bytes,
            is_whole,
        })
    }

    fn slot(&mut self, place: SlotPosition) -> io::Result<Slot> {
        let cap = self.cap;
        Ok(slots::parse(self.part(place.start(cap), DATA)?, place, cap))
    }

    fn data(&mut self, place: SlotPosition, header: &Header) -> io::Result<&[u8]> {
        self.part(place.start(self.cap) + DATA, header.length)
    }

    /// The record in what [`Reader::data`] has just returned, which is neither read nor copied again.
    fn into_record(
        self,
        place: SlotPosition,
        header: &Header,
    ) -> std::result::Result<Record, RecordError> {
        let start = if self.is_whole {
            place.start(self.cap) + DATA
        } else {
            0
        };
        Record::from_part(self.bytes, start..start + header.length)
    }

    fn part(&mut self, start: usize, length: usize) -> io::Result<&[u8]> {
        if self.is_whole {
            let part = self.bytes.get(start..start + length);
            return part.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes = read(self.file, start, length)?;
        Ok(&self.bytes)
    }
}

/// Reads exactly `length` bytes into a buffer that need not be filled with zeros first.
fn read(file: &File, start: usize, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = (start + bytes.len()) as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

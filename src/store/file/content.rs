//! Reading a session file: which of its two records is current.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::slots::{self, DATA, Header, Place, Slot};
use crate::id::SessionDigest;

/// Files up to this size are read whole; of larger ones only the two headers and what is current.
const WHOLE: usize = 16 << 10;
/// Slots are made of whole sectors of this size.
const SECTOR: u64 = 512;

/// What a session file holds.
pub(super) enum Content {
    Record(Current),
    /// Neither slot holds a whole record.
    Damaged(&'static str),
}

/// The newest whole record in a file.
pub(super) struct Current {
    /// The size of a slot.
    pub(super) cap: usize,
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) data: Vec<u8>,
    /// The two slots fit together, so that no commit can have overlapped the reading.
    pub(super) is_settled: bool,
}

/// Reads a file of `size` bytes. The caller holds its lock, or looks at `is_settled`.
pub(super) fn load(file: &File, size: u64, digest: &SessionDigest) -> io::Result<Content> {
    let Some(cap) = slot_size(size) else {
        return Ok(Content::Damaged("its size is not that of two slots"));
    };
    match load_slots(&Reader::new(file, cap)?, digest) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(Content::Damaged("it ends too early"))
        }
        result => result,
    }
}

fn slot_size(size: u64) -> Option<usize> {
    let whole = size > 0 && size.is_multiple_of(2 * SECTOR);
    usize::try_from(size / 2).ok().filter(|_| whole)
}

fn load_slots(reader: &Reader<'_>, digest: &SessionDigest) -> io::Result<Content> {
    let first = reader.slot(Place::First)?;
    let second = reader.slot(Place::Second)?;
    let (candidates, is_settled) = match (first, second) {
        (Slot::Written(first), Slot::Written(second)) => {
            let (first, second) = ((first, Place::First), (second, Place::Second));
            let pair = if first.0.generation > second.0.generation {
                [first, second]
            } else {
                [second, first]
            };
            let apart = pair[0].0.generation - pair[1].0.generation;
            ([Some(pair[0]), Some(pair[1])], apart == 1)
        }
        (Slot::Written(only), other) => ([Some((only, Place::First)), None], other == Slot::Fresh),
        (_, Slot::Written(only)) => ([Some((only, Place::Second)), None], false),
        _ => ([None, None], false),
    };
    for (rank, (header, place)) in candidates.into_iter().flatten().enumerate() {
        let data = reader.data(place, &header)?;
        if header.vouches_for(digest, &data) {
            let is_settled = is_settled && rank == 0;
            let generation = header.generation;
            return Ok(Content::Record(Current {
                cap: reader.cap,
                place,
                generation,
                data,
                is_settled,
            }));
        }
    }
    Ok(Content::Damaged("neither of its records is whole"))
}

/// The parts of a file, from one read or from several.
struct Reader<'a> {
    file: &'a File,
    cap: usize,
    whole: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File, cap: usize) -> io::Result<Self> {
        let mut reader = Reader {
            file,
            cap,
            whole: None,
        };
        if 2 * cap <= WHOLE {
            reader.whole = Some(reader.read(0, 2 * cap)?);
        }
        Ok(reader)
    }

    fn slot(&self, place: Place) -> io::Result<Slot> {
        let start = place.start(self.cap);
        match self
            .whole
            .as_ref()
            .and_then(|whole| whole.get(start..start + DATA))
        {
            Some(bytes) => Ok(slots::parse(bytes, place, self.cap)),
            None => Ok(slots::parse(&self.read(start, DATA)?, place, self.cap)),
        }
    }

    fn data(&self, place: Place, header: &Header) -> io::Result<Vec<u8>> {
        let start = place.start(self.cap) + DATA;
        match self
            .whole
            .as_ref()
            .and_then(|whole| whole.get(start..start + header.length))
        {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.read(start, header.length),
        }
    }

    fn read(&self, start: usize, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start as u64)?;
        Ok(bytes)
    }
}

//! Keeps what is whole of a damaged store, and says what is lost.

use super::check::{Identity, indexed};
use super::{Closed, Lost, io, salvage_folder, sync_folder};
use crate::pb::store::Entry;
use crate::store::control::Control;
use crate::store::disk::{File, write_all};
use crate::store::embedded::OpenError;
use crate::store::hash::HashKey;
use crate::store::index::Index;
use crate::store::log::{
    self, BATCH_HEADER, BatchHeader, Expected, LogError, Look, Malformed, Piece, Record, SegmentHeader, Surveyed,
};
use crate::store::{Position, clock};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lost positions that are marked by one batch.
const MARKED: u64 = 4096;

/// A segment on its way to its name. Opening removes what is left of it.
const NEW: &str = "salvage.tmp";

/// What a salvage has done.
#[derive(Debug)]
pub struct Salvaged {
    /// What is lost.
    pub lost: Vec<Lost>,
    /// Files that were written anew, in the folder of the store.
    pub written: Vec<String>,
    /// Where the former files are; none if none was replaced.
    pub kept_in: Option<PathBuf>,
    /// The first position of the epoch that was begun.
    pub begins: Position,
}

/// What the lost entries would have told, as far as others tell it.
#[derive(Debug, Default)]
struct Traces {
    /// By a lost position: the message of its conversation before it.
    threads: BTreeMap<u64, u64>,
    /// By the first position of a segment: when its last entry was accepted.
    times: BTreeMap<Position, i64>,
}

impl Closed {
    /// Keeps every batch that is whole. Damaged files are written anew, and the former ones moved aside. Lost positions are marked as
    /// such. A new epoch begins at the end, and the index goes: it has to be made again.
    ///
    /// A salvage that is cut short can be begun again.
    pub fn salvage(&self) -> Result<Salvaged, OpenError> {
        let Identity { control, key, epochs, oldest, wrong } = self.identity()?;
        let seen = match indexed(self, key) {
            Some(Ok(index)) => index.position().unwrap_or_default(),
            _ => Position::default(),
        };
        let mut traces = Traces::default();
        let mut latest = HashMap::new();
        let expected = Expected { key, epochs: control.as_ref().map(|_| &epochs), oldest };
        let mut survey = log::survey(&*self.disk, &expected, &mut |place, header, bytes| {
            for record in log::records(header, bytes) {
                let record = record?;
                traces.times.insert(place.segment, record.hints.accepted_at);
                traces.follow(key, record.position, &record.entry()?, &mut latest);
            }
            Ok(())
        })?;
        if seen >= survey.end {
            survey.lose(seen.next(), "the index has seen more");
        }
        let lost = survey.damages.iter().filter_map(|damage| damage.lost).map(Lost::of);
        let mut salvaged = Salvaged { lost: lost.collect(), written: Vec::new(), kept_in: None, begins: survey.end };

        // In this order: what was begun is found again if it is cut short, and nothing ever trusts an index of the former files.
        Index::remove(&self.files.index()).map_err(io(&self.files.index(), "removed"))?;
        let aside = salvage_folder(&self.files);
        let mut control = match control {
            Some(control) => control,
            None => {
                let path = self.files.control();
                let channels = if path.is_file() { Control::rescued_channels(&path) } else { Vec::new() };
                if path.is_file() {
                    salvaged.keep(&path, &aside)?;
                    fs::remove_file(&path).map_err(io(&path, "removed"))?;
                }
                salvaged.written.push("control.db".into());
                let control = Control::make(&path, key, &epochs, oldest)?;
                channels.iter().try_for_each(|channel| control.put_channel(channel))?;
                control
            }
        };
        debug_assert_eq!(wrong.is_some(), !salvaged.written.is_empty());
        control.begin_epoch(survey.end)?;
        let mut segments = survey.segments.as_slice();
        // There is nothing before the first file that could be passed over: what is kept begins later.
        if let Some((Surveyed { header: None, pieces, first, .. }, rest)) = segments.split_first()
            && let [Piece::Lost(from, end)] = pieces.as_slice()
            && from == first
            && !self.files.log().join(log::name_of(*first)).is_file()
        {
            control.set_oldest(*end)?;
            segments = rest;
        }
        for (i, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.damaged) {
            let known = segment.header.filter(|header| epochs.contains(header.epoch));
            let following = segments[i + 1..].iter().find_map(|segment| segment.header);
            let before = i.checked_sub(1).and_then(|before| segments[before].link);
            let header = SegmentHeader {
                log: key,
                epoch: known.or(following).map_or_else(|| epochs.current(), |header| header.epoch),
                first: segment.first,
                run: segment.run(),
                link: before.or(segment.header.map(|header| header.link)).or_else(|| segment.first_link()).unwrap_or_default(),
            };
            self.write_anew(segment, header, &traces, &aside, &mut salvaged)?;
        }
        if survey.spoilt || survey.empty.first().is_some_and(|begun| *begun > survey.end) {
            for empty in &survey.empty {
                let path = self.files.log().join(log::name_of(*empty));
                salvaged.keep(&path, &aside)?;
                fs::remove_file(&path).map_err(io(&path, "removed"))?;
            }
        }
        sync_folder(&self.files.log())?;
        sync_folder(&self.files.folder)?;
        Ok(salvaged)
    }

    fn write_anew(
        &self,
        segment: &Surveyed,
        header: SegmentHeader,
        traces: &Traces,
        aside: &Path,
        salvaged: &mut Salvaged,
    ) -> Result<(), OpenError> {
        let name = log::name_of(segment.first);
        let path = self.files.log().join(&name);
        let exists = path.is_file();
        let former = if exists { Some(self.disk.open(&name).map_err(io(&path, "opened"))?) } else { None };
        let _left_behind = self.disk.remove(NEW);
        let file = self.disk.create(NEW).map_err(io(&self.files.log().join(NEW), "made"))?;
        let before = traces.times.range(..segment.first).next_back().map(|(_, time)| *time);
        let mut anew = Anew { file, header, link: header.link, offset: 0, accepted_at: before.unwrap_or_default() };
        anew.append(&header.encode()).map_err(io(&path, "written"))?;
        for piece in &segment.pieces {
            anew.piece(*piece, former.as_deref(), &traces.threads, &name)?;
        }
        anew.file.sync().map_err(io(&path, "synced"))?;
        if exists {
            salvaged.keep(&path, aside)?;
        }
        self.disk.rename(NEW, &name).map_err(io(&path, "replaced"))?;
        self.disk.sync().map_err(io(&self.files.log(), "synced"))?;
        salvaged.written.push(format!("log/{name}"));
        Ok(())
    }
}

impl Salvaged {
    /// Keeps a file that is about to be replaced.
    fn keep(&mut self, path: &Path, aside: &Path) -> Result<(), OpenError> {
        if self.kept_in.is_none() {
            fs::create_dir(aside).map_err(io(aside, "made"))?;
            self.kept_in = Some(aside.to_owned());
        }
        let to = aside.join(path.file_name().unwrap_or_default());
        if fs::hard_link(path, &to).is_err() {
            super::copy(path, &to)?;
        }
        sync_folder(aside)?;
        aside.parent().map_or(Ok(()), sync_folder)
    }
}

impl Traces {
    /// Notes a lost message that an entry follows in its conversation.
    fn follow(&mut self, key: HashKey, position: Position, entry: &Entry, latest: &mut HashMap<u64, u64>) {
        let Some(session) = &entry.session else { return };
        let conversation = key.hash(session.conversation_id.as_bytes());
        let known = latest.get(&conversation).copied().unwrap_or_default();
        if entry.previous_in_conversation > known {
            self.threads.insert(entry.previous_in_conversation, known);
        }
        if entry.message.is_some() && !entry.ephemeral {
            latest.insert(conversation, position.0);
        }
    }
}

impl Surveyed {
    fn run(&self) -> u64 {
        let known = self.header.map(|header| header.run).or_else(|| self.first_batch.map(|(run, _)| run));
        known.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1)
    }

    /// The link of the first batch, if nothing is lost before it.
    fn first_link(&self) -> Option<u32> {
        let is_first = matches!(self.pieces.first(), Some(Piece::Whole(_)));
        self.first_batch.filter(|_| is_first).map(|(_, link)| link)
    }
}

/// A segment that is being written anew. What is whole stays as it is, to the byte, up to where something is lost.
struct Anew {
    file: Arc<dyn File>,
    header: SegmentHeader,
    link: u32,
    offset: u64,
    /// When the last entry was accepted.
    accepted_at: i64,
}

impl Anew {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        write_all(&*self.file, bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn batch(&mut self, mut bytes: Vec<u8>, first: Position, count: u32) -> std::io::Result<()> {
        self.link = BatchHeader::seal_up(&mut bytes, first, count, self.header.run, self.link).checksum;
        self.append(&bytes)
    }

    fn piece(
        &mut self,
        piece: Piece,
        former: Option<&dyn File>,
        threads: &BTreeMap<u64, u64>,
        name: &str,
    ) -> Result<(), OpenError> {
        let failed = |action| move |cause| LogError::Io { file: name.to_owned(), action, cause };
        match piece {
            Piece::Seal(next) => self.batch(vec![0; BATCH_HEADER], next, 0).map_err(failed("written"))?,
            Piece::Whole(offset) => {
                let damaged =
                    |malformed: Malformed| LogError::Damaged { file: name.to_owned(), offset, what: malformed.to_string() };
                let former = former.ok_or_else(|| damaged(Malformed::Blank))?;
                let mut buffer = log::Buffer::default();
                match log::look(former, offset, &mut buffer).map_err(failed("read"))? {
                    Look::Batch(found, bytes) => {
                        if let Some(Ok(record)) = log::records(&found.header, bytes).last() {
                            self.accepted_at = record.hints.accepted_at;
                        }
                        let records = bytes[..BATCH_HEADER + found.header.length as usize].to_vec();
                        self.batch(records, found.header.first, found.header.count).map_err(failed("written"))?;
                    }
                    Look::None(malformed) => return Err(damaged(malformed).into()),
                }
            }
            Piece::Lost(from, end) => self.lost(from, end, threads).map_err(failed("written"))?,
        }
        Ok(())
    }

    /// Marks positions as lost.
    fn lost(&mut self, from: Position, end: Position, threads: &BTreeMap<u64, u64>) -> std::io::Result<()> {
        let mut first = from.0;
        while first < end.0 {
            let next = end.0.min(first + MARKED);
            let mut bytes = vec![0; BATCH_HEADER];
            for position in first..next {
                let entry = Entry {
                    accepted_at: Some(clock::from_nanos(self.accepted_at)),
                    previous_in_conversation: threads.get(&position).copied().unwrap_or_default(),
                    lost: true,
                    ..Entry::default()
                };
                Record::encode(&entry, true, self.header.log, &mut bytes);
            }
            self.batch(bytes, Position(first), (next - first) as u32)?;
            first = next;
        }
        Ok(())
    }
}

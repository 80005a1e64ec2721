//! Checks every byte of a store: the control file, the log, and the index against the log.

use super::{Closed, Lost};
use crate::store::control::{Control, ControlError, Epochs};
use crate::store::embedded::OpenError;
use crate::store::facts::id_keys;
use crate::store::hash::HashKey;
use crate::store::index::{Index, IndexError, Lookup};
use crate::store::log::{self, BatchHeader, Block, Expected, Malformed, Place, Survey};
use crate::store::{Position, Stored};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, in the folder of the store.
    pub file: String,
    /// Where in it, where that can be told.
    pub offset: Option<u64>,
    /// What was found.
    pub what: String,
    /// What that means, and what can be done.
    pub means: String,
    /// True for damage; else it is only worth knowing.
    pub is_damage: bool,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
    /// The oldest position that is kept.
    pub oldest: Position,
    /// The last position.
    pub end: Position,
    /// Files of the log.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl Report {
    /// True if nothing is damaged.
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_damage)
    }
}

/// What identifies a log, from its control file or else from its segments.
pub(super) struct Identity {
    /// The control file; none if it cannot be used.
    pub(super) control: Option<Control>,
    pub(super) key: HashKey,
    pub(super) epochs: Epochs,
    pub(super) oldest: Position,
    /// What is wrong with the control file.
    pub(super) wrong: Option<String>,
}

/// What the index has seen, or why nobody knows.
pub(super) fn indexed(closed: &Closed, key: HashKey) -> Option<Result<Index, IndexError>> {
    closed.files.index().is_file().then(|| Index::open(&closed.files.index(), key))
}

impl Closed {
    /// Checks everything. Tells `progress` how many entries it has looked at.
    ///
    /// Fails where a file cannot be read, is of another log or of a later version of the gateway.
    pub fn check(&self, progress: &dyn Fn(u64)) -> Result<Report, OpenError> {
        let identity = self.identity()?;
        let mut findings = Vec::new();
        findings.extend(identity.wrong.as_ref().map(|what| Finding {
            file: "control.db".into(),
            offset: None,
            what: what.clone(),
            means: "it says which log this is, its epochs and what is kept; --salvage makes it again from the log, with those of its channels \
                    that can be read"
                .into(),
            is_damage: true,
        }));
        let index = indexed(self, identity.key);
        let mut against = match &index {
            Some(Ok(index)) => match Against::new(index, identity.key, identity.oldest) {
                Ok(against) => Some(against),
                Err(error) => {
                    findings.push(index_finding(error.to_string()));
                    None
                }
            },
            Some(Err(error)) => {
                findings.push(index_finding(error.to_string()));
                None
            }
            None => None,
        };
        let epochs = identity.control.as_ref().map(|_| &identity.epochs);
        let expected = Expected { key: identity.key, epochs, oldest: identity.oldest };
        let mut entries = 0;
        let mut survey = log::survey(&*self.disk, &expected, &mut |place, header, bytes| {
            visit(place, header, bytes, &mut against)?;
            entries += u64::from(header.count);
            progress(entries);
            Ok(())
        })?;
        if let Some(against) = against {
            if against.position >= survey.end {
                let why = format!("the index has seen position {}", against.position);
                survey.lose(against.position.next(), &why);
            }
            findings.extend(against.finish(survey.end));
        }
        if let Some(Ok(index)) = &index {
            let wrong = index.check().unwrap_or_else(|error| vec![error.to_string()]);
            findings.extend(wrong.into_iter().map(index_finding));
        }
        findings.extend(of_log(&survey));
        let Survey { segments, bytes, end, .. } = survey;
        Ok(Report { findings, oldest: identity.oldest, end: end.previous(), segments: segments.len(), bytes })
    }

    /// What is known of the log, whatever has happened to its control file.
    pub(super) fn identity(&self) -> Result<Identity, OpenError> {
        let path = self.files.control();
        let control = match path.is_file() {
            true => Control::open(&path).and_then(|control| Ok((control.check()?, control.oldest()?, control))),
            false => Err(ControlError::Sqlite(rusqlite::Error::InvalidPath(path))),
        };
        let wrong = match control {
            Ok((wrong, oldest, control)) if wrong.is_empty() && control.epochs.current() > 0 => {
                let (key, epochs) = (control.key, control.epochs.clone());
                return Ok(Identity { control: Some(control), key, epochs, oldest, wrong: None });
            }
            Ok((wrong, ..)) => format!("it is damaged: {}", wrong.join("; ")),
            Err(error @ (ControlError::Version(_) | ControlError::Io(_))) => return Err(error.into()),
            Err(ControlError::Sqlite(rusqlite::Error::InvalidPath(_))) => "it is missing".to_owned(),
            Err(error @ (ControlError::Sqlite(_) | ControlError::Channel { .. })) => error.to_string(),
        };
        let headers = log::headers(&*self.disk)?;
        let Some(first) = headers.first() else { return Err(OpenError::NoStore(self.files.folder.clone())) };
        let mut epochs: Vec<_> = headers.iter().map(|header| (header.epoch, header.first)).collect();
        // The first segment of an epoch is where it begins.
        epochs.reverse();
        let (key, oldest) = (first.log, first.first);
        Ok(Identity { control: None, key, epochs: Epochs::new(epochs), oldest, wrong: Some(wrong) })
    }
}

fn index_finding(what: String) -> Finding {
    Finding {
        file: "index.db".into(),
        offset: None,
        what,
        means: "no message is lost by this; `cim-gateway reindex` makes the index again from the log".into(),
        is_damage: true,
    }
}

/// What is wrong with the log, in the words of a report.
fn of_log(survey: &Survey) -> Vec<Finding> {
    let damages = survey.damages.iter().map(|damage| Finding {
        file: format!("log/{}", damage.file),
        offset: Some(damage.offset),
        what: damage.what.clone(),
        means: match damage.lost {
            Some(lost) => format!("{}; --salvage keeps what is whole", Lost::of(lost)),
            None => "no position is lost; --salvage writes the file anew".into(),
        },
        is_damage: true,
    });
    let unfinished = survey.unfinished.iter().map(|unfinished| Finding {
        file: format!("log/{}", unfinished.file),
        offset: Some(unfinished.offset),
        what: format!("{} bytes at the end are no whole batch", unfinished.bytes),
        means:
            "a write was cut short, of which nothing was acknowledged; the next start removes it. Damage to the very last batch \
                before a crash looks the same"
                .into(),
        is_damage: false,
    });
    damages.chain(unfinished).collect()
}

fn visit(place: Place, header: &BatchHeader, bytes: &[u8], against: &mut Option<Against<'_>>) -> Result<(), Malformed> {
    let mut left = header.length as usize;
    if let Some(against) = against {
        against.batch(place, header);
    }
    for record in log::records(header, bytes) {
        let record = record?;
        left -= record.len() + log::RECORD_HEADER;
        let stored = Stored { position: record.position, entry: Arc::new(record.entry()?) };
        if let Some(against) = against {
            against.entry(&stored);
        }
    }
    if left == 0 { Ok(()) } else { Err(Malformed::Checksum) }
}

/// Most differences that are told.
const TOLD: usize = 5;

/// Blocks that are looked up at once.
const BLOCKS: usize = 256;

/// Compares the index with the log that passes by.
struct Against<'i> {
    lookup: Lookup<'i>,
    key: HashKey,
    oldest: Position,
    /// How far the index has taken the log in.
    position: Position,
    blocks: VecDeque<Block>,
    /// The block whose batches pass by.
    open: Option<Block>,
    /// Where the look-up of blocks goes on.
    next: Option<Position>,
    /// The position that comes next.
    at: Position,
    differences: Vec<String>,
    count: u64,
}

impl<'i> Against<'i> {
    fn new(index: &'i Index, key: HashKey, oldest: Position) -> Result<Self, IndexError> {
        let (lookup, position) = (index.lookup()?, index.position()?);
        Ok(Self {
            lookup,
            key,
            oldest,
            position,
            blocks: VecDeque::new(),
            open: None,
            next: Some(oldest),
            at: oldest,
            differences: Vec::new(),
            count: 0,
        })
    }

    fn differ(&mut self, what: String) {
        self.count += 1;
        if self.differences.len() < TOLD {
            self.differences.push(what);
        }
    }

    /// The next block that the index tells of.
    fn block(&mut self) -> Option<Block> {
        if self.blocks.is_empty()
            && let Some(next) = self.next.take()
        {
            match self.lookup.blocks_from(next, BLOCKS) {
                Ok(found) => {
                    self.next = found.last().map(|last| last.end);
                    self.blocks = found.into();
                }
                Err(error) => self.differ(error.to_string()),
            }
        }
        self.blocks.pop_front()
    }

    fn batch(&mut self, place: Place, header: &BatchHeader) {
        if header.count == 0 || header.first < self.oldest {
            return;
        }
        // Where the log itself is damaged, the index cannot be blamed.
        let is_damaged = header.first != self.at;
        self.at = header.end();
        let block = loop {
            let Some(block) = self.open.take().or_else(|| self.block()) else { return };
            if block.end > header.first {
                break self.open.insert(block);
            }
            if !is_damaged {
                self.differ(format!("the block of positions {} to {} is not in the log", block.first, block.end.previous()));
            }
        };
        let (from, end) = (block.first, block.end);
        let begins = from == header.first && block.place == place;
        let ends = end == header.end()
            && block.place.segment == place.segment
            && block.place.offset + block.length == place.offset + header.size();
        let within = from < header.first && header.end() < end;
        if header.end() <= from {
            self.differ(format!("position {} is in no block", header.first));
        } else if ends || (begins && header.end() < end) || within {
            if ends {
                self.open = None;
            }
        } else {
            self.differ(format!("the block of positions {from} to {} is not where the log has it", end.previous()));
            if header.end() >= end {
                self.open = None;
            }
        }
    }

    fn entry(&mut self, stored: &Stored) {
        if stored.position > self.position || stored.position < self.oldest {
            return;
        }
        for key in id_keys(self.key, stored) {
            match self.lookup.holds(&key) {
                Ok(true) => {}
                Ok(false) => self.differ(format!("what the entry of position {} tells is not found by its id", stored.position)),
                Err(error) => self.differ(error.to_string()),
            }
        }
    }

    fn finish(mut self, end: Position) -> Vec<Finding> {
        if let Some(block) = self.open.take().or_else(|| self.block()).filter(|block| block.first < end) {
            self.differ(format!("the block of positions {} to {} is not in the log", block.first, block.end.previous()));
        }
        let more = self.count - self.differences.len() as u64;
        let mut told = self.differences;
        if more > 0 {
            told.push(format!("and {more} more differences"));
        }
        told.into_iter().map(index_finding).collect()
    }
}

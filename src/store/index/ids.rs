//! Runs of ids: written once and merged, because one table keyed by hashes gets slower the more it holds.
//!
//! The file of a run is durable before a transaction registers it. A transaction that lets go of a run is durable before its file is
//! removed. So whatever a power loss takes, each run that is registered has its file; a file that is not registered is removed when
//! the index is opened.

use super::run::{Draft, Folder, Row, Rows, Run, name_of, number_of};
use super::{Index, IndexError};
use crate::store::Position;
use crate::store::bloom::Bloom;
use rusqlite::{Connection, Transaction, params};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many runs of one size are merged into one of the next.
const MERGED: usize = 8;

/// Runs of at least so many entries are not merged any more: retention drops whole runs.
const LARGEST: u64 = 4_000_000;

/// Entries that one step of a merge moves: the indexer rests between steps.
const STEP: usize = 4096;

impl Run {
    /// Runs of one size are merged; each size is eight times the one before.
    const fn size(&self) -> u32 {
        (self.entries / 150_000 + 1).ilog2() / 3
    }
}

/// The runs that are registered, oldest first, and a number above those of them and of all files. Removes the files that are not
/// registered.
pub(super) fn open(connection: &Connection, folder: &Folder) -> Result<(Vec<Arc<Run>>, i64), IndexError> {
    let mut statement = connection.prepare("SELECT number, first, last, entries, filter FROM run ORDER BY first")?;
    let mut rows = statement.query([])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let [first, last, entries] = [row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?].map(i64::cast_unsigned);
        let filter = row.get_ref(4)?.as_blob().ok().and_then(Bloom::from_bytes);
        let filter = filter.ok_or_else(|| IndexError::Damaged { what: format!("run {number} has no filter") })?;
        runs.push(Arc::new(Run::open(folder, number, (Position(first), Position(last)), entries, filter)?));
    }
    let names = folder.disk.list().map_err(|cause| IndexError::Io { file: folder.name.clone(), action: "listed", cause })?;
    let mut next = runs.iter().map(|run| run.number).max().unwrap_or(0) + 1;
    for number in names.iter().filter_map(|name| number_of(name)) {
        next = next.max(number.saturating_add(1));
        if !runs.iter().any(|run| run.number == number) {
            folder.disk.remove(&name_of(number)).map_err(folder.io(number, "removed"))?;
        }
    }
    Ok((runs, next))
}

fn register(transaction: &Transaction<'_>, run: &Run) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("INSERT INTO run VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let numbers = [run.first.0, run.last.0, run.entries].map(u64::cast_signed);
    statement.execute(params![run.number, numbers[0], numbers[1], numbers[2], run.filter.to_bytes()])?;
    Ok(())
}

/// Lets go of runs. Their files may go once this is durable.
pub(super) fn unregister(transaction: &Transaction<'_>, runs: &[Arc<Run>]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("DELETE FROM run WHERE number = ?1")?;
    runs.iter().try_for_each(|run| statement.execute([run.number]).map(drop))
}

/// Does something with the index in a transaction that is durable when this returns.
pub(super) fn durably<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    connection.pragma_update(None, "synchronous", "full")?;
    let changed = connection.transaction().map_err(IndexError::from).and_then(|transaction| {
        let changed = change(&transaction)?;
        transaction.commit()?;
        Ok(changed)
    });
    connection.pragma_update(None, "synchronous", "normal")?;
    changed
}

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Arc<Run>>,
    /// What is left of each source after the row that is in `heads`.
    rest: Vec<Rows>,
    /// The next row of each source, and which source that is.
    heads: BinaryHeap<Reverse<(Row, usize)>>,
    into: Draft,
}

impl Merge {
    pub(super) fn begin(sources: Vec<Arc<Run>>, folder: &Folder, number: i64) -> Result<Self, IndexError> {
        let entries: u64 = sources.iter().map(|run| run.entries).sum();
        let into = Draft::begin(folder, number, usize::try_from(entries).unwrap_or(usize::MAX))?;
        let mut rest: Vec<_> = sources.iter().cloned().map(Run::rows).collect();
        let heads = rest.iter_mut().enumerate().filter_map(|(source, rows)| Some(rows.next()?.map(|row| Reverse((row, source)))));
        let heads = heads.collect::<Result<_, _>>()?;
        Ok(Self { sources, rest, heads, into })
    }

    /// Moves on by at most `most` rows. True if there are more.
    pub(super) fn go_on(&mut self, most: usize) -> Result<bool, IndexError> {
        for _ in 0..most {
            let Some(mut head) = self.heads.peek_mut() else { return Ok(false) };
            let Reverse((row, source)) = *head;
            self.into.push(row)?;
            match self.rest[source].next() {
                Some(next) => head.0.0 = next?,
                None => drop(PeekMut::pop(head)),
            }
        }
        Ok(true)
    }

    pub(super) fn finish(&mut self) -> Result<Run, IndexError> {
        self.into.finish(self.sources[0].first, self.sources[self.sources.len() - 1].last)
    }
}

impl Index {
    /// A number that no run has.
    pub(super) fn number(&self) -> i64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Begins to merge the youngest runs of one size, if there are enough of them.
    pub(crate) fn begin_merge(&self) -> Result<Option<Merge>, IndexError> {
        let runs = self.runs();
        let Some(size) = runs.last().map(|run| run.size()) else { return Ok(None) };
        let alike = runs.iter().rev().take_while(|run| run.size() == size && run.entries < LARGEST).count();
        if alike < MERGED {
            return Ok(None);
        }
        let merge = Merge::begin(runs[runs.len() - alike..].to_vec(), &self.folder, self.number());
        self.noted(merge).map(Some)
    }

    /// Moves a merge on by one step. It is done, or given up, when this returns none.
    pub(crate) fn step_merge(&self, mut merge: Merge) -> Result<Option<Merge>, IndexError> {
        if self.noted(merge.go_on(STEP))? {
            return Ok(Some(merge));
        }
        let run = merge.finish()?;
        let mut connection = self.writer.lock();
        let is_source = |run: &Arc<Run>| merge.sources.iter().any(|source| source.number == run.number);
        let (gone, mut runs): (Vec<_>, Vec<_>) = self.runs().iter().cloned().partition(is_source);
        if gone.len() < merge.sources.len() {
            // Retention was faster. What is left of them is merged another time.
            return Ok(None);
        }
        durably(&mut connection, |transaction| {
            unregister(transaction, &gone)?;
            Ok(register(transaction, &run)?)
        })?;
        merge.into.keep();
        runs.push(Arc::new(run));
        runs.sort_by_key(|run| run.first);
        self.publish(runs);
        drop(connection);
        gone.iter().for_each(|run| self.folder.remove(run.number));
        Ok(None)
    }

    /// Writes the run of `rows`, which come in the order of their keys, for the messages `first..=last`, and registers it.
    pub(super) fn write_run(
        &self,
        transaction: &Transaction<'_>,
        rows: impl ExactSizeIterator<Item = Row>,
        first: Position,
        last: Position,
    ) -> Result<(Draft, Run), IndexError> {
        let mut draft = Draft::begin(&self.folder, self.number(), rows.len())?;
        rows.into_iter().try_for_each(|row| draft.push(row))?;
        let run = draft.finish(first, last)?;
        register(transaction, &run)?;
        Ok((draft, run))
    }
}

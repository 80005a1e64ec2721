//! The live readers, found by what they want.

use super::tray::Tray;
use crate::pb::store::Entry;
use crate::store::{Filter, Whereabouts};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Trays of live readers. Each stands in one table, under every value of one list of its filter, so that an entry finds it once at
/// most: by session if it names any, else by conversation, else by channel. Readers that name none of these stand apart and look at
/// every entry.
#[derive(Debug, Default)]
pub(super) struct Readers {
    tables: [HashMap<String, Vec<Arc<Tray>>>; 3],
    apart: Vec<Arc<Tray>>,
}

/// The table that a filter stands in, and the values that it stands under.
fn standing(filter: &Filter) -> Option<(usize, &HashSet<String>)> {
    let lists = [&filter.channel_session_ids, &filter.conversation_ids, &filter.service_identifiers];
    lists.into_iter().enumerate().find(|(_, values)| !values.is_empty())
}

impl Readers {
    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.apart.is_empty() && self.tables.iter().all(HashMap::is_empty)
    }

    /// Adds a reader, which is not here yet.
    pub(super) fn insert(&mut self, tray: &Arc<Tray>) {
        match standing(&tray.filter) {
            None => self.apart.push(tray.clone()),
            Some((table, values)) => {
                for value in values {
                    self.tables[table].entry(value.clone()).or_default().push(tray.clone());
                }
            }
        }
    }

    /// Removes a reader, if it is here.
    pub(super) fn remove(&mut self, tray: &Arc<Tray>) {
        match standing(&tray.filter) {
            None => take_out(&mut self.apart, tray),
            Some((table, values)) => {
                for value in values {
                    let Some(trays) = self.tables[table].get_mut(value) else { continue };
                    take_out(trays, tray);
                    if trays.is_empty() {
                        self.tables[table].remove(value);
                    }
                }
            }
        }
    }

    /// Every reader that may want an entry, each once. What else its filter asks for is not looked at.
    pub(super) fn candidates(&self, entry: &Entry) -> impl Iterator<Item = &Arc<Tray>> {
        let Whereabouts { channel_session_id, conversation_id, service_identifier } = Whereabouts::of(entry);
        let values = [channel_session_id, conversation_id, service_identifier];
        let found = self.tables.iter().zip(values).filter_map(|(table, value)| table.get(value?));
        found.flatten().chain(&self.apart)
    }

    /// Every reader, some more than once.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Tray>> {
        self.tables.iter().flat_map(HashMap::values).flatten().chain(&self.apart)
    }
}

fn take_out(trays: &mut Vec<Arc<Tray>>, tray: &Arc<Tray>) {
    if let Some(index) = trays.iter().position(|other| Arc::ptr_eq(other, tray)) {
        trays.swap_remove(index);
    }
}

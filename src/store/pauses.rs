//! Pauses in long work.

/// Rows from one pause to the next.
const ROWS: u32 = 32;

/// Tells between rows when somebody may pause.
pub(super) struct Pauses<'p> {
    rows: u32,
    pause: &'p mut dyn FnMut(),
}

impl<'p> Pauses<'p> {
    pub(super) fn new(pause: &'p mut dyn FnMut()) -> Self {
        Self { rows: 0, pause }
    }

    pub(super) fn after_row(&mut self) {
        self.rows += 1;
        if self.rows == ROWS {
            self.rows = 0;
            (self.pause)();
        }
    }

    /// Drops rows one by one.
    pub(super) fn drop_each<R>(&mut self, rows: impl IntoIterator<Item = R>) {
        for row in rows {
            drop(row);
            self.after_row();
        }
    }
}

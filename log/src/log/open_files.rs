//! Which sealed segments may keep their files open: the few that were read last. A log of a thousand
//! segments that is read from end to end must not hold a thousand handles.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Log;
use crate::segment::Segment;
use crate::segment_list::Based;

/// Sealed segments whose files stay open.
const OPEN_MAX: usize = 8;

/// Sealed segments that were used last, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<VecDeque<Arc<Segment>>>);

impl OpenFiles {
    /// Notes a use; returns the segment whose files are to be closed for it.
    fn note(&self, segment: &Arc<Segment>) -> Option<Arc<Segment>> {
        let mut used = self.0.lock();
        if used.back().is_some_and(|last| Arc::ptr_eq(last, segment)) {
            return None;
        }
        used.retain(|held| !Arc::ptr_eq(held, segment));
        used.push_back(Arc::clone(segment));
        if used.len() > OPEN_MAX { used.pop_front() } else { None }
    }

    /// These are not in the log any more.
    pub(super) fn forget(&self, gone: &[Arc<Segment>]) {
        self.0.lock().retain(|held| !gone.iter().any(|gone| Arc::ptr_eq(held, gone)));
    }
}

impl Log {
    /// A segment is about to be read: its files stay open for a while, and those of another are closed.
    /// Everybody who reads a segment that may be sealed says so.
    pub(super) fn use_files(&self, segment: &Arc<Segment>) {
        if !self.segments.is_last(segment.base())
            && let Some(other) = self.open_files.note(segment)
        {
            self.close_files(&other);
        }
    }

    /// Closes the files of a sealed segment; who reads them still can. A file with something in it that was
    /// not synced is kept open: if the system cannot write it, it may tell nobody but those who hold it.
    pub(super) fn close_files(&self, segment: &Segment) {
        if !self.segments.is_last(segment.base()) && segment.extent().end <= self.durable_point() {
            segment.close_files();
        }
    }
}

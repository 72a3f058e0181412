//! A state in memory, kept in one file together with its positions.

mod file;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::projection::positions::Positions;
use crate::projection::sink::{Batch, Sink};
use crate::record::ConsumerRecord;

use file::Image;

/// A state in memory that is made from records, one after the other.
///
/// [`apply`](Self::apply) has to depend on the state and the record alone (no clock, no chance, no order of a
/// hash map): what it makes is made again whenever records are read again.
pub trait View: Default + Send + Sync + 'static {
    /// Names the kind of state; a snapshot of another kind is refused.
    const NAME: &'static str;
    /// Rises when old snapshots do not fit any more, or when the state would be made differently.
    const VERSION: u32;
    /// What goes wrong.
    type Error: Into<Box<dyn Error + Send + Sync>>;

    /// Takes a record into the state.
    ///
    /// # Errors
    /// Ends the projection. The state, which may have taken in half of the record, is thrown away.
    fn apply(&mut self, record: &ConsumerRecord) -> Result<(), Self::Error>;

    /// The state as bytes. Readers can go on while it runs, the projection cannot.
    fn encode(&self) -> Vec<u8>;

    /// The state of which these are the bytes.
    ///
    /// # Errors
    /// That they are not; the snapshot is refused.
    fn decode(bytes: &[u8]) -> Result<Self, Self::Error>;
}

/// Why a snapshot cannot be used, or a state not be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no snapshot, or not as it was written.
    #[error("{} is damaged ({flaw}): restore the file, or rebuild the result", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: &'static str,
    },
    /// The snapshot is of another view, or another version of it.
    #[error(
        "{} holds version {version} of {name:?}, and version {wanted_version} of {wanted_name:?} is wanted: \
         rebuild the result",
        path.display()
    )]
    OtherView {
        /// The file.
        path: PathBuf,
        /// The view it was taken of.
        name: String,
        /// The view's version.
        version: u32,
        /// The view that is wanted.
        wanted_name: &'static str,
        /// Its version.
        wanted_version: u32,
    },
    /// The view refuses its bytes, or a record.
    #[error("{0}")]
    View(#[source] Box<dyn Error + Send + Sync>),
    /// The state was lost when a record could not be applied.
    #[error(transparent)]
    Failed(#[from] ViewFailed),
}

/// A record could not be applied, and the state was thrown away. The snapshot has what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the view has failed at a record: open its projection again")]
pub struct ViewFailed;

/// A [`Sink`] that keeps a [`View`] in memory, and a snapshot of it and its positions in one file.
///
/// The file is written every now and then and when the projection ends; what was applied since is read again
/// at the next start. A new file takes the place of the old one in one step and only once it is on the disk,
/// so a crash leaves one or the other. One process at a time may use a file.
pub struct Snapshot<V> {
    path: Arc<Path>,
    state: Arc<RwLock<State<V>>>,
    every_records: usize,
    every: Duration,
    unsaved: usize,
    saved_at: Instant,
}

/// A state and its positions, which change together. The lock is never held across an await.
struct State<V> {
    /// None once it has failed.
    view: Option<V>,
    positions: Positions,
}

/// Reads the state of a [`Snapshot`] while its projection runs. Clones read the same.
pub struct SnapshotReader<V> {
    state: Arc<RwLock<State<V>>>,
}

impl<V: View> Snapshot<V> {
    /// In this file; it need not exist, its folder has to.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let state = State { view: Some(V::default()), positions: Positions::default() };
        Self {
            path: path.as_ref().into(),
            state: Arc::new(RwLock::new(state)),
            every_records: 100_000,
            every: Duration::from_secs(60),
            unsaved: 0,
            saved_at: Instant::now(),
        }
    }

    /// How many records are applied before the file is written again. Default: 100,000.
    #[must_use]
    pub fn every_records(mut self, records: usize) -> Self {
        self.every_records = records.max(1);
        self
    }

    /// After how long the file is written again, if a record arrives. Default: a minute.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time;
        self
    }

    /// Reads the state. It begins with the default one, and has what the file holds once the projection is open.
    #[must_use]
    pub fn reader(&self) -> SnapshotReader<V> {
        SnapshotReader { state: self.state.clone() }
    }

    /// Writes the file.
    async fn save(&mut self) -> Result<(), SnapshotError> {
        let bytes = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let view = state.view.as_ref().ok_or(ViewFailed)?;
            let encoded = view.encode();
            file::encode(&Image { name: V::NAME, version: V::VERSION, state: &encoded }, &state.positions)
        };
        let path = self.path.clone();
        on_a_thread(move || file::replace(&path, &bytes)).await.map_err(self.io())?;
        self.unsaved = 0;
        self.saved_at = Instant::now();
        Ok(())
    }

    fn restored(&self, bytes: &[u8]) -> Result<State<V>, SnapshotError> {
        let path = || self.path.to_path_buf();
        let (image, positions) =
            file::decode(bytes).map_err(|flaw| SnapshotError::Damaged { path: path(), flaw })?;
        if (image.name, image.version) != (V::NAME, V::VERSION) {
            return Err(SnapshotError::OtherView {
                path: path(),
                name: image.name.to_owned(),
                version: image.version,
                wanted_name: V::NAME,
                wanted_version: V::VERSION,
            });
        }
        let view = V::decode(image.state).map_err(|error| SnapshotError::View(error.into()))?;
        Ok(State { view: Some(view), positions })
    }

    fn put(&self, state: State<V>) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn io(&self) -> impl FnOnce(std::io::Error) -> SnapshotError + use<V> {
        let path = self.path.to_path_buf();
        move |source| SnapshotError::Io { path, source }
    }
}

impl<V: View> Sink for Snapshot<V> {
    type Error = SnapshotError;

    async fn load(&mut self) -> Result<Positions, SnapshotError> {
        let path = self.path.clone();
        let Some(bytes) = on_a_thread(move || file::read(&path)).await.map_err(self.io())? else {
            return Ok(Positions::default());
        };
        let state = self.restored(&bytes)?;
        let positions = state.positions.clone();
        self.put(state);
        Ok(positions)
    }

    async fn apply(&mut self, batch: &Batch, positions: &Positions) -> Result<(), SnapshotError> {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            // Whatever interrupts what follows leaves no state behind rather than half a one.
            let mut view = state.view.take().ok_or(ViewFailed)?;
            for record in batch.iter() {
                view.apply(record).map_err(|error| SnapshotError::View(error.into()))?;
            }
            state.view = Some(view);
            state.positions = positions.clone();
        }
        self.unsaved += batch.len();
        if self.unsaved >= self.every_records || (self.unsaved > 0 && self.saved_at.elapsed() >= self.every) {
            self.save().await?;
        }
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), SnapshotError> {
        let path = self.path.clone();
        on_a_thread(move || file::remove(&path)).await.map_err(self.io())?;
        self.put(State { view: Some(V::default()), positions: Positions::default() });
        Ok(())
    }

    async fn close(&mut self) -> Result<(), SnapshotError> {
        self.save().await
    }
}

impl<V> SnapshotReader<V> {
    /// Looks at the state, between two batches. While the closure runs the projection waits.
    ///
    /// # Errors
    /// [`ViewFailed`].
    pub fn read<R>(&self, look: impl FnOnce(&V) -> R) -> Result<R, ViewFailed> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.view.as_ref().map(look).ok_or(ViewFailed)
    }
}

impl<V> Clone for SnapshotReader<V> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<V> fmt::Debug for SnapshotReader<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotReader")
    }
}

impl<V> fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Disks are slow, and the thread that called has other tasks.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

//! The names on a simulated disk: what the process sees, and what would survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(usize),
}

/// A folder sorts before what is in it.
type Tree = BTreeMap<Arc<Path>, Node>;

/// A change of names that no sync of their folder has made durable. A rename is one: both names or none.
#[derive(Clone, Debug)]
enum Change {
    Made { path: Arc<Path>, node: Node },
    Removed { path: Arc<Path> },
    Renamed { from: Arc<Path>, to: Arc<Path>, node: Node },
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Made { path, node } => drop(tree.insert(Arc::clone(path), *node)),
            Self::Removed { path } => drop(tree.remove(path)),
            Self::Renamed { from, to, node } => {
                tree.remove(from);
                tree.insert(Arc::clone(to), *node);
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &Arc<Path>> {
        let (first, second) = match self {
            Self::Made { path, .. } | Self::Removed { path } => (path, None),
            Self::Renamed { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Made { path, .. } | Self::Removed { path } | Self::Renamed { to: path, .. } => {
                path.parent() == Some(dir)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    seen: Tree,
    durable: Tree,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = Tree::from([(Arc::from(Path::new("/")), Node::Dir)]);
        Self { seen: root.clone(), durable: root, unsynced: Vec::new() }
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<Node> {
        self.seen.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|parent| self.node(parent)) {
            Some(Ok(Node::Dir)) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn in_dir(&self, dir: &Path) -> impl Iterator<Item = &Arc<Path>> {
        self.below(dir).filter(move |path| path.parent() == Some(dir))
    }

    /// The folder itself and everything in it.
    fn below(&self, dir: &Path) -> impl Iterator<Item = &Arc<Path>> {
        let from = self.seen.range::<Path, _>((std::ops::Bound::Included(dir), std::ops::Bound::Unbounded));
        from.map(|(path, _)| path).take_while(move |path| path.starts_with(dir))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Path, Node)> {
        self.seen.iter().map(|(path, node)| (&**path, *node))
    }

    pub(super) fn make(&mut self, path: &Path, node: Node) {
        self.change(Change::Made { path: Arc::from(path), node });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.node(from)?;
        self.parent_is_there(to)?;
        self.change(Change::Renamed { from: Arc::from(from), to: Arc::from(to), node });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.node(path)?;
        self.change(Change::Removed { path: Arc::from(path) });
        Ok(())
    }

    pub(super) fn remove_tree(&mut self, path: &Path) -> io::Result<()> {
        self.node(path)?;
        let all: Vec<_> = self.below(path).map(Arc::clone).collect();
        for path in all.into_iter().rev() {
            self.change(Change::Removed { path });
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        for change in self.unsynced.extract_if(.., |change| change.is_in(dir)) {
            change.apply(&mut self.durable);
        }
    }

    /// The power fails: of what was not synced the dice keep some. Tells whether anything was lost.
    pub(super) fn lose_power(&mut self, mut dice: Option<&mut Dice>) -> bool {
        let mut lost = BTreeSet::new();
        for change in self.unsynced.drain(..) {
            // Changes of different names come in any order; a later change of the same name rests on the first.
            let rests_on_lost = change.paths().any(|path| lost.contains(path));
            match !rests_on_lost && dice.as_mut().is_some_and(|dice| dice.flip()) {
                true => change.apply(&mut self.durable),
                false => lost.extend(change.paths().map(Arc::clone)),
            }
        }
        // What lies in a folder that is gone is gone too.
        let mut reachable = Tree::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            if path.parent().is_none_or(|parent| reachable.get(parent) == Some(&Node::Dir)) {
                reachable.insert(path, node);
            }
        }
        self.seen.clone_from(&reachable);
        self.durable = reachable;
        !lost.is_empty()
    }
}

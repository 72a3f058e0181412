//! The places in which a broker's setting can be written, one over the other.

use super::{Knob, Written};

/// A place in which a broker's settings are written. The later one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The file, the environment, the command line: before the broker starts.
    AtStart,
    /// Set while it runs, for all brokers.
    AllBrokers,
    /// Set while it runs, for this one.
    ThisBroker,
}

/// What was written in each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) at_start: Written,
    pub(crate) all_brokers: Written,
    pub(crate) this_broker: Written,
}

impl Layers {
    /// What was written in one of them.
    pub(crate) fn written(&self, layer: Layer) -> &Written {
        match layer {
            Layer::AtStart => &self.at_start,
            Layer::AllBrokers => &self.all_brokers,
            Layer::ThisBroker => &self.this_broker,
        }
    }

    /// The same with one of them replaced.
    pub(crate) fn with(&self, layer: Layer, written: Written) -> Self {
        let mut next = self.clone();
        match layer {
            Layer::AtStart => next.at_start = written,
            Layer::AllBrokers => next.all_brokers = written,
            Layer::ThisBroker => next.this_broker = written,
        }
        next
    }

    /// Every value of a knob with its place, the one that holds first.
    pub(crate) fn values(&self, knob: &Knob) -> impl Iterator<Item = (Layer, &str)> {
        [Layer::ThisBroker, Layer::AllBrokers, Layer::AtStart]
            .into_iter()
            .filter_map(|layer| Some((layer, self.written(layer).get(knob.name)?.as_str())))
    }

    /// What holds.
    pub(super) fn flat(&self) -> Written {
        let mut flat = self.at_start.clone();
        flat.extend(self.all_brokers.clone());
        flat.extend(self.this_broker.clone());
        flat
    }
}

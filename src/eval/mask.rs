//! Candidates: what becomes of every layer.

use crate::arch::{Half, KeepSet};
use crate::model::{Form, Mend};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A candidate: what becomes of each layer.
pub trait Mask: Sync {
    /// How states go through a layer.
    fn form(&self, layer: usize) -> Form<'_>;
}

impl Mask for KeepSet {
    fn form(&self, layer: usize) -> Form<'_> {
        let half = self.half(layer);
        match self.contains(layer) {
            true => Form {
                attention: half != Some(Half::Mlp),
                mlp: half != Some(Half::Attention),
                ..Form::WHOLE
            },
            false => Form::GONE,
        }
    }
}

/// A keep set with what makes up for the layers that are gone.
#[derive(Clone)]
pub struct Mended {
    /// What stays.
    pub keep: KeepSet,
    /// By the last layer before a cut, original index. Candidates that share a mend share the
    /// states behind it.
    pub mends: BTreeMap<usize, Arc<Mend>>,
}

impl Mask for Mended {
    fn form(&self, layer: usize) -> Form<'_> {
        Form {
            mend: self.mends.get(&layer).map(Arc::as_ref),
            ..self.keep.form(layer)
        }
    }
}

/// The whole model, or without one attention head: (layer, head).
pub struct WithoutHead(pub Option<(usize, usize)>);

impl Mask for WithoutHead {
    fn form(&self, layer: usize) -> Form<'_> {
        let head = self.0.filter(|(of, _)| *of == layer);
        Form {
            without_head: head.map(|(_, head)| head),
            ..Form::WHOLE
        }
    }
}

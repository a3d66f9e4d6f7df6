//! A checkpoint that is ready to be asked.

use crate::arch::Arch;
use crate::checkpoint::Checkpoint;
use crate::convert::vocabulary::{TextTokenizer, runnable};
use crate::eval::Progress;
use crate::model::{Compute, Model, Resources};
use crate::report::ModelFile;
use anyhow::{Context, Result};
use std::path::Path;

pub(super) struct Subject {
    pub(super) checkpoint: Checkpoint,
    pub(super) model: Model,
    pub(super) tokenizer: TextTokenizer,
    compute: Compute,
}

impl Subject {
    pub(super) fn open(
        path: &Path,
        resources: &Resources,
        progress: &dyn Progress,
    ) -> Result<Self> {
        Self::load(Checkpoint::open(path)?, resources, progress)
    }

    pub(super) fn load(
        checkpoint: Checkpoint,
        resources: &Resources,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let n_layers = Arch::of(&checkpoint)?.n_layers(&checkpoint)?;
        progress.begin("loading", n_layers as u64);
        let tokenizer = runnable(&checkpoint)
            .with_context(|| format!("{}: tokenizer", checkpoint.path().display()))?;
        let model = Model::open(&checkpoint, resources, |_, _| progress.advance(1))?;
        Ok(Self {
            checkpoint,
            model,
            tokenizer,
            compute: resources.compute,
        })
    }

    /// The same model on further devices.
    pub(super) fn on(
        &self,
        resources: &[Resources],
        progress: &dyn Progress,
    ) -> Result<Vec<Model>> {
        let open = |resources: &Resources| {
            progress.begin("loading", self.model.n_layers() as u64);
            Model::open(&self.checkpoint, resources, |_, _| progress.advance(1))
        };
        resources.iter().map(open).collect()
    }

    /// The type in which products are made: numbers of different types are not of one run.
    pub(super) fn compute(&self) -> String {
        self.compute.to_string()
    }

    pub(super) fn file(&self) -> Result<ModelFile> {
        Ok(ModelFile {
            path: self.checkpoint.path().display().to_string(),
            bytes: self.checkpoint.total_bytes(),
            n_layers: self.model.n_layers(),
            sha256: self.checkpoint.sha256()?,
        })
    }
}

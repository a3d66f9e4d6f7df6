//! Records on disk, a line each as they are measured: what a run that was killed is taken up from,
//! what shards are merged of.

use super::{Profile, Record, SCHEMA_VERSION, Shard, assemble};
use crate::eval::{Header, Identity, JsonLines, difference};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The version of the samples' format.
pub const SAMPLES_VERSION: u32 = 1;

/// What a scoring run is of. Records of the same run make a profile together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The version of this format.
    pub schema_version: u32,
    /// slim's version.
    pub slim: String,
    /// The share of the run that is measured here.
    pub shard: Shard,
    /// The checkpoint's file name.
    pub model: String,
    /// Its digest.
    pub model_sha256: String,
    /// Its layers.
    pub n_layers: usize,
    /// The type in which products are made.
    pub compute: String,
    /// The suite's name.
    pub suite: String,
    /// Items asked of each family.
    pub items_per_family: usize,
    /// Digest of the questions, token by token.
    pub asked: String,
    /// The tokens of every portion of the whole run.
    pub portions: Vec<u64>,
}

impl Run {
    /// The portions that are measured here.
    pub fn share(&self) -> Vec<usize> {
        self.shard.share(&self.portions)
    }

    /// The profile of all portions.
    ///
    /// # Errors
    /// Some are missing; the message names the shards that measure them.
    pub fn profile(&self, samples: Samples) -> Result<Profile> {
        let owners = self.shard.owners(&self.portions);
        let missing = |(portion, _): &(usize, Shard)| !samples.has(*portion);
        let missing: Vec<(usize, Shard)> = owners.into_iter().enumerate().filter(missing).collect();
        let shards: BTreeSet<Shard> = missing.iter().map(|(_, owner)| *owner).collect();
        let shards: Vec<String> = shards.iter().map(Shard::to_string).collect();
        ensure!(
            missing.is_empty(),
            "{} of {} portions are missing: shard {}. Score what is left (--shard {}) with the same \
             model and options; in the file that it had, a shard goes on where it was",
            missing.len(),
            self.portions.len(),
            shards.join(", "),
            shards.first().map_or("", String::as_str),
        );
        let records: Vec<Record> = samples.records.into_values().collect();
        let (original, layers) = assemble(self.n_layers, &records);
        Ok(Profile {
            schema_version: SCHEMA_VERSION,
            slim: self.slim.clone(),
            model: self.model.clone(),
            model_sha256: self.model_sha256.clone(),
            suite: self.suite.clone(),
            items_per_family: self.items_per_family,
            original,
            layers,
        })
    }
}

impl Header for Run {
    const FILE_OF: &'static str = "samples that slim score wrote";

    fn identity(&self) -> Identity {
        let mut identity = self.common();
        identity.push(("the shard", self.shard.to_string()));
        identity
    }
}

impl Run {
    fn check(&self, path: &Path, records: &[Record]) -> Result<()> {
        let n_portions = self.portions.len();
        let checked = records
            .iter()
            .try_for_each(|r| r.check(self.n_layers, n_portions));
        checked.with_context(|| path.display().to_string())
    }

    /// What all shards of a run have in common; the name of a file may differ.
    fn common(&self) -> Identity {
        vec![
            ("the version of the format", self.schema_version.to_string()),
            ("slim's version", self.slim.clone()),
            ("the model", self.model_sha256.clone()),
            ("the number of layers", self.n_layers.to_string()),
            ("--compute", self.compute.clone()),
            ("the suite", self.suite.clone()),
            ("--calibrate-items", self.items_per_family.to_string()),
            ("the questions", self.asked.clone()),
            ("the portions", format!("{:?}", self.portions)),
        ]
    }
}

/// What was measured so far: in memory, and in a file where one was named.
#[derive(Default)]
pub struct Samples {
    file: Option<JsonLines>,
    records: BTreeMap<usize, Record>,
}

impl Samples {
    /// Opens a file of samples: a new one, or one of the same run and shard.
    ///
    /// # Errors
    /// The file is of another run, is no such file, or cannot be written.
    pub fn open(path: &Path, run: &Run) -> Result<Self> {
        let (file, records) = JsonLines::open::<_, Record>(path, run)?;
        run.check(path, &records)?;
        let records = records.into_iter().map(|record| (record.portion, record));
        Ok(Self {
            file: Some(file),
            records: records.collect(),
        })
    }

    /// Whether a portion is measured.
    pub fn has(&self, portion: usize) -> bool {
        self.records.contains_key(&portion)
    }

    /// Portions that are measured.
    pub fn known_count(&self) -> usize {
        self.records.len()
    }

    /// Takes in a portion that was just measured.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn add(&mut self, record: Record) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.push(std::slice::from_ref(&record))?;
        }
        self.records.insert(record.portion, record);
        Ok(())
    }
}

/// The profile that one machine would have made, from the samples of several.
///
/// # Errors
/// A file is none of samples, or of another run than the first; a portion is missing or stands
/// there twice.
pub fn merge(paths: &[PathBuf]) -> Result<Profile> {
    let mut first: Option<(&Path, Run)> = None;
    let mut holders: BTreeMap<usize, &Path> = BTreeMap::new();
    let mut samples = Samples::default();
    for path in paths {
        let (run, records) = read(path)?;
        let (first_path, first) = first.get_or_insert_with(|| (path, run.clone()));
        if let Some((what, there, here)) = difference(first.common(), run.common()) {
            bail!(
                "{} and {} are not of one run, {what} differ(s): {there} and {here}. Merge the \
                 shards of one",
                first_path.display(),
                path.display()
            );
        }
        for record in records {
            if let Some(other) = holders.insert(record.portion, path) {
                bail!(
                    "portion {} stands in {} and in {} (shard {}): give each shard once",
                    record.portion,
                    other.display(),
                    path.display(),
                    run.shard
                );
            }
            samples.records.insert(record.portion, record);
        }
    }
    let (_, run) = first.context("no files of samples: name those of all shards")?;
    run.profile(samples)
}

/// What stands in a file.
fn read(path: &Path) -> Result<(Run, Vec<Record>)> {
    let (run, records) = JsonLines::read::<Run, Record>(path)?;
    ensure!(
        run.schema_version == SAMPLES_VERSION,
        "{} has samples of version {}, this slim reads {SAMPLES_VERSION}: score the shard again",
        path.display(),
        run.schema_version
    );
    run.check(path, &records)?;
    Ok((run, records))
}

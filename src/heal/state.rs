//! A training on disk: one file that is replaced whole, so that whatever is there belongs together.

use super::course::Course;
use crate::checkpoint::{DType, Data, OutTensor, safetensors};
use crate::eval::{Identity, difference};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Version of the state's layout.
pub const STATE_VERSION: u32 = 1;

/// The file in the folder of a state.
const FILE: &str = "state.safetensors";

/// The field of its header that says all but the numbers.
const ABOUT: &str = "slim.heal";

/// What a training is of: only the same one is taken up. When it ends may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// slim's version.
    pub slim: String,
    /// SHA-256 of the original.
    pub original_sha256: String,
    /// SHA-256 of the pruned model.
    pub pruned_sha256: String,
    /// Digest of the tokens.
    pub text: String,
    /// The type in which products are made.
    pub compute: String,
    /// What trains.
    pub train: String,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Tokens a step.
    pub batch_tokens: usize,
    /// What the distance of states weighs beside the divergence.
    pub hidden_weight: f64,
    /// Where the order of the texts comes from.
    pub seed: u64,
}

impl Run {
    fn identity(&self) -> Identity {
        vec![
            ("slim's version", self.slim.clone()),
            ("the original", self.original_sha256.clone()),
            ("the pruned model", self.pruned_sha256.clone()),
            ("the text or --sequence-length", self.text.clone()),
            ("--compute", self.compute.clone()),
            ("--train", self.train.clone()),
            ("--learning-rate", self.learning_rate.to_string()),
            ("--batch-tokens", self.batch_tokens.to_string()),
            ("--hidden-weight", self.hidden_weight.to_string()),
            ("--seed", self.seed.to_string()),
        ]
    }
}

/// The header's text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    schema_version: u32,
    run: Run,
    course: Course,
}

/// A folder in which a training is kept. While it is open, no other process may open it.
pub struct State {
    file: PathBuf,
    run: Run,
    _lock: File,
}

/// Numbers by name.
pub type Numbers = HashMap<String, Tensor>;

impl State {
    /// Opens a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Another process has it open; the system cannot make or open it.
    pub fn open(folder: &Path, run: &Run) -> Result<Self> {
        let what = || format!("{}: the folder of --state", folder.display());
        std::fs::create_dir_all(folder).with_context(what)?;
        let lock = File::open(folder).with_context(what)?;
        // File systems without locks go without.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            bail!(
                "{}: another slim heals there at this moment. Wait for it, or name another folder",
                folder.display()
            );
        }
        Ok(Self {
            file: folder.join(FILE),
            run: run.clone(),
            _lock: lock,
        })
    }

    /// What is kept, if something is.
    ///
    /// # Errors
    /// It is of another run, is no such file, or cannot be read.
    pub fn read(&self) -> Result<Option<(Course, Numbers)>> {
        let file = self.file.display();
        if !self.file.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&self.file).with_context(|| format!("reading {file}"))?;
        let none = || {
            format!("{file} is no state that this slim reads: remove it, or name another --state")
        };
        let (_, header) = ::safetensors::SafeTensors::read_metadata(&bytes).with_context(none)?;
        let about = header.metadata().as_ref().and_then(|m| m.get(ABOUT));
        let about: Option<About> = about.and_then(|text| serde_json::from_str(text).ok());
        let about = about.filter(|about| about.schema_version == STATE_VERSION);
        let about = about.with_context(none)?;
        if let Some((what, there, here)) = difference(about.run.identity(), self.run.identity()) {
            bail!(
                "{file} is of another run, {what} differ(s): {there} there, {here} here. Name \
                 another --state, or remove this one to start afresh"
            );
        }
        let numbers = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        Ok(Some((about.course, numbers.with_context(none)?)))
    }

    /// Replaces what is kept. When it returns, it is on the disk.
    ///
    /// # Errors
    /// The system cannot write.
    pub fn write(&self, course: &Course, numbers: &[(String, Tensor)]) -> Result<()> {
        let about = About {
            schema_version: STATE_VERSION,
            run: self.run.clone(),
            course: course.clone(),
        };
        let about = BTreeMap::from([(ABOUT.to_owned(), serde_json::to_string(&about)?)]);
        let tensors: Vec<OutTensor> = numbers.iter().map(out).collect();
        Ok(safetensors::write(&self.file, &about, &tensors, &|_| {})?)
    }
}

fn out((name, values): &(String, Tensor)) -> OutTensor<'_> {
    OutTensor {
        name: name.clone(),
        dtype: DType::F32,
        shape: values.dims().iter().map(|&dim| dim as u64).collect(),
        data: Data::Stream(Box::new(move |out: &mut dyn Write| {
            for value in values.flatten_all()?.to_vec1::<f32>()? {
                out.write_all(&value.to_le_bytes())?;
            }
            Ok(())
        })),
    }
}

/// Takes a tensor of a known shape out of numbers.
///
/// # Errors
/// There is none, or one of another shape or type.
pub fn take(numbers: &mut Numbers, name: &str, like: &Tensor) -> Result<Tensor> {
    let found = numbers.remove(name);
    let found = found.with_context(|| format!("the state has no {name}"))?;
    ensure!(
        found.dims() == like.dims() && found.dtype() == like.dtype(),
        "the state's {name} is a {:?} of the shape {:?}, not {:?}",
        found.dtype(),
        found.dims(),
        like.dims()
    );
    Ok(found.to_device(like.device())?)
}

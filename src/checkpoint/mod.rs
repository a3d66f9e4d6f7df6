//! Opens, reads and writes checkpoints: GGUF files, safetensors files, Hugging Face folders.
//!
//! A file is mapped, its header is checked once, and from then on tensors are ranges of bytes that
//! are copied or read on demand: memory stays small whatever the model's size. Outputs appear
//! whole or not at all.

mod atomic;
mod byte_size;
mod deal;
mod dtype;
mod error;
mod file;
pub mod gguf;
mod hf;
pub mod hub;
mod interrupt;
mod output;
pub mod safetensors;
mod sniff;

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

pub(crate) use atomic::parent_of;
pub use atomic::{AtomicDir, AtomicFile, check_target, check_target_folder};
pub use byte_size::ByteSize;
pub use dtype::DType;
pub use error::{BoxError, Error};
pub use hf::HfFiles;
pub use interrupt::clean_up_on_signals;
pub use output::{Data, OutTensor, Producer};

use file::MappedFile;
pub(crate) use file::hex;
use sniff::{Sniffed, sniff};

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in its own format.
    pub name: String,
    /// How its elements are stored.
    pub dtype: DType,
    /// Outermost dimension first, as Hugging Face prints it; GGUF's `ne` reversed.
    pub shape: Vec<u64>,
    /// Which of the checkpoint's files.
    pub file: usize,
    /// Its bytes in that file.
    pub range: Range<u64>,
}

/// How a checkpoint lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// GGUF: one file, or a split one.
    Gguf,
    /// One safetensors file, its config.json beside it.
    Safetensors,
    /// A folder with config.json and `model.safetensors` or shards.
    HfFolder,
}

/// What belongs to one format only.
#[derive(Debug)]
enum Kind {
    Gguf(gguf::Metadata),
    Hf(HfFiles),
}

/// An open checkpoint. A clone shares the open files and the metadata.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    kind: Arc<Kind>,
    files: Vec<Arc<MappedFile>>,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<usize>,
    /// The digest, once it was asked for.
    digest: OnceLock<String>,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`: a folder by its `config.json`, a file by its content.
    ///
    /// # Errors
    /// Whatever is there is no checkpoint, is damaged, or cannot be read: see [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let about = fs::metadata(path).map_err(Error::io("open", path))?;
        if about.is_dir() {
            return Self::open_folder(path);
        }
        let not_one = |found: &str| Error::NotACheckpoint {
            path: path.to_owned(),
            found: found.to_owned(),
        };
        if !about.is_file() {
            return Err(not_one("it is no regular file"));
        }
        match sniff(path)? {
            Sniffed::Gguf => Self::open_gguf(path),
            Sniffed::Safetensors => Self::open_safetensors(path),
            Sniffed::Other(found) => Err(not_one(found)),
        }
    }

    /// What people call it: the name of its file or folder; of one from the hub `owner/name@COMMIT`, a GGUF
    /// file's own name behind it.
    pub fn name(&self) -> String {
        let own = |path: &Path| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            name.to_string_lossy().into_owned()
        };
        match (hub::Cached::at(&self.path), self.format) {
            (Some(hub::Cached { id, commit }), Format::HfFolder) => format!("{id}@{commit}"),
            (Some(hub::Cached { id, commit }), _) => format!("{id}@{commit}/{}", own(&self.path)),
            (None, _) if self.path.file_name().is_some() => own(&self.path),
            // Of `.` the folder's name.
            (None, _) => own(&self.path.canonicalize().unwrap_or_default()),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, Error> {
        let gguf::Contents {
            metadata,
            files,
            tensors,
        } = gguf::read(path)?;
        // Whichever part was given, the checkpoint is called by its first.
        let path = files.first().map_or(path, |file| &file.path).to_owned();
        Self::new(&path, Format::Gguf, Kind::Gguf(metadata), files, tensors)
    }

    fn open_safetensors(path: &Path) -> Result<Self, Error> {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        refuse_lone_shard(dir, path)?;
        Self::open_hf(path, Format::Safetensors, dir, &[path.to_owned()])
    }

    fn open_folder(dir: &Path) -> Result<Self, Error> {
        let (files, index) = hf::weight_files(dir)?;
        let checkpoint = Self::open_hf(dir, Format::HfFolder, dir, &files)?;
        if let Some(index) = index {
            checkpoint.agrees_with(&index)?;
        }
        Ok(checkpoint)
    }

    fn open_hf(path: &Path, format: Format, dir: &Path, files: &[PathBuf]) -> Result<Self, Error> {
        let mut hf = HfFiles::read(dir)?;
        let mut mapped = Vec::with_capacity(files.len());
        let mut tensors = Vec::new();
        for file in files {
            let file = Arc::new(MappedFile::open(file)?);
            let header = safetensors::read(&file, mapped.len())?;
            for (key, value) in header.metadata {
                hf.header_metadata.entry(key).or_insert(value);
            }
            tensors.extend(header.tensors);
            mapped.push(file);
        }
        Self::new(path, format, Kind::Hf(hf), mapped, tensors)
    }

    fn new(
        path: &Path,
        format: Format,
        kind: Kind,
        files: Vec<Arc<MappedFile>>,
        tensors: Vec<TensorInfo>,
    ) -> Result<Self, Error> {
        let name = |i: &usize| tensors.get(*i).map(|t| t.name.as_str());
        let mut by_name: Vec<usize> = (0..tensors.len()).collect();
        by_name.sort_by_key(name);
        // One file has been checked by its reader; two shards can still hold the same name.
        let twins = by_name.windows(2).find(|pair| {
            let mut names = pair.iter().map(name);
            names.next() == names.next()
        });
        if let Some(twins) = twins {
            let twins: Vec<_> = twins.iter().filter_map(|&i| tensors.get(i)).collect();
            return Err(double_tensor(path, &files, &twins));
        }
        Ok(Self {
            path: path.to_owned(),
            format,
            kind: Arc::new(kind),
            files,
            tensors,
            by_name,
            digest: OnceLock::new(),
        })
    }

    fn agrees_with(&self, index: &hf::Index) -> Result<(), Error> {
        for (tensor, shard) in &index.weight_map {
            let file = self.tensor(tensor).and_then(|t| self.files.get(t.file));
            if !file.is_some_and(|file| file.path.ends_with(shard)) {
                return Err(Error::layout(
                    &index.path,
                    format!(
                        "promises the tensor {tensor} in {shard}, which does not hold it; fetch that shard again"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The path that was opened; of a split GGUF file, its first part.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it lies on disk.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All tensors: shards in order, and within a file GGUF's header order or safetensors' data
    /// order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let tensor = |i: &usize| self.tensors.get(*i);
        let at = self
            .by_name
            .binary_search_by_key(&Some(name), |i| tensor(i).map(|t| t.name.as_str()));
        self.by_name.get(at.ok()?).and_then(tensor)
    }

    /// The tensor's bytes, mapped: pages are read when touched and stay until [`release`]d or
    /// until the system needs the memory.
    ///
    /// # Panics
    /// The tensor is of another checkpoint.
    ///
    /// [`release`]: Self::release
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        self.file_of(tensor).slice(&tensor.range).expect(FOREIGN)
    }

    /// Where the tensor's bytes lie, for copying them without reading.
    ///
    /// # Panics
    /// The tensor is of another checkpoint.
    pub fn source(&self, tensor: &TensorInfo) -> (&File, Range<u64>) {
        (&self.file_of(tensor).file, tensor.range.clone())
    }

    /// Gives the tensor's pages back to the system, so that streaming through a checkpoint keeps
    /// memory small. Using the tensor again only reads it again.
    ///
    /// # Panics
    /// The tensor is of another checkpoint.
    pub fn release(&self, tensor: &TensorInfo) {
        self.file_of(tensor).release(&tensor.range);
    }

    fn file_of(&self, tensor: &TensorInfo) -> &MappedFile {
        self.files.get(tensor.file).expect(FOREIGN)
    }

    /// The metadata of a GGUF file.
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        match &*self.kind {
            Kind::Gguf(metadata) => Some(metadata),
            Kind::Hf(_) => None,
        }
    }

    /// The files of a Hugging Face layout.
    pub fn hf(&self) -> Option<&HfFiles> {
        match &*self.kind {
            Kind::Hf(files) => Some(files),
            Kind::Gguf(_) => None,
        }
    }

    /// The files that hold the tensors: one, or all shards in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The size of the files that hold the tensors, headers included.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes().len() as u64).sum()
    }

    /// SHA-256 of the content, in hexadecimal: of one file, what `sha256sum FILE` prints; of
    /// shards, what `sha256sum model-*.safetensors | sha256sum` or `sha256sum NAME-*-of-0000N.gguf |
    /// sha256sum` prints in their folder (the digest of the lines `digest␠␠name`, in order).
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn sha256(&self) -> Result<String, Error> {
        if let Some(known) = self.digest.get() {
            return Ok(known.clone());
        }
        let digest = self.read_sha256()?;
        Ok(self.digest.get_or_init(|| digest).clone())
    }

    fn read_sha256(&self) -> Result<String, Error> {
        if let [file] = self.files.as_slice() {
            return file.sha256();
        }
        let mut lines = Sha256::new();
        for file in &self.files {
            let name = file.name().to_string_lossy();
            lines.update(format!("{}  {name}\n", file.sha256()?));
        }
        Ok(hex(&lines.finalize()))
    }
}

/// A mistake in slim, not in a file: every range of this checkpoint was checked when it was opened.
const FOREIGN: &str = "a tensor of this checkpoint";

/// What to say of two shards with one name between them.
fn double_tensor(path: &Path, files: &[Arc<MappedFile>], twins: &[&TensorInfo]) -> Error {
    let name = twins.first().map_or("", |tensor| tensor.name.as_str());
    let holders = twins.iter().filter_map(|tensor| files.get(tensor.file));
    let holders: Vec<_> = holders.map(|file| file.name().to_string_lossy()).collect();
    Error::layout(
        path,
        format!(
            "two shards hold the tensor {name}: {}. One of them is of another model; fetch it again",
            holders.join(" and ")
        ),
    )
}

/// A shard opened by itself would look like a model with most tensors missing.
fn refuse_lone_shard(dir: &Path, path: &Path) -> Result<(), Error> {
    let Some(index) = hf::Index::read(dir)? else {
        return Ok(());
    };
    let files = index.files();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if files.len() > 1 && files.contains(name) {
        return Err(Error::layout(
            path,
            format!(
                "is one of {} shards; give the folder {} instead",
                files.len(),
                dir.display()
            ),
        ));
    }
    Ok(())
}

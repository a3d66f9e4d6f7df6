//! A file of JSON lines that grows while a run goes on: the first line says what the run is, every
//! other is a part of it that is finished. A run that was killed is taken up from there.

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// No line is longer; a file without lines is not read into memory whole.
const MAX_LINE: u64 = 1 << 28;

/// What must agree between two runs whose lines may stand together, by name.
pub type Identity = Vec<(&'static str, String)>;

/// The first line of such a file.
pub trait Header: Serialize + DeserializeOwned {
    /// What the file is, as in "is no file of …".
    const FILE_OF: &'static str;

    /// What the run is of.
    fn identity(&self) -> Identity;
}

/// The first thing in which two runs differ, if they do: its name, there and here.
pub fn difference(there: Identity, here: Identity) -> Option<(&'static str, String, String)> {
    let pairs = there.into_iter().zip(here);
    let mut pairs = pairs.map(|((name, there), (_, here))| (name, there, here));
    pairs.find(|(_, there, here)| there != here)
}

/// A file of JSON lines, open for more.
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

/// What stands in a file.
struct Found<H, L> {
    header: Option<H>,
    lines: Vec<L>,
    /// Bytes of whole lines; what follows was cut off by a kill.
    whole: u64,
    /// The first line, if it is the one that was cut off.
    torn: Vec<u8>,
}

impl JsonLines {
    /// Opens a new file, or one of the same run, whose last line may be cut off: that part is not
    /// finished, and its bytes go.
    ///
    /// # Errors
    /// The file is of another run, is no such file, is written to by another process, or cannot be
    /// read or written.
    pub fn open<H: Header, L: DeserializeOwned>(path: &Path, header: &H) -> Result<(Self, Vec<L>)> {
        let what = || format!("{}: the file of {}", path.display(), H::FILE_OF);
        if let Ok(about) = std::fs::metadata(path) {
            ensure!(about.is_file(), no_such_file::<H>(path));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(path).with_context(what)?;
        // A scheduler may start a task twice. File systems without locks go without.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            bail!(
                "{}: another slim writes to it at this moment. Wait for it, or name another file",
                path.display()
            );
        }
        let found: Found<H, L> = scan(path, &file)?;
        let first = serde_json::to_string(header)? + "\n";
        match &found.header {
            Some(there) => same_run(path, there, header)?,
            None => ensure!(
                first.as_bytes().starts_with(&found.torn),
                no_such_file::<H>(path)
            ),
        }
        let path = path.to_owned();
        let mut lines = Self { path, file };
        lines.file.set_len(found.whole).with_context(what)?;
        lines.file.seek(SeekFrom::End(0)).with_context(what)?;
        if found.header.is_none() {
            lines.write(&first)?;
        }
        Ok((lines, found.lines))
    }

    /// Reads a file as it is: the run, and the parts that are finished.
    ///
    /// # Errors
    /// The file cannot be read or is no such file.
    pub fn read<H: Header, L: DeserializeOwned>(path: &Path) -> Result<(H, Vec<L>)> {
        let about =
            std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(about.is_file(), no_such_file::<H>(path));
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let found: Found<H, L> = scan(path, &file)?;
        let header = found.header.with_context(|| no_such_file::<H>(path))?;
        Ok((header, found.lines))
    }

    /// Adds finished parts. When it returns they are on the disk.
    ///
    /// # Errors
    /// The system cannot write.
    pub fn push(&mut self, lines: &[impl Serialize]) -> Result<()> {
        let mut text = String::new();
        for line in lines {
            text += &serde_json::to_string(line)?;
            text.push('\n');
        }
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self.file.write_all(text.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

fn no_such_file<H: Header>(path: &Path) -> String {
    format!(
        "{} is no file of {}: name another one",
        path.display(),
        H::FILE_OF
    )
}

fn same_run<H: Header>(path: &Path, there: &H, here: &H) -> Result<()> {
    match difference(there.identity(), here.identity()) {
        None => Ok(()),
        Some((what, there, here)) => bail!(
            "{} is of another run, {what} differ(s): {there} there, {here} here. Name another file, \
             or remove this one to start afresh",
            path.display()
        ),
    }
}

fn scan<H: Header, L: DeserializeOwned>(path: &Path, file: &File) -> Result<Found<H, L>> {
    let mut found = Found {
        header: None,
        lines: Vec::new(),
        whole: 0,
        torn: Vec::new(),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("reading {}", path.display()))? as u64;
        ensure!(
            read < MAX_LINE,
            "{}: line {number} is longer than any that slim writes",
            path.display()
        );
        if !line.ends_with(b"\n") {
            break;
        }
        match found.header {
            None => {
                let header = serde_json::from_slice(&line).ok();
                found.header = Some(header.with_context(|| no_such_file::<H>(path))?);
            }
            Some(_) => {
                let part = serde_json::from_slice(&line);
                let what = || format!("{}, line {number}: no part of a run", path.display());
                found.lines.push(part.with_context(what)?);
            }
        }
        found.whole += read;
    }
    if found.header.is_none() {
        found.torn = line;
    }
    Ok(found)
}

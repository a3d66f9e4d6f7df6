//! One file's content: fetched, gone on with after an interruption, and checked.

use std::fs::{self, File, OpenOptions};
use std::io::{self as stdio, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::client::{Ask, Client, header};
use super::io;
use super::listing::{Digest, RemoteFile};
use super::retry::{Failure, Patience, interrupted};
use crate::checkpoint::Error;
use crate::checkpoint::file::hex;

const BUFFER: usize = 1 << 20;

/// Makes a file's content be among the blobs. `step` hears how many of its bytes are there.
///
/// # Errors
/// What the client reports; bytes that are not those which were promised; a full disk.
pub(super) fn fetch(
    client: &Client,
    cache: &Cache,
    commit: &str,
    name: &str,
    file: &RemoteFile,
    step: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let blob = cache.blob(&file.digest)?;
    if is_whole(&blob, file) {
        return Ok(());
    }
    let mut partial = Partial::open(&blob)?;
    // Whoever held the lock may have finished it.
    if is_whole(&blob, file) {
        return Ok(());
    }
    let mut patience = Patience::of(client.hub);
    let mut mismatched = false;
    loop {
        let before = partial.len()?;
        let received = receive(client, commit, name, file, &mut partial, step);
        if partial.len()? > before {
            patience.renew();
        }
        match received {
            Ok(()) if partial.hashes_to(file)? => return partial.become_blob(&blob),
            // Perhaps only what an earlier run had left was wrong: once more from the beginning.
            Ok(()) if !mismatched => {
                mismatched = true;
                partial.clear()?;
            }
            Ok(()) => {
                partial.clear()?;
                return Err(client.repo.error(format!(
                    "{name} came with another content than its digest {} promises, twice; nothing \
                     of it was kept. Try again later, or another mirror (HF_ENDPOINT)",
                    file.digest.hex()
                )));
            }
            Err(failure) => patience.wait(client.repo, failure)?,
        }
    }
}

fn is_whole(blob: &Path, file: &RemoteFile) -> bool {
    fs::metadata(blob).is_ok_and(|about| about.is_file() && about.len() == file.size)
}

/// Gets what is missing. All of it is there afterwards, right or wrong.
fn receive(
    client: &Client,
    commit: &str,
    name: &str,
    file: &RemoteFile,
    partial: &mut Partial,
    step: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut have = partial.len().map_err(Failure::Final)?;
    if have > file.size {
        partial.clear().map_err(Failure::Final)?;
        have = 0;
    }
    if have == file.size && have > 0 {
        return Ok(());
    }
    let (linked, answer) = client.get(&client.resolve(commit, name), Ask::From(have))?;
    if linked.digest.is_some_and(|digest| digest != file.digest) {
        let changed = format!("{name} changed while it was fetched; try again");
        return Err(Failure::Final(client.repo.error(changed)));
    }
    let from = match answer.status().as_u16() {
        206 => header(answer.headers(), "content-range").and_then(range_start),
        416 => None,
        _ => Some(0),
    };
    match from {
        Some(from) if from == have => {}
        Some(0) => partial.clear().map_err(Failure::Final)?,
        // A server that cannot go on begins anew.
        _ => {
            partial.clear().map_err(Failure::Final)?;
            return Err(Failure::Passing(
                format!("{name} could not be resumed"),
                None,
            ));
        }
    }
    have = from.unwrap_or(0);
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; BUFFER];
    while have < file.size {
        let room = usize::try_from(file.size - have)
            .unwrap_or(BUFFER)
            .min(BUFFER);
        let read = body.read(buffer.get_mut(..room).unwrap_or_default());
        let bytes = match read {
            Ok(0) => Err(interrupted(&stdio::ErrorKind::UnexpectedEof.into())),
            Ok(n) => Ok(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == stdio::ErrorKind::Interrupted => continue,
            Err(e) => Err(interrupted(&e)),
        }?;
        partial.write(bytes).map_err(Failure::Final)?;
        have += bytes.len() as u64;
        step(have);
    }
    Ok(())
}

/// The first byte of `bytes 100-199/200`.
fn range_start(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// A content that is not whole yet. It stays when slim is interrupted.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// Waits for another slim that is fetching the same content.
    fn open(blob: &Path) -> Result<Self, Error> {
        let path = blob.with_extension("slim-incomplete");
        let open = || -> stdio::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.read(true).create(true).append(true).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        let file = open().map_err(io("open", &path))?;
        Ok(Self { file, path })
    }

    fn len(&self) -> Result<u64, Error> {
        let about = self.file.metadata();
        Ok(about.map_err(io("read", &self.path))?.len())
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(io("write", &self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(io("write", &self.path))
    }

    fn hashes_to(&mut self, file: &RemoteFile) -> Result<bool, Error> {
        let found = match &file.digest {
            Digest::Sha256(_) => self.digest(Sha256::new()),
            Digest::Git(_) => self.digest(Sha1::new_with_prefix(format!("blob {}\0", file.size))),
        };
        Ok(found.map_err(io("read", &self.path))? == file.digest.hex())
    }

    fn digest(&mut self, mut hasher: impl sha2::Digest) -> stdio::Result<String> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(hex(&hasher.finalize())),
                Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == stdio::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn become_blob(self, blob: &Path) -> Result<(), Error> {
        let synced = self.file.sync_all();
        synced.map_err(io("write", &self.path))?;
        fs::rename(&self.path, blob).map_err(io("write", blob))
    }
}

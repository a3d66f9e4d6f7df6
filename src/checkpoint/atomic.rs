//! Outputs that appear whole or not at all.
//!
//! Everything is written beside its target, synced, and only then given the target's name. A crash
//! or a full disk leaves the target as it was.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::{Error, interrupt};

/// Refuses, before any work is done, a file to be written that could not be put into place or
/// would replace one of `inputs`.
///
/// # Errors
/// [`Error::Target`], with what to do instead.
pub fn check_target(target: &Path, inputs: &[&Path]) -> Result<(), Error> {
    let refuse = |problem: &str| Err(Error::target(target, problem));
    check_parent(target)?;
    let Ok(about) = fs::metadata(target) else {
        return match fs::symlink_metadata(target) {
            Ok(_) => refuse("it is a link that leads nowhere; remove it first"),
            Err(_) => Ok(()),
        };
    };
    if about.is_dir() {
        return refuse("it is a folder; give the name of a file in it");
    }
    if !about.is_file() {
        return refuse("it is no regular file; give the name of a new file");
    }
    if inputs.iter().any(|input| same_file(&about, input)) {
        return refuse("it is the file that is read; give another name");
    }
    if rustix::fs::access(target, Access::WRITE_OK).is_err() {
        return refuse("it exists and is write-protected; remove it or give another name");
    }
    Ok(())
}

/// The same for a folder to be written: it must be absent or empty.
///
/// # Errors
/// [`Error::Target`], with what to do instead.
pub fn check_target_folder(target: &Path) -> Result<(), Error> {
    let refuse = |problem: &str| Err(Error::target(target, problem));
    check_parent(target)?;
    match fs::read_dir(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(target) {
            Ok(_) => refuse("it is a link that leads nowhere; remove it first"),
            Err(_) => Ok(()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            refuse("it is a file, and a folder is to be written; give another name")
        }
        Err(e) => Err(Error::io("list", target)(e)),
        Ok(mut entries) => match entries.next() {
            Some(_) => refuse("the folder is not empty; empty it or give the name of a new one"),
            None => Ok(()),
        },
    }
}

fn check_parent(target: &Path) -> Result<(), Error> {
    let parent = parent_of(target);
    if !parent.is_dir() {
        let problem = format!(
            "the folder {} does not exist; create it first",
            parent.display()
        );
        return Err(Error::target(target, problem));
    }
    rustix::fs::access(&parent, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
        let why = match e {
            Errno::ROFS => "is on a read-only file system".to_owned(),
            e => format!("cannot be written to ({})", io::Error::from(e)),
        };
        Error::target(target, format!("its folder {} {why}", parent.display()))
    })
}

fn same_file(about: &fs::Metadata, other: &Path) -> bool {
    fs::metadata(other).is_ok_and(|o| (o.dev(), o.ino()) == (about.dev(), about.ino()))
}

/// The folder that `path` lies in.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// Makes the names in a folder survive a power cut.
fn sync_folder(folder: &Path) -> Result<(), Error> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(Error::io("sync", folder))
}

/// A file under construction. Dropped without [`commit`](Self::commit), nothing of it is left.
#[derive(Debug)]
pub struct AtomicFile {
    file: Temporary,
    /// Where it will be: behind a link, if the given path is one.
    target: PathBuf,
}

#[derive(Debug)]
enum Temporary {
    /// A file without a name: even `kill -9` leaves nothing.
    Unnamed(File),
    /// For file systems that have no such thing.
    Named(NamedTempFile),
}

impl AtomicFile {
    /// Begins a file that will be `target`, with the mode of the file that it replaces or the
    /// process's own default.
    ///
    /// # Errors
    /// Whatever [`check_target`] refuses, and failures to create a file in the target's folder.
    pub fn create(target: &Path) -> Result<Self, Error> {
        check_target(target, &[])?;
        let replaced = fs::metadata(target).ok();
        let target = match replaced {
            Some(_) => fs::canonicalize(target).map_err(Error::io("open", target))?,
            None => target.to_owned(),
        };
        let parent = parent_of(&target);
        let file = match unnamed(&parent) {
            Some(file) => Temporary::Unnamed(file),
            None => {
                Temporary::Named(named(&target).map_err(Error::io("create a file in", &parent))?)
            }
        };
        let this = Self { file, target };
        if let Some(about) = replaced {
            let mode = Permissions::from_mode(about.mode() & 0o7777);
            this.file()
                .set_permissions(mode)
                .map_err(Error::io("set the mode of", &this.target))?;
        }
        Ok(this)
    }

    /// The file to write into.
    pub fn file(&self) -> &File {
        match &self.file {
            Temporary::Unnamed(file) => file,
            Temporary::Named(named) => named.as_file(),
        }
    }

    /// Syncs the file and gives it the target's name, replacing what bore it.
    ///
    /// # Errors
    /// The system could not; the target is as it was.
    pub fn commit(self) -> Result<(), Error> {
        self.sync()?;
        let parent = parent_of(&self.target);
        self.publish()?;
        sync_folder(&parent)
    }

    fn sync(&self) -> Result<(), Error> {
        let synced = self.file().sync_all();
        synced.map_err(Error::io("write", &self.target))
    }

    fn publish(self) -> Result<(), Error> {
        let failed = Error::io("write", &self.target);
        match self.file {
            Temporary::Unnamed(file) => publish(&file, &self.target).map_err(failed),
            Temporary::Named(named) => match named.persist(&self.target) {
                Ok(_) => Ok(()),
                Err(e) => Err(failed(e.error)),
            },
        }
    }
}

/// Commits files of one folder that only make sense together. All are complete and on the disk
/// before the first gets its name; the last one is the file by which readers find the others. A
/// signal waits until all are named.
///
/// No file system renames several files at once. So that old and new ones are never taken for one
/// set, an older file at the last one's place goes first: a power cut in between leaves a set that
/// readers refuse, not a mixture.
///
/// # Errors
/// The system could not. If it could not sync, the targets are as they were; if it could not name
/// one, nothing that this run wrote stays.
pub(crate) fn commit_together(files: Vec<AtomicFile>) -> Result<(), Error> {
    for file in &files {
        file.sync()?;
    }
    let _no_signal = interrupt::hold();
    let targets: Vec<PathBuf> = files.iter().map(|file| file.target.clone()).collect();
    let Some(found_by) = targets.last() else {
        return Ok(());
    };
    if files.len() > 1 && found_by.exists() {
        fs::remove_file(found_by).map_err(Error::io("replace", found_by))?;
    }
    for (done, file) in files.into_iter().enumerate() {
        if let Err(error) = file.publish() {
            for published in targets.iter().take(done) {
                let _ = fs::remove_file(published);
            }
            return Err(error);
        }
    }
    sync_folder(&parent_of(found_by))
}

#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    // Naming the file later goes through /proc, which some containers lack.
    if !Path::new("/proc/self/fd").is_dir() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666); // the kernel applies the umask
    rustix::fs::open(folder, flags, mode).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

fn named(target: &Path) -> io::Result<NamedTempFile> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".slim-partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent_of(target))
}

/// Names an unnamed file. A link cannot replace a file, so where one exists the link gets a
/// passing name and is renamed.
#[cfg(target_os = "linux")]
fn publish(file: &File, target: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| linkat(CWD, &*handle, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link(target) {
        Err(Errno::EXIST) => {}
        other => return other.map_err(io::Error::from),
    }
    // The temporary name is the crate's (random, in the same folder), removed if the rename fails.
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".slim-partial")
        .make_in(parent_of(target), |path| {
            link(path).map_err(io::Error::from)
        })?
        .persist(target)
        .map_err(|e| e.error)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn publish(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A folder under construction. Dropped without [`commit`](Self::commit), nothing of it is left;
/// what a killed run left is cleared by the next one for the same target.
#[derive(Debug)]
pub struct AtomicDir {
    partial: PathBuf,
    target: PathBuf,
    /// Held while this run owns `partial`.
    _lock: File,
    committed: bool,
}

impl AtomicDir {
    /// Begins a folder that will be `target`.
    ///
    /// # Errors
    /// Whatever [`check_target_folder`] refuses; another run that is writing the same folder.
    pub fn create(target: &Path) -> Result<Self, Error> {
        check_target_folder(target)?;
        let target = match fs::canonicalize(target) {
            Ok(existing) => existing,
            Err(_) => target.to_owned(),
        };
        let Some(name) = target.file_name() else {
            return Err(Error::target(
                &target,
                "it has no name; give the name of a new folder",
            ));
        };
        let partial = parent_of(&target).join(format!(".{}.slim-partial", name.to_string_lossy()));
        clear(&partial, &target)?;
        let create = || -> io::Result<File> {
            fs::create_dir(&partial)?;
            interrupt::watch(&partial);
            let lock = File::open(&partial)?;
            rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(lock)
        };
        let lock = create().map_err(Error::io("create", &partial))?;
        Ok(Self {
            partial,
            target,
            _lock: lock,
            committed: false,
        })
    }

    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Syncs all files in the folder and gives it the target's name.
    ///
    /// # Errors
    /// The system could not; the target is as it was.
    pub fn commit(mut self) -> Result<(), Error> {
        let listed = Error::io("list", &self.partial);
        for entry in fs::read_dir(&self.partial).map_err(&listed)? {
            let path = entry.map_err(&listed)?.path();
            let sync = || File::open(&path)?.sync_all();
            sync().map_err(Error::io("sync", &path))?;
        }
        sync_folder(&self.partial)?;
        fs::rename(&self.partial, &self.target).map_err(Error::io("write", &self.target))?;
        self.committed = true;
        interrupt::unwatch(&self.partial);
        sync_folder(&parent_of(&self.target))
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be told from here; what is left is cleared by the next run.
            let _ = fs::remove_dir_all(&self.partial);
            interrupt::unwatch(&self.partial);
        }
    }
}

/// Removes what a killed run left at `partial`.
fn clear(partial: &Path, target: &Path) -> Result<(), Error> {
    let Ok(about) = fs::symlink_metadata(partial) else {
        return Ok(());
    };
    let in_the_way =
        |problem: &str| Error::target(target, format!("{} {problem}", partial.display()));
    if !about.is_dir() {
        return Err(in_the_way("is in the way; remove it"));
    }
    let left = File::open(partial).map_err(Error::io("open", partial))?;
    rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| in_the_way("is being written by another run; wait for it or stop it"))?;
    fs::remove_dir_all(partial).map_err(Error::io("remove", partial))
}

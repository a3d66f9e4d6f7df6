//! Ctrl-C in the middle of a folder: what is half written goes before the program does.
//!
//! Single files need nothing here: they have no name until they are whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

/// How often a folder is removed while the writer may still be adding to it.
const TRIES: usize = 10;

/// Folders that are being written.
static PARTIAL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From here on an interruption removes `folder`.
pub(super) fn watch(folder: &Path) {
    hold().push(folder.to_owned());
}

/// `folder` is finished or gone.
pub(super) fn unwatch(folder: &Path) {
    hold().retain(|watched| watched != folder);
}

/// While this is held, a signal waits: for steps that belong together.
pub(super) fn hold() -> MutexGuard<'static, Vec<PathBuf>> {
    PARTIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets SIGINT, SIGTERM and SIGHUP remove half-written folders and end the program with
/// 128 + signal, and lets a file-size limit (SIGXFSZ) become an ordinary write error.
///
/// # Errors
/// The system refuses the handlers.
pub fn clean_up_on_signals() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let partial = hold();
            for folder in partial.iter() {
                let gone = |_: &usize| fs::remove_dir_all(folder).is_ok() || !folder.exists();
                let _ = (0..TRIES).find(gone);
            }
            process::exit(128 + signal);
        }
    });
    Ok(())
}

//! A stranger's program on a leash.
//!
//! The engine counts instructions and bytes, but not everything: what nests deeply ends a small
//! stack, and a list of lists that share their parts takes exponential time to compare or print.
//! So templates run on a stack that holds the deepest nesting that their size and budget allow,
//! and are given up when they take too long.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::REMEDY;

/// Reserved, not used: pages come with the nesting.
const STACK: usize = 256 << 20;

/// Compiling and rendering take milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of `work`, if it ends in time. A thread that does not is left behind, with what its
/// budget lets it hold, until the process ends.
///
/// # Errors
/// What to tell of a template that does not end.
pub(super) fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (send, receive) = sync_channel(1);
    let builder = thread::Builder::new()
        .name("chat template".to_owned())
        .stack_size(STACK);
    let started = builder.spawn(move || send.send(work()));
    started.map_err(|e| format!("no thread to run it in ({e}). {REMEDY}"))?;
    let waited = receive.recv_timeout(PATIENCE);
    waited.map_err(|e| match e {
        RecvTimeoutError::Timeout => format!(
            "it was still running after {} s, where templates take milliseconds. {REMEDY}",
            PATIENCE.as_secs()
        ),
        RecvTimeoutError::Disconnected => format!("it made the template engine fail. {REMEDY}"),
    })
}

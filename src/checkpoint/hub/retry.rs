//! What is tried again, how often, and after what pause.

use std::io;
use std::thread;
use std::time::Duration;

use super::{Hub, Repo};
use crate::checkpoint::Error;

/// How often in a row something may fail before it is given up.
const TRIES: u32 = 5;

/// A server that wants a longer pause is told of instead of waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Pauses between tries, each twice as long as the last.
pub(super) struct Patience {
    failures: u32,
    pause: Duration,
}

/// Why a request brought nothing.
pub(super) enum Failure {
    /// It may work in a moment, or after the pause that the server asks for.
    Passing(String, Option<Duration>),
    Final(Error),
}

impl Patience {
    pub(super) fn of(hub: &Hub) -> Self {
        Self {
            failures: 0,
            pause: hub.pause,
        }
    }

    /// After something has worked, the count begins anew.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// There were enough, or the pause would be too long.
    pub(super) fn wait(&mut self, repo: &Repo, failure: Failure) -> Result<(), Error> {
        let (why, asked) = match failure {
            Failure::Passing(why, asked) => (why, asked),
            Failure::Final(error) => return Err(error),
        };
        self.failures += 1;
        let pause = asked.unwrap_or(self.pause * 2u32.pow(self.failures - 1));
        if pause > LONGEST_PAUSE {
            let pause = pause.as_secs();
            return Err(repo.error(format!(
                "{why}; the server asks to wait {pause} s. Try again then"
            )));
        }
        if self.failures >= TRIES {
            return Err(repo.error(format!(
                "{why}, {TRIES} times in a row. Try again later: what was fetched is kept. Or set \
                 HF_HUB_OFFLINE=1 to take what the cache has"
            )));
        }
        thread::sleep(pause);
        Ok(())
    }
}

/// A broken connection.
pub(super) fn interrupted(error: &io::Error) -> Failure {
    Failure::Passing(format!("the connection broke ({error})"), None)
}

//! A folder to work in, and the binary run in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The binary under test.
pub const SLIM: &str = env!("CARGO_BIN_EXE_slim");

/// The trained model that the tests prune.
pub fn village() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/village")
}

/// Few questions: these tests look at the machinery, not at the accuracies.
pub const FEW: &str = "--suite VILLAGE/suite --calibrate-items 2 --select-items 2 --candidates 2";

/// Everything in a folder, by path; folders have no content.
pub type Snapshot = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A folder in which commands run. `VILLAGE` in their arguments is the fixture's path.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    /// An empty one, on the disk of the build.
    pub fn new() -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { folder }
    }

    /// One that stays until the next run: what is shared by several tests is never dropped.
    pub fn shared(name: &str) -> Self {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let _ = fs::remove_dir_all(tests.join(name));
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(name).rand_bytes(0).tempdir_in(tests);
        Self {
            folder: folder.unwrap(),
        }
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs slim with arguments that are separated by spaces.
    pub fn slim(&self, arguments: &str) -> Ran {
        self.run(self.command(SLIM).args(words(arguments)))
    }

    /// Runs a shell script in which `slim` is the binary.
    pub fn sh(&self, script: &str) -> Ran {
        let script = format!("slim() {{ {SLIM} \"$@\"; }}\n{script}");
        self.run(self.command("sh").args(["-c", &with_village(&script)]))
    }

    /// A command with this folder as its own, and no terminal.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, command: &mut Command) -> Ran {
        Ran::of(command.output().unwrap())
    }

    /// The names in the folder, sorted, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// All files of the folder and those below it.
    pub fn snapshot(&self) -> Snapshot {
        let mut files = Snapshot::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let content = path.is_file().then(|| fs::read(&path).unwrap());
                if content.is_none() {
                    folders.push(path.clone());
                }
                files.insert(path, content);
            }
        }
        files
    }
}

/// Arguments as the shell would split them.
pub fn words(arguments: &str) -> Vec<String> {
    let words = arguments.split_whitespace();
    words.map(with_village).collect()
}

fn with_village(text: &str) -> String {
    text.replace("VILLAGE", village().to_str().unwrap())
}

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks that all went well and that nobody was disturbed.
    #[track_caller]
    pub fn quietly(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "stderr is no terminal and must stay empty");
        self
    }

    /// Why this is not an error told to a person: exit code 2, a message with all `words`.
    pub fn unlike_an_error(&self, words: &[&str]) -> Option<String> {
        let told = self.stderr.to_lowercase();
        let missing = words
            .iter()
            .find(|word| !told.contains(&word.to_lowercase()));
        let first = self.stderr.lines().next().unwrap_or_default();
        if self.code != Some(2) {
            return Some(format!("exit {:?}, not 2: {first}", self.code));
        }
        missing.map(|word| format!("'{word}' is not in: {}", self.stderr))
    }
}

/// A wrong use, and words that its message must have.
pub type Wrong<'a> = (&'a str, &'a [&'a str]);

/// Runs every wrong use and fails with all that were not refused, or that changed a file.
#[track_caller]
pub fn assert_refused(bench: &Bench, uses: &[Wrong]) {
    let before = bench.snapshot();
    let mut failures = Vec::new();
    for (arguments, words) in uses {
        let ran = bench.slim(arguments);
        if let Some(why) = ran.unlike_an_error(words) {
            failures.push(format!("slim {arguments}\n    {why}"));
        }
        let after = bench.snapshot();
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            failures.push(format!("slim {arguments}\n    left {}", path.display()));
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir_all(path);
        }
        let changed =
            |(path, content): &(&PathBuf, &Option<Vec<u8>>)| after.get(*path) != Some(content);
        for (path, content) in before.iter().filter(changed) {
            failures.push(format!("slim {arguments}\n    changed {}", path.display()));
            if let Some(content) = content {
                fs::write(path, content).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

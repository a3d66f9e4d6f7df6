//! Task definitions in lm-evaluation-harness's own vocabulary: YAML that describes how documents
//! of a dataset become prompts, and how answers are judged. Those that slim carries are in
//! `tasks/`; people's own are read the same way, and the harness reads them too.

mod builtin;
mod data;
mod definition;
mod fields;
mod filter;
mod metric;
mod regex;
mod render;
mod shots;
mod template;
mod yaml;

pub use builtin::{Builtin, builtins};
pub use filter::Pipeline;
pub use metric::{Aggregation, Exact, Kind, Metric, named as metric_named};
pub use yaml::json_of_yaml;

use super::{Error, Task};
use crate::checkpoint::hub::Step;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use yaml::{Data, Fault, Node};

/// A definition above this size is a mistake: 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

/// Files may include each other this deep.
const MAX_INCLUDES: usize = 8;

/// Is told how far the download of a dataset has come: its name, and the step.
pub type Fetching = Rc<dyn Fn(&str, Step)>;

/// What the caller decides about tasks.
#[derive(Clone, Default)]
pub struct Options {
    /// Folders in which datasets are looked for.
    pub data: Vec<PathBuf>,
    /// Examples before each item, in place of the definition's own number.
    pub num_fewshot: Option<usize>,
    /// Only the first documents of each task.
    pub limit: Option<usize>,
    /// Fetches what no folder holds from the hub, and tells this.
    pub download: Option<Fetching>,
}

/// Reads a definition and its documents.
///
/// # Errors
/// What is wrong in the file, with line and field; data that are not there or do not fit.
pub fn open(path: &Path, options: &Options) -> Result<Task, Error> {
    let root = merged(path, MAX_INCLUDES)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    task(path, folder, root, options)
}

fn task(path: &Path, folder: &Path, root: Node, options: &Options) -> Result<Task, Error> {
    let fault = |fault: Fault| faulty(path, &fault);
    let definition = definition::read(root).map_err(fault)?;
    let source = data::Source {
        definition: &definition,
        folder,
        roots: &options.data,
        download: options.download.as_ref(),
    };
    let pool = match &source.fewshot(options.num_fewshot)? {
        Some(split) => source.documents(split)?,
        None => Vec::new(),
    };
    let documents = source.documents(source.asked())?;
    render::task(&definition, &documents, &pool, options).map_err(fault)
}

/// A definition with what it includes; its own fields win.
fn merged(path: &Path, includes_left: usize) -> Result<Node, Error> {
    let text = read(path)?;
    let mut node = yaml::parse(&text).map_err(|fault| faulty(path, &fault))?;
    let Data::Map(fields) = &mut node.data else {
        return Ok(node);
    };
    let Some(at) = fields.iter().position(|(key, _)| key == "include") else {
        return Ok(node);
    };
    let (_, include) = fields.remove(at);
    let wrong = |problem: &str| Err(faulty(path, &Fault::new(include.line, "include", problem)));
    let Data::Text(name) = &include.data else {
        return wrong("give the name of a file beside this one");
    };
    if includes_left == 0 {
        return wrong("files include each other too deep, or in a circle");
    }
    let base = path.parent().unwrap_or(Path::new("")).join(name);
    if let Data::Map(base) = merged(&base, includes_left - 1)?.data {
        for (key, value) in base {
            if !fields.iter().any(|(own, _)| *own == key) {
                fields.push((key, value));
            }
        }
    }
    Ok(node)
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = super::load::read(path, MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        faulty(path, &Fault::new(line + 1, "", "is no UTF-8 text"))
    })
}

fn faulty(path: &Path, fault: &Fault) -> Error {
    // What the command line says stands on no line.
    let place = match (fault.line, fault.field.as_str()) {
        (line, "") => format!("line {line}"),
        (0, field) => format!("field {field}"),
        (line, field) => format!("line {line}, field {field}"),
    };
    super::load::invalid(path, &place, fault.problem.clone())
}

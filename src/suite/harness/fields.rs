//! Taking a mapping's fields by name and kind; what is left over is a mistake.

use super::yaml::{Data, Fault, Node};

/// The fields of a mapping that were not taken yet.
pub(super) struct Fields {
    /// The mapping's own path, with a dot at its end; empty at the top.
    path: String,
    /// The line at which the mapping begins.
    pub line: usize,
    left: Vec<(String, Node)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The fields of `node`, which stands in the field `path`.
    pub fn of(node: Node, path: &str) -> Result<Self, Fault> {
        let Data::Map(left) = node.data else {
            let problem = format!("is {}: give fields, one `name: value` a line", node.data);
            return Err(Fault::new(node.line, path, problem));
        };
        let path = match path {
            "" => String::new(),
            path => format!("{path}."),
        };
        Ok(Self {
            path,
            line: node.line,
            left,
            known: Vec::new(),
        })
    }

    /// The whole path of a field.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A mistake in a field that was taken from `line`.
    pub fn fault(&self, line: usize, name: &str, problem: impl Into<String>) -> Fault {
        Fault::new(line, self.path(name), problem)
    }

    /// A field's value; an empty one counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let at = self.left.iter().position(|(key, _)| key == name)?;
        let (_, node) = self.left.remove(at);
        (node.data != Data::Null).then_some(node)
    }

    /// Fields that say nothing to slim.
    pub fn skip(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    fn wrong(&self, node: &Node, name: &str, wanted: &str) -> Fault {
        let problem = match &node.data {
            Data::Tagged(tag, text) if tag == "function" => format!(
                "names the Python function {text}, which slim does not run: write what it does as a Jinja template"
            ),
            data => format!("is {data}: give {wanted}"),
        };
        self.fault(node.line, name, problem)
    }

    pub fn text(&mut self, name: &'static str) -> Result<Option<(usize, String)>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(node) => match node.data {
                Data::Text(text) => Ok(Some((node.line, text))),
                Data::Int(number) => Ok(Some((node.line, number.to_string()))),
                Data::Float(number) => Ok(Some((node.line, format!("{number:?}")))),
                _ => Err(self.wrong(&node, name, "a text")),
            },
        }
    }

    pub fn bool(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(node) => match node.data {
                Data::Bool(value) => Ok(Some(value)),
                _ => Err(self.wrong(&node, name, "true or false")),
            },
        }
    }

    pub fn int(&mut self, name: &'static str) -> Result<Option<(usize, i64)>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(node) => match node.data {
                Data::Int(value) => Ok(Some((node.line, value))),
                _ => Err(self.wrong(&node, name, "a whole number")),
            },
        }
    }

    /// A number of things, at most `most`.
    pub fn count(&mut self, name: &'static str, most: usize) -> Result<Option<usize>, Fault> {
        let Some((line, number)) = self.int(name)? else {
            return Ok(None);
        };
        match usize::try_from(number).ok().filter(|&n| n <= most) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(line, name, format!("is {number}: give 0 to {most}"))),
        }
    }

    /// One text, or a list of them.
    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<(usize, String)>>, Fault> {
        let Some(node) = self.take(name) else {
            return Ok(None);
        };
        let nodes = match node.data {
            Data::List(nodes) => nodes,
            _ => vec![node],
        };
        let text = |(i, node): (usize, Node)| match node.data {
            Data::Text(text) => Ok((node.line, text)),
            Data::Int(number) => Ok((node.line, number.to_string())),
            _ => Err(self.wrong(&node, &format!("{name}[{i}]"), "a text")),
        };
        let texts: Result<Vec<_>, Fault> = nodes.into_iter().enumerate().map(text).collect();
        texts.map(Some)
    }

    /// The entries of a list.
    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Node>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(node) => match node.data {
                Data::List(nodes) => Ok(Some(nodes)),
                _ => Err(self.wrong(&node, name, "a list")),
            },
        }
    }

    /// A mapping inside this one.
    pub fn fields(&mut self, name: &'static str) -> Result<Option<Fields>, Fault> {
        let path = self.path(name);
        self.take(name)
            .map(|node| Fields::of(node, &path))
            .transpose()
    }

    /// One of a few words.
    pub fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Fault> {
        let Some((line, text)) = self.text(name)? else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let problem = format!("is {text:?}: use one of {}", known.join(", "));
                Err(self.fault(line, name, problem))
            }
        }
    }

    /// Everything was taken; an unknown field is a mistake.
    pub fn end(self) -> Result<(), Fault> {
        let Some((key, node)) = self.left.first() else {
            return Ok(());
        };
        let near = |known: &&&str| strsim::jaro_winkler(known, key) > 0.8;
        let problem =
            match self.known.iter().filter(near).max_by(|a, b| {
                strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key))
            }) {
                Some(name) => format!("is no field of a task: did you mean {name}?"),
                None => format!("is no field here: known are {}", self.known.join(", ")),
            };
        Err(Fault::new(
            node.line,
            format!("{}{key}", self.path),
            problem,
        ))
    }
}

//! A task as the text of its file: readable, and one item a line so that changes are small.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::{Sheet, SheetItem};

impl Sheet {
    /// The task's file, in the layout of the embedded tasks; [`crate::suite::Suite::open`] reads it back.
    pub fn to_json(&self) -> String {
        let protocols = line(&self.protocols);
        format!(
            "{{\n \"schema_version\": {},\n \"task\": {},\n \"family\": {},\n \"about\": {},\n \
             \"protocols\": {protocols},\n \"stop\": {},\n \"max_new_tokens\": {},\n \
             \"shots\": {},\n \"items\": {}\n}}\n",
            self.schema_version,
            line(&self.task),
            line(&self.family),
            line(&self.about),
            line(&self.stop),
            self.max_new_tokens,
            lines(&self.shots),
            lines(&self.items),
        )
    }
}

fn lines(items: &[SheetItem]) -> String {
    let rows: Vec<String> = items
        .iter()
        .map(|item| format!("\n  {}", line(item)))
        .collect();
    let end = if rows.is_empty() { "" } else { "\n " };
    format!("[{}{end}]", rows.join(","))
}

/// One value on one line, with spaces after `,` and `:`.
fn line(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    // Strings, lists and numbers written to memory: neither can fail.
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced));
    debug_assert!(written.is_ok());
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

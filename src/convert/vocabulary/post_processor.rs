//! What tokenizer.json has put around a text: read for its meaning, written for other loaders.

use serde_json::{Value, json};

use super::Vocabulary;
use super::settings::{Object, Settings, token_text};

/// What a TemplateProcessing post-processor puts around one text and between two.
#[derive(Default)]
pub(crate) struct Template {
    first: Option<String>,
    last: Option<String>,
    /// The special tokens between the texts of a pair; `None` where the template has no pair
    /// or nothing between.
    between: Option<Vec<String>>,
}

impl Template {
    /// The template of tokenizer.json's `post_processor`, which may be null.
    pub fn of(post_processor: &Value) -> Self {
        let parts = post_processor.get("processors").and_then(Value::as_array);
        let parts = parts.map_or(std::slice::from_ref(post_processor), Vec::as_slice);
        let template = parts
            .iter()
            .find(|part| part["type"] == "TemplateProcessing");
        template.map(Self::read).unwrap_or_default()
    }

    fn read(template: &Value) -> Self {
        let list = |key: &str| {
            template
                .get(key)
                .and_then(Value::as_array)
                .map_or(&[][..], |l| l)
        };
        let special =
            |part: &Value| Some(part.get("SpecialToken")?.get("id")?.as_str()?.to_owned());
        let (single, mut pair) = (list("single"), list("pair"));
        let edges = (single.len() > 1).then_some(single);
        let first = edges.and_then(|s| special(s.first()?));
        let last = edges.and_then(|s| special(s.last()?));
        if let [head, rest @ ..] = pair
            && first.is_some()
            && special(head) == first
        {
            pair = rest;
        }
        if let [rest @ .., tail] = pair
            && last.is_some()
            && special(tail) == last
        {
            pair = rest;
        }
        let between = match pair {
            [a, middle @ .., b] if a.get("Sequence").is_some() && b.get("Sequence").is_some() => {
                Some(middle.iter().filter_map(special).collect::<Vec<_>>())
            }
            _ => None,
        };
        Self {
            first,
            last,
            between: between.filter(|tokens| !tokens.is_empty()),
        }
    }

    /// Sets the flags, and the roles that only the template tells. An end token other than the
    /// stated one is what the model was trained to end with; the stated one then ends a turn.
    pub fn apply(&self, named: &mut Object, settings: &mut Settings) {
        let text =
            |named: &Object, key: &str| named.get(key).and_then(token_text).map(str::to_owned);
        if let Some(first) = &self.first {
            let bos = text(named, "bos_token").unwrap_or_else(|| first.clone());
            settings.add_bos = Some(bos == *first);
            named.insert("bos_token".to_owned(), json!(bos));
        }
        if let Some(last) = &self.last {
            let stated = text(named, "eos_token").filter(|eos| eos != last);
            if let Some(eos) = stated {
                named.insert("eot_token".to_owned(), json!(eos));
            }
            named.insert("eos_token".to_owned(), json!(last));
            settings.add_eos = Some(true);
        }
        if let Some(between) = &self.between {
            let separators = [text(named, "sep_token"), text(named, "eos_token")];
            let separates =
                |token: Option<&String>| separators.iter().flatten().any(|s| Some(s) == token);
            let first_separates = separates(between.first()) && self.last.is_none();
            let second_separates = between.len() == 2 && separates(between.get(1));
            settings.add_sep = Some(first_separates || second_separates);
        }
    }
}

/// What Hugging Face's own loaders need to add the beginning and end tokens. slim adds them
/// itself and never runs this part.
pub(crate) fn write(vocabulary: &Vocabulary) -> Value {
    let role = |wanted: bool, id: Option<u32>| {
        let id = id.filter(|_| wanted)?;
        Some((id, &*vocabulary.tokens.get(id as usize)?.text))
    };
    let first = role(vocabulary.adds_bos(), vocabulary.bos());
    let last = role(vocabulary.add_eos == Some(true), vocabulary.eos());
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let special = |(_, text): &(u32, &str)| json!({"SpecialToken": {"id": text, "type_id": 0}});
    let framed = |middle: Vec<Value>| {
        let parts = first
            .iter()
            .map(special)
            .chain(middle)
            .chain(last.iter().map(special));
        Value::Array(parts.collect())
    };
    let tokens: serde_json::Map<String, Value> = [first, last]
        .into_iter()
        .flatten()
        .map(|(id, text)| {
            (
                text.to_owned(),
                json!({"id": text, "ids": [id], "tokens": [text]}),
            )
        })
        .collect();
    json!({
        "type": "TemplateProcessing",
        "single": framed(vec![sequence("A")]),
        "pair": framed(vec![sequence("A"), sequence("B")]),
        "special_tokens": tokens,
    })
}

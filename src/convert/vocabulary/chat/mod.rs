//! Chat templates that run: messages become the text that a model was tuned on.
//!
//! What transformers' `apply_chat_template(…, tokenize=False)` renders, this renders. The source
//! is a stranger's program, so it runs confined: with a budget for work and memory, on a stack of
//! its own, and not for long.

mod confine;
mod environment;
mod generation;
mod json;
mod methods;
mod python;

use std::sync::Arc;

use minijinja::value::Value as Jinja;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use super::settings::{object_file, token_text};
use super::{Error, Role, Vocabulary, chat_template};
use crate::checkpoint::Checkpoint;

/// The longest source: published ones have up to 20 kB, and what nests in the source nests on the
/// stack.
const MAX_SOURCE: usize = 256 << 10;

/// The one name under which an environment knows its template.
const TEMPLATE: &str = "template";

/// What every message about a template ends with.
const REMEDY: &str = "Leave out --apply-chat-template to ask without it";

/// What stands after a turn that the model goes on with, to find it again. A template that takes
/// the white space off its messages takes this one's too.
const MARK: &str = "THE_MODEL_GOES_ON_HERE ";

/// The special tokens that templates know by name, of those that GGUF keeps.
const NAMED: [Role; 6] = [
    Role::Bos,
    Role::Eos,
    Role::Unk,
    Role::Sep,
    Role::Pad,
    Role::Mask,
];

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions that hold for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Speaker,
    /// What is said.
    pub content: String,
}

/// A chat template, compiled.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    name: String,
    environment: Arc<Environment<'static>>,
    special_tokens: Vec<(String, String)>,
}

impl Speaker {
    /// The role as templates name it: `system`, `user`, `assistant`.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl ChatTemplate {
    /// The chat template of a checkpoint, if it has one. Of several it is the one called
    /// `default`, or else the first.
    ///
    /// # Errors
    /// Damaged tokenizer files or keys; those of [`ChatTemplate::new`].
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        let (templates, special_tokens) = match (checkpoint.gguf(), checkpoint.hf()) {
            (Some(metadata), _) => of_vocabulary(Vocabulary::from_gguf(metadata)?),
            (None, Some(files)) => {
                let config = object_file(&files.dir.join("tokenizer_config.json"))?;
                let config = config.unwrap_or_default();
                let mut tokens =
                    object_file(&files.dir.join("special_tokens_map.json"))?.unwrap_or_default();
                tokens.extend(config.clone());
                let templates = chat_template::list(&files.dir, &config)?;
                (templates, named_tokens(&tokens))
            }
            (None, None) => return Ok(None),
        };
        let default = templates.iter().position(|(name, _)| name == "default");
        let chosen = templates.into_iter().nth(default.unwrap_or(0));
        let compile = |(name, source): (String, _)| Self::new(&name, source, special_tokens);
        chosen.map(compile).transpose()
    }

    /// A template from its source. `special_tokens`: variables that it may use besides
    /// `messages` and the like, such as (`bos_token`, `<s>`).
    ///
    /// # Errors
    /// [`Error::ChatTemplate`]: the source is no template, or too large for one.
    pub fn new(
        name: &str,
        source: String,
        special_tokens: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        let problem = |problem: String| Error::ChatTemplate {
            name: name.to_owned(),
            line: None,
            problem,
        };
        if source.len() > MAX_SOURCE {
            let len = source.len();
            return Err(problem(format!(
                "it has {len} bytes, and {MAX_SOURCE} is the most; no model needs so long a one. {REMEDY}"
            )));
        }
        let source = generation::as_scopes(source);
        let compiled = confine::run(move || {
            let mut environment = environment::new();
            let added = environment.add_template_owned(TEMPLATE, source);
            added.map(|()| environment)
        });
        let environment = compiled.map_err(problem)?.map_err(|e| explain(name, &e))?;
        Ok(Self {
            name: name.to_owned(),
            environment: Arc::new(environment),
            special_tokens,
        })
    }

    /// The template's name: `default`, or what the checkpoint calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The conversation as text, special tokens included: it is to be encoded without adding a
    /// beginning-of-sequence token. With `add_generation_prompt`, up to where the model's next
    /// turn begins.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`]: the template refuses the messages (some know no system message,
    /// some want user and assistant in turn), does what no template needs, or is wrong.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut variables: Vec<(String, Jinja)> = self
            .special_tokens
            .iter()
            .map(|(name, text)| (name.clone(), Jinja::from(text.as_str())))
            .collect();
        let given = [
            ("messages", messages.iter().map(Message::value).collect()),
            ("tools", Jinja::from(())),
            ("documents", Jinja::from(())),
            ("add_generation_prompt", Jinja::from(add_generation_prompt)),
        ];
        variables.extend(given.map(|(name, value)| (name.to_owned(), value)));
        let environment = Arc::clone(&self.environment);
        let rendered = confine::run(move || {
            let template = environment.get_template(TEMPLATE)?;
            template.render(Jinja::from_pairs(variables))
        });
        let failed = |problem| Error::ChatTemplate {
            name: self.name.clone(),
            line: None,
            problem,
        };
        rendered
            .map_err(failed)?
            .map_err(|e| explain(&self.name, &e))
    }
}

impl ChatTemplate {
    /// Whether a conversation may begin with a system message.
    pub fn takes_system(&self) -> bool {
        let turns = [Speaker::System, Speaker::User].map(|role| Message::new(role, "x"));
        self.render(&turns, true).is_ok()
    }

    /// The conversation as text up to the end of its last turn, which the model goes on with. As
    /// transformers' `continue_final_message`: where the template takes white space off the turn,
    /// none is left at its end.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`]; a template that does not show the last turn's end.
    pub fn render_begun(&self, messages: &[Message]) -> Result<String, Error> {
        let mut messages = messages.to_vec();
        let last = messages.last_mut();
        let begun = last.map(|message| {
            let begun = message.content.trim().to_owned();
            message.content.push_str(MARK);
            begun
        });
        let text = self.render(&messages, false)?;
        let shown = begun.filter(|begun| text.contains(begun.as_str()));
        let end = shown.and_then(|_| text.rfind(MARK.trim_end()));
        let Some((before, after)) = end.and_then(|end| text.split_at_checked(end)) else {
            return Err(Error::ChatTemplate {
                name: self.name.clone(),
                line: None,
                problem: format!(
                    "it does not show how the model's own turn begins, so that turn cannot be gone \
                     on with. {REMEDY}"
                ),
            });
        };
        Ok(match after.starts_with(MARK) {
            true => before.to_owned(),
            false => before.trim_end().to_owned(),
        })
    }
}

impl Message {
    /// A turn of the conversation.
    pub fn new(role: Speaker, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { role, content }
    }

    fn value(&self) -> Jinja {
        Jinja::from_pairs([
            ("role", self.role.name()),
            ("content", self.content.as_str()),
        ])
    }
}

type Named = Vec<(String, String)>;

/// The templates and the special tokens of a vocabulary that was read from GGUF.
fn of_vocabulary(vocabulary: Vocabulary) -> (Named, Named) {
    let id = |role| match role {
        Role::Bos => vocabulary.bos(),
        Role::Eos => vocabulary.eos(),
        role => vocabulary.role(role),
    };
    let text = |role: Role| {
        let token = vocabulary.tokens.get(id(role)? as usize)?;
        Some((format!("{}_token", role.stem()), token.text.clone()))
    };
    let tokens = NAMED.into_iter().filter_map(text).collect();
    let default = vocabulary
        .chat_template
        .map(|text| ("default".to_owned(), text));
    let templates = default.into_iter().chain(vocabulary.named_templates);
    (templates.collect(), tokens)
}

/// Every `…_token` of the settings files that is a token's text, and those of a model's own kind
/// (`extra_special_tokens`).
fn named_tokens(settings: &Map<String, Value>) -> Named {
    let extra = settings
        .get("extra_special_tokens")
        .and_then(Value::as_object);
    let standard = settings.iter().filter(|(key, _)| key.ends_with("_token"));
    extra
        .into_iter()
        .flatten()
        .chain(standard)
        .filter_map(|(key, value)| Some((key.clone(), token_text(value)?.to_owned())))
        .collect()
}

/// What went wrong in a template, for the person who asked.
fn explain(name: &str, error: &minijinja::Error) -> Error {
    let detail = error.detail().unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::OutOfFuel => {
            format!("it does more work than any chat template needs. {REMEDY}")
        }
        ErrorKind::SyntaxError => format!("{detail}: it is no template that slim reads. {REMEDY}"),
        _ => match environment::raised(error) {
            Some(words) => {
                format!("it refuses these messages, in its own words: \"{words}\". {REMEDY}")
            }
            None if detail.is_empty() => format!("{}. {REMEDY}", error.kind()),
            None => format!("{}: {detail}. {REMEDY}", error.kind()),
        },
    };
    Error::ChatTemplate {
        name: name.to_owned(),
        line: error.line(),
        problem,
    }
}

//! Text to token ids and back: one policy on special tokens for every source.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::settings::{self, Settings};
use super::special::{self, ENDS_GENERATION};
use super::{Error, Role, Vocabulary, load, tokenizer_json};
use crate::checkpoint::Checkpoint;

/// A tokenizer that runs.
///
/// What a source's post-processor would add is never added; the beginning-of-sequence token is
/// put before a text here, and only when the caller asks. So a model gets the same ids for the
/// same text whichever format it is read from.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    end_ids: Vec<u32>,
    add_bos: bool,
    chat_template: Option<String>,
}

/// The tokenizer of a checkpoint. A Hugging Face folder's `tokenizer.json` runs as it stands;
/// everything else goes through a [`Vocabulary`].
///
/// # Errors
/// Missing or damaged tokenizer files or keys, or a kind of tokenizer that slim cannot run.
pub fn runnable(checkpoint: &Checkpoint) -> Result<TextTokenizer, Error> {
    if let Some(metadata) = checkpoint.gguf() {
        return TextTokenizer::new(&Vocabulary::from_gguf(metadata)?);
    }
    match checkpoint.hf() {
        Some(files) => TextTokenizer::from_hf(&files.dir, &files.config),
        None => Err(Error::NoTokenizer(checkpoint.path().to_owned())),
    }
}

impl Vocabulary {
    /// This vocabulary as a tokenizer that runs, through the very `tokenizer.json` that
    /// [`Vocabulary::to_hf`] writes.
    ///
    /// # Errors
    /// A byte-level vocabulary whose `pre` is not in the table of splitting rules, or merges of
    /// tokens that do not exist.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        load::tokenizer(Path::new("tokenizer.json"), &tokenizer_json::write(self)?)
    }
}

impl TextTokenizer {
    /// The tokenizer of a vocabulary, from whichever format that was read.
    ///
    /// # Errors
    /// Those of [`Vocabulary::tokenizer`].
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, Error> {
        Ok(Self {
            tokenizer: vocabulary.tokenizer()?,
            bos: vocabulary.bos(),
            eos: vocabulary.eos(),
            end_ids: vocabulary.end_ids(),
            add_bos: vocabulary.adds_bos(),
            chat_template: vocabulary.chat_template.clone(),
        })
    }

    /// The tokenizer of a Hugging Face folder whose parsed config.json is `config`.
    ///
    /// # Errors
    /// Missing or damaged files.
    pub fn from_hf(dir: &Path, config: &Map<String, Value>) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        match settings::optional_file(&path)? {
            Some(bytes) => Self::from_json(dir, config, load::tokenizer(&path, &bytes)?),
            None => Self::new(&Vocabulary::from_hf(dir, config, None)?),
        }
    }

    fn from_json(
        dir: &Path,
        config: &Map<String, Value>,
        tokenizer: Tokenizer,
    ) -> Result<Self, Error> {
        let post_processor = serde_json::to_value(tokenizer.get_post_processor());
        let post_processor = post_processor.unwrap_or_default();
        let settings: Settings = settings::read(dir, config, &post_processor, |text| {
            tokenizer.token_to_id(text)
        })?;
        let added = tokenizer.get_added_vocabulary();
        let named = ENDS_GENERATION
            .into_iter()
            .filter(|text| added.is_special_token(text))
            .filter_map(|text| Some((text, tokenizer.token_to_id(text)?)));
        Ok(Self {
            bos: special::id_of(&settings.special, Role::Bos),
            eos: special::id_of(&settings.special, Role::Eos),
            end_ids: special::end_ids(&settings.special, &settings.stop, named),
            add_bos: settings.add_bos.unwrap_or(false),
            chat_template: settings.chat_template,
            tokenizer,
        })
    }

    /// The ids of `text`, in which the texts of special tokens count as these tokens; with
    /// `add_bos`, after the beginning-of-sequence token, if there is one.
    ///
    /// # Errors
    /// What the tokenizers library reports; no text is known to make it fail.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.tokenizer.encode_fast(text, false)?;
        let mut ids = Vec::with_capacity(encoding.len() + 1);
        ids.extend(self.bos.filter(|_| add_bos));
        ids.extend_from_slice(encoding.get_ids());
        Ok(ids)
    }

    /// The text of `ids`, without control tokens. Of a SentencePiece vocabulary the space that
    /// encoding put before the text is taken off again.
    ///
    /// # Errors
    /// What the tokenizers library reports.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        Ok(self.tokenizer.decode(ids, true)?)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Every id at which generation ends; see [`Vocabulary::end_ids`].
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Whether the model expects its texts to start with [`TextTokenizer::bos`].
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The model's chat template (Jinja source).
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}

//! An item under a protocol, as tokens.

use super::Likelihood;
use super::judge::is_right;
use crate::convert::vocabulary::{ChatTemplate, Message as Turn, Speaker, TextTokenizer};
use crate::suite::{Answer, Ask, Item, Message, Protocol, Role, Task};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;

/// One item asked one way.
pub struct Question<'s> {
    /// The item's task.
    pub task: &'s Task,
    /// The item.
    pub item: &'s Item,
    /// The way it is asked.
    pub ask: &'s Ask,
    /// The prompt as text; of several inputs the first.
    pub text: String,
    /// What is scored: the options, or the windows of a long text.
    pub candidates: Vec<Candidate>,
    /// Tokens before a text that is generated; empty where none is.
    pub prompt: Vec<u32>,
    /// Tokens that were cut off a prompt's beginning, since they did not fit the context.
    pub truncated: usize,
}

/// Tokens whose likelihood is measured, and those before them.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Never empty.
    pub prompt: Arc<[u32]>,
    /// Never empty.
    pub tokens: Vec<u32>,
}

impl AsRef<[Candidate]> for Question<'_> {
    fn as_ref(&self) -> &[Candidate] {
        &self.candidates
    }
}

/// How prompts are made of items.
pub struct Asking<'t> {
    /// The model's tokenizer.
    pub tokenizer: &'t TextTokenizer,
    /// Tokens that the model can read at once.
    pub context_length: usize,
    /// The chat template, where prompts are turns of a chat.
    pub chat: Option<&'t ChatTemplate>,
}

impl Question<'_> {
    /// How it is asked.
    pub fn protocol(&self) -> Protocol {
        self.ask.protocol
    }

    /// The continuous score, in nats, higher is better and 0 is best: with several options the
    /// log of the right ones' share among them, else the mean log-probability of a token.
    pub fn value(&self, likelihoods: &[Likelihood]) -> f64 {
        let log_prob = |likelihood: &Likelihood| likelihood.log_prob;
        let right = self.ask.right();
        if right.is_empty() {
            let tokens: usize = self.candidates.iter().map(|c| c.tokens.len()).sum();
            return likelihoods.iter().map(log_prob).sum::<f64>() / tokens.max(1) as f64;
        }
        let best = likelihoods.iter().map(log_prob).fold(f64::MIN, f64::max);
        let share = |likelihood: &Likelihood| (likelihood.log_prob - best).exp();
        let all: f64 = likelihoods.iter().map(share).sum();
        let right = right.iter().filter_map(|&i| likelihoods.get(i));
        right.map(share).sum::<f64>().ln() - all.ln()
    }

    /// Whether the likeliest option is a right one, or of a single text whether each of its
    /// tokens is the likeliest.
    pub fn is_right(&self, likelihoods: &[Likelihood]) -> bool {
        is_right(self.ask, likelihoods)
    }
}

/// The prompts as chats up to the model's turn, or up to what is given of it, and what stands
/// between that and the answer. Every example is a turn of each side.
fn chats<'a>(chat: &ChatTemplate, ask: &'a Ask) -> Result<(Vec<String>, &'a str)> {
    let turn = |message: &Message| {
        let speaker = match message.role {
            Role::System => Speaker::System,
            Role::User => Speaker::User,
            Role::Assistant => Speaker::Assistant,
        };
        Turn::new(speaker, message.content.clone())
    };
    let shown: Vec<Turn> = ask.shown.iter().map(turn).collect();
    let question: Vec<Turn> = ask.question.iter().map(turn).collect();
    let inputs: Vec<Option<Turn>> = match &ask.answer {
        Answer::Inputs { texts, .. } => {
            let input = |text: &String| Some(Turn::new(Speaker::User, text.clone()));
            texts.iter().map(input).collect()
        }
        _ => vec![None],
    };
    let prompt = |input: Option<Turn>| {
        let turns: Vec<Turn> = shown.iter().cloned().chain(input).collect();
        rendered(chat, &[turns, question.clone()].concat())
    };
    // The template's marks stand between a turn and the next, nothing within a turn.
    let begun = question.last().filter(|turn| is_begun(turn));
    let delimiter = match begun {
        Some(turn) if !turn.content.ends_with(char::is_whitespace) => ask.delimiter.as_str(),
        _ => "",
    };
    let prompts = inputs.into_iter().map(prompt).collect::<Result<_>>()?;
    Ok((prompts, delimiter))
}

/// Whether the model goes on with a turn, instead of beginning one after it.
fn is_begun(last: &Turn) -> bool {
    last.role == Speaker::Assistant
}

/// The text of a chat. A template that refuses the system message gets none, as the harness does.
fn rendered(chat: &ChatTemplate, turns: &[Turn]) -> Result<String> {
    let render = |turns: &[Turn]| match turns.last().is_some_and(is_begun) {
        true => chat.render_begun(turns),
        false => chat.render(turns, true),
    };
    let text = render(turns).or_else(|error| match turns {
        [first, rest @ ..] if first.role == Speaker::System => render(rest).map_err(|_| error),
        _ => Err(error),
    });
    Ok(text?)
}

/// Every way in which the protocols can ask the items, those with a common beginning together.
///
/// Tokens are split as lm-evaluation-harness does: prompt and candidate are encoded as one text,
/// and what follows the prompt's own tokens is the candidate. An empty prompt becomes the
/// beginning-of-text token. What is too long for the context loses its beginning.
///
/// # Errors
/// A text that the tokenizer cannot encode, or an answer without tokens.
pub fn questions<'s>(
    items: &[(&'s Task, &'s Item)],
    protocols: &[Protocol],
    asking: &Asking,
) -> Result<Vec<Question<'s>>> {
    let mut asked = Vec::new();
    for &protocol in protocols {
        for &(task, item) in items {
            if let Some(ask) = item.ask(protocol) {
                let question = asking
                    .question(task, item, ask)
                    .with_context(|| format!("task {}, item {}", task.name, item.id))?;
                asked.push(question);
            }
        }
    }
    // A stable sort: the shots of a task are computed once for the items beside each other.
    asked.sort_by(|a, b| (a.protocol(), &a.task.name).cmp(&(b.protocol(), &b.task.name)));
    Ok(asked)
}

impl Asking<'_> {
    fn question<'s>(&self, task: &'s Task, item: &'s Item, ask: &'s Ask) -> Result<Question<'s>> {
        let (prompts, delimiter) = match self.chat {
            Some(chat) => chats(chat, ask)?,
            None => (ask.prompts(), ask.delimiter.as_str()),
        };
        let mut question = Question {
            task,
            item,
            ask,
            text: prompts.first().cloned().unwrap_or_default(),
            candidates: Vec::new(),
            prompt: Vec::new(),
            truncated: 0,
        };
        if let Answer::Passage { text, .. } = &ask.answer {
            question.candidates = self.windows(text)?;
            return Ok(question);
        }
        for prompt in &prompts {
            for option in ask.options() {
                let (candidate, cut) = self.candidate(prompt, &format!("{delimiter}{option}"))?;
                question.candidates.push(candidate);
                question.truncated = question.truncated.max(cut);
            }
        }
        if let Some(written) = ask.written() {
            let mut tokens = self.encode(&question.text)?;
            if tokens.is_empty() {
                tokens.push(self.prefix()?);
            }
            let room = self.context_length.saturating_sub(written.max_tokens);
            ensure!(
                room > 0,
                "{} tokens to be generated do not fit the model's context of {}",
                written.max_tokens,
                self.context_length
            );
            let cut = tokens.len().saturating_sub(room);
            question.truncated = question.truncated.max(cut);
            question.prompt = tokens.split_off(cut);
        }
        Ok(question)
    }

    /// A prompt and what is scored after it. White space at the prompt's end is scored too.
    fn candidate(&self, prompt: &str, option: &str) -> Result<(Candidate, usize)> {
        let kept = prompt.trim_end();
        let option = format!("{}{option}", &prompt[kept.len()..]);
        let (mut tokens, start) = match kept.is_empty() && prompt.is_empty() {
            true => self.alone(&option)?,
            false => (
                self.encode(&format!("{kept}{option}"))?,
                self.encode(kept)?.len(),
            ),
        };
        ensure!(
            start > 0 && tokens.len() > start,
            "the answer {option:?} has no tokens of its own"
        );
        // The last token is predicted, not read.
        let cut = tokens.len().saturating_sub(self.context_length + 1);
        let answer = tokens.split_off(start);
        let cut = cut.min(start - 1);
        let candidate = Candidate {
            prompt: tokens[cut..].into(),
            tokens: answer,
        };
        ensure!(
            candidate.prompt.len() + candidate.tokens.len() <= self.context_length + 1,
            "an answer of {} tokens does not fit the model's context of {}",
            candidate.tokens.len(),
            self.context_length
        );
        Ok((candidate, cut))
    }

    /// A text after nothing: the prefix token stands before it, unless it begins with that.
    fn alone(&self, text: &str) -> Result<(Vec<u32>, usize)> {
        let prefix = self.prefix()?;
        let mut tokens = self.tokenizer.encode(text, false)?;
        if tokens.first() != Some(&prefix) {
            tokens.insert(0, prefix);
        }
        Ok((tokens, 1))
    }

    /// A long text in windows as long as the context. Each token is scored once; the last window
    /// reaches back, so that its tokens see a whole context too.
    fn windows(&self, text: &str) -> Result<Vec<Candidate>> {
        let tokens = self.encode(text)?;
        ensure!(!tokens.is_empty(), "the text has no tokens");
        let length = self.context_length.max(1);
        let mut windows = Vec::new();
        let mut scored = 0;
        while scored < tokens.len() {
            let end = tokens.len().min(scored + length);
            windows.push(Candidate {
                prompt: match scored {
                    0 => [self.prefix()?].into(),
                    _ => tokens[end - length - 1..scored].into(),
                },
                tokens: tokens[scored..end].to_vec(),
            });
            scored = end;
        }
        Ok(windows)
    }

    /// Token ids; a text that begins with the beginning-of-text token does not get another.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer;
        let tokens = tokenizer.encode(text, false)?;
        let begun = tokenizer.bos().is_some() && tokens.first().copied() == tokenizer.bos();
        match tokenizer.add_bos() && !begun {
            true => Ok(tokenizer.encode(text, true)?),
            false => Ok(tokens),
        }
    }

    fn prefix(&self) -> Result<u32> {
        let start = self.tokenizer.bos().or(self.tokenizer.eos());
        start.context("the tokenizer names no beginning-of-text token")
    }
}

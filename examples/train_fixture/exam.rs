//! The suite's own questions, asked of the network in each protocol.

use anyhow::Result;
use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::ops::log_softmax;

use crate::network::Network;
use crate::text::{Item, Task};
use crate::tokenizer::{END_OF_TEXT_ID, Tokenizer};

pub const PROTOCOLS: [&str; 3] = ["choice", "continuation", "generate"];
/// Texts that go through the network together.
const BATCH: usize = 32;

pub struct Examiner<'a> {
    pub network: &'a Network,
    pub tokenizer: &'a Tokenizer,
    /// The layers that take part.
    pub keep: &'a [usize],
}

impl Examiner<'_> {
    /// Which items are answered right, in one of `PROTOCOLS`.
    pub fn right(&self, task: &Task, items: &[Item], protocol: &str) -> Result<Vec<bool>> {
        match protocol {
            "generate" => self.generated_right(task, items),
            _ => self.scored_right(items, protocol == "choice"),
        }
    }

    fn scored_right(&self, items: &[Item], by_letter: bool) -> Result<Vec<bool>> {
        let mut texts = Vec::new();
        for item in items {
            let (prompt, answers) = match by_letter {
                true => (
                    item.choice_prompt(),
                    ["A", "B", "C", "D"].map(String::from).to_vec(),
                ),
                false => (item.stem_prompt(), item.options.clone()),
            };
            let prompt = self.tokenizer.encode(&prompt)?;
            for answer in answers {
                let answer = self.tokenizer.encode(&format!(" {answer}"))?;
                texts.push((prompt.len(), [prompt.clone(), answer].concat()));
            }
        }
        let scores = self.log_likelihoods(&texts)?;
        let mut scores = scores.as_slice();
        let mut right = Vec::new();
        for item in items {
            let (own, rest) = scores.split_at(item.options.len());
            right.push(own.iter().all(|score| *score <= own[item.answer]));
            scores = rest;
        }
        Ok(right)
    }

    /// Log-likelihood of the tokens of each text after its prompt's length. The last token is only
    /// predicted, so answers of one token share their row of the network's input.
    fn log_likelihoods(&self, texts: &[(usize, Vec<u32>)]) -> Result<Vec<f32>> {
        let mut inputs: Vec<&[u32]> = texts.iter().map(|(_, ids)| &ids[..ids.len() - 1]).collect();
        inputs.dedup();
        let mut logits = Vec::new();
        for batch in inputs.chunks(BATCH) {
            let out = self.network.forward(&padded(batch)?, self.keep)?;
            for row in 0..batch.len() {
                logits.push(log_softmax(&out.i(row)?, D::Minus1)?);
            }
        }
        let mut row = 0;
        let mut scores = Vec::new();
        for (prompt, ids) in texts {
            if inputs[row] != &ids[..ids.len() - 1] {
                row += 1;
            }
            let targets = Tensor::new(&ids[*prompt..], &Device::Cpu)?.unsqueeze(1)?;
            let answer = logits[row].i(prompt - 1..ids.len() - 1)?;
            scores.push(answer.gather(&targets, 1)?.sum_all()?.to_scalar()?);
        }
        Ok(scores)
    }

    fn generated_right(&self, task: &Task, items: &[Item]) -> Result<Vec<bool>> {
        let mut right = Vec::new();
        for batch in items.chunks(BATCH) {
            let mut rows: Vec<Vec<u32>> = batch
                .iter()
                .map(|item| self.tokenizer.encode(&item.stem_prompt()))
                .collect::<Result<_>>()?;
            let prompts: Vec<usize> = rows.iter().map(Vec::len).collect();
            let newline = self.tokenizer.encode("\n")?;
            for _ in 0..task.max_new_tokens {
                if rows
                    .iter()
                    .zip(&prompts)
                    .all(|(row, prompt)| row[*prompt..].contains(&newline[0]))
                {
                    break;
                }
                let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                let logits = self.network.forward(&padded(&views)?, self.keep)?;
                for (n, row) in rows.iter_mut().enumerate() {
                    row.push(
                        logits
                            .i((n, row.len() - 1))?
                            .argmax(D::Minus1)?
                            .to_scalar()?,
                    );
                }
            }
            for ((item, row), prompt) in batch.iter().zip(&rows).zip(&prompts) {
                let text = self.tokenizer.decode(&row[*prompt..])?;
                let line = text.split('\n').next().unwrap_or_default().trim();
                right.push(line.trim_end_matches('.') == item.options[item.answer]);
            }
        }
        Ok(right)
    }
}

/// Rows of token ids, filled up on the right: a causal network never looks there.
fn padded(rows: &[&[u32]]) -> Result<Tensor> {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(rows.len() * longest);
    for row in rows {
        ids.extend_from_slice(row);
        ids.extend(std::iter::repeat_n(END_OF_TEXT_ID, longest - row.len()));
    }
    Ok(Tensor::from_vec(ids, (rows.len(), longest), &Device::Cpu)?)
}

pub fn share(right: &[bool]) -> f64 {
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

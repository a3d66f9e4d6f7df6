//! Texts that are ready to be learned from, made when they are first wanted and kept while there is
//! room.

use super::lesson::{Lesson, Original, each};
use super::student::Student;
use anyhow::Result;
use candle_core::Tensor;
use std::collections::HashMap;
use std::rc::Rc;

/// A text, as it comes to the first layer that trains, and what the original says of it.
pub struct Exercise {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// [tokens, hidden_size], on the CPU.
    pub start: Tensor,
    /// What the original says.
    pub lesson: Lesson,
}

impl Exercise {
    fn bytes(&self) -> u64 {
        let states = self.lesson.states.iter().chain([&self.start]);
        let states = states.map(|state| state.elem_count() * state.dtype().size_in_bytes());
        let next = &self.lesson.next;
        let places = next.tokens.len() + next.log_probs.len() + next.rest.len();
        (states.sum::<usize>() + places * size_of::<f32>()) as u64
    }
}

/// The pruned model's own states of each text. candle's products may differ in the last bit with
/// what goes through them together, and that differs from run to run where one was interrupted.
fn apart(student: &Student, texts: &[&[u32]]) -> Result<Vec<Tensor>> {
    let mut starts = Vec::with_capacity(texts.len());
    for text in texts {
        starts.extend(each(&student.model().below(&[text])?)?);
    }
    Ok(starts)
}

/// The exercises of some texts of the same length.
pub struct Exercises<'t> {
    texts: &'t [Vec<u32>],
    kept: HashMap<usize, Rc<Exercise>>,
    /// Bytes for more of them.
    room: u64,
}

impl<'t> Exercises<'t> {
    /// None yet; `room` bytes are for those that are kept.
    pub fn new(texts: &'t [Vec<u32>], room: u64) -> Self {
        Self {
            texts,
            kept: HashMap::new(),
            room,
        }
    }

    /// Those of some texts. They are the same whether they were kept or not: what does not train
    /// does not change.
    ///
    /// # Errors
    /// What the models report.
    pub fn of(
        &mut self,
        wanted: &[usize],
        original: &Original,
        student: &Student,
    ) -> Result<Vec<Rc<Exercise>>> {
        let missing: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|text| !self.kept.contains_key(text))
            .collect();
        let mut made = HashMap::new();
        if !missing.is_empty() {
            let texts = missing.iter().filter_map(|&text| self.texts.get(text));
            let texts: Vec<&[u32]> = texts.map(Vec::as_slice).collect();
            let mut lessons = original.lessons(&texts)?;
            let shared = lessons.iter_mut().map(|lesson| lesson.start.take());
            let starts = match shared.collect::<Option<Vec<Tensor>>>() {
                Some(starts) => starts,
                None => apart(student, &texts)?,
            };
            let made_of = missing.iter().zip(&texts).zip(starts).zip(lessons);
            for (((text, tokens), start), lesson) in made_of {
                let exercise = Rc::new(Exercise {
                    tokens: tokens.to_vec(),
                    start,
                    lesson,
                });
                if let Some(left) = self.room.checked_sub(exercise.bytes()) {
                    self.room = left;
                    self.kept.insert(*text, exercise.clone());
                }
                made.insert(*text, exercise);
            }
        }
        let found = |text: &usize| made.get(text).or_else(|| self.kept.get(text)).cloned();
        Ok(wanted.iter().filter_map(found).collect())
    }
}

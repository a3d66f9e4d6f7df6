//! Texts that ask nothing: what the calibrate questions say, and their words in an order without sense,
//! said twice.

use crate::eval::{Candidate, Question};

/// The right answers of questions as plain text after their prompts, at most `most`, evenly over all questions:
/// each task and protocol has some.
pub fn plain_texts(questions: &[Question], most: usize) -> Vec<[Candidate; 1]> {
    let step = questions.len().div_ceil(most.max(1)).max(1);
    let some = questions.iter().step_by(step);
    some.filter_map(plain_text).collect()
}

fn plain_text(question: &Question) -> Option<[Candidate; 1]> {
    let right = question.ask.right().first().copied().unwrap_or(0);
    let answer = question.candidates.get(right)?;
    let (first, rest) = answer.prompt.split_first()?;
    Some([Candidate {
        prompt: [*first].into(),
        tokens: [rest, &answer.tokens].concat(),
    }])
}

/// `n` sequences of `length` tokens drawn from some texts, each after itself: nothing but copying foretells the second
/// (the test for induction heads of Olsson et al., arXiv 2209.11895). They begin as the texts do, because
/// many models need their first token.
pub fn copied_texts(
    texts: &[[Candidate; 1]],
    n: usize,
    length: usize,
    random: &mut fastrand::Rng,
) -> Vec<[Candidate; 1]> {
    let mut words: Vec<u32> = texts
        .iter()
        .flat_map(|[text]| text.tokens.clone())
        .collect();
    words.sort_unstable();
    words.dedup();
    let begins = texts.iter().filter_map(|[text]| text.prompt.first());
    let copied = |&begin: &u32| {
        let mut tokens: Vec<u32> = random.choose_multiple(words.iter().copied(), length);
        random.shuffle(&mut tokens);
        [Candidate {
            prompt: [&[begin], tokens.as_slice()].concat().into(),
            tokens,
        }]
    };
    begins.take(n).map(copied).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_text_says_distinct_words_twice_after_the_first_token() {
        let text = [Candidate {
            prompt: [1].into(),
            tokens: vec![5, 6, 5, 7, 8, 8],
        }];
        let texts = [text.clone(), text];
        let copies = copied_texts(&texts, 8, 3, &mut fastrand::Rng::with_seed(0));
        // No more than there are beginnings.
        assert_eq!(copies.len(), 2);
        for [copy] in &copies {
            assert_eq!(copy.prompt[0], 1);
            assert_eq!(copy.prompt[1..], copy.tokens[..]);
            let mut distinct = copy.tokens.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 3);
            assert!(distinct.iter().all(|token| (5..=8).contains(token)));
        }
        assert!(copied_texts(&[], 8, 3, &mut fastrand::Rng::with_seed(0)).is_empty());
    }
}

//! SentencePiece orders merges by score, byte-pair encoding by rank: one as the other.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::{Token, TokenKind};

/// The merges by which rank-ordered BPE does what SentencePiece does with these pieces: every
/// split of every piece into two pieces, best score first, and of one piece's splits the one
/// with the longest left part first. That is the order in which transformers derives them.
///
/// Control, byte and user-defined tokens are no pieces: SentencePiece never builds them out of
/// smaller ones.
pub(crate) fn from_pieces(tokens: &[Token]) -> Vec<(&str, &str)> {
    let is_piece = |token: &&Token| matches!(token.kind, TokenKind::Normal | TokenKind::Unused);
    let scores: HashMap<&str, f32> = tokens
        .iter()
        .filter(is_piece)
        .map(|token| (&*token.text, token.score))
        .collect();
    let mut merges: Vec<(f32, usize, &str, &str)> = Vec::new();
    for token in tokens.iter().filter(is_piece) {
        for (cut, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(cut);
            if scores.contains_key(left) && scores.contains_key(right) {
                merges.push((token.score, cut, left, right));
            }
        }
    }
    merges.sort_by(|a, b| best_first(a.0, b.0).then(b.1.cmp(&a.1)));
    merges
        .into_iter()
        .map(|(_, _, left, right)| (left, right))
        .collect()
}

/// Scores that make SentencePiece do what these rank-ordered merges do: a piece is as good as
/// its earliest merge. Pieces that no merge builds keep the lowest score.
pub(crate) fn scores(merges: &[(String, String)]) -> HashMap<String, f32> {
    let mut scores = HashMap::with_capacity(merges.len());
    for (left, right) in merges {
        let next = -(scores.len() as f32);
        scores.entry(format!("{left}{right}")).or_insert(next);
    }
    scores
}

fn best_first(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &[(&str, f32)]) -> Vec<Token> {
        let token = |(text, score): &(&str, f32)| Token {
            text: (*text).to_owned(),
            kind: TokenKind::Normal,
            score: *score,
        };
        list.iter().map(token).collect()
    }

    #[test]
    fn better_scored_pieces_merge_first() {
        let tokens = pieces(&[("a", 0.0), ("b", 0.0), ("ab", -2.0), ("ba", -1.0)]);
        assert_eq!(from_pieces(&tokens), [("b", "a"), ("a", "b")]);
    }

    #[test]
    fn control_tokens_are_not_built_from_text() {
        let mut tokens = pieces(&[("<", 0.0), ("s>", 0.0), ("<s>", 0.0)]);
        tokens[2].kind = TokenKind::Control;
        assert!(from_pieces(&tokens).is_empty());
    }

    #[test]
    fn scores_of_merges_give_the_merges_back() {
        let tokens = pieces(&[
            ("a", 0.0),
            ("b", 0.0),
            ("ab", 0.0),
            ("abab", -1.0),
            ("ba", -2.0),
        ]);
        let merges: Vec<(String, String)> = from_pieces(&tokens)
            .into_iter()
            .map(|(l, r)| (l.into(), r.into()))
            .collect();
        let derived = scores(&merges);
        for token in &tokens[2..] {
            assert_eq!(derived[&token.text], token.score, "{}", token.text);
        }
    }
}

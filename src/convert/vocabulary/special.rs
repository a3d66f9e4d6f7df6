//! Tokens with a role, and what each format calls them.

/// What a special token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beginning of sequence.
    Bos,
    /// End of sequence.
    Eos,
    /// What the vocabulary cannot spell.
    Unk,
    /// Between two texts.
    Sep,
    /// Fills a batch.
    Pad,
    /// A blank to fill.
    Mask,
    /// End of turn.
    Eot,
    /// End of message.
    Eom,
    /// Fill in the middle: before the prefix.
    FimPre,
    /// Fill in the middle: before the suffix.
    FimSuf,
    /// Fill in the middle: before the middle.
    FimMid,
    /// Fill in the middle: padding.
    FimPad,
    /// Fill in the middle: before the repository's name.
    FimRep,
    /// Fill in the middle: between files.
    FimSep,
}

/// Every role, its GGUF key after `tokenizer.ggml.`, and the stem of its Hugging Face names
/// (`bos` in `bos_token`, `bos_token_id`), in the order in which stock converters look.
/// "seperator" is how the GGUF specification spells it.
pub(crate) const ROLES: [(Role, &str, &str); 14] = [
    (Role::Bos, "bos_token_id", "bos"),
    (Role::Eos, "eos_token_id", "eos"),
    (Role::Unk, "unknown_token_id", "unk"),
    (Role::Sep, "seperator_token_id", "sep"),
    (Role::Pad, "padding_token_id", "pad"),
    (Role::Mask, "mask_token_id", "mask"),
    (Role::Eot, "eot_token_id", "eot"),
    (Role::Eom, "eom_token_id", "eom"),
    (Role::FimPre, "fim_pre_token_id", "fim_pre"),
    (Role::FimSuf, "fim_suf_token_id", "fim_suf"),
    (Role::FimMid, "fim_mid_token_id", "fim_mid"),
    (Role::FimPad, "fim_pad_token_id", "fim_pad"),
    (Role::FimRep, "fim_rep_token_id", "fim_rep"),
    (Role::FimSep, "fim_sep_token_id", "fim_sep"),
];

/// Older names of three keys: read, never written.
pub(crate) const DEPRECATED: [(Role, &str); 3] = [
    (Role::FimPre, "prefix_token_id"),
    (Role::FimSuf, "suffix_token_id"),
    (Role::FimMid, "middle_token_id"),
];

/// Control tokens that end a generation wherever they exist.
pub(crate) const ENDS_GENERATION: [&str; 14] = [
    "</s>",
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<EOT>",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
];

impl Role {
    /// The stem of the role's Hugging Face names: `bos` of `bos_token` and `bos_token_id`.
    pub fn stem(self) -> &'static str {
        ROLES
            .iter()
            .find(|(role, ..)| *role == self)
            .map_or("", |(_, _, stem)| stem)
    }

    /// The role's GGUF key.
    pub fn gguf_key(self) -> String {
        let key = ROLES
            .iter()
            .find(|(role, ..)| *role == self)
            .map_or("", |(_, key, _)| key);
        format!("tokenizer.ggml.{key}")
    }
}

/// The token that plays `role` in a list of roles.
pub(crate) fn id_of(special: &[(Role, u32)], role: Role) -> Option<u32> {
    special
        .iter()
        .find(|(known, _)| *known == role)
        .map(|(_, id)| *id)
}

/// Every id at which generation ends, ascending: the roles eos, eot and eom, the ids `stop`,
/// and of the control tokens `named` (text, id) those in [`ENDS_GENERATION`].
pub(crate) fn end_ids<'t>(
    special: &[(Role, u32)],
    stop: &[u32],
    named: impl Iterator<Item = (&'t str, u32)>,
) -> Vec<u32> {
    let mut named: Vec<(&str, u32)> = named
        .filter(|(text, _)| ENDS_GENERATION.contains(text))
        .collect();
    // Where these two end a message, `<|end|>` only ends one of its parts.
    if ["<|return|>", "<|call|>"]
        .iter()
        .all(|end| named.iter().any(|(text, _)| text == end))
    {
        named.retain(|(text, _)| *text != "<|end|>");
    }
    let roles = [Role::Eos, Role::Eot, Role::Eom]
        .into_iter()
        .filter_map(|r| id_of(special, r));
    let mut ids: Vec<u32> = roles.chain(stop.iter().copied()).collect();
    ids.extend(named.into_iter().map(|(_, id)| id));
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether an added token that is not marked special is one in all but name. Some models leave
/// the mark out; stock converters make these control tokens all the same, so that they are not
/// shown in generated text.
pub(crate) fn looks_special(text: &str) -> bool {
    let framed = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || framed("<|", "|>")
        || framed("<｜", "｜>")
        || framed("<unused", ">")
}

//! Hyper-parameters of the decoder, checked once.

use crate::arch::{Arch, Decoder, EmbeddingScale, LayerSize, Params, Role};
use crate::checkpoint::Checkpoint;
use anyhow::{Context, Result, ensure};

/// What the decoder needs to know beyond the weights.
#[derive(Debug, Clone)]
pub struct Config {
    /// Transformer blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP, of the widest where layers differ.
    pub intermediate_size: usize,
    /// Query heads, of the layer with most where layers differ.
    pub n_heads: usize,
    /// Key and value heads, each shared by n_heads / n_kv_heads query heads; of the layer with most.
    pub n_kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Dimensions of a head that rotate, from the first.
    pub rotary_dim: usize,
    /// Tokens in the embedding.
    pub vocab_size: usize,
    /// The longest text the model was made for.
    pub context_length: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their base in layers that attend to a window, where it is another.
    pub rope_theta_local: Option<f64>,
    /// How far back a token sees in layers that attend to a window.
    pub sliding_window: Option<usize>,
    /// Mixture of experts, where the MLP is one.
    pub experts: Option<Experts>,
    /// Whether the gate, where there is one MLP, stands before the up projection in one tensor.
    pub fused_gate: bool,
    /// What queries are multiplied with.
    pub attention_scale: f64,
    /// What token embeddings are multiplied with.
    pub embedding_scale: f64,
    /// What every block's output is multiplied with before it is added.
    pub residual_scale: f64,
    /// What logits are divided by.
    pub logit_scale: f64,
    /// c · tanh(x / c) of attention scores.
    pub attn_softcap: Option<f64>,
    /// c · tanh(x / c) of logits.
    pub final_softcap: Option<f64>,
    /// What the architecture's description says beyond numbers.
    pub decoder: Decoder,
    /// What each layer does in its own way.
    pub kinds: Vec<LayerKind>,
    /// How large each layer is.
    pub sizes: Vec<LayerSize>,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each token goes through.
    pub used: usize,
    /// The width of each one.
    pub intermediate_size: usize,
    /// The width of the one that every token goes through.
    pub shared_intermediate_size: Option<usize>,
}

/// Where the layers of a model differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Attends to the sliding window only.
    pub windowed: bool,
    /// Rotates queries and keys.
    pub rotates: bool,
}

impl Config {
    /// Reads and checks a checkpoint's hyper-parameters.
    ///
    /// # Errors
    /// Missing or contradictory values; an architecture without a decoder.
    pub fn read(arch: &Arch, checkpoint: &Checkpoint) -> Result<Self> {
        let decoder = arch.decoder()?;
        let params = arch.params(checkpoint)?;
        let config = Self::from_params(arch, checkpoint, &params, decoder)
            .with_context(|| checkpoint.path().display().to_string())?;
        config
            .check()
            .with_context(|| checkpoint.path().display().to_string())?;
        Ok(config)
    }

    fn from_params(
        arch: &Arch,
        checkpoint: &Checkpoint,
        params: &Params,
        decoder: Decoder,
    ) -> Result<Self> {
        let count = |key: &str| params.get(key).map(|value| value as usize);
        let factor = |key: &str| params.get(key).unwrap_or(1.0);
        let cap = |key: &str| params.get(key).filter(|cap| *cap > 0.0);
        let (hidden_size, head_dim) = (params.count("embedding_length")?, params.head_dim()?);
        let embedding_scale = match decoder.embedding_scale {
            Some(EmbeddingScale::SqrtHiddenSize) => (hidden_size as f64).sqrt(),
            None => factor("embedding_scale"),
        };
        let sliding_window = count("attention.sliding_window").filter(|&window| window > 0);
        let kinds = kinds(arch, checkpoint, sliding_window)?;
        let sizes = params.layer_sizes(kinds.len())?;
        let most = |count: fn(&LayerSize) -> usize| sizes.iter().map(count).max().unwrap_or(0);
        let intermediate_size = most(|size| size.intermediate_size);
        Ok(Self {
            n_layers: kinds.len(),
            hidden_size,
            intermediate_size,
            n_heads: most(|size| size.n_heads),
            n_kv_heads: most(|size| size.n_kv_heads),
            head_dim,
            rotary_dim: count("rope.dimension_count").unwrap_or(head_dim),
            vocab_size: vocab_size(arch, checkpoint, params)?,
            context_length: params.count("context_length")?,
            rms_norm_eps: factor("attention.layer_norm_rms_epsilon"),
            rope_theta: params.get("rope.freq_base").unwrap_or(10_000.0),
            rope_theta_local: params.get("rope.freq_base_swa"),
            sliding_window,
            experts: experts(params, intermediate_size)?,
            fused_gate: !arch.names_layer_tensor("ffn_gate.weight"),
            attention_scale: match params.get("attention.scale") {
                Some(scale) => scale,
                None => arch.source_attention_scale(checkpoint, params)?,
            },
            embedding_scale,
            residual_scale: factor("residual_scale"),
            logit_scale: factor("logit_scale"),
            attn_softcap: cap("attn_logit_softcapping"),
            final_softcap: cap("final_logit_softcapping"),
            decoder,
            kinds,
            sizes,
        })
    }

    fn check(&self) -> Result<()> {
        ensure!(self.n_layers > 0, "the model has no layers");
        ensure!(
            self.head_dim > 0 && self.head_dim.is_multiple_of(2),
            "head_dim (attention.key_length) must be even and not 0, but is {}",
            self.head_dim
        );
        ensure!(
            self.rotary_dim <= self.head_dim && self.rotary_dim.is_multiple_of(2),
            "rope.dimension_count must be even and at most head_dim {}, but is {}",
            self.head_dim,
            self.rotary_dim
        );
        ensure!(
            self.hidden_size > 0 && self.vocab_size > 0,
            "hidden_size and vocab_size must not be 0"
        );
        let bases = [Some(self.rope_theta), self.rope_theta_local];
        ensure!(
            bases.iter().flatten().all(|&base| base > 0.0),
            "rope_theta must be positive"
        );
        ensure!(self.logit_scale != 0.0, "logit_scale must not be 0");
        Ok(())
    }

    /// The shapes that a tensor may have, by its GGUF name without layer; empty for a tensor
    /// that the decoder does not use, or that is outside the layers.
    fn shapes_in_layer(&self, name: &str, size: &LayerSize) -> Vec<Vec<usize>> {
        let (hidden, ffn) = (self.hidden_size, size.intermediate_size);
        let q = size.n_heads.saturating_mul(self.head_dim);
        let kv = size.n_kv_heads.saturating_mul(self.head_dim);
        let (count, wide, shared) = match self.experts {
            Some(e) => {
                let shared = e.shared_intermediate_size.unwrap_or(ffn);
                (e.count, e.intermediate_size, shared)
            }
            None => (0, ffn, ffn),
        };
        let up = ffn * (1 + usize::from(self.fused_gate));
        let one = |shape: &[usize]| vec![shape.to_vec()];
        match name {
            "attn_norm.weight"
            | "ffn_norm.weight"
            | "post_attention_norm.weight"
            | "post_ffw_norm.weight"
            | "attn_output.bias"
            | "ffn_down.bias" => one(&[hidden]),
            "attn_qkv.weight" => one(&[q.saturating_add(kv.saturating_mul(2)), hidden]),
            "attn_q.weight" => one(&[q, hidden]),
            "attn_q.bias" => one(&[q]),
            "attn_k.weight" | "attn_v.weight" => one(&[kv, hidden]),
            "attn_k.bias" | "attn_v.bias" => one(&[kv]),
            // Of every head on its own, or of all heads together.
            "attn_q_norm.weight" => vec![vec![self.head_dim], vec![q]],
            "attn_k_norm.weight" => vec![vec![self.head_dim], vec![kv]],
            "attn_output.weight" if size.is_linear() => one(&[hidden, hidden]),
            "attn_output.weight" => one(&[hidden, q]),
            "ffn_gate.weight" => one(&[ffn, hidden]),
            "ffn_up.weight" => one(&[up, hidden]),
            "ffn_gate.bias" | "ffn_up.bias" => one(&[up]),
            "ffn_down.weight" => one(&[hidden, ffn]),
            "ffn_gate_inp.weight" => one(&[count, hidden]),
            "ffn_gate_exps.weight" | "ffn_up_exps.weight" => one(&[count, wide, hidden]),
            "ffn_down_exps.weight" => one(&[count, hidden, wide]),
            "ffn_gate_inp_shexp.weight" => vec![vec![hidden], vec![1, hidden]],
            "ffn_gate_shexp.weight" | "ffn_up_shexp.weight" => one(&[shared, hidden]),
            "ffn_down_shexp.weight" => one(&[hidden, shared]),
            _ => Vec::new(),
        }
    }

    /// The same outside the layers.
    fn shapes_outside(&self, name: &str) -> Vec<Vec<usize>> {
        match name {
            "token_embd.weight" | "output.weight" => vec![vec![self.vocab_size, self.hidden_size]],
            "output_norm.weight" => vec![vec![self.hidden_size]],
            "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight" => {
                vec![vec![self.rotary_dim / 2]]
            }
            _ => Vec::new(),
        }
    }

    /// Checks a checkpoint's tensors against these hyper-parameters without reading them.
    ///
    /// # Errors
    /// A tensor of another shape, or an expert that does not exist.
    pub fn check_shapes(&self, arch: &Arch, checkpoint: &Checkpoint) -> Result<()> {
        let experts = self.experts.map_or(0, |experts| experts.count);
        for tensor in checkpoint.tensors() {
            let Some(slot) = arch.slot(&tensor.name) else {
                continue;
            };
            let path = checkpoint.path().display();
            ensure!(
                slot.expert.is_none_or(|expert| expert < experts),
                "{path}: tensor {} is of an expert that does not exist: the metadata say {experts}",
                tensor.name
            );
            let of_one = usize::from(slot.expert.is_some());
            let allowed = match slot.layer {
                None => self.shapes_outside(&slot.rule.gguf),
                Some(layer) => match self.sizes.get(layer) {
                    Some(size) => self.shapes_in_layer(&slot.rule.gguf, size),
                    // Completeness is checked by itself.
                    None => continue,
                },
            };
            let found: Vec<usize> = tensor.shape.iter().map(|&d| d as usize).collect();
            let fits = |shape: &Vec<usize>| shape.get(of_one..) == Some(found.as_slice());
            ensure!(
                allowed.is_empty() || allowed.iter().any(fits),
                "{path}: tensor {} has shape {found:?}, but the metadata say {:?}",
                tensor.name,
                allowed
                    .first()
                    .and_then(|s| s.get(of_one..))
                    .unwrap_or_default()
            );
        }
        Ok(())
    }
}

/// Rows of the embedding, which the metadata must not contradict.
fn vocab_size(arch: &Arch, checkpoint: &Checkpoint, params: &Params) -> Result<usize> {
    let embeds = |name: &str| {
        let slot = arch.slot(name);
        slot.is_some_and(|slot| slot.rule.gguf == "token_embd.weight")
    };
    let mut tensors = checkpoint.tensors().iter();
    let embedding = tensors.find(|tensor| embeds(&tensor.name));
    let embedding = embedding.context("the checkpoint has no token embedding")?;
    let rows = *embedding
        .shape
        .first()
        .context("the token embedding has no dimensions")? as usize;
    if let Some(said) = params.get("vocab_size") {
        ensure!(
            said as usize == rows,
            "the metadata say {said} tokens, but the embedding has {rows} rows"
        );
    }
    Ok(rows)
}

fn experts(params: &Params, intermediate_size: usize) -> Result<Option<Experts>> {
    let count = |key: &str| params.get(key).map(|value| value as usize);
    let Some(n) = count("expert_count").filter(|&n| n > 0) else {
        return Ok(None);
    };
    let used = params.count("expert_used_count")?;
    ensure!(
        (1..=n).contains(&used),
        "each token goes through {used} of {n} experts"
    );
    Ok(Some(Experts {
        count: n,
        used,
        intermediate_size: count("expert_feed_forward_length").unwrap_or(intermediate_size),
        shared_intermediate_size: count("expert_shared_feed_forward_length"),
    }))
}

/// A window holds for the layers that do not attend to the whole text: for all, where the
/// architecture has no such layers.
fn kinds(arch: &Arch, checkpoint: &Checkpoint, window: Option<usize>) -> Result<Vec<LayerKind>> {
    let layers = arch.layers(checkpoint)?;
    let is = |role: Role, layer: usize| layers.special(role).is_some_and(|s| s[layer]);
    let kind = |layer: usize| LayerKind {
        windowed: window.is_some() && !is(Role::FullAttention, layer),
        rotates: !is(Role::NoRope, layer),
    };
    Ok((0..layers.len()).map(kind).collect())
}

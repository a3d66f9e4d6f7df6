//! The model as a Hugging Face folder, and the suite's task files beside it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

use crate::network::{Config, Network};
use crate::text::Task;
use crate::tokenizer::{END_OF_TEXT, END_OF_TEXT_ID, Tokenizer};

const CHAT_TEMPLATE: &str = "{% for message in messages %}\
{% if message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\\n' }}\
{% else %}{{ 'Answer: ' + message['content'] + '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}";

pub fn write_model(folder: &Path, network: &Network, tokenizer: &Tokenizer) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write(&folder.join("model.safetensors"), &weights(network)?)?;
    write(
        &folder.join("tokenizer.json"),
        tokenizer.to_json()?.as_bytes(),
    )?;
    let documents = [
        ("config.json", config(&network.config)),
        ("generation_config.json", generation_config()),
        ("tokenizer_config.json", tokenizer_config(&network.config)),
        ("special_tokens_map.json", special_tokens()),
    ];
    for (name, value) in documents {
        write_json(&folder.join(name), &value)?;
    }
    Ok(())
}

pub fn write_suite(folder: &Path, tasks: &[Task]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for task in tasks {
        write_json(
            &folder.join(format!("{}.json", task.task)),
            &serde_json::to_value(task)?,
        )?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(
        path,
        format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes(),
    )
}

fn weights(network: &Network) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, var) in &network.weights {
        let values = var.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
            .collect();
        tensors.push((name, var.dims().to_vec(), bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::BF16, shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    Ok(serialize(views, Some(metadata))?)
}

fn config(config: &Config) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "head_dim": config.head_dim(),
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "pretraining_tp": 1,
        // As text: an f32 widened to f64 would show digits that nobody chose.
        "rms_norm_eps": config.rms_norm_eps.to_string().parse::<f64>().unwrap_or_default(),
        "rope_scaling": null,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": config.vocab_size,
    })
}

fn generation_config() -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "do_sample": false,
    })
}

fn special_tokens() -> Value {
    json!({ "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT })
}

fn tokenizer_config(config: &Config) -> Value {
    json!({
        "add_bos_token": false,
        "add_eos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": {
            END_OF_TEXT_ID.to_string(): {
                "content": END_OF_TEXT,
                "lstrip": false,
                "normalized": false,
                "rstrip": false,
                "single_word": false,
                "special": true,
            }
        },
        "bos_token": END_OF_TEXT,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": END_OF_TEXT,
        "model_max_length": config.max_position_embeddings,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": END_OF_TEXT,
    })
}

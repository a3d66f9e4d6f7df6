"""A llama of 1B shape with random weights and a real tokenizer, for measurements of speed and memory.

    python tests/real/random_llama.py smollm2.gguf OUT.gguf [LAYERS]        needs: numpy, gguf

26 layers of hidden_size 2048 (32 heads, 4 of keys and values, intermediate_size 5632), bf16, 2.49 GB. The same
bytes each time.
"""

import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, GGMLQuantizationType

source, out = sys.argv[1:3]
layers = int(sys.argv[3]) if len(sys.argv) > 3 else 26
hidden, heads, kv_heads, intermediate = 2048, 32, 4, 5632
keys_and_values = hidden // heads * kv_heads

reader = GGUFReader(source)
writer = GGUFWriter(out, "llama")
writer.add_block_count(layers)
writer.add_context_length(8192)
writer.add_embedding_length(hidden)
writer.add_feed_forward_length(intermediate)
writer.add_head_count(heads)
writer.add_head_count_kv(kv_heads)
writer.add_rope_dimension_count(hidden // heads)
writer.add_rope_freq_base(100000.0)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_file_type(32)
for name, field in reader.fields.items():
    if name.startswith("tokenizer."):
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
vocab_size = len(reader.fields["tokenizer.ggml.tokens"].data)

random = np.random.default_rng(0)


def matrix(name, rows, columns):
    values = random.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor(name, bf16.view(np.uint8).reshape(rows, 2 * columns), raw_dtype=GGMLQuantizationType.BF16)


def norm(name):
    writer.add_tensor(name, np.ones(hidden, np.float32))


matrix("token_embd.weight", vocab_size, hidden)
for layer in range(layers):
    part = f"blk.{layer}."
    norm(part + "attn_norm.weight")
    matrix(part + "attn_q.weight", hidden, hidden)
    matrix(part + "attn_k.weight", keys_and_values, hidden)
    matrix(part + "attn_v.weight", keys_and_values, hidden)
    matrix(part + "attn_output.weight", hidden, hidden)
    norm(part + "ffn_norm.weight")
    matrix(part + "ffn_gate.weight", intermediate, hidden)
    matrix(part + "ffn_up.weight", intermediate, hidden)
    matrix(part + "ffn_down.weight", hidden, intermediate)
norm("output_norm.weight")

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

"""Writes a model of 7 billion random weights in the shape of Llama 2 (bf16 safetensors, 13 GB, a shard a layer), to see
how a model larger than memory is examined.

    python scripts/make_large_model.py DIRECTORY && sinkscope anatomy DIRECTORY --tokens DIRECTORY/tokens.json

A number after the directory is that of the layers, 32 if absent. Needs numpy. The directory must not exist; tokens.json in it
holds 4 sequences of 256 random ids.
"""

import json
import pathlib
import sys

import numpy as np

D, FFN, LAYERS, HEADS, VOCABULARY = 4096, 11008, 32, 32, 32000
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": D,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
LAYER = {
    "input_layernorm": (D,),
    "self_attn.q_proj": (D, D),
    "self_attn.k_proj": (D, D),
    "self_attn.v_proj": (D, D),
    "self_attn.o_proj": (D, D),
    "post_attention_layernorm": (D,),
    "mlp.gate_proj": (FFN, D),
    "mlp.up_proj": (FFN, D),
    "mlp.down_proj": (D, FFN),
}


def values(generator, shape):
    """bf16, as its bits: ones for norms, else normal with deviation 0.02."""
    if len(shape) == 1:
        return np.full(shape, 0x3F80, dtype="<u2")
    normal = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    return (normal.view(np.uint32) >> 16).astype("<u2")


def write_shard(path, generator, shapes):
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            values(generator, shape).tofile(file)
    return end


def main():
    directory = pathlib.Path(sys.argv[1])
    layers = int(sys.argv[2]) if len(sys.argv) > 2 else LAYERS
    directory.mkdir(parents=True)
    generator = np.random.default_rng(0)
    shards = [{"model.embed_tokens.weight": (VOCABULARY, D)}]
    for layer in range(layers):
        shards.append({f"model.layers.{layer}.{name}.weight": shape for name, shape in LAYER.items()})
    shards.append({"model.norm.weight": (D,), "lm_head.weight": (VOCABULARY, D)})
    index, total = {}, 0
    for number, shapes in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        total += write_shard(directory / name, generator, shapes)
        index |= dict.fromkeys(shapes, name)
        print(f"\r{number} of {len(shards)} shards", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    weight_map = {"metadata": {"total_size": total}, "weight_map": index}
    (directory / "model.safetensors.index.json").write_text(json.dumps(weight_map))
    tokens = generator.integers(0, VOCABULARY, (4, 256)).tolist()
    (directory / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    (directory / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}, indent=1))


if __name__ == "__main__":
    main()

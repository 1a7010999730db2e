#!/usr/bin/env python3
"""Writes what every family of crates/model/src/families is held to, as GGUF files.

For each, crates/model/tests/fixtures/gguf/NAME.gguf holds a tiny random model as llama.cpp's converter would write it (its
names, its order of rows, its gammas, matrices in F16, a few in Q8_0), and NAME.expected.safetensors tokens and logits.
The logits come from `transformers` reading that file back in f32, which undoes the conversion on its own; they must equal
those of the model the file was written from. Some settings transformers does not read from a file (UNREAD, checked here);
for those files the configuration is passed beside it. See crates/model/tests/fixtures/README.md.

    python scripts/make_gguf_fixtures.py [NAME ...]
    # needs: pip install transformers==5.24.0 torch==2.15.0 safetensors accelerate gguf==0.19.0

Runs on a CPU, downloads nothing. Running it again with the same versions on the same machine writes the same bytes.
"""

import math
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from make_family_fixtures import BY, COMMON, FIXTURES, LLAMA3_ROPE, build, rope, tokens_for
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = FIXTURES / "gguf"
WIDE = dict(COMMON, hidden_size=32, intermediate_size=32, num_key_value_heads=2)  # rows of 32 fill a block of Q8_0

# name: (architecture, model_type, tensors in Q8_0, configuration)
MODELS = {
    "llama": ("llama", "llama", ["blk.0.attn_q.weight"], dict(WIDE, rope_parameters=rope(10_000.0))),
    "llama3": (
        "llama",
        "llama",
        [],
        dict(WIDE, hidden_size=24, head_dim=8, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=LLAMA3_ROPE),
    ),
    # Keeps the first of four frequencies, mixes the second, divides the others. Biases wherever Llama can have them.
    "llama_yarn": (
        "llama",
        "llama",
        [],
        dict(
            WIDE,
            hidden_size=24,
            head_dim=8,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters=rope(50.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
        ),
    ),
    "qwen2": ("qwen2", "qwen2", ["output.weight"], dict(WIDE, rope_parameters=rope(1_000_000.0))),
    # Written as a factor without a type.
    "qwen2_linear": (
        "qwen2",
        "qwen2",
        [],
        dict(WIDE, rope_parameters=rope(1_000.0, rope_type="linear", factor=4.0)),
    ),
    "qwen3": ("qwen3", "qwen3", [], dict(WIDE, hidden_size=24, head_dim=8, rope_parameters=rope(1_000_000.0))),
    # A ramp over all frequencies.
    "qwen3_yarn": (
        "qwen3",
        "qwen3",
        [],
        dict(
            WIDE,
            hidden_size=24,
            head_dim=8,
            rope_parameters=rope(
                50.0,
                rope_type="yarn",
                factor=4.0,
                original_max_position_embeddings=32,
                beta_fast=2.0,
                beta_slow=0.25,
            ),
        ),
    ),
    "phi3": (
        "phi3",
        "phi3",
        ["blk.1.attn_qkv.weight"],
        dict(WIDE, sliding_window=7, rms_norm_eps=1e-5, rope_parameters=rope(10_000.0, partial_rotary_factor=1.0)),
    ),
    # Half of each head rotates; the sequences of the fixture are longer than the original length.
    "phi3_longrope": (
        "phi3",
        "phi3",
        [],
        dict(
            WIDE,
            original_max_position_embeddings=8,
            rms_norm_eps=1e-5,
            rope_parameters=rope(
                100.0,
                rope_type="longrope",
                partial_rotary_factor=0.5,
                short_factor=[1.0, 1.5],
                long_factor=[1.5, 6.5],
                original_max_position_embeddings=8,
            ),
        ),
    ),
    "gemma2": (
        "gemma2",
        "gemma2",
        [],
        dict(
            WIDE,
            hidden_size=24,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=6,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=4.0,
            rope_parameters=rope(10_000.0),
        ),
    ),
    # Seven layers: the sixth sees everything, as a file that does not name a pattern has it.
    "gemma3": (
        "gemma3",
        "gemma3_text",
        [],
        dict(
            WIDE,
            hidden_size=16,
            intermediate_size=24,
            head_dim=8,
            query_pre_attn_scalar=8,
            num_hidden_layers=7,
            sliding_window=5,
            rope_parameters={
                "full_attention": rope(1_000.0, rope_type="linear", factor=4.0),
                "sliding_attention": rope(100.0),
            },
        ),
    ),
    "gpt2": (
        "gpt2",
        "gpt2",
        ["blk.0.attn_qkv.weight"],
        dict(
            vocab_size=32, n_embd=32, n_inner=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2
        ),
    ),
}

# The settings that are in the file, or follow from llama.cpp's defaults, but that transformers does not take from there.
UNREAD = {
    "llama3": ["rope_parameters"],
    "llama_yarn": ["rope_parameters", "attention_bias", "mlp_bias"],
    "qwen2_linear": ["rope_parameters"],
    "qwen3": ["head_dim"],
    "qwen3_yarn": ["head_dim", "rope_parameters"],
    "phi3": ["sliding_window", "pad_token_id"],
    "phi3_longrope": ["rope_parameters", "original_max_position_embeddings", "pad_token_id"],
    "gemma2": ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"],
    "gemma3": ["rope_parameters", "query_pre_attn_scalar"],
    "gpt2": ["n_inner", "n_positions"],
}

# Not taken from the `gguf` package: transformers reads files with the package's table, and would repeat its mistakes.
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GEMMA_NAMES = NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_name(architecture: str, key: str) -> str:
    names = GPT2_NAMES if architecture == "gpt2" else GEMMA_NAMES if architecture.startswith("gemma") else NAMES
    module, kind = key.rsplit(".", 1)
    parts = module.split(".")
    if len(parts) > 2 and parts[2].isdigit():
        return f"blk.{parts[2]}.{names['.'.join(parts[3:])]}.{kind}"
    return f"{names[module]}.{kind}"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (head, half, pair) to (head, pair, half): rotary pairs become adjacent."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, rows, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_keys(writer: gguf.GGUFWriter, architecture: str, config, head_dim: int) -> None:
    writer.add_name("fixture")
    if architecture == "gpt2":
        writer.add_context_length(config.n_positions)
        writer.add_embedding_length(config.n_embd)
        writer.add_feed_forward_length(config.n_inner)
        writer.add_block_count(config.n_layer)
        writer.add_head_count(config.n_head)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(int(head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0)))
        if getattr(config, "head_dim", None):
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
        parameters = config.rope_parameters
        if architecture == "gemma3":
            writer.add_rope_freq_base(parameters["full_attention"]["rope_theta"])
            writer.add_rope_freq_base_swa(parameters["sliding_attention"]["rope_theta"])
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(parameters["full_attention"]["factor"])
        else:
            writer.add_rope_freq_base(parameters["rope_theta"])
            write_scaling(writer, parameters)
        if getattr(config, "sliding_window", None):
            writer.add_sliding_window(config.sliding_window)
        if architecture == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
        if architecture == "llama":
            writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>" for i in range(config.vocab_size)])


def write_scaling(writer: gguf.GGUFWriter, parameters: dict) -> None:
    """Scaling by keys; Llama 3's is a tensor, and LongRope's factors are."""
    if parameters["rope_type"] == "linear":
        writer.add_rope_scaling_factor(parameters["factor"])
    if parameters["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(parameters["factor"])
        writer.add_rope_scaling_orig_ctx_len(parameters["original_max_position_embeddings"])
        if "beta_fast" in parameters:
            writer.add_rope_scaling_yarn_beta_fast(parameters["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(parameters["beta_slow"])


def write_factors(writer: gguf.GGUFWriter, config) -> None:
    """LongRope as the converter of Phi-3 writes it."""
    parameters = config.rope_parameters
    original = parameters["original_max_position_embeddings"]
    stretch = config.max_position_embeddings / original
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(original)))
    for which in ("long", "short"):
        factors = np.array(parameters[f"{which}_factor"], dtype=np.float32)
        writer.add_tensor(f"rope_factors_{which}.weight", factors)


@torch.no_grad()
def make(name: str) -> None:
    architecture, model_type, quantised, settings = MODELS[name]
    model = build(f"gguf {name}", model_type, settings)
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    path = OUT / f"{name}.gguf"
    path.unlink(missing_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    write_keys(writer, architecture, config, head_dim)
    if name == "llama3":
        # What llama.cpp divides each frequency by: transformers' own unscaled and scaled frequencies.
        half = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        plain = config.rope_parameters["rope_theta"] ** -half
        divisors = (plain / model.model.rotary_emb.inv_freq).numpy()
        writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))
        print("llama3's rope_freqs:", divisors)
    if name == "phi3_longrope":
        write_factors(writer, config)
    left = set(quantised)
    for key, parameter in model.named_parameters():
        stored_name = gguf_name(architecture, key)
        stored = parameter.numpy().copy()
        kv = ".attn_k." in stored_name
        interleaved = architecture == "llama" and (kv or ".attn_q." in stored_name)
        heads = config.num_key_value_heads if kv else config.num_attention_heads
        transposed = architecture == "gpt2" and stored.ndim == 2 and stored_name.startswith("blk.")
        offset = architecture.startswith("gemma") and stored_name.endswith("norm.weight")
        if interleaved:
            stored = permuted(stored, heads)
        if transposed:
            stored = np.ascontiguousarray(stored.T)
        if offset:
            stored = stored + np.float32(1)
        type_ = Type.F32 if stored.ndim == 1 else Type.Q8_0 if stored_name in left else Type.F16
        left.discard(stored_name)
        data = gguf.quants.quantize(stored, type_)
        writer.add_tensor(stored_name, data, raw_dtype=type_)
        # The model gets what the file holds.
        values = gguf.quants.dequantize(data, type_).astype(np.float32)
        values = unpermuted(values, heads) if interleaved else values.T if transposed else values
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values - 1 if offset else values)))
    assert not left, left
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    tokens = tokens_for(f"gguf {name}", settings["vocab_size"])
    reference = model(tokens).logits

    def read_back(**more) -> torch.Tensor:
        read = AutoModelForCausalLM.from_pretrained(
            OUT, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager", **more
        ).eval()
        return read(tokens).logits

    # The file alone, then with each setting that transformers does not read: all are needed, and suffice.
    from_file = AutoConfig.from_pretrained(OUT, gguf_file=path.name).to_dict()
    unread = UNREAD.get(name, [])
    logits = None
    for missing in [*unread, None]:
        given = {key: getattr(config, key) for key in unread if key != missing}
        mixed = {k: v for k, v in from_file.items() if k != "model_type"} | given
        try:
            read = read_back(config=AutoConfig.for_model(model_type, **mixed))
        except (RuntimeError, AssertionError):  # shapes differ
            assert missing is not None, name
            continue
        difference = (read - reference).abs().max().item()
        assert (difference < 1e-4) == (missing is None), f"{name} without {missing}: off by {difference}"
        logits = read
    alone = "confirmed" if not unread else f"not read: {', '.join(unread)}"
    save_file({"tokens": tokens, "logits": logits.contiguous()}, OUT / f"{name}.expected.safetensors", metadata=BY)
    print(f"{name:12} {path.stat().st_size / 1024:5.1f} KiB  off by {difference:.1e}  {alone}")


def main() -> None:
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or MODELS:
        make(name)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes what every family of crates/model/src/families is held to, as Hugging Face directories.

For each family, crates/model/tests/fixtures/families/NAME/ holds a tiny random model (config.json, model.safetensors or
shards of it) and expected.safetensors, what the `transformers` package computes from those files in f32 with eager
attention. Half of the configurations are rewritten into the form that the hub's checkpoints have; that they still mean the
same model is checked here. What expected.safetensors holds: see crates/model/tests/fixtures/README.md.

    python scripts/make_family_fixtures.py [NAME ...]   # needs: pip install transformers==5.24.0 torch==2.15.0 safetensors

Runs on a CPU, downloads nothing. Running it again with the same versions on the same machine writes the same bytes.
"""

import json
import os
import shutil
import sys
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

FIXTURES = Path(__file__).resolve().parent.parent / "crates/model/tests/fixtures"
OUT = FIXTURES / "families"

N, T = 2, 16
# Stands in every expected.safetensors, and from there in confirmed.json.
BY = {"transformers": transformers.__version__}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}

COMMON = dict(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=None,
    bos_token_id=1,
    eos_token_id=2,
)
GQA = dict(num_key_value_heads=2, head_dim=8)  # 16 / 4 = 4 is not 8


def rope(theta: float, **more) -> dict:
    return {"rope_type": "default", "rope_theta": theta, **more}


# Divides the last two of four frequencies, keeps the first, mixes the second.
LLAMA3_ROPE = rope(
    50.0,
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=0.25,
    high_freq_factor=1.2,
    original_max_position_embeddings=8,
)

# name: (model_type, storage, whether config.json takes the hub's form, configuration)
MODELS = {
    "llama": ("llama", "bf16", True, dict(COMMON, num_key_value_heads=4, rope_parameters=rope(10_000.0))),
    "llama3": ("llama", "bf16", True, dict(COMMON, **GQA, rms_norm_eps=1e-5, rope_parameters=LLAMA3_ROPE)),
    "smollm": (
        "llama",
        "f32",
        False,
        dict(COMMON, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=rope(5_000.0)),
    ),
    "mistral": (
        "mistral",
        "f16",
        True,
        dict(COMMON, **GQA, sliding_window=6, rms_norm_eps=1e-5, rope_parameters=rope(1_000.0)),
    ),
    "qwen2": (
        "qwen2",
        "bf16",
        True,
        dict(COMMON, num_key_value_heads=2, sliding_window=4, max_window_layers=1, rope_parameters=rope(1_000_000.0)),
    ),
    "qwen2-window": (
        "qwen2",
        "bf16",
        False,
        dict(
            COMMON,
            num_hidden_layers=3,
            num_key_value_heads=2,
            use_sliding_window=True,
            sliding_window=5,
            max_window_layers=1,
            tie_word_embeddings=True,
            rope_parameters=rope(10_000.0),
        ),
    ),
    "qwen3": ("qwen3", "bf16", False, dict(COMMON, **GQA, rope_parameters=rope(1_000_000.0))),
    "gemma2": (
        "gemma2",
        "bf16",
        True,
        dict(
            COMMON,
            **GQA,
            sliding_window=6,
            query_pre_attn_scalar=18,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=4.0,
            rope_parameters=rope(10_000.0),
        ),
    ),
    "gemma3": (
        "gemma3_text",
        "bf16",
        True,
        dict(
            COMMON,
            **GQA,
            num_hidden_layers=3,
            sliding_window=5,
            query_pre_attn_scalar=12,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "full_attention": rope(1_000.0, rope_type="linear", factor=4.0),
                "sliding_attention": rope(100.0),
            },
        ),
    ),
    "olmo2": ("olmo2", "bf16", False, dict(COMMON, num_key_value_heads=2, rope_parameters=rope(500_000.0))),
    # A layer that does not rotate, and it alone has a window.
    "smollm3": (
        "smollm3",
        "bf16",
        True,
        dict(
            COMMON,
            num_hidden_layers=3,
            num_key_value_heads=2,
            no_rope_layer_interval=2,
            use_sliding_window=True,
            sliding_window=6,
            rope_parameters=rope(1_000.0),
        ),
    ),
    "phi3": (
        "phi3",
        "bf16",
        False,
        dict(COMMON, num_key_value_heads=2, sliding_window=7, rope_parameters=rope(10_000.0, partial_rotary_factor=1.0)),
    ),
    "phi3-longrope": (
        "phi3",
        "bf16",
        True,
        dict(
            COMMON,
            num_key_value_heads=2,
            original_max_position_embeddings=8,
            rope_parameters=rope(
                100.0, rope_type="longrope", short_factor=[1.0, 1.5], long_factor=[1.5, 6.5]
            ),
        ),
    ),
    "gpt2": (
        "gpt2",
        "f16",
        False,
        dict(
            vocab_size=32,
            n_embd=16,
            n_inner=24,
            n_layer=2,
            n_head=4,
            n_positions=32,
            pad_token_id=None,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    "gpt-neox": (
        "gpt_neox",
        "bf16",
        True,
        dict(COMMON, hidden_size=32, rope_parameters=rope(10_000.0, partial_rotary_factor=0.5)),
    ),
    "gpt-neox-sequential": (
        "gpt_neox",
        "f32",
        False,
        dict(
            COMMON,
            use_parallel_residual=False,
            hidden_act="gelu_new",
            rope_parameters=rope(1_000.0, partial_rotary_factor=0.5),
        ),
    ),
}
SHARDED = {"llama3": "4KB"}


def build(name: str, model_type: str, settings: dict) -> torch.nn.Module:
    """A model of f32 weights, random and large: scores, gates and norms are all far from where they are linear."""
    config = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    offset = 1.0 if model_type.startswith("gemma") else 0.0  # Gemma stores gamma - 1
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    score_scale = (getattr(config, "query_pre_attn_scalar", head_dim) / head_dim) ** 0.25
    with torch.no_grad():
        for key, weight in model.named_parameters():
            kind = key.split(".")[-2]
            if key.endswith("bias"):
                weight.normal_(0.0, 0.3, generator=random)
            elif weight.dim() == 1:
                weight.uniform_(0.5, 1.5, generator=random)
                if kind in ("q_norm", "k_norm"):
                    weight.mul_(1.5 * score_scale)
                weight.sub_(offset)
            elif kind in ("embed_tokens", "embed_in", "wte", "wpe"):
                weight.normal_(0.0, 1.0, generator=random)
            else:
                fan_in = weight.shape[0 if type(model.get_submodule(key[:-7])).__name__ == "Conv1D" else 1]
                weight.normal_(0.0, 1.5 * fan_in**-0.5, generator=random)
                if kind in ("q_proj", "k_proj"):
                    weight.mul_(score_scale)
    return model


def tokens_for(name: str, vocabulary: int, length: int = T) -> torch.Tensor:
    random = torch.Generator().manual_seed(zlib.crc32(f"{name} tokens".encode()))
    tokens = torch.randint(0, vocabulary, (N, length), generator=random)
    tokens[1, length // 2] = tokens[1, 0]
    return tokens


def hub_form(config: dict) -> dict:
    """The same configuration as releases before transformers 5 wrote it, as the hub's checkpoints have it."""
    family = config["model_type"]
    old = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype", "layer_types", "transformers_version")}
    for key in [k for k in old if k.startswith("_")] + ["is_decoder", "add_cross_attention"]:
        old.pop(key, None)
    old["torch_dtype"] = config["dtype"]
    parameters = dict(config["rope_parameters"])
    if family == "gemma3_text":
        old["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = dict(parameters["full_attention"])
        types = config["layer_types"]
        old["sliding_window_pattern"] = types.index("full_attention") + 1
        assert types == [
            "full_attention" if (i + 1) % old["sliding_window_pattern"] == 0 else "sliding_attention"
            for i in range(len(types))
        ]
    theta, kind = parameters.pop("rope_theta"), parameters.pop("rope_type")
    partial = parameters.pop("partial_rotary_factor", None)
    if family == "gpt_neox":
        old["rotary_emb_base"], old["rotary_pct"] = int(theta), partial
        old.pop("attention_bias", None)
        return old
    old["rope_theta"] = theta
    if kind == "default":
        old["rope_scaling"] = None
    elif kind == "longrope":
        parameters.pop("original_max_position_embeddings", None)
        old["rope_scaling"] = {**parameters, "type": kind}
    else:
        old["rope_scaling"] = {**parameters, "rope_type": kind}
    if family.startswith("gemma"):
        old.pop("tie_word_embeddings", None)
    if family == "gemma2":
        del old["rope_scaling"]
        old["hidden_act"] = old["hidden_activation"]
    if family == "llama" and old.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]:
        old.pop("head_dim")
    if family == "qwen2":
        # The hub's checkpoints name a window that `use_sliding_window` switches off.
        old["sliding_window"] = 4
    return old


@torch.no_grad()
def logits_of(folder: Path, tokens: torch.Tensor, dtype=torch.float32) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    return model(tokens).logits


@torch.no_grad()
def expected_of(folder: Path, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    body = model.base_model
    layers = body.h if hasattr(body, "h") else body.layers
    seen: dict[tuple[int, str], torch.Tensor] = {}

    def first(value):
        return value[0] if isinstance(value, tuple) else value

    def store(layer, what):
        def hook(_module, _args, output):
            assert (layer, what) not in seen
            seen[layer, what] = first(output).clone()

        return hook

    def store_input(layer):
        def hook(_module, args, kwargs):
            seen[layer, "in"] = (args[0] if args else kwargs["hidden_states"]).clone()

        return hook

    for index, layer in enumerate(layers):
        attention = next(getattr(layer, n) for n in ("self_attn", "attention", "attn") if hasattr(layer, n))
        feed_forward = layer.mlp
        if hasattr(layer, "post_feedforward_layernorm"):  # norms on the blocks' outputs
            attention, feed_forward = layer.post_attention_layernorm, layer.post_feedforward_layernorm
        layer.register_forward_pre_hook(store_input(index), with_kwargs=True)
        layer.register_forward_hook(store(index, "out"))
        attention.register_forward_hook(store(index, "attention"))
        feed_forward.register_forward_hook(store(index, "feed_forward"))
    output = model(tokens, output_attentions=True)

    expected = {"tokens": tokens, "logits": output.logits, "residual.0": seen[0, "in"]}
    for index in range(len(layers)):
        middle = seen[index, "in"] + seen[index, "attention"]
        after = middle + seen[index, "feed_forward"]
        torch.testing.assert_close(after, seen[index, "out"], rtol=1e-6, atol=1e-5)
        if index:
            assert torch.equal(seen[index, "in"], seen[index - 1, "out"])
        expected[f"residual.{2 * index + 1}"] = middle
        expected[f"residual.{2 * index + 2}"] = seen[index, "out"]
        weights = output.attentions[index].double()
        length = weights.shape[-1]
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-6)
        assert weights.triu(1).abs().max() == 0
        expected[f"alpha.{index}"] = weights.sum(-2) / length
        expected[f"entropy.{index}"] = torch.special.entr(weights).sum(-1)
        expected[f"to_self.{index}"] = weights.diagonal(dim1=-2, dim2=-1)
        expected[f"to_first.{index}"] = weights[..., 0]
    return {k: (v if k == "tokens" else v.float()).contiguous() for k, v in expected.items()}


def make(name: str) -> None:
    model_type, storage, hub, settings = MODELS[name]
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model = build(name, model_type, settings).to(DTYPES[storage])
    model.save_pretrained(folder, max_shard_size=SHARDED.get(name, "1GB"))
    for path in folder.iterdir():
        if path.name != "config.json" and not path.name.startswith("model"):
            path.unlink()
    tokens = tokens_for(name, settings["vocab_size"])
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("transformers_version", None)
    before = logits_of(folder, tokens)
    if hub:
        config = hub_form(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    expected = expected_of(folder, tokens)
    assert torch.equal(before, expected["logits"]), f"{name}: the rewritten config.json means another model"
    assert expected["logits"].isfinite().all()
    if name == "phi3-longrope":
        # Within the original length, where the short factors apply.
        short = tokens[:, :8].contiguous()
        expected |= {f"short.{k}": v for k, v in expected_of(folder, short).items() if k in ("tokens", "logits")}
    save_file(expected, folder / "expected.safetensors", metadata=BY)
    assert load_file(folder / "expected.safetensors").keys() == expected.keys()
    noise = (logits_of(folder, tokens, torch.float64) - before).abs().max().item()
    entropies = torch.stack([v for k, v in expected.items() if k.startswith("entropy")])[..., -1]
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1024
    print(
        f"{name:20} {storage:5} {'hub' if hub else 'v5':4} {size:6.1f} KiB  |logit| <= {before.abs().max():.2f}"
        f"  f32 vs f64 {noise:.1e}  last query's entropy {entropies.min():.2f}..{entropies.max():.2f}"
    )


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        make(name)
    total = sum(p.stat().st_size for p in OUT.rglob("*") if p.is_file())
    print(f"total {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

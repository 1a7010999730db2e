#!/usr/bin/env python3
"""Compares this program with transformers on scaled-down copies of published models.

For every configuration of published_configs.json and recollected_configs.json in crates/model/tests/fixtures (except those
that must be refused), and for VARIANTS of them, as READMEs tell users to edit config.json, this makes a small model: the
keys stay as published, sizes shrink (heads in the published ratio, a few layers that keep the pattern of layer types, 256
tokens), and windows and original rope lengths shrink to less than the text, so that they matter. Weights are random, norms
and biases included. transformers then computes, from the files and in float32 with eager attention, the mean negative
log-likelihood of two texts, one shorter and one longer than every window and original length, and the largest magnitude in
the residual before, between and after the halves of every layer; in float64 too, to see what rounding is worth. `sinkscope
anatomy` does the same, and every number must agree to 1e-5 of its size.

    python scripts/scaled_models.py target/release/sinkscope DIR [--table FILE.md] [--only WORD ...] [--keep]

DIR is outside of the repository and takes ids and results.json, with --keep the models too. --table writes the table that
docs/models.md shows. Needs transformers==5.24.0, torch and safetensors; runs on a CPU, downloads nothing. Exits with 1
if any model is refused or differs.
"""

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

FIXTURES = Path(__file__).resolve().parent.parent / "crates/model/tests/fixtures"
VOCABULARY = 256
SHORT, LONG = 24, 96
WINDOW, ORIGINAL, POSITIONS, DYNAMIC_POSITIONS = 12, 32, 128, 48
TOLERANCE = 1e-5

YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
QWEN3_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA2, LLAMA31 = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-8B"
QWEN25, QWEN3, MISTRAL = "Qwen/Qwen2-7B-Instruct (printed by 4.45.2)", "Qwen/Qwen3-8B", "mistralai/Mistral-7B-v0.1"
SLIDE, FULL = "sliding_attention", "full_attention"

# (published configuration, what is changed, keys set; None takes a key out)
VARIANTS = [
    (QWEN25, "YaRN as its README says", {"rope_scaling": YARN}),
    (QWEN25, "YaRN as vLLM's page says", {"rope_scaling": {"rope_type": "yarn", **YARN}}),
    (
        QWEN25,
        "YaRN in the form of 5.x",
        {"rope_scaling": None, "rope_theta": None, "rope_parameters": {"rope_theta": 1e6, **QWEN3_YARN}},
    ),
    (QWEN25, "YaRN, max_position_embeddings raised", {"rope_scaling": YARN, "max_position_embeddings": 131072}),
    (
        QWEN25,
        "YaRN with attention_factor, beta_fast, beta_slow",
        {"rope_scaling": {**YARN, "attention_factor": 1.3, "beta_fast": 16, "beta_slow": 2}},
    ),
    (QWEN25, "windows from layer 2 on", {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 14}),
    (QWEN25, "windows by layer_types", {"use_sliding_window": True, "sliding_window": 4096, "layer_types": [SLIDE, FULL] * 14}),
    (
        QWEN25,
        "a window and YaRN",
        {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 0, "rope_scaling": YARN},
    ),
    (QWEN3, "YaRN as its README says", {"rope_scaling": QWEN3_YARN}),
    (QWEN3, "YaRN, truncate false", {"rope_scaling": {**QWEN3_YARN, "truncate": False}}),
    (QWEN3, "YaRN with mscale", {"rope_scaling": {**QWEN3_YARN, "mscale": 1.0, "mscale_all_dim": 0.5}}),
    (QWEN3, "YaRN, length at the top too", {"rope_scaling": QWEN3_YARN, "original_max_position_embeddings": 40960}),
    (QWEN3, "linear", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    (QWEN3, "biases", {"attention_bias": True}),
    (QWEN3, "windows from layer 2 on", {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 18}),
    (LLAMA2, "linear as vicuna-16k has it", {"rope_scaling": {"factor": 4.0, "type": "linear"}}),
    (
        LLAMA2,
        "linear in the form of 5.x",
        {"rope_scaling": None, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0}},
    ),
    (LLAMA2, "dynamic NTK", {"rope_scaling": {"factor": 4.0, "type": "dynamic"}}),
    (LLAMA2, "dynamic NTK in new spelling", {"rope_scaling": {"factor": 2, "rope_type": "dynamic"}}),
    (
        LLAMA2,
        "YaRN as Yarn-Llama-2-64k has it",
        {
            "rope_scaling": {"factor": 16.0, "original_max_position_embeddings": 4096, "type": "yarn", "finetuned": True},
            "max_position_embeddings": 65536,
        },
    ),
    (LLAMA2, "biases of attention", {"attention_bias": True}),
    (LLAMA2, "biases of attention and MLP", {"attention_bias": True, "mlp_bias": True}),
    (LLAMA2, "tied head", {"tie_word_embeddings": True}),
    (LLAMA2, "type default", {"rope_scaling": {"rope_type": "default"}}),
    (
        LLAMA2,
        "longrope",
        {
            "rope_scaling": {
                "rope_type": "longrope",
                "factor": 8.0,
                "original_max_position_embeddings": 4096,
                "short_factor": [1.0, 1.2, 1.5, 2.0],
                "long_factor": [1.0, 2.0, 4.0, 8.0],
            },
            "max_position_embeddings": 32768,
        },
    ),
    (
        LLAMA31,
        "llama3 in the form of 5.x",
        {
            "rope_scaling": None,
            "rope_theta": None,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    (LLAMA31, "heads wider than hidden/heads", {"head_dim": 256}),
    (MISTRAL, "window of 4.x's default, key absent", {"sliding_window": None}),
    (
        MISTRAL,
        "YaRN as Yarn-Mistral-128k has it",
        {
            "rope_scaling": {"factor": 16.0, "finetuned": True, "original_max_position_embeddings": 8192, "type": "yarn"},
            "max_position_embeddings": 32768,
        },
    ),
    (MISTRAL, "dynamic NTK", {"rope_scaling": {"factor": 2.0, "type": "dynamic"}}),
    ("google/gemma-2-2b-it", "no soft caps", {"attn_logit_softcapping": "null", "final_logit_softcapping": "null"}),
    ("google/gemma-2-2b-it", "biases", {"attention_bias": True}),
    ("google/gemma-2-2b-it", "untied head", {"tie_word_embeddings": False}),
    ("google/gemma-2-2b-it", "layer_types", {"layer_types": [FULL, SLIDE] * 13}),
    (
        "unsloth/gemma-3-12b-it-qat",
        "rope_parameters of 5.x",
        {
            "text_config.rope_scaling": None,
            "text_config.rope_theta": None,
            "text_config.rope_local_base_freq": None,
            "text_config.rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                SLIDE: {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    ("unsloth/gemma-3-12b-it-qat", "pattern of 2", {"text_config.sliding_window_pattern": 2}),
    (
        "EleutherAI/pythia-1b",
        "as RedPajama-INCITE: sequential, all rotary",
        {"use_parallel_residual": False, "rotary_pct": 1.0},
    ),
    ("EleutherAI/pythia-1b", "as Dolly: tanh gelu", {"hidden_act": "gelu_fast"}),
    ("EleutherAI/pythia-1b", "no biases of attention", {"attention_bias": False}),
    ("EleutherAI/pythia-1b", "dynamic NTK", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    ("EleutherAI/pythia-1b", "linear", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    ("EleutherAI/pythia-1b", "tied head", {"tie_word_embeddings": True}),
    (
        "openai-community/gpt2",
        "scaled by layer, as Stanford's",
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    ),
    ("openai-community/gpt2", "unscaled attention", {"scale_attn_weights": False}),
    ("openai-community/gpt2", "relu, n_inner", {"activation_function": "relu", "n_inner": 1536}),
    ("openai-community/gpt2", "untied head", {"tie_word_embeddings": False}),
]


def changed(config, changes):
    """A copy of a configuration with keys set, or taken out by None; "null" is JSON's null, a dot leads into a part."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        part, name = config, key
        if "." in key:
            head, name = key.split(".")
            part = config[head]
        if value is None:
            part.pop(name, None)
        else:
            part[name] = None if value == "null" else copy.deepcopy(value)
    return config


def even(value):
    return max(2, 2 * round(value / 2))


def sample(values, count):
    """A list of `count` of the values, evenly spaced."""
    if count == 1:
        return values[:1]
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def shrink_rope(rope, small, big, width):
    """Shrinks original lengths and lists of factors in a rope dictionary (nested by layer type or not)."""
    for value in rope.values():
        if isinstance(value, dict):
            shrink_rope(value, small, big, width)
    if rope.get("original_max_position_embeddings"):
        rope["original_max_position_embeddings"] = ORIGINAL
    for name in ("short_factor", "long_factor"):
        if name in rope:
            rope[name] = sample(rope[name], width // 2)


def shrink_text(config, kind):
    """Shrinks a language model's configuration; `kind` is its model_type."""
    default = CONFIG_MAPPING[kind]()
    if kind == "gpt2":
        inner = config.get("n_inner")
        small = dict(config, vocab_size=VOCABULARY, n_embd=64, n_head=4, n_layer=4, n_positions=POSITIONS)
        if inner:
            small["n_inner"] = round(64 * inner / config["n_embd"])
        if "n_ctx" in small:
            small["n_ctx"] = POSITIONS
        return tokens_within(small)

    def get(key):
        return config[key] if config.get(key) is not None else getattr(default, key, None)

    heads = get("num_attention_heads")
    kv_heads = config.get("num_key_value_heads", getattr(default, "num_key_value_heads", None))
    if kv_heads is None or ("num_key_value_heads" not in config and kind in ("llama", "olmo2", "phi3")):
        kv_heads = heads
    ratio = heads // kv_heads
    small_kv = 4 if ratio == 1 else (1 if kv_heads == 1 or ratio > 4 else 2)
    small_heads = ratio * small_kv
    width = 16
    hidden = small_heads * width
    small = dict(config, vocab_size=VOCABULARY, hidden_size=hidden, num_attention_heads=small_heads)
    published_width = get("hidden_size") / heads
    if kind != "gpt_neox" and ("num_key_value_heads" in config or small_kv != small_heads):
        small["num_key_value_heads"] = small_kv
    given = config.get("head_dim")
    if given is None and kind in ("qwen3", "gemma2", "gemma3_text"):
        given = default.head_dim
    if given:
        small["head_dim"] = width = even(width * given / published_width)
    small["intermediate_size"] = max(8, round(hidden * get("intermediate_size") / get("hidden_size")))
    if kind in ("gemma2", "gemma3_text"):
        small["query_pre_attn_scalar"] = max(1, round(get("query_pre_attn_scalar") * width / given))

    layers = {"gemma3_text": 8, "gemma2": 4}.get(kind, 4 if config.get("use_sliding_window") else 3)
    small["num_hidden_layers"] = layers
    if config.get("layer_types"):
        small["layer_types"] = config["layer_types"][:layers]
    if config.get("use_sliding_window"):
        small["max_window_layers"] = round(get("max_window_layers") * layers / get("num_hidden_layers"))

    # Windows and lengths: less than the text where they were less than the published length, never biting where not.
    positions = get("max_position_embeddings")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    ropes = [part for part in [rope, *rope.values()] if isinstance(part, dict)]
    types = {part.get("rope_type", part.get("type")) for part in ropes}
    original = next(filter(None, (part.get("original_max_position_embeddings") for part in ropes)), None)
    if kind == "phi3" and {"longrope", "su"} & types:
        original = config.get("original_max_position_embeddings", 4096)
    if "dynamic" in types:
        small_positions = DYNAMIC_POSITIONS
    elif original:
        small_positions = max(ORIGINAL, round(ORIGINAL * positions / original))
    elif types & {"yarn", "llama3", "longrope"}:
        small_positions = ORIGINAL
    else:
        small_positions = POSITIONS
    if "max_position_embeddings" in config or types - {None, "default"}:
        small["max_position_embeddings"] = small_positions
    if config.get("original_max_position_embeddings"):
        own = config["original_max_position_embeddings"]
        small["original_max_position_embeddings"] = round(ORIGINAL * own / (original or own))
    window = config.get("sliding_window")
    if window is None and kind in ("gemma2", "gemma3_text"):
        window = default.sliding_window
    if window is not None:
        small["sliding_window"] = WINDOW if window < positions else round(small_positions * window / positions)
    partial = config.get("partial_rotary_factor", 1.0) if kind == "phi3" else 1.0
    for name in ("rope_scaling", "rope_parameters"):
        if small.get(name):
            small[name] = copy.deepcopy(small[name])
            shrink_rope(small[name], small_positions, positions, int(width * partial))
    return tokens_within(small)


def tokens_within(config):
    """Special tokens within the small vocabulary."""
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        value = config.get(key)
        if isinstance(value, list):
            config[key] = [token % VOCABULARY for token in value]
        elif isinstance(value, int) and value >= VOCABULARY:
            config[key] = value % VOCABULARY
    return config


def shrink(config):
    """The scaled-down copy of a published configuration."""
    kind = config["model_type"]
    if kind != "gemma3":
        return shrink_text(config, kind)
    small = tokens_within(dict(config, text_config=shrink_text(config["text_config"], "gemma3_text"), mm_tokens_per_image=4))
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4)
    small["vision_config"] = {**config.get("vision_config", {}), **vision}
    for index, name in enumerate(("image", "boi", "eoi")):
        for ending in ("token_index", "token_id"):
            if f"{name}_{ending}" in small:
                small[f"{name}_{ending}"] = 250 + index
    if "image_token_index" not in small and "image_token_id" not in small:
        small["image_token_index"] = 250
    return small


def fill(model):
    """Random weights, the same for the same shapes: norms and biases that matter, matrices that keep the scale."""
    numbers = torch.Generator().manual_seed(1)
    gemma = "gemma" in model.config.model_type
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values = torch.randn(weight.shape, generator=numbers)
            if weight.ndim == 1 and name.endswith("bias"):
                values *= 0.2
            elif weight.ndim == 1:
                values = values * 0.3 + (0.0 if gemma else 1.0)
            elif "embed" in name or "wte" in name or "wpe" in name:
                values *= 0.7
            else:
                values *= 1.2 / weight.shape[-1] ** 0.5
            weight.copy_(values)


def measure(model, tokens):
    """The mean NLL of the tokens, and the largest magnitude in the residual before, between and after halves of layers."""
    kind = model.config.model_type
    body = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    layers = body.h if kind == "gpt2" else body.layers
    largest = [0.0] * (2 * len(layers) + 1)
    handles, inputs = [], {}

    def see(block, value):
        value = value[0] if isinstance(value, tuple) else value
        largest[block] = value.abs().max().item()

    for index, layer in enumerate(layers):
        after = 2 * index + 1

        def entering(_, args, kwargs, index=index):
            value = args[0] if args else kwargs["hidden_states"]
            inputs[index] = value
            if index == 0:
                see(0, value)

        handles.append(layer.register_forward_pre_hook(entering, with_kwargs=True))
        handles.append(layer.register_forward_hook(lambda _, __, out, after=after: see(after + 1, out)))
        if kind == "gpt_neox" and layer.use_parallel_residual:
            attended = lambda _, __, out, after=after, index=index: see(after, inputs[index] + out[0])
            handles.append(layer.attention.register_forward_hook(attended))
        else:
            names = {"gpt2": "ln_2", "olmo2": "mlp", "gemma2": "pre_feedforward_layernorm"}
            names |= dict.fromkeys(("gemma3", "gemma3_text"), "pre_feedforward_layernorm")
            between = getattr(layer, names.get(kind, "post_attention_layernorm"))
            handles.append(between.register_forward_pre_hook(lambda _, args, after=after: see(after, args[0])))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].double()
    for handle in handles:
        handle.remove()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:])).item(), largest


def apart(a, b):
    """The distance of two numbers as a share of the larger."""
    return abs(a - b) / max(abs(a), abs(b), 1e-30)


def ours(binary, directory, ids, out):
    """What `sinkscope anatomy` says of the model: (NLL, largest by block), or its refusal."""
    command = [binary, "anatomy", directory, "--tokens", ids, "--out", out]
    command += "--bos never --only nll,lifecycle --quiet --threads 1".split()
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode != 0:
        return None, (run.stderr.strip() or run.stdout.strip()).replace("\n", " ")
    results = json.loads((Path(out) / "anatomy.json").read_text())["results"]
    largest = [block["residual"]["largest_mean"] for block in results["lifecycle"]["blocks"]]
    return (results["nll"], largest), ""


def special(config):
    """What is not plain about a small model, in a few words."""
    kind, config = config["model_type"], {**config, **config.get("text_config", {})}
    notes = []
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    for part in [rope, *rope.values()]:
        name = part.get("rope_type", part.get("type")) if isinstance(part, dict) else None
        if name and name != "default":
            notes.append(f"{name} rope")
    if config.get("rotary_pct", 1.0) != 1.0 or config.get("partial_rotary_factor", 1.0) != 1.0:
        notes.append("partial rotary")
    slides = kind in ("mistral", "phi3", "gemma2", "gemma3", "gemma3_text") or config.get("use_sliding_window")
    if slides and (config.get("sliding_window") or LONG) < LONG:
        types = config.get("layer_types") or []
        some = kind.startswith("gemma") or (config.get("use_sliding_window") and (config.get("max_window_layers") or types))
        notes.append("window in some layers" if some else "window")
    if kind == "qwen2":
        notes.append("biases of q, k, v")
    if config.get("attention_bias") and kind != "gpt_neox":
        notes.append("biases of attention")
    if kind == "gpt_neox" and config.get("attention_bias") is False:
        notes.append("no biases of attention")
    if config.get("mlp_bias"):
        notes.append("biases of MLP")
    if kind == "gpt_neox" and not config.get("use_parallel_residual", True):
        notes.append("sequential")
    heads, kv = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads and kv and heads != kv:
        notes.append(f"{heads // kv} heads share keys")
    if config.get("head_dim") and heads and config["head_dim"] * heads != config["hidden_size"]:
        notes.append("own head width")
    if config.get("attn_logit_softcapping") or config.get("final_logit_softcapping"):
        notes.append("soft caps")
    tied = config.get("tie_word_embeddings", kind in ("gemma2", "gemma3", "gemma3_text", "gpt2"))
    notes.append("tied" if tied else "untied")
    return ", ".join(notes)


def compare(name, config, options, ids):
    """One model made, measured and compared."""
    result = {"name": name, "family": config["model_type"], "refused": "", "differs": [], "by_length": {}}
    directory = options.directory / "models" / "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        small = shrink(config)
        result["special"] = special(small)
        made = copy.deepcopy(small)
        rope = made.get("rope_scaling")
        if rope and rope.get("type") == "su":  # longrope's first name, of which transformers' checks have lost track
            rope["type"] = "longrope"
        torch.manual_seed(0)
        settings = AutoConfig.for_model(**copy.deepcopy(made))
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32, attn_implementation="eager")
        fill(model)
        model.save_pretrained(directory)
        (directory / "config.json").write_text(json.dumps(made, indent=1))
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
        (directory / "config.json").write_text(json.dumps(small, indent=1))
        theirs = exact = {length: measure(model, ids[length][1]) for length in (SHORT, LONG)}
        if not small.get("reorder_and_upcast_attn"):  # which insists on float32
            model = model.double()
            exact = {length: measure(model, ids[length][1]) for length in (SHORT, LONG)}
    except Exception as error:  # whatever it raises is the finding
        result["transformers"] = f"{type(error).__name__}: {str(error)[:200]}".replace("\n", " ")
        theirs = {}
    for length in (SHORT, LONG):
        mine, refusal = ours(options.binary, directory, ids[length][0], options.directory / "out")
        if mine is None:
            result["refused"] = refusal
            continue
        if length not in theirs:
            result["differs"].append("transformers cannot run it, this program does")
            continue
        (nll, largest), (their_nll, their_largest) = mine, theirs[length]
        gap = max([apart(nll, their_nll)] + [apart(a, b) for a, b in zip(largest, their_largest)])
        if len(largest) != len(their_largest):
            result["differs"].append(f"{len(largest)} blocks, transformers {len(their_largest)}")
        if gap > TOLERANCE:
            blocks = [i for i, (a, b) in enumerate(zip(largest, their_largest)) if apart(a, b) > TOLERANCE]
            result["differs"].append(
                f"{length} tokens: NLL {nll:.7f}, transformers {their_nll:.7f}; blocks {blocks[:6]} differ"
            )
        rounding = max([apart(their_nll, exact[length][0])] + [apart(a, b) for a, b in zip(their_largest, exact[length][1])])
        result["by_length"][length] = {
            "nll": nll,
            "their_nll": their_nll,
            "largest": max(largest),
            "their_largest": max(their_largest),
            "gap": gap,
            "rounding": rounding,
        }
    if not options.keep:
        shutil.rmtree(directory)
    return result


def table(results):
    """The comparison as Markdown; models that come out the same share a row."""
    rows = {}
    for result in results:
        cells = [
            f"{r['nll']:.6f} | {r['their_nll']:.6f} | {r['largest']:.4f} | {r['their_largest']:.4f}"
            for r in result["by_length"].values()
        ]
        if len(cells) == 2 and not result["differs"] and not result["refused"]:
            rows.setdefault((result["family"], result["special"], *cells), []).append(result["name"])
    lines = [
        "| model | family | what is special "
        + "".join(f"| NLL, {length} tokens | transformers | largest | transformers " for length in (SHORT, LONG))
        + "|",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (family, notes, *cells), names in rows.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"| {names[0]}{more} | {family} | {notes} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Compares this program with transformers on scaled-down published models.")
    parser.add_argument("binary", type=Path, help="the sinkscope to test")
    parser.add_argument("directory", type=Path, help="where models and results go, outside of the repository")
    parser.add_argument("--table", type=Path, help="write the table of docs/models.md here")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="only models whose name or family has a word")
    parser.add_argument("--keep", action="store_true", help="leave the models in DIR/models")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    options.directory.mkdir(parents=True, exist_ok=True)
    ids = {}
    for length in (SHORT, LONG):
        tokens = torch.randint(0, 250, (length,), generator=torch.Generator().manual_seed(length)).tolist()
        ids[length] = (options.directory / f"ids-{length}.json", tokens)
        ids[length][0].write_text(json.dumps({"tokens": [tokens]}))

    files = [FIXTURES / "published_configs.json", FIXTURES / "recollected_configs.json"]
    published = [e for file in files for e in json.loads(file.read_text()) if "refused" not in e]
    by_name = {entry["name"]: entry["config"] for entry in published}
    models = [(entry["name"], entry["config"]) for entry in published]
    models += [(f"{base}: {what}", changed(by_name[base], changes)) for base, what, changes in VARIANTS]
    if options.only:
        models = [(n, c) for n, c in models if any(word in n or word == c["model_type"] for word in options.only)]
    results = []
    for name, config in models:
        result = compare(name, config, options, ids)
        results.append(result)
        state = "refused: " + result["refused"][:230] if result["refused"] else "; ".join(result["differs"])[:230] or "agrees"
        if "transformers" in result:
            state = f"transformers {result['transformers'][:120]}; this program: {state}"
        gap = max([r["gap"] for r in result["by_length"].values()] or [0.0])
        rounding = max([r["rounding"] for r in result["by_length"].values()] or [0.0])
        print(f"{result['family']:12} {name[:70]:70} {gap:.1e} ({rounding:.1e}) {state}", flush=True)
    (options.directory / "results.json").write_text(json.dumps(results, indent=1))
    if options.table:
        options.table.write_text(table(results))
    bad = [r for r in results if r["refused"] or r["differs"] or "transformers" in r]
    print(f"{len(results)} models, {len(results) - len(bad)} agree to {TOLERANCE:g}, {len(bad)} do not or cannot be compared")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

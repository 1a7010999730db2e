#!/usr/bin/env python3
"""Shows that the keys of config.json this program passes over as inert are inert to transformers too.

crates/model/tests/fixtures/inert_keys.json lists them: family -> key -> {"values": what to try, "why": the reason,
"with": other keys the claim depends on, "tolerance": for keys
that choose between kernels}; the family "*" stands for every family, "text_config.KEY" for a wrapper's inner
key. For each family this builds a tiny random model, saves it, and for each value writes that key into config.json, loads
the directory anew and computes the mean negative log-likelihood of a text longer than every window, in float32 with eager
and with sdpa attention. It must be that of the untouched directory, and the same tensors must be loaded. Values of the key
in crates/model/tests/fixtures/published_configs.json are tried as well.

    python scripts/inert_keys.py [FAMILY ...] [--keys FILE] [--tolerance 1e-9]

Needs transformers==5.24.0, torch and safetensors; runs on a CPU, downloads nothing. Exits with 1 if any key is not inert.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

FIXTURES = Path(__file__).resolve().parent.parent / "crates/model/tests/fixtures"

COMMON = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=1,
)
HEADS = dict(COMMON, head_dim=8)
VISION = dict(
    model_type="siglip_vision_model",
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=16,
    patch_size=4,
)
FAMILIES = {
    "llama": COMMON,
    "mistral": dict(COMMON, sliding_window=8),
    "qwen2": COMMON,
    "qwen3": HEADS,
    "gemma2": dict(HEADS, sliding_window=8, query_pre_attn_scalar=8),
    "gemma3_text": dict(HEADS, sliding_window=8, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]),
    "gemma3": dict(
        text_config=dict(
            HEADS, model_type="gemma3_text", sliding_window=8, layer_types=["sliding_attention", "full_attention"]
        ),
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_id=62,
        boi_token_id=60,
        eoi_token_id=61,
    ),
    "olmo2": COMMON,
    "smollm3": COMMON,
    "phi3": dict(COMMON, sliding_window=8),
    "gpt2": dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=None, eos_token_id=1),
    "gpt_neox": {key: COMMON[key] for key in COMMON if key != "num_key_value_heads"},
}
LENGTH = 96


def fill(model):
    """Weights that make every part of the model matter: random ones everywhere, norms and biases included."""
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values = torch.randn(weight.shape, generator=numbers) * 0.15
            if "norm" in name and weight.ndim == 1 and name.endswith("weight") and "gemma" not in model.config.model_type:
                values += 1.0
            weight.copy_(values)


def read(directory, attention):
    """The mean NLL of the test's text and what did not fit when loading."""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation=attention, dtype=torch.float32, output_loading_info=True
    )
    model.eval()
    tokens = torch.randint(2, 58, (1, LENGTH), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model(input_ids=tokens, return_dict=True).logits[0, :-1].double()
    loss = torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).item()
    return loss, sorted(map(str, info["missing_keys"])) + sorted(map(str, info["unexpected_keys"]))


def with_key(config, key, value):
    """The configuration with one key set; a dot leads into a nested one, if such a part is there."""
    head, _, rest = key.partition(".")
    if rest and isinstance(config.get(head), dict):
        return {**config, head: with_key(config[head], rest, value)}
    return {**config, key: value}


def published(family, key):
    """The values of a key in published configurations of a family."""
    found = []
    for entry in json.loads((FIXTURES / "published_configs.json").read_text()):
        part = entry["config"]
        if entry.get("refused") == key:
            continue
        if family != "*" and part["model_type"] != family:
            continue
        for step in [key] if key in part else key.split("."):
            part = part.get(step, {}) if isinstance(part, dict) else {}
        if part != {} and part not in found:
            found.append(part)
    return found


def check(family, keys, tolerance):
    """Number of keys of a family that were tried, and the complaints."""
    complaints, tried = [], 0
    with tempfile.TemporaryDirectory() as directory:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]), dtype=torch.float32)
        fill(model)
        model.save_pretrained(directory)
        path = Path(directory) / "config.json"
        saved = json.loads(path.read_text())

        def measure(config, attention):
            path.write_text(json.dumps(config))
            return read(directory, attention)

        for attention in ["eager"] if family == "gemma2" else ["eager", "sdpa"]:  # sdpa has no soft cap
            bases = {}
            for key, entry in keys.items():
                base_config = saved
                for name, value in entry.get("with", {}).items():
                    base_config = with_key(base_config, name, value)
                context = json.dumps(entry.get("with", {}))
                if context not in bases:
                    bases[context] = measure(base_config, attention)
                base, base_fit = bases[context]
                values = list(entry["values"])
                values += [v for v in published(entry["family"], key) if v not in values]
                for value in values:
                    if key == "pad_token_id" and isinstance(value, int) and value >= 64:
                        continue  # beyond the tiny vocabulary: transformers refuses it there
                    tried += 1
                    where = f"{family} {key} = {json.dumps(value)[:60]} ({attention})"
                    try:
                        loss, fit = measure(with_key(base_config, key, value), attention)
                    except Exception as error:  # whatever it raises is the finding
                        complaints.append(f"{where}: transformers raises {type(error).__name__}: {str(error)[:120]!r}")
                        continue
                    if abs(loss - base) > entry.get("tolerance", tolerance):
                        complaints.append(f"{where}: NLL {loss:.9f}, without it {base:.9f}: NOT INERT")
                    if fit != base_fit:
                        complaints.append(f"{where}: other tensors are loaded: {fit[:3]}")
    return tried, complaints


def main():
    parser = argparse.ArgumentParser(description="Shows that the keys passed over as inert are inert to transformers.")
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--keys", type=Path, default=FIXTURES / "inert_keys.json")
    parser.add_argument("--tolerance", type=float, default=1e-9, help="of the mean NLL")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    table = json.loads(options.keys.read_text())
    failed = False
    for family in options.families or FAMILIES:
        keys = {key: {**entry, "family": "*"} for key, entry in table.get("*", {}).items()}
        keys |= {key: {**entry, "family": family} for key, entry in table.get(family, {}).items()}
        tried, complaints = check(family, keys, options.tolerance)
        print(f"{family}: {len(keys)} keys, {tried} values tried, {len(complaints)} complaints", flush=True)
        for line in complaints:
            print("  " + line)
        failed |= bool(complaints)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

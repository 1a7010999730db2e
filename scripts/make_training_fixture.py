#!/usr/bin/env python3
"""Writes what training is held to by crates/lab/tests/pytorch.rs: 50 steps of two small models in PyTorch.

`baseline` is a Llama (pre-norm, rotary, SwiGLU, untied head). `gated` has fewer key-value heads than heads, norms on every
block's input and output, and a gate on each head. Both are written out below, without `transformers`; that package reads
the baseline as a checkpoint and says the same logits, before the first step and after the last.

    python scripts/make_training_fixture.py              # needs: pip install torch==2.15.0 transformers==5.24.0 safetensors
    python scripts/make_training_fixture.py --check DIR  # compares the logits that an exported run has left in DIR

Writes run.json and run.safetensors to crates/lab/tests/fixtures/pytorch/. Runs on a CPU, downloads nothing. Running it again
with the same versions on the same machine writes the same bytes.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, linear, silu

OUT = Path(__file__).resolve().parent.parent / "crates/lab/tests/fixtures/pytorch"

LAYERS, D_MODEL, HEAD_DIM, D_FFN, VOCABULARY = 2, 16, 8, 24, 32
SEQUENCES, LENGTH, STEPS = 4, 12, 50
EPSILON, THETA, POSITIONS = 1e-5, 10_000.0, 64
IGNORED = -100

# Query heads, key-value heads, and whether there are gates and norms on outputs.
VARIANTS = {"baseline": (2, 2, False), "gated": (4, 2, True)}

OPTIMIZER = {
    "learning_rate": 0.01,
    "warmup": 10,
    "final_ratio": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-8,
    "weight_decay": 0.1,
    "clip": 2.0,  # bites in some steps only
}

# What crates/model/src/families/own.rs writes for the baseline: the test there compares it with this.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": D_MODEL,
    "intermediate_size": D_FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": VARIANTS["baseline"][0],
    "num_key_value_heads": VARIANTS["baseline"][1],
    "head_dim": HEAD_DIM,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def shapes(variant: str) -> dict[str, tuple[int, ...]]:
    heads, kv_heads, gated = VARIANTS[variant]
    query, key = heads * HEAD_DIM, kv_heads * HEAD_DIM
    shapes = {"model.embed_tokens": (VOCABULARY, D_MODEL)}
    for layer in range(LAYERS):
        block = {
            "input_layernorm": (D_MODEL,),
            "self_attn.q_proj": (query, D_MODEL),
            "self_attn.k_proj": (key, D_MODEL),
            "self_attn.v_proj": (key, D_MODEL),
            "self_attn.o_proj": (D_MODEL, query),
            # With norms on outputs this is the one on the attention block's, else that on the feed-forward block's input.
            "post_attention_layernorm": (D_MODEL,),
            "mlp.gate_proj": (D_FFN, D_MODEL),
            "mlp.up_proj": (D_FFN, D_MODEL),
            "mlp.down_proj": (D_MODEL, D_FFN),
        }
        if gated:
            block["self_attn.gate"] = (heads, D_MODEL)
            block["pre_feedforward_layernorm"] = block["post_feedforward_layernorm"] = (D_MODEL,)
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    shapes |= {"model.norm": (D_MODEL,), "lm_head": (VOCABULARY, D_MODEL)}
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def initial(variant: str, random: torch.Generator) -> dict[str, torch.Tensor]:
    """Large enough that attention is far from uniform; no gamma is 1."""

    def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.empty(shape).uniform_(0.7, 1.3, generator=random)
        deviation = 0.4 if "q_proj" in name or "k_proj" in name else 0.15
        return torch.empty(shape).normal_(0.0, deviation, generator=random)

    return {name: draw(name, shape) for name, shape in shapes(variant).items()}


def batches(random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens that follow a rule three times in four, so that the loss falls; some targets do not count."""
    count = (STEPS, SEQUENCES, LENGTH + 1)
    tokens = torch.randint(0, VOCABULARY, count, generator=random)
    follows = torch.rand(count, generator=random) < 0.75
    for position in range(1, LENGTH + 1):
        following = (5 * tokens[..., position - 1] + 7) % VOCABULARY
        tokens[..., position] = torch.where(follows[..., position], following, tokens[..., position])
    inputs, targets = tokens[..., :-1].clone(), tokens[..., 1:].clone()
    targets[torch.rand(targets.shape, generator=random) < 0.1] = IGNORED
    return inputs, targets


def rms_norm(x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * gamma


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Turns the pairs (i, i + head_dim / 2) of every head. x: sequences, heads, positions, head_dim."""
    frequencies = THETA ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    angles = torch.outer(torch.arange(x.shape[2], dtype=torch.float64), frequencies)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def logits_of(variant: str, weights: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    heads, kv_heads, gated = VARIANTS[variant]
    sequences, length = inputs.shape
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    residual = weights["model.embed_tokens.weight"][inputs]
    for layer in range(LAYERS):

        def of(name: str) -> torch.Tensor:
            return weights[f"model.layers.{layer}.{name}.weight"]

        x = rms_norm(residual, of("input_layernorm"))

        def project(name: str, count: int) -> torch.Tensor:
            return linear(x, of(name)).view(sequences, length, count, HEAD_DIM).transpose(1, 2)

        queries = rotate(project("self_attn.q_proj", heads))
        keys = rotate(project("self_attn.k_proj", kv_heads)).repeat_interleave(heads // kv_heads, 1)
        values = project("self_attn.v_proj", kv_heads).repeat_interleave(heads // kv_heads, 1)
        scores = queries @ keys.transpose(2, 3) * HEAD_DIM**-0.5
        mixed = (scores.masked_fill(future, -math.inf).softmax(-1) @ values).transpose(1, 2)
        if gated:
            mixed = mixed * linear(x, of("self_attn.gate")).sigmoid()[..., None]
        added = linear(mixed.flatten(2), of("self_attn.o_proj"))
        residual = residual + (rms_norm(added, of("post_attention_layernorm")) if gated else added)

        x = rms_norm(residual, of("pre_feedforward_layernorm" if gated else "post_attention_layernorm"))
        added = linear(silu(linear(x, of("mlp.gate_proj"))) * linear(x, of("mlp.up_proj")), of("mlp.down_proj"))
        residual = residual + (rms_norm(added, of("post_feedforward_layernorm")) if gated else added)
    return linear(rms_norm(residual, weights["model.norm.weight"]), weights["lm_head.weight"])


def learning_rate_at(step: int) -> float:
    highest, warmup, final = (OPTIMIZER[key] for key in ("learning_rate", "warmup", "final_ratio"))
    if step < warmup:
        return highest * (step + 1) / warmup
    progress = (step - warmup) / (STEPS - warmup)
    return highest * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def decays(name: str, weight: torch.Tensor) -> bool:
    return weight.dim() == 2 and "embed_tokens" not in name


def train(variant: str, start: dict[str, torch.Tensor], inputs, targets, dtype: torch.dtype) -> tuple[dict, dict]:
    """What the run was like, and the weights it left."""
    weights = {name: weight.detach().to(dtype, copy=True).requires_grad_() for name, weight in start.items()}
    groups = [
        {"params": [w for n, w in weights.items() if decays(n, w)], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [w for n, w in weights.items() if not decays(n, w)], "weight_decay": 0.0},
    ]
    betas = (OPTIMIZER["beta1"], OPTIMIZER["beta2"])
    optimizer = torch.optim.AdamW(groups, betas=betas, eps=OPTIMIZER["epsilon"])
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step)
        logits = logits_of(variant, weights, inputs[step])
        loss = cross_entropy(logits.flatten(0, 1), targets[step].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), OPTIMIZER["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    left = {name: weight.detach() for name, weight in weights.items()}
    squares = {name: weight.double().pow(2).sum().item() for name, weight in sorted(left.items())}
    return {"losses": losses, "gradient_norms": norms, "sums_of_squares": squares}, left


@torch.no_grad()
def transformers_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    assert type(model).__name__ == "LlamaForCausalLM"
    return model.eval()(tokens).logits


def as_checkpoint(weights: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """What `transformers` makes of the baseline with these weights; the code above must agree."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(LLAMA))
        save_file({name: w.contiguous() for name, w in weights.items()}, Path(folder) / "model.safetensors", {"format": "pt"})
        theirs = transformers_logits(Path(folder), tokens)
    torch.testing.assert_close(logits_of("baseline", weights, tokens), theirs, rtol=1e-5, atol=1e-5)
    return theirs


def largest(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) / abs(y) for x, y in zip(a, b, strict=True))


def make() -> None:
    random = torch.Generator().manual_seed(5)
    inputs, targets = batches(random)
    tensors = {"inputs": inputs.to(torch.int16), "targets": targets.to(torch.int16)}
    runs = {}
    for variant in VARIANTS:
        start = initial(variant, random)
        tensors |= {f"{variant}/{name}": weight for name, weight in start.items()}
        single, left = train(variant, start, inputs, targets, torch.float32)
        double, _ = train(variant, start, inputs, targets, torch.float64)
        runs[variant] = {"float32": single, "float64": double}
        if variant == "baseline":
            tensors["logits.before"] = as_checkpoint(start, inputs[0])
            tensors["logits.after"] = as_checkpoint(left, inputs[0])
        clipped = sum(norm > OPTIMIZER["clip"] for norm in double["gradient_norms"])
        print(
            f"{variant:9} loss {double['losses'][0]:.3f} -> {double['losses'][-1]:.3f}  gradient norm"
            f" {min(double['gradient_norms']):.2f}..{max(double['gradient_norms']):.2f}, clipped in {clipped} of {STEPS} steps;"
            f"  f32 vs f64: losses {largest(single['losses'], double['losses']):.1e},"
            f" norms {largest(single['gradient_norms'], double['gradient_norms']):.1e}"
        )
    about = {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "steps": STEPS,
        "optimizer": OPTIMIZER,
        "llama_config": LLAMA,
        "runs": runs,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, OUT / "run.safetensors")
    print(f"total {sum(path.stat().st_size for path in OUT.iterdir()) / 1024:.0f} KiB")


def check(folder: Path) -> None:
    ours = load_file(folder / "logits.safetensors")
    theirs = transformers_logits(folder, ours["tokens"].long())
    difference = (theirs - ours["logits"]).abs().max().item()
    print(f"|logit| <= {theirs.abs().max():.3f}, largest difference from transformers {difference:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["--check"] else make()

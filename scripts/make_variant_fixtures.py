#!/usr/bin/env python3
"""Writes what crates/lab/src/network/parity.rs holds every variant of the lab to: a model of each, and what PyTorch makes of it.

The modules below are written from the definitions (the documentation of `Architecture` in crates/model/src/architecture.rs and
of recipes in crates/lab/src/recipe.rs). Each variant is one arm of one choice. Weights begin at random, every vector too, move by
a few steps of Adam in float64, and are rounded to the float32 that a checkpoint holds; NLL and gradients are of the rounded
weights, in float64.

    python scripts/make_variant_fixtures.py      # needs: pip install torch==2.15.0 safetensors

Writes crates/lab/tests/fixtures/variants/NAME/{config.json,model.safetensors}, directories that every command of sinkscope reads,
and expected.json beside them. Runs on a CPU, downloads nothing. Running it again with the same versions on the same machine
writes the same bytes.
"""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, relu, silu

OUT = Path(__file__).resolve().parent.parent / "crates/lab/tests/fixtures/variants"

SEQUENCES, LENGTH, VOCABULARY, STEPS, FORMAT = 3, 12, 11, 6, 2

BASE = {
    "family": "sinkscope",
    "d_model": 12,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 4,
    "d_ffn": 10,
    "vocabulary": VOCABULARY,
    "max_positions": LENGTH,
    "norm": "rms-norm",
    "norm_epsilon": 1e-5,
    "norm_placement": "pre",
    "residual": "sequential",
    "qk_norm": "none",
    "feed_forward": {"kind": "two-layer", "activation": "silu", "gated": True},
    "position": {"rotary": [{"theta": 100.0, "rotary_dim": 4, "scaling": {"type": "none"}}]},
    "layers": [{"window": None, "rope": 0}, {"window": None, "rope": 0}],
    "attention_scale": 0.5,
    "weighting": "softmax",
    "key_value_bias": False,
    "gate": None,
    "attention_soft_cap": None,
    "logit_soft_cap": None,
    "embedding_scale": 1.0,
    "tied_embeddings": False,
}


class Norm(nn.Module):
    """RMSNorm, LayerNorm, or `tanh(alpha x) * gamma + beta` in place of a norm."""

    def __init__(self, a: dict, width: int):
        super().__init__()
        self.kind, self.epsilon = a["norm"], a["norm_epsilon"]
        self.weight = nn.Parameter(torch.empty(width))
        if self.kind != "rms-norm":
            self.bias = nn.Parameter(torch.empty(width))
        if self.kind == "dynamic-tanh":
            self.alpha = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rms-norm":
            return x / (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt() * self.weight
        if self.kind == "layer-norm":
            x = x - x.mean(-1, keepdim=True)
            return x / (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt() * self.weight + self.bias
        return (self.alpha * x).tanh() * self.weight + self.bias


class Vector(nn.Module):
    """Parameters that are multiplied by nothing."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))


def matrix(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x: Tensor, rope: dict) -> Tensor:
    """Turns the pairs (i, i + rotary_dim / 2) of the leading dimensions of every head. x: sequences, heads, positions, width."""
    width = rope["rotary_dim"]
    frequencies = rope["theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    if rope["scaling"]["type"] == "linear":
        frequencies = frequencies / rope["scaling"]["factor"]
    angles = torch.outer(torch.arange(x.shape[2], dtype=torch.float64), frequencies)
    turned = torch.polar(torch.ones_like(angles), angles) * torch.complex(x[..., : width // 2], x[..., width // 2 : width])
    return torch.cat([turned.real, turned.imag, x[..., width:]], -1)


class Attention(nn.Module):
    def __init__(self, a: dict, layer: int):
        super().__init__()
        self.a, self.layer = a, a["layers"][layer]
        d, query, key = a["d_model"], a["heads"] * a["head_dim"], a["kv_heads"] * a["head_dim"]
        self.q_proj, self.k_proj, self.v_proj = matrix(d, query), matrix(d, key), matrix(d, key)
        self.o_proj = matrix(query, d)
        if a["qk_norm"] != "none":
            per_head = a["qk_norm"] == "per-head"
            self.q_norm = Norm(a, a["head_dim"] if per_head else query)
            self.k_norm = Norm(a, a["head_dim"] if per_head else key)
        if a["weighting"] == "sink-logit":
            self.sinks = Vector(a["heads"])
        if a["key_value_bias"]:
            self.bias_k, self.bias_v = Vector(key), Vector(key)
        if a["gate"]:
            width = {"channel": query, "head": a["heads"], "single": 1}[a["gate"]["granularity"]]
            signal = a["gate"]["signal"]
            self.gate = Vector(width) if signal == "free" else matrix(a["max_positions"] if signal == "position" else d, width)

    def heads(self, x: Tensor, count: int, norm: nn.Module | None) -> Tensor:
        per_head = self.a["qk_norm"] == "per-head"
        if norm is not None and not per_head:
            x = norm(x)
        x = x.unflatten(-1, (count, self.a["head_dim"]))
        if norm is not None and per_head:
            x = norm(x)
        return x.transpose(1, 2)

    def weights(self, scores: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """From scores, minus infinity where a query does not see a key; `beside`: a score a query that is of no key."""
        if isinstance(self.a["weighting"], dict):
            return (scores + self.a["weighting"]["sigmoid"]["bias"]).sigmoid(), None
        if beside is None:
            return scores.softmax(-1), None
        both = torch.cat([beside[..., None], scores], -1).softmax(-1)
        return both[..., 1:], both[..., :1]

    def forward(self, x: Tensor, values_of: Tensor, embedding: Tensor) -> Tensor:
        """What the block adds. `x`: what queries and keys are made of; `embedding`: of the tokens alone."""
        a, (sequences, length, _) = self.a, x.shape
        shared = a["heads"] // a["kv_heads"]
        queries = self.heads(self.q_proj(x), a["heads"], getattr(self, "q_norm", None))
        keys = self.heads(self.k_proj(x), a["kv_heads"], getattr(self, "k_norm", None))
        values = self.heads(self.v_proj(values_of), a["kv_heads"], None).repeat_interleave(shared, 1)
        if isinstance(a["position"], dict):
            rope = a["position"]["rotary"][self.layer["rope"]]
            queries, keys = rotate(queries, rope), rotate(keys, rope)

        def cap(scores: Tensor) -> Tensor:
            return scores if a["attention_soft_cap"] is None else a["attention_soft_cap"] * (scores / a["attention_soft_cap"]).tanh()

        scores = cap(queries @ keys.repeat_interleave(shared, 1).transpose(2, 3) * a["attention_scale"])
        distance = torch.arange(length)[:, None] - torch.arange(length)
        if a["position"] == "alibi":
            slopes = 2.0 ** (-8.0 * torch.arange(1, a["heads"] + 1, dtype=torch.float64) / a["heads"])
            scores = scores - slopes[:, None, None] * distance
        hidden = (distance < 0) | (distance >= (self.layer["window"] or length))
        scores = scores.masked_fill(hidden, -math.inf)

        beside, value_beside = None, None
        if a["weighting"] == "softmax-plus-one":
            beside = torch.zeros(scores.shape[:3], dtype=scores.dtype)
        elif a["weighting"] == "sink-logit":
            beside = self.sinks.weight[None, :, None].expand(scores.shape[:3])
        elif a["key_value_bias"]:
            # The key stands at no position: it is not rotated, and queries are.
            by_head = (a["kv_heads"], a["head_dim"])
            key = self.bias_k.weight.view(by_head).repeat_interleave(shared, 0)
            beside = cap((queries * key[None, :, None]).sum(-1) * a["attention_scale"])
            value_beside = self.bias_v.weight.view(by_head).repeat_interleave(shared, 0)
        weights, weight_beside = self.weights(scores, beside)
        out = weights @ values
        if value_beside is not None:
            out = out + weight_beside * value_beside[None, :, None]
        out = out.transpose(1, 2)

        if a["gate"]:
            signal, weight = a["gate"]["signal"], self.gate.weight
            if signal == "free":
                gates = weight.expand(sequences, length, -1)
            elif signal == "position":
                gates = weight.T[:length].expand(sequences, -1, -1)
            else:
                gates = self.gate(x if signal == "input" else embedding)
            by_head = {"channel": (a["heads"], a["head_dim"]), "head": (a["heads"], 1), "single": (1, 1)}
            out = out * gates.sigmoid().unflatten(-1, by_head[a["gate"]["granularity"]])
        return self.o_proj(out.flatten(2))


class FeedForward(nn.Module):
    def __init__(self, a: dict):
        super().__init__()
        self.kind, self.activation, self.gated = (a["feed_forward"][key] for key in ("kind", "activation", "gated"))
        if self.kind == "linear":
            self.down_proj = matrix(a["d_model"], a["d_model"])
        elif self.kind == "two-layer":
            self.gate_proj, self.down_proj = matrix(a["d_model"], a["d_ffn"]), matrix(a["d_ffn"], a["d_model"])
            if self.gated:
                self.up_proj = matrix(a["d_model"], a["d_ffn"])

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "linear":
            return self.down_proj(x)
        activations = {"silu": silu, "gelu": gelu, "gelu-tanh": lambda x: gelu(x, approximate="tanh"), "relu": relu}
        hidden = activations[self.activation](self.gate_proj(x))
        return self.down_proj(hidden * self.up_proj(x) if self.gated else hidden)


class Layer(nn.Module):
    """An attention block and a feed-forward block."""

    def __init__(self, a: dict, layer: int):
        super().__init__()
        self.a, placement = a, a["norm_placement"]
        self.self_attn = Attention(a, layer)
        norm = lambda there: Norm(a, a["d_model"]) if there else None
        behind = placement != "pre"
        self.input_layernorm = norm(placement in ("pre", "sandwich", "sandwich-qk-input"))
        self.post_attention_layernorm = norm(behind)
        if a["feed_forward"]["kind"] != "absent":
            self.mlp = FeedForward(a)
            self.pre_feedforward_layernorm = norm(placement in ("pre", "sandwich"))
            self.post_feedforward_layernorm = norm(behind)

    def finish(self, residual: Tensor, added: Tensor, norm: nn.Module | None) -> Tensor:
        if norm is None:
            return residual + added
        return norm(residual + added) if self.a["norm_placement"] == "post" else residual + norm(added)

    def forward(self, residual: Tensor, embedding: Tensor) -> Tensor:
        before = residual
        x = residual if self.input_layernorm is None else self.input_layernorm(residual)
        values_of = residual if self.a["norm_placement"] == "sandwich-qk-input" else x
        residual = self.finish(residual, self.self_attn(x, values_of, embedding), self.post_attention_layernorm)
        if self.a["feed_forward"]["kind"] == "absent":
            return residual
        read = before if self.a["residual"] == "parallel" else residual
        x = read if self.pre_feedforward_layernorm is None else self.pre_feedforward_layernorm(read)
        return self.finish(residual, self.mlp(x), self.post_feedforward_layernorm)


class Model(nn.Module):
    def __init__(self, a: dict):
        super().__init__()
        self.a = a
        self.embed_tokens = nn.Embedding(a["vocabulary"], a["d_model"])
        if a["position"] == "learned":
            self.embed_positions = nn.Embedding(a["max_positions"], a["d_model"])
        self.layers = nn.ModuleList(Layer(a, layer) for layer in range(len(a["layers"])))
        if a["norm_placement"] != "post":
            self.norm = Norm(a, a["d_model"])
        if not a["tied_embeddings"]:
            self.lm_head = matrix(a["d_model"], a["vocabulary"])

    def forward(self, ids: Tensor) -> Tensor:
        a = self.a
        embedding = self.embed_tokens(ids) * a["embedding_scale"]
        residual = embedding
        if a["position"] == "learned":
            residual = residual + self.embed_positions.weight[: ids.shape[1]]
        for layer in self.layers:
            residual = layer(residual, embedding)
        if a["norm_placement"] != "post":
            residual = self.norm(residual)
        logits = residual @ (self.embed_tokens if a["tied_embeddings"] else self.lm_head).weight.T
        return logits if a["logit_soft_cap"] is None else a["logit_soft_cap"] * (logits / a["logit_soft_cap"]).tanh()

    def nll(self, ids: Tensor, first: int, last: int) -> Tensor:
        """Of each next token that a position from `first` to `last`, from 1 and after the registers, predicts."""
        ids = with_registers(ids, self.a)
        logits = self(ids)[:, :-1]
        nll = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
        registers = self.a.get("registers", 0)
        return nll[:, registers + first - 1 : registers + last]


def with_registers(ids: Tensor, a: dict) -> Tensor:
    """Registers are the last ids, and stand before every sequence."""
    registers = torch.arange(a["vocabulary"] - a.get("registers", 0), a["vocabulary"])
    return torch.cat([registers.expand(len(ids), -1), ids], 1)


# By name: what the recipe's model says, or None where a recipe cannot say it, and what that is as an architecture. `None` in place
# of the architecture's part: the same words.
def variants() -> dict[str, tuple[dict | None, dict]]:
    def feed_forward(kind: str, activation: str, gated: bool) -> dict:
        return {"feed_forward": {"kind": kind, "activation": activation, "gated": gated}}

    def rope(**changes) -> dict:
        return BASE["position"]["rotary"][0] | changes

    def layers(count: int, window: int | None = None) -> dict:
        return {"layers": [{"window": window, "rope": 0}] * count}

    absent = feed_forward("absent", "silu", False)
    all_of_them = {
        "baseline": ({}, {}),
        "feed-forward-gelu": ({"feed_forward": "gelu"}, feed_forward("two-layer", "gelu", False)),
        "feed-forward-linear": ({"feed_forward": "linear", "d_ffn": None}, feed_forward("linear", "silu", False) | {"d_ffn": 48}),
        "feed-forward-attention": (
            {"feed_forward": "attention", "d_ffn": None, "initialisation": {"scale_residual": True}},
            absent | layers(4) | {"d_ffn": 48},
        ),
        "norm-layer-norm": ({"norm": "layer-norm"}, {"norm": "layer-norm"}),
        "norm-dynamic-tanh": ({"norm": "dynamic-tanh", "norm_epsilon": None}, {"norm": "dynamic-tanh"}),
        "placement-sandwich": ({"placement": "sandwich"}, {"norm_placement": "sandwich"}),
        "placement-sandwich-qk-input": ({"placement": "sandwich-qk-input"}, {"norm_placement": "sandwich-qk-input"}),
        "placement-sandwich-qk-head": ({"placement": "sandwich-qk-head"}, {"norm_placement": "output", "qk_norm": "per-head"}),
        "placement-output": ({"placement": "output"}, {"norm_placement": "output"}),
        "placement-post": ({"placement": "post"}, {"norm_placement": "post"}),
        "qk-norm-per-head": ({"qk_norm": "per-head"}, {"qk_norm": "per-head"}),
        "qk-norm-projection": ({"qk_norm": "projection"}, {"qk_norm": "projection"}),
        "position-learned": ({"position": "learned"}, {"position": "learned"}),
        "position-alibi": ({"position": "alibi"}, {"position": "alibi"}),
        "position-none": ({"position": "none"}, {"position": "none"}),
        "window": ({"window": 5}, layers(2, 5)),
        "softmax-plus-one": ({"weighting": "softmax-plus-one"}, {"weighting": "softmax-plus-one"}),
        "sink-logit": ({"weighting": "sink-logit"}, {"weighting": "sink-logit"}),
        "sigmoid": ({"weighting": "sigmoid"}, {"weighting": {"sigmoid": {"bias": -math.log(LENGTH)}}}),
        "key-value-bias": ({"key_value_bias": True}, {"key_value_bias": True}),
        "registers": ({"registers": 2}, {"registers": 2, "vocabulary": VOCABULARY + 2, "max_positions": LENGTH + 2}),
        "tied-embeddings": ({"tied_embeddings": True}, {"tied_embeddings": True}),
        "as-many-key-value-heads": ({"kv_heads": 4}, {"kv_heads": 4}),
        # Several choices that meet.
        "key-value-bias-window": ({"key_value_bias": True, "window": 5}, {"key_value_bias": True} | layers(2, 5)),
        "key-value-bias-qk-norm-registers": (
            {"key_value_bias": True, "qk_norm": "per-head", "registers": 1},
            {"key_value_bias": True, "qk_norm": "per-head", "registers": 1, "vocabulary": VOCABULARY + 1, "max_positions": LENGTH + 1},
        ),
        "key-value-bias-learned": ({"key_value_bias": True, "position": "learned"}, {"key_value_bias": True, "position": "learned"}),
        "sigmoid-alibi": (
            {"weighting": "sigmoid", "position": "alibi"},
            {"weighting": {"sigmoid": {"bias": -math.log(LENGTH)}}, "position": "alibi"},
        ),
        "post-layer-norm-attention": (
            {"placement": "post", "norm": "layer-norm", "feed_forward": "attention", "d_ffn": None},
            {"norm_placement": "post", "norm": "layer-norm", "d_ffn": 48} | absent | layers(4),
        ),
        "gate-embedding-learned": (
            {"gate": {"signal": "embedding", "granularity": "channel"}, "position": "learned"},
            {"gate": {"signal": "embedding", "granularity": "channel"}, "position": "learned"},
        ),
        # Of architectures that are read and not written by a recipe.
        "activation-gelu-tanh": (None, feed_forward("two-layer", "gelu-tanh", True)),
        "activation-relu": (None, feed_forward("two-layer", "relu", False)),
        "residual-parallel": (None, {"residual": "parallel"}),
        "attention-soft-cap": (None, {"attention_soft_cap": 0.7}),
        "key-value-bias-soft-cap": (None, {"key_value_bias": True, "attention_soft_cap": 0.7}),
        "logit-soft-cap": (None, {"logit_soft_cap": 1.5}),
        "embedding-scale": (None, {"embedding_scale": 1.7, "gate": {"signal": "embedding", "granularity": "head"}, "position": "learned"}),
        "ropes-by-layer": (
            None,
            {
                "position": {"rotary": [rope(rotary_dim=2), rope(theta=50.0, scaling={"type": "linear", "factor": 2.0})]},
                "layers": [{"window": None, "rope": 1}, {"window": 4, "rope": 0}],
            },
        ),
    }
    for signal in ("input", "free", "position", "embedding"):
        for granularity in ("channel", "head", "single"):
            gate = {"gate": {"signal": signal, "granularity": granularity}}
            all_of_them[f"gate-{signal}-{granularity}"] = (gate, gate)
    return all_of_them


def begin(model: Model, random: torch.Generator) -> None:
    """Large enough that everything is far from linear; no vector is what training would begin with."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.6, 1.4, generator=random)
            elif name.endswith("alpha"):
                parameter.uniform_(0.3, 0.8, generator=random)
            else:
                parameter.normal_(0.0, 0.4, generator=random)


def tensors(model: Model) -> dict[str, Tensor]:
    """As a checkpoint of the family has them."""
    outer = {"lm_head.weight"}
    named = {name if name in outer else f"model.{name}": value for name, value in model.state_dict().items()}
    if is_llama(model.a):
        named = {name.replace("pre_feedforward_layernorm", "post_attention_layernorm"): value for name, value in named.items()}
    return {name: value.detach().float().contiguous() for name, value in named.items()}


def is_llama(a: dict) -> bool:
    """Such an architecture is stored as a Llama, with a Llama's names."""
    free = ("tied_embeddings", "kv_heads")
    return {key: value for key, value in a.items() if key not in free} == {key: BASE[key] for key in BASE if key not in free}


def config(a: dict) -> dict:
    if not is_llama(a):
        return {"model_type": "sinkscope", "format": FORMAT, "architecture": a}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": a["d_model"],
        "intermediate_size": a["d_ffn"],
        "num_hidden_layers": len(a["layers"]),
        "num_attention_heads": a["heads"],
        "num_key_value_heads": a["kv_heads"],
        "head_dim": a["head_dim"],
        "vocab_size": a["vocabulary"],
        "max_position_embeddings": a["max_positions"],
        "rms_norm_eps": a["norm_epsilon"],
        "rope_theta": a["position"]["rotary"][0]["theta"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": a["tied_embeddings"],
        "torch_dtype": "float32",
    }


def make(recipe: dict | None, a: dict, ids: Tensor, random: torch.Generator) -> tuple[dict, dict[str, Tensor]]:
    """What is expected of a variant, and its tensors."""
    model = Model(a).double()
    begin(model, random)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = model.nll(ids, 1, LENGTH).mean().item()
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.nll(ids, 1, LENGTH).mean().backward()
        optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.float())
    optimizer.zero_grad()
    nll = model.nll(ids, 1, LENGTH)
    nll.mean().backward()
    assert nll.mean().item() < first, "the weights have moved, and downhill"
    squares = [parameter.grad.square().sum().item() for parameter in model.parameters()]
    assert all(square > 1e-12 for square in squares), "something has no part in the model"
    with torch.no_grad():
        later = model.nll(ids, 4, 9).mean().item()
    expected = {"recipe": recipe, "nll": nll.mean().item(), "nll_4_to_9": later, "gradient_norm": math.sqrt(sum(squares))}
    return expected, tensors(model)


def main() -> None:
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(7)
    ids = torch.randint(0, VOCABULARY, (SEQUENCES, LENGTH), generator=random)
    if OUT.exists():
        shutil.rmtree(OUT)
    expected = {}
    for name, (recipe, changes) in variants().items():
        a = BASE | changes
        expected[name], weights = make(recipe, a, ids, random)
        folder = OUT / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config(a), indent=1) + "\n")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        print(f"{name:34} nll {expected[name]['nll']:.4f}")
    about = {"torch": torch.__version__.split("+")[0], "tokens": ids.tolist(), "variants": expected}
    (OUT / "expected.json").write_text(json.dumps(about, indent=1) + "\n")
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{len(expected)} variants, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

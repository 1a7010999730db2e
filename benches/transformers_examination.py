"""The yardstick: the basic examination of a model (spike trajectory, sink ratio, NLL) as PyTorch users run it.

    collect   output_attentions and output_hidden_states, then reduce: what most notebooks do
    stream    forward hooks that reduce each block's output and attention at once and keep nothing: what an expert does

    python transformers_examination.py GGUF_FILE TOKENS.json collect|stream [highest|medium]

TOKENS.json holds {"tokens": [[ids], ...]}. Prints one JSON object. Needs torch, transformers, accelerate, gguf.
"""

import json
import pathlib
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

gguf, token_file, way = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_float32_matmul_precision(sys.argv[4] if len(sys.argv) > 4 else "medium")
model = AutoModelForCausalLM.from_pretrained(
    gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
).eval()
tokens = torch.tensor(json.loads(pathlib.Path(token_file).read_text())["tokens"])
sequences, seq_len = tokens.shape
trajectory, alphas = [], []


def largest(hidden):
    """The three largest magnitudes of each channel's largest, for each sequence."""
    return hidden.abs().amax(1).topk(3).values


def received(attention):
    """The largest attention a key of the first half receives, for each sequence and head."""
    return attention.mean(2)[:, :, : seq_len // 2].amax(-1)


def hidden_of(output):
    return output[0] if isinstance(output, tuple) else output


def on_block(module, args, output):
    trajectory.append(largest(hidden_of(output)))
    if way == "stream" and isinstance(output, tuple) and output[1] is not None:
        alphas.append(received(output[1]))
        return (output[0], None)


for layer in model.model.layers:
    layer.self_attn.register_forward_hook(on_block)
    layer.mlp.register_forward_hook(on_block)
    if way == "stream":
        layer.register_forward_hook(lambda module, args, output: trajectory.append(largest(hidden_of(output))))


def examine(batch):
    trajectory.clear()
    alphas.clear()
    collect = way == "collect"
    out = model(batch, use_cache=False, output_attentions=collect, output_hidden_states=collect)
    if collect:
        trajectory.extend(largest(hidden) for hidden in out.hidden_states)
        alphas.extend(received(attention) for attention in out.attentions)
    nll = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"
    )
    return (torch.stack(alphas, 1) > 0.3).float().mean().item(), nll.item()


batch_size = max(1, min(sequences, 4096 // seq_len))
with torch.no_grad():
    examine(tokens[:1])
    start = time.perf_counter()
    results = [examine(tokens[i : i + batch_size]) for i in range(0, sequences, batch_size)]
    seconds = time.perf_counter() - start
print(
    json.dumps(
        {
            "tokens_per_second": tokens.numel() / seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "sink_ratio": sum(ratio for ratio, _ in results) / len(results),
            "nll": sum(nll for _, nll in results) / (sequences * (seq_len - 1)),
        }
    )
)

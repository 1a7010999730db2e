"""The yardstick: operations on a model as plain PyTorch.

    python torch_operations.py GGUF_FILE TOKENS.json NAME...

NAMEs are those of `sinkscope operate`: `zero-spikes@block=B@position=P@channels=C,...` by a forward hook,
`forbid-sink@position=P` and `window=W` by a mask, `quantize=a8-tensor`, `quantize=w8` and `quantize=w8a8-token` by rounding
weights and the inputs of linear layers. Prints one JSON object: seconds and NLL of the untouched model and of each.
Needs torch, transformers, accelerate, gguf.
"""

import json
import pathlib
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

torch.set_float32_matmul_precision("medium")
torch.set_grad_enabled(False)

gguf = pathlib.Path(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(
    gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
).eval()
tokens = torch.tensor(json.loads(pathlib.Path(sys.argv[2]).read_text())["tokens"])
sequences, seq_len = tokens.shape
queries, keys = torch.arange(seq_len)[:, None], torch.arange(seq_len)[None]


def band(seen):
    """A mask of minus infinity where a query does not see a key."""
    return torch.zeros(1, 1, seq_len, seq_len).masked_fill(~seen, float("-inf"))


def quantised(values, dimensions):
    """Values of 8 bits; those along the dimensions share a scale."""
    scale = values.abs().amax(dimensions, keepdim=True) / 127
    return torch.where(scale > 0, (values / scale).round().clamp(-127, 127) * scale, 0)


def quantise(scheme):
    """Quantises the linear layers of the blocks; gives what undoes it."""
    layers = [module for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]
    plain = [layer.weight.data for layer in layers]
    hooks = []
    for layer in layers:
        if scheme.startswith("w8"):
            layer.weight.data = quantised(layer.weight.data, 1)
        if "a8" in scheme:
            shared = (1, 2) if scheme.endswith("tensor") else 2
            hooks.append(layer.register_forward_pre_hook(lambda _, inputs, shared=shared: quantised(inputs[0], shared)))

    def undo():
        for layer, weight in zip(layers, plain):
            layer.weight.data = weight
        for hook in hooks:
            hook.remove()

    return undo


def run(name):
    """Mean NLL and seconds."""
    head, *places = name.split("@")
    places = dict(place.split("=") for place in places)
    mask, hook, undo = None, None, None
    start = time.perf_counter()
    if head == "zero-spikes":
        position, channels = int(places["position"]), [int(channel) for channel in places["channels"].split(",")]

        def zero(module, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[:, position, channels] = 0
            return output

        hook = model.model.layers[int(places["block"]) // 2 - 1].register_forward_hook(zero)
    elif head == "forbid-sink":
        position = int(places["position"])
        mask = band((keys <= queries) & ((keys != position) | (keys == queries)))
    elif head.startswith("window="):
        mask = band((keys <= queries) & (keys > queries - int(head.split("=")[1])))
    elif head.startswith("quantize="):
        undo = quantise(head.split("=")[1])
    batch_size = max(1, min(sequences, 4096 // seq_len))
    nll = 0.0
    for batch in tokens.split(batch_size):
        attention = None if mask is None else mask.expand(len(batch), -1, -1, -1)
        logits = model(batch, attention_mask=attention, use_cache=False).logits
        nll += torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"
        ).item()
    seconds = time.perf_counter() - start
    if hook:
        hook.remove()
    if undo:
        undo()
    return {"seconds": seconds, "nll": nll / (sequences * (seq_len - 1))}


model(tokens[:1], use_cache=False)
found = {name: run(name) for name in ["", *sys.argv[3:]]}
print(json.dumps(found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

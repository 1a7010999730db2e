"""The yardstick: operations on a model as plain PyTorch.

    python torch_operations.py GGUF_FILE TOKENS.json NAME...

NAMEs are those of `sinkscope operate`: `zero-spikes@block=B@position=P@channels=C,...` by a forward hook,
`forbid-sink@position=P` and `window=W` by a mask. Prints one JSON object: seconds and NLL of the untouched model and of each.
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


def run(name):
    """Mean NLL and seconds."""
    head, *places = name.split("@")
    places = dict(place.split("=") for place in places)
    mask, hook = None, None
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
    batch_size = max(1, min(sequences, 4096 // seq_len))
    start = time.perf_counter()
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
    return {"seconds": seconds, "nll": nll / (sequences * (seq_len - 1))}


model(tokens[:1], use_cache=False)
found = {name: run(name) for name in ["", *sys.argv[3:]]}
print(json.dumps(found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

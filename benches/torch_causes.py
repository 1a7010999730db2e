"""The yardstick: the census and the vocabulary probe as plain PyTorch.

    python torch_causes.py census GGUF_FILE           norms of all channels, spectra of the three largest, of every block
    python torch_causes.py norms D_MODEL D_FFN        the norms of one block of random weights
    python torch_causes.py probe GGUF_FILE LAYERS     the largest activation of every vocabulary item after so many layers

Prints one JSON object. Weights are decoded before the clock starts. Needs torch, and transformers, accelerate, gguf for models.
"""

import json
import pathlib
import resource
import sys
import time

import torch

torch.set_float32_matmul_precision("medium")
torch.set_grad_enabled(False)


def load(file):
    from transformers import AutoModelForCausalLM

    file = pathlib.Path(file)
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()


def seconds(start):
    return time.perf_counter() - start


def norms(gate, up, down):
    """||U_k|| of every k, through the two Gram matrices; gate, up: d_ffn x d, down: d x d_ffn."""
    gram = (gate @ gate.T).mul_(up @ up.T)
    return ((down @ gram) * down).sum(1).sqrt()


def spectrum(gate, up, down, channel):
    """The eigenvalues of S_k, formed, by magnitude."""
    form = (gate * down[channel, :, None]).T @ up
    values = torch.linalg.eigvalsh((form + form.T) / 2)
    return values[values.abs().argsort(descending=True)]


def census(file):
    blocks = []
    for layer in load(file).model.layers:
        gamma = layer.post_attention_layernorm.weight
        mlp = layer.mlp
        blocks.append((mlp.gate_proj.weight * gamma, mlp.up_proj.weight * gamma, mlp.down_proj.weight.clone()))
    norms(*blocks[0])
    start = time.perf_counter()
    found = [norms(*block) for block in blocks]
    norm_seconds = seconds(start)
    start = time.perf_counter()
    for block, of in zip(blocks, found):
        for channel in of.topk(3).indices:
            spectrum(*block, channel)
    return {"norms": norm_seconds, "spectra": seconds(start), "norm": found[11][507].item()}


def one_block(d, hidden):
    generator = torch.Generator().manual_seed(0)
    values = lambda *shape: torch.randn(*shape, generator=generator) * 0.02
    block = values(hidden, d), values(hidden, d), values(d, hidden)
    start = time.perf_counter()
    norms(*block)
    return {"norms": seconds(start)}


def probe(file, layers):
    model = load(file).model
    model.layers = model.layers[:layers]
    model.norm = torch.nn.Identity()
    ids = torch.arange(model.config.vocab_size)[:, None]
    model(ids[:64], use_cache=False)
    start = time.perf_counter()
    largest = [
        model(chunk, use_cache=False).last_hidden_state[:, 0].abs().amax(1) for chunk in ids.split(4096)
    ]
    return {"probe": seconds(start), "largest": torch.cat(largest)[[0, 1000, 40000]].tolist()}


def main():
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "census":
        found = census(*arguments)
    elif what == "norms":
        found = one_block(*map(int, arguments))
    else:
        found = probe(arguments[0], int(arguments[1]))
    print(json.dumps(found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()

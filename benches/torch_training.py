"""The training step of benches/training.py in PyTorch: for every line on stdin two steps, and the seconds that one took.

    python torch_training.py eager | "oneDNN matmul" | "bf16 autocast" | torch.compile
"""

import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, HEADS, HIDDEN, VOCABULARY, LAYERS, LENGTH, BATCH = 256, 4, 688, 4096, 6, 256, 8
HEAD = WIDTH // HEADS


def rotate(x, cosines, sines):
    first, second = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.feed_forward_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x, cosines, sines):
        split = lambda y: y.view(BATCH, LENGTH, HEADS, HEAD).transpose(1, 2)
        y = self.attention_norm(x)
        query = rotate(split(self.query(y)), cosines, sines)
        key = rotate(split(self.key(y)), cosines, sines)
        heads = F.scaled_dot_product_attention(query, key, split(self.value(y)), is_causal=True)
        x = x + self.output(heads.transpose(1, 2).reshape(BATCH, LENGTH, WIDTH))
        y = self.feed_forward_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        angles = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cosines, self.sines)
        return self.head(self.norm(x))


def main():
    way = sys.argv[1]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium" if way == "oneDNN matmul" else "highest")
    model = Llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    inputs = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    targets = torch.randint(0, VOCABULARY, (BATCH * LENGTH,))

    def loss_of(inputs, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "bf16 autocast"):
            logits = model(inputs)
        return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets)

    if way == "torch.compile":
        loss_of = torch.compile(loss_of)

    def step():
        loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    step()
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        loss = step()
        seconds = (time.perf_counter() - start) / 2
        print(json.dumps({"seconds": seconds, "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()

"""Times one training step (forward, backward, AdamW with clipping) of a small Llama beside PyTorch, two threads each.

    cargo build --release -p sinkscope-lab --benches
    python benches/training.py [--rounds R] [--variants]

Shape: d 256, 6 layers, 4 heads of 64, d_ffn 688, vocabulary 4096, batch 8 x 256 tokens. Every contender is a process of its
own that waits its turn; in each round, in another order, each does two steps. Printed are medians and the medians of ratios,
and the largest resident size of each process. sinkscope runs in every precision. With --variants, design choices of the
recipes beside the baseline, by unit of arithmetic. Needs torch.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
TOKENS = 8 * 256
VARIANTS = {
    "gelu": 'feed_forward = "gelu"; d_ffn = 1032',
    "linear": 'feed_forward = "linear"',
    "attention": 'feed_forward = "attention"',
    "sandwich": 'placement = "sandwich"',
    "sandwich-qk-input": 'placement = "sandwich-qk-input"',
    "sandwich-qk-head": 'placement = "sandwich-qk-head"',
    "dynamic-tanh": 'norm = "dynamic-tanh"',
    "head_dim 32": "heads = 8; head_dim = 32",
    "head_dim 128": "heads = 2; head_dim = 128",
    "head_dim 16": "heads = 16; head_dim = 16",
    "gate input, channel": 'gate = { signal = "input", granularity = "channel" }',
    "gate input, head": 'gate = { signal = "input", granularity = "head" }',
    "gate input, single": 'gate = { signal = "input", granularity = "single" }',
    "gate free, channel": 'gate = { signal = "free", granularity = "channel" }',
    "gate position, channel": 'gate = { signal = "position", granularity = "channel" }',
    "gate embedding, channel": 'gate = { signal = "embedding", granularity = "channel" }',
}


class Contender:
    def __init__(self, name, command, **variables):
        self.name = name
        environment = dict(os.environ, OMP_NUM_THREADS="2", RAYON_NUM_THREADS="2", **variables)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} did not start: {command}")
        self.about = json.loads(line)
        self.seconds = []

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(json.loads(self.process.stdout.readline())["seconds"])

    def finish(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        self.peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
        self.process.stdin.close()
        self.process.wait()
        return statistics.median(self.seconds)


def ours():
    candidates = sorted((TARGET / "release" / "deps").glob("training_step-*"), key=os.path.getmtime)
    candidates = [path for path in candidates if not path.suffix]
    if not candidates:
        raise SystemExit("build it first: cargo bench -p sinkscope-lab --bench training_step --no-run")
    return str(candidates[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", action="store_true")
    arguments = parser.parse_args()
    contenders = [Contender("sinkscope", [ours()])]
    if arguments.variants:
        contenders += [Contender(name, [ours(), model]) for name, model in VARIANTS.items()]
    else:
        contenders += [Contender(f"sinkscope, precision {name}", [ours(), f"--{name}"]) for name in ("high", "medium")]
        ways = ["eager", "oneDNN matmul", "bf16 autocast", "torch.compile"]
        # Where there is AMX, products of precision "medium" would be of bf16: without it they are of f32, as all but one are.
        f32 = {"oneDNN matmul": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}}
        script = str(HERE / "torch_training.py")
        contenders += [Contender(way, [sys.executable, script, way], **f32.get(way, {})) for way in ways]
    for contender in contenders:
        contender.turn()
        contender.seconds.clear()
    order = random.Random(0)
    for _ in range(arguments.rounds):
        # So that none always follows the same other.
        for contender in order.sample(contenders, len(contenders)):
            contender.turn()
    times = [contender.finish() for contender in contenders]
    if arguments.variants:
        base = contenders[0].about["flops_per_token"] / times[0]
        print("| variant | tokens/s | operations a token, of the baseline's | operations a second, of the baseline's |")
        print("|---|---:|---:|---:|")
        for contender, seconds in zip(contenders, times):
            flops = contender.about["flops_per_token"]
            share = flops / contenders[0].about["flops_per_token"]
            print(f"| {contender.name} | {TOKENS / seconds:.0f} | {share:.2f} | {flops / seconds / base:.2f} |")
    else:
        about = contenders[0].about
        bound = about["bound"] / about["flops_per_token"]
        print(f"A token takes {about['flops_per_token'] / 1e6:.1f} million operations, and these cores do {about['bound'] / 1e9:.0f}")
        print(f"thousand million f32 operations a second: at most {bound:.0f} tokens/s.\n")
        print("| contender | tokens/s | of the f32 bound | sinkscope is as fast | precision high | precision medium | peak MiB |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for contender, seconds in zip(contenders, times):
            # Of rounds, whose contenders had the machine in the same state.
            ratios = [
                f"{statistics.median(a / b for a, b in zip(contender.seconds, our.seconds)):.2f}"
                for our in contenders[:3]
            ]
            ratios = ["" if our is contender else f"{ratio} times" for our, ratio in zip(contenders, ratios)]
            speed, share = TOKENS / seconds, 100 * TOKENS / seconds / bound
            columns = [contender.name, f"{speed:.0f}", f"{share:.0f} %", *ratios, f"{contender.peak_mib:.0f}"]
            print(f"| {' | '.join(columns)} |")


if __name__ == "__main__":
    main()

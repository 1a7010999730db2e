"""Times `sinkscope operate` beside the same operations in plain PyTorch, and a variant beside the untouched model.

    cargo build --release && python benches/operations.py MODEL.gguf [--rounds R] [--shape 64x64]

Contenders run in processes of their own, in turn, R rounds; medians are printed as the table of BENCHMARKS.md. The NLL of all
must agree, or the run fails. Needs what the yardstick needs.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
VOCABULARY = 49152
CASES = {
    "64x64": [
        "zero-spikes@block=24@position=0@channels=507,247,14",
        "forbid-sink@position=0",
        "quantize=a8-tensor",
        "quantize=w8a8-token",
        "quantize=w8a8-token@position=0+keep-spikes",
        "quantize=smooth-w8a8",
        "quantize=w8",
        "quantize=w4-g64",
        "quantize=w3-g64",
        "cache=int4",
    ],
    "2x2048": ["window=256", "window=256+sinks=4", "quantize=a8-tensor", "quantize=w8a8-token"],
}


def sinkscope(model, tokens, names, directory):
    out = directory / "out"
    command = [TARGET / "release" / "sinkscope", "operate", model, *names, "--tokens", tokens]
    subprocess.run([*command, "--threads", "2", "--quiet", "--out", out], check=True, stdout=subprocess.DEVNULL)
    run = json.loads((out / "operate.json").read_text())
    passes = {part["name"]: part["seconds"] for part in run["timing"]["passes"]}
    found = {variant["name"]: {"seconds": passes[variant["name"]], "nll": variant["nll"]} for variant in run["results"]["variants"]}
    found[""] = {"seconds": passes["untouched"], "nll": run["results"]["baseline"]["nll"]}
    return found | {"peak_mib": run["timing"]["peak_rss_bytes"] / 2**20, "prefix": passes.get("prefix", 0.0)}


def yardstick(model, tokens, names):
    # Some have no plain form: a cache with moved positions, rows that are kept, factors of other sequences.
    names = [name for name in names if not any(word in name for word in ("sinks", "keep", "smooth", "cache", "-g"))]
    command = [sys.executable, HERE / "torch_operations.py", model, tokens, *names]
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=CASES, help="this shape alone")
    arguments = parser.parse_args()
    print("| shape | run | sinkscope, s | of its untouched pass | PyTorch, s | PyTorch / sinkscope |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        for shape, names in CASES.items():
            if arguments.shape not in (None, shape):
                continue
            sequences, seq_len = map(int, shape.split("x"))
            generator = random.Random(0)
            ids = [[generator.randrange(VOCABULARY) for _ in range(seq_len)] for _ in range(sequences)]
            tokens = directory / f"{shape}.json"
            tokens.write_text(json.dumps({"tokens": ids}))
            runs = [
                (sinkscope(arguments.model, tokens, names, directory), yardstick(arguments.model, tokens, names))
                for _ in range(arguments.rounds)
            ]
            median = lambda of: statistics.median(of(*run) for run in runs)
            for name in ["", *names]:
                ours = median(lambda ours, _: ours[name]["seconds"])
                share = median(lambda ours, _: ours[name]["seconds"] / ours[""]["seconds"])
                line = f"| {shape} | {'untouched' if not name else f'`{name}`'} | {ours:.2f} | {share:.2f} |"
                if name in runs[0][1]:
                    for ours, theirs in runs:
                        # The last bits of a product can move a value to the next code, and with it the scale of a whole
                        # sequence: of few sequences the mean moves more.
                        bound = 1e-4 if not name.startswith("quantize") else 1e-2 if sequences < 8 else 1e-3
                        assert abs(ours[name]["nll"] / theirs[name]["nll"] - 1) < bound, (name, ours[name], theirs[name])
                    theirs = median(lambda _, theirs: theirs[name]["seconds"])
                    ratio = median(lambda ours, theirs: theirs[name]["seconds"] / ours[name]["seconds"])
                    line += f" {theirs:.2f} | {ratio:.2f} |"
                else:
                    line += " | |"
                print(line, flush=True)
            peaks = [median(lambda *run: run[at]["peak_mib"]) for at in (0, 1)]
            prefix = median(lambda ours, _: ours["prefix"])
            print(f"| {shape} | once for all: the blocks before the operations | {prefix:.2f} | | | |")
            print(f"| {shape} | peak MiB | {peaks[0]:.0f} | | {peaks[1]:.0f} | {peaks[1] / peaks[0]:.0f} |", flush=True)


if __name__ == "__main__":
    main()

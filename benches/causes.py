"""Times the census, the probe and the whole anatomy: beside plain PyTorch, the machine's rate of products, the basic pass.

    cargo build --release && python benches/causes.py census MODEL.gguf [--rounds R]
    python benches/causes.py block DIRECTORY [--rounds R]     one 7B-shaped block: scripts/make_large_model.py DIRECTORY 1
    python benches/causes.py probe MODEL.gguf [--rounds R]
    python benches/causes.py anatomy MODEL.gguf [--rounds R]

Contenders run in processes of their own, in turn, R rounds; medians are printed as the tables of BENCHMARKS.md. The rate of
products is that of `cargo bench -p sinkscope-kernels --bench products` in the same rounds. Needs what the yardstick needs.
"""

import argparse
import csv
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
# Of SmolLM2-135M: width, hidden units, width of all keys, ids, layers up to the last step-up block.
D, FFN, KEYS, VOCABULARY, LAYERS, ALL_LAYERS = 576, 1536, 192, 49152, 12, 30
LARGE_D, LARGE_FFN = 4096, 11008


def sinkscope(directory, command, *arguments):
    out = directory / "out"
    call = [TARGET / "release" / "sinkscope", command, *arguments, "--threads", "2", "--quiet", "--out", out]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    run = json.loads((out / f"{command}.json").read_text())
    passes = {part["name"]: part["seconds"] for part in run["timing"]["passes"]}
    return passes | {"peak_mib": run["timing"]["peak_rss_bytes"] / 2**20, "results": run["results"]}


def yardstick(*arguments):
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    command = [sys.executable, HERE / "torch_causes.py", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def rates(*shapes):
    """Operations a second of products, and the bound."""
    command = ["cargo", "bench", "-q", "-p", "sinkscope-kernels", "--bench", "products", "--", *shapes]
    environment = dict(os.environ, RAYON_NUM_THREADS="2")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=HERE.parent)
    return json.loads(done.stdout.splitlines()[-1])


def median(runs, of):
    return statistics.median(of(run) for run in runs)


def products_seconds(found, products):
    """Of [(count, rows, inner, columns)]."""
    shape = lambda product: "x".join(map(str, product[1:]))
    return sum(2 * p[0] * p[1] * p[2] * p[3] / found[shape(p)] for p in products)


def census(arguments, directory):
    products = [(2 * ALL_LAYERS, FFN, D, FFN), (ALL_LAYERS, FFN, FFN, D)]
    runs = []
    for _ in range(arguments.rounds):
        ours, theirs = sinkscope(directory, "census", arguments.model), yardstick("census", arguments.model)
        block = next(block for block in ours["results"]["blocks"] if block["block"] == 24)
        assert abs(block["frobenius"][507] / theirs["norm"] - 1) < 1e-4, (block["frobenius"][507], theirs["norm"])
        bound = products_seconds(rates(*(f"{a}x{b}x{c}" for _, a, b, c in products)), products)
        runs.append((ours, theirs, bound))
    print("| what | sinkscope, s | PyTorch, s | PyTorch / sinkscope | sinkscope / its three products |")
    print("|---|---:|---:|---:|---:|")
    for what in ("norms", "spectra"):
        ours, theirs = median(runs, lambda run: run[0][what]), median(runs, lambda run: run[1][what])
        ratio = median(runs, lambda run: run[1][what] / run[0][what])
        share = f"{median(runs, lambda run: run[0][what] / run[2]):.2f}" if what == "norms" else ""
        print(f"| {what} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} | {share} |")
    for what in ("decode", "steering"):
        print(f"| {what} | {median(runs, lambda run: run[0][what]):.2f} | | | |")
    peaks = [median(runs, lambda run: run[at]["peak_mib"]) for at in (0, 1)]
    print(f"| peak MiB | {peaks[0]:.0f} | {peaks[1]:.0f} | | |")


def block(arguments, directory):
    operations = 6 * LARGE_FFN**2 * LARGE_D
    runs = []
    for _ in range(arguments.rounds):
        ours, theirs = sinkscope(directory, "census", arguments.model), yardstick("norms", LARGE_D, LARGE_FFN)
        found = rates(f"{LARGE_FFN}x{LARGE_D}x{LARGE_FFN}")
        runs.append((ours, theirs, found))
    print("| contender | norms, s | share of peak | peak MiB |")
    print("|---|---:|---:|---:|")
    for name, at in (("sinkscope", 0), ("PyTorch", 1)):
        time, peak = median(runs, lambda run: run[at]["norms"]), median(runs, lambda run: run[at]["peak_mib"])
        share = median(runs, lambda run: operations / run[at]["norms"] / run[2]["bound"])
        print(f"| {name} | {time:.1f} | {share:.0%} | {peak:.0f} |")
    for what in ("decode", "spectra", "steering"):
        print(f"| sinkscope, {what} | {median(runs, lambda run: run[0][what]):.1f} | | |")


def probe(arguments, directory):
    # Values and output of attention (a token alone attends to itself), gate, up and down.
    products = [
        (LAYERS, VOCABULARY, D, KEYS),
        (LAYERS, VOCABULARY, D, D),
        (2 * LAYERS, VOCABULARY, D, FFN),
        (LAYERS, VOCABULARY, FFN, D),
    ]
    runs = []
    for _ in range(arguments.rounds):
        ours, theirs = sinkscope(directory, "probe", arguments.model), yardstick("probe", arguments.model, LAYERS)
        with (directory / "out" / "probe.csv").open() as table:
            rows = list(csv.DictReader(table))
        for id, value in zip((0, 1000, 40000), theirs["largest"]):
            assert abs(float(rows[id]["value"]) / value - 1) < 1e-3, (id, rows[id], value)
        bound = products_seconds(rates(*(f"{a}x{b}x{c}" for _, a, b, c in products)), products)
        runs.append((ours, theirs, bound))
    print("| contender | probe, s | over the time of its products | peak MiB |")
    print("|---|---:|---:|---:|")
    for name, at in (("sinkscope", 0), ("PyTorch", 1)):
        time, peak = median(runs, lambda run: run[at]["probe"]), median(runs, lambda run: run[at]["peak_mib"])
        print(f"| {name} | {time:.1f} | {median(runs, lambda run: run[at]['probe'] / run[2]):.2f} | {peak:.0f} |")
    print(f"| sinkscope, calibration | {median(runs, lambda run: run[0]['examination']):.1f} | | |")


def anatomy(arguments, directory):
    print("| shape | basic pass, s | first pass and sample, s | ratio | peak MiB |")
    print("|---|---:|---:|---:|---:|")
    for shape in ("64x64", "4x1024", "1x2048"):
        sequences, seq_len = map(int, shape.split("x"))
        generator = random.Random(0)
        ids = [[generator.randrange(VOCABULARY) for _ in range(seq_len)] for _ in range(sequences)]
        tokens = directory / f"{shape}.json"
        tokens.write_text(json.dumps({"tokens": ids}))
        runs = []
        for _ in range(arguments.rounds):
            basic = sinkscope(
                directory, "anatomy", arguments.model, "--tokens", tokens, "--only", "lifecycle,spikes,sinks,nll"
            )
            whole = sinkscope(directory, "anatomy", arguments.model, "--tokens", tokens)
            runs.append((basic["examination"], whole["examination"] + whole["sample"], whole["peak_mib"]))
        times = [median(runs, lambda run: run[at]) for at in range(3)]
        ratio = median(runs, lambda run: run[1] / run[0])
        print(f"| {shape} | {times[0]:.2f} | {times[1]:.2f} | {ratio:.2f} | {times[2]:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["census", "block", "probe", "anatomy"])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        {"census": census, "block": block, "probe": probe, "anatomy": anatomy}[arguments.what](
            arguments, pathlib.Path(directory)
        )


if __name__ == "__main__":
    main()

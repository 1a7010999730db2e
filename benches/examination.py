"""Times `sinkscope anatomy` beside PyTorch and transformers on the same model and the same tokens.

    cargo build --release && python benches/examination.py MODEL.gguf [--rounds R] [--shapes 64x64,4x1024,1x2048] [--short]

Every contender runs in a process of its own, R rounds, each in another order; the medians and their ratios are printed as
the table of BENCHMARKS.md. The tokens/s of all are of the pass alone (sinkscope's decodes the weights; the yardstick's are
decoded before its clock starts). The sink ratios and NLL of all must agree (those of precision medium within a hundredth and a
thousandth), or the run fails. Needs what the yardstick needs.
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


def sinkscope(precision):
    def run(model, tokens, directory):
        out = directory / "out"
        command = [TARGET / "release" / "sinkscope", "anatomy", model, "--tokens", tokens, "--threads", "2"]
        command += ["--only", "lifecycle,spikes,sinks,nll", "--precision", precision, "--quiet", "--out", out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        run = json.loads((out / "anatomy.json").read_text())
        return {
            "tokens_per_second": run["timing"]["tokens_per_second"],
            "peak_mib": run["timing"]["peak_rss_bytes"] / 2**20,
            "fraction_of_bound": run["timing"]["fraction_of_bound"],
            "sink_ratio": run["results"]["sinks"]["ratio"],
            "nll": run["results"]["nll"],
        }

    return run


def yardstick(way, precision):
    def run(model, tokens, directory):
        command = [sys.executable, HERE / "transformers_examination.py", model, tokens, way, precision]
        # Where there is AMX, products of precision "medium" would be of bf16: without it they are of f32, as everywhere.
        environment = dict(os.environ, OMP_NUM_THREADS="2", ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI")
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default="64x64,4x1024,1x2048", help="sequences x tokens")
    parser.add_argument("--short", action="store_true", help="sinkscope alone, in every precision")
    arguments = parser.parse_args()
    ours = ["sinkscope", "sinkscope, precision high", "sinkscope, precision medium"]
    contenders = dict(zip(ours, map(sinkscope, ["highest", "high", "medium"])))
    if not arguments.short:
        contenders |= {way: yardstick(way, "medium") for way in ("stream", "collect")}

    print("| shape | contender | tokens/s | sinkscope is as fast | precision high | precision medium | peak MiB | share of the f32 bound |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        for shape in arguments.shapes.split(","):
            sequences, seq_len = map(int, shape.split("x"))
            generator = random.Random(0)
            ids = [[generator.randrange(VOCABULARY) for _ in range(seq_len)] for _ in range(sequences)]
            tokens = directory / f"{shape}.json"
            tokens.write_text(json.dumps({"tokens": ids}))
            runs = {name: [] for name in contenders}
            order = random.Random(0)
            for _ in range(arguments.rounds):
                for name in order.sample(list(contenders), len(contenders)):
                    runs[name].append(contenders[name](arguments.model, tokens, directory))
            for name, of in runs.items():
                first = runs["sinkscope"][0]
                # One head more or less: f32 noise at the threshold. bf16 is noisier.
                heads, nll = 3 / (sequences * 270) + 1e-6, 1e-5
                if name.endswith("medium"):
                    heads, nll = max(heads, 0.01), 1e-3
                assert abs(of[0]["sink_ratio"] - first["sink_ratio"]) < heads, (of[0], first)
                assert abs(of[0]["nll"] / first["nll"] - 1) < nll, (of[0], first)
                median = lambda key, runs=of: statistics.median(run[key] for run in runs)
                speed = median("tokens_per_second")
                columns = [shape, name, f"{speed:.0f}"]
                for our in ours:
                    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(runs[our], of)]
                    columns.append("" if name == our else f"{statistics.median(ratios):.2f} times")
                columns.append(f"{median('peak_mib'):.0f}")
                columns.append(f"{median('fraction_of_bound'):.0%}" if name in ours else "")
                print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()

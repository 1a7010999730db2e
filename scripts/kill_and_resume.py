"""Kills a training run with SIGKILL at random moments, resumes it each time, and compares its final weights with those of a
run that nothing stopped.

    cargo build --release && python3 scripts/kill_and_resume.py [--kills 20] [--recipe RECIPE.toml] [--seed S]

Both runs are made in a temporary directory. Exit status 0 if every byte of the weights and every record but its timing is
the same. Without a recipe it is the nano recipe, shortened.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHORT = """
[model]
layers = 2
d_model = 32
heads = 2
d_ffn = 64

[data]
source = "bigram-backcopy"

[training]
steps = 800
sequences = 32
seq_len = 32

[watch]
every = 40
sequences = 16
seq_len = 32
checkpoint_every = 20
"""


def train(binary, recipe, run, resume):
    command = [binary, "train", recipe, "--out", run, "--quiet"] + (["--resume"] if resume else [])
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, message = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the run failed with status {process.returncode}: {message.decode()}")


def outcome(run):
    weights = hashlib.sha256((run / "last" / "model.safetensors").read_bytes()).hexdigest()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("timing")
    return weights, records


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--binary", type=pathlib.Path, default=TARGET / "release" / "sinkscope")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        recipe = arguments.recipe
        if recipe is None:
            recipe = directory / "short.toml"
            recipe.write_text(SHORT)
        start = time.perf_counter()
        finish(train(arguments.binary, recipe, directory / "whole", False))
        seconds = time.perf_counter() - start
        kills = 0
        attempts = 0
        while kills < arguments.kills:
            attempts += 1
            process = train(arguments.binary, recipe, directory / "killed", True)
            try:
                # Some before the first checkpoint, some in the middle of one, few that get far.
                process.wait(chance.uniform(0.0, 1.5 * seconds / arguments.kills))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
            if process.returncode == 0:
                break
        finish(train(arguments.binary, recipe, directory / "killed", True))
        whole, killed = outcome(directory / "whole"), outcome(directory / "killed")
        same = whole == killed
        print(f"{kills} kills in {attempts} attempts: weights and records {'are the same' if same else 'differ'}")
        if kills < arguments.kills:
            sys.exit(f"the run ended after {kills} kills; a longer recipe is needed for {arguments.kills}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()

"""Makes the model that is part of the program: trains recipes/demo.toml and stores its weights in half precision.

    scripts/fetch-corpus.sh
    cargo run --release -- data prepare corpus --document-separator form-feed --vocab-size 2048 --out data/corpus-2048
    python scripts/make_demo.py [--run DIR]

Writes crates/sources/demo/. Takes a quarter of an hour on two cores; an interrupted run is resumed. Needs safetensors and
numpy.
"""

import argparse
import pathlib
import shutil
import subprocess

import numpy
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "crates" / "model" / "demo"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=pathlib.Path, default=ROOT / "target" / "demo", help="directory of the run")
    run = parser.parse_args().run
    train = ["cargo", "run", "--release", "--locked", "--", "train", "recipes/demo.toml", "--out", run, "--resume"]
    subprocess.run(train, check=True, cwd=ROOT)
    DEMO.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run / "last" / name, DEMO / name)
    tensors = {name: values.astype(numpy.float16) for name, values in load_file(run / "last" / "model.safetensors").items()}
    assert all(numpy.isfinite(values).all() for values in tensors.values()), "a weight is beyond half precision"
    save_file(tensors, DEMO / "model.safetensors")
    print(f"{sum(path.stat().st_size for path in DEMO.iterdir()) / 2**20:.1f} MiB in {DEMO}")


if __name__ == "__main__":
    main()

"""Examines SmolLM2-135M and writes the figures that RESULTS.md has of it to results/smollm2.json.

    scripts/fetch-model.sh && cargo build --release
    python scripts/smollm2_results.py [--keep DIRECTORY]
    RENEW_RESULTS=1 cargo test -p sinkscope-report --features figures results

About a quarter of an hour on two cores. --keep leaves the whole outputs in a directory, and takes those that are there
already as they are.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

HOME = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HOME / "target")) / "release" / "sinkscope"
MODEL = HOME / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
RANDOM_IDS = HOME / "crates/anatomy/tests/fixtures/smollm2-135m-q4_1.json"
OUT = HOME / "results/smollm2.json"

OPERATIONS = (
    "zero-spikes mean-spikes scale-spikes=0.5 zero-rescale-spikes zero-spikes@position=17 mean-spikes@position=17 "
    "zero-spikes@channels=3,99,200 skip-block=24 sink-value=zero sink-value=mean spike-value=zero "
    "spike-value=mean forbid-sink forbid-spike self-only@position=20 "
    "drop-first repeat-first bos=on"
).split()
WINDOWS = "window=256 window=256+sinks=1 window=256+sinks=4 window=256+sinks=4+original-positions".split()
QUANTISED = (
    "quantize=a8-tensor quantize=a8-tensor+keep-spikes quantize=w8a8-tensor quantize=w8a8-tensor+keep-spikes "
    "quantize=fp8-e4m3 quantize=fp8-e4m3+keep-spikes quantize=smooth-w8a8 quantize=smooth-w8a8+keep-spikes "
    "quantize=a8-token quantize=w8a8-token quantize=w8 quantize=w4a8-token quantize=w4-g64 quantize=w3-g64 "
    "cache=int8 cache=int4 cache=int4+keep-sinks cache=int2 cache=int2+keep-sinks"
).split()


def only(record, *names):
    return {name: record[name] for name in names}


def by_block(records, block):
    return next(record for record in records if record["block"] == block)


def life(results):
    """Stages, sinks and perplexity of an examination."""
    blocks, spikes, sinks = results["lifecycle"]["blocks"], results["spikes"], results["sinks"]
    stages = []
    for stage in spikes["stages"]:
        peak = by_block(blocks, stage["peak_block"])["residual"]
        texts = [token["text"] for token in stage["tokens"]]
        most = statistics.mode(texts)
        stages.append(
            only(stage, "channel", "step_up", "step_down", "peak", "peak_block", "share_at_position_0", "rate_elsewhere")
            | {
                "over_typical": peak["largest_mean"] / peak["typical_token_largest"],
                "spike_limit": spikes["ratio"] * peak["typical_token_largest"],
                "tokens": len(stage["tokens"]),
                "most_frequent": {"text": most, "tokens": texts.count(most)},
                "channels": stage["channels"],
                "outputs": {str(output["block"]): output["mean"] for output in stage["outputs"]},
                "elsewhere": stage["elsewhere"],
            }
        )
    ratios = {"paper": sinks} | sinks["other_definitions"]
    return {
        "perplexity": results["perplexity"],
        "last_residual": blocks[-1]["residual"]["top"][0],
        "last_largest_mean": blocks[-1]["residual"]["largest_mean"],
        "stages": stages,
        "sink_ratio": {name: only(of, "ratio", "ratio_ci95") for name, of in ratios.items()},
        "sink_ratio_by_layer": sinks["by_layer"],
    }


def causes(results):
    """Regularities, amplifier, normalisation, geometry and self-sinking of an examination."""
    of_first = [block for block in results["silu"]["blocks"] if block["stage"] == 1]
    sides = ("spike", "other")
    heads = [head for head in results["geometry"]["heads"] if head["sink"]]
    other_heads = [head for head in results["geometry"]["heads"] if not head["sink"]]

    def mean(of):
        return statistics.mean(of(head) for head in heads)

    def keys(side, about):
        measures = ("rank95", "participation_ratio")
        return {measure: mean(lambda head: head[f"key_dimension_{side}"][about][measure]) for measure in measures}

    measured = (
        "logit_gap logit_gap_deviation query_to_sink_key query_to_other_keys key_norm_sink key_norm_other "
        "value_norm_sink value_norm_other"
    ).split()
    return {
        "regularities": results["regularities"],
        "amplifier": [
            only(block, "block", "eigenvalue") | {side: {k: v for k, v in block[side].items() if k != "points"} for side in sides}
            for block in of_first
        ],
        "normalisation": {str(block): by_block(results["normalisation"]["blocks"], block) for block in (23, 24)},
        "geometry": {
            "heads": len(results["geometry"]["heads"]),
            "sink_heads": len(heads),
            "logit_gap_in_other_heads": statistics.mean(head["logit_gap"] for head in other_heads),
            "keys": {side: {about: keys(side, about) for about in ("uncentred", "centred")} for side in sides},
        }
        | {name: mean(lambda head: head[name]) for name in measured},
        "self_sinking": results["self_sinking"],
    }


def census(results):
    block = by_block(results["blocks"], 24)
    spectrum = by_block(results["spectra"], 24)
    first, second = spectrum["eigenvalues"][:2]
    layers = results["steering"]["layers"]
    alone = [layer["attention_alone"] for layer in layers]
    return {
        "block_24": {
            "norm": block["top"][0]["frobenius"],
            "over_median": block["top"][0]["frobenius"] / block["median"],
            "eigenvalue": first,
            "over_next": abs(first / second),
            "units": spectrum["units"],
            "shared_trigger": by_block(results["shared_trigger"], 24),
        },
        "steering": {
            "sample": results["steering"]["sample"],
            "embedding": results["steering"]["embedding"],
            "layers": [only(layer, "layer", "after_attention", "after_feed_forward") for layer in layers],
            "largest_attention_alone": max(abs(value) for value in alone if value is not None),
        },
        "prediction": results["prediction"]
        | {"rankings": [only(ranking, "name") | {"first": ranking["pairs"][:3]} for ranking in results["prediction"]["rankings"]]},
    }


def operated(results):
    """The variants of a run by name, with the five linear layers that lose most of their output, if any is quantised."""
    variants = {}
    for variant in results["variants"]:
        layers = sorted(variant.pop("linear_layers"), key=lambda layer: layer["error"], reverse=True)
        lost = {"linear_layers": len(layers), "breaking": sum(layer["breaks"] for layer in layers), "worst_layers": layers[:5]}
        variants[variant.pop("name")] = variant | (lost if layers else {})
    return only(results, "baseline", "sink_tokens") | {"variants": variants}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or pathlib.Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        ids = place / "ids.json"
        ids.write_text(json.dumps(only(json.loads(RANDOM_IDS.read_text()), "tokens")))

        def run(name, command, *options):
            file = place / name / f"{command}.json"
            if not file.exists():
                subprocess.run([PROGRAM, command, MODEL, *options, "--out", place / name, "--quiet"], check=True)
            return json.loads(file.read_text())["results"]

        text = run("text", "anatomy")
        random = run("ids", "anatomy", "--tokens", ids)
        weather = run("probe-weather", "probe", "--tokens", ids, "--prefix", "The weather was fine")
        figures = {
            "text": life(text) | causes(text),
            "ids": life(random) | causes(random),
            "census": census(run("census", "census")),
            "probe": run("probe-ids", "probe", "--tokens", ids),
            "probe_weather": weather,
            "operations": operated(run("operate", "operate", *OPERATIONS)),
            "windows": operated(run("window", "operate", *WINDOWS, "--seq-len", "2048")),
            "quantised": operated(run("quantize", "operate", *QUANTISED)),
        }
    new = OUT.with_suffix(".new")
    new.write_text(json.dumps(figures, indent=1) + "\n")
    new.rename(OUT)


if __name__ == "__main__":
    main()

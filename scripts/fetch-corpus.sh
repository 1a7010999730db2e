#!/usr/bin/env bash
# Builds a corpus of about 95 MB of English text in corpus/ (not part of the repository), to train small models on.
#
#   scripts/fetch-corpus.sh                  from Debian packages: two dictionaries and the documentation of Linux
#   scripts/fetch-corpus.sh FILE|DIR...      from your own files: .txt, .rst, .md, .html, each also .gz
#
# The packages are downloaded by apt-get and unpacked, never installed: dict-gcide (the Collaborative International
# Dictionary of English, GPL), dict-wn (WordNet 3.0) and linux-doc-VERSION (GPL-2), which a new kernel changes:
# recipes/demo.toml and the summaries in results/search and results/stability are of linux-doc-6.1 6.1.192-2, which is taken
# while there is one. The studies take WordNet alone, which does not change. Documents are separated by form feeds: an
# entry of a dictionary is one, and so is a file. Run again, it does nothing while corpus/ is whole; remove a file of
# corpus/ to have it made anew. CORPUS=DIR puts it elsewhere.
set -euo pipefail

corpus=${CORPUS:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/corpus}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 is not installed; $2"
}

# text KIND TARGET SOURCE...: plain UTF-8 text of the sources, a form feed after every document.
#   KIND dictionary: a dictd index and its dictzip file;  KIND files: files and directories.
text() {
    python3 - "$@" <<'PYTHON'
import atexit
import gzip
import html.parser
import os
import pathlib
import re
import sys

kind, target, sources = sys.argv[1], pathlib.Path(sys.argv[2]), [pathlib.Path(source) for source in sys.argv[3:]]
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def decoded(data):
    """UTF-8; a stray byte of another encoding, of which the dictionary has some, is read as Windows-1252."""
    pieces = []
    while data:
        try:
            pieces.append(data.decode())
            break
        except UnicodeDecodeError as error:
            pieces.append(data[: error.start].decode())
            pieces.append(data[error.start : error.start + 1].decode("cp1252", "ignore"))
            data = data[error.start + 1 :]
    return "".join(pieces)


def unpacked(path):
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def entries(index, dictionary):
    """The entries of a dictd database in the order of its file, each once. Those about the database are left out."""

    def number(digits):
        value = 0
        for digit in digits:
            value = 64 * value + DIGITS.index(digit)
        return value

    data = unpacked(dictionary)
    spans = set()
    for line in decoded(index.read_bytes()).splitlines():
        fields = line.split("\t")
        if len(fields) >= 3 and not fields[0].startswith("00-"):
            spans.add((number(fields[1]), number(fields[2])))
    for start, length in sorted(spans):
        yield decoded(data[start : start + length])


class Page(html.parser.HTMLParser):
    """The text of an HTML page, one paragraph a block."""

    SILENT = {"script", "style", "head", "nav", "footer"}
    BLOCKS = {"p", "div", "li", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "dt", "dd", "br", "section", "table"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.silent, self.verbatim, self.pieces = 0, 0, []

    def handle_starttag(self, tag, attributes):
        self.silent += tag in self.SILENT
        self.verbatim += tag == "pre"
        if tag in self.BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag):
        self.silent = max(0, self.silent - (tag in self.SILENT))
        self.verbatim = max(0, self.verbatim - (tag == "pre"))
        if tag in self.BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data):
        if not self.silent:
            self.pieces.append(data if self.verbatim else re.sub(r"\s+", " ", data))


def from_html(text):
    page = Page()
    page.feed(text)
    page.close()
    return re.sub(r"[ \t]*\n\s*\n\s*", "\n\n", "".join(page.pieces)).strip()


# Of reStructuredText goes what is not language: comments, targets, directives with their options, tables of contents.
SILENT = re.compile(r"\.\. (?:_.*:.*|\|.*\|.*|(?:toctree|contents|include|kernel-[a-z]+|image|figure|only|raw|index|"
                    r"highlight|sectnum|csv-table|flat-table|list-table|SPDX.*)(?:::|:).*|(?![\w:-]+::).*)")
VOICED = re.compile(r"(\s*)\.\. (?:[\w:-]+)::\s*(.*)")
ROLE = re.compile(r":[a-zA-Z:+-]+:`(?:([^`<]*?)\s*<[^`>]*>|([^`]*))`")


def from_rst(text):
    lines, silent = [], None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if silent is not None:
            if not line.strip() or indent > silent:
                continue
            silent = None
        stripped = line.strip()
        if stripped.startswith("..") and (stripped == ".." or SILENT.fullmatch(stripped)):
            silent = indent
            continue
        if directive := VOICED.fullmatch(line):
            line = directive[1] + directive[2]
        elif re.fullmatch(r":[\w -]+:(?: \S*)?", stripped) and indent:
            continue
        if re.fullmatch(r"([=~^\"'*+#.:_`-])\1{2,}", stripped):
            continue
        line = ROLE.sub(lambda role: role[1] or role[2] or "", line)
        lines.append(line.replace("``", "").rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def documents(places):
    kinds = {".html": from_html, ".htm": from_html, ".rst": from_rst, ".txt": str.strip, ".md": str.strip}
    for place in places:
        if not place.exists():
            sys.exit(f"error: {place}: there is no such file")
        files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
        for file in files:
            name = file.name.removesuffix(".gz")
            convert = kinds.get(os.path.splitext(name)[1].lower())
            if convert is None:
                if place.is_dir():
                    continue
                sys.exit(f"error: {file}: not a kind of file that can be read; supported are .txt, .rst, .md and .html, also .gz")
            yield convert(decoded(unpacked(file)))


count = written = 0
partial = target.with_name(f".{target.name}.part")
atexit.register(partial.unlink, missing_ok=True)
with open(partial, "w", encoding="utf-8", newline="\n") as out:
    for document in entries(*sources) if kind == "dictionary" else documents(sources):
        document = document.replace("\f", "\n").replace("\0", "").strip("\n")
        if document.strip():
            out.write(document + "\n\f")
            count += 1
            written += len(document.encode()) + 2
    out.flush()
    os.fsync(out.fileno())
if count == 0:
    sys.exit(f"error: {target}: the sources hold no text")
partial.rename(target)
print(f"{target}: {count:,} documents, {written / 1e6:.1f} MB")
PYTHON
}

finish() {
    printf '\nnext: sinkscope data prepare %q --document-separator form-feed --vocab-size 4096 --out data\n' "$1"
    exit 0
}

need python3 "it turns packages into text"
mkdir -p "$corpus"
if (($# > 0)); then
    text files "$corpus/own.txt" "$@" || exit 1
    finish "$corpus/own.txt"
fi

if [[ -s $corpus/gcide.txt && -s $corpus/wordnet.txt && -s $corpus/linux-doc.txt ]]; then
    printf '%s is there already\n' "$corpus"
    finish "$corpus"
fi
need apt-get "it downloads the packages; without it, name files of your own"
need apt-cache "it finds the packages; without it, name files of your own"
need dpkg-deb "it unpacks the packages"

work=$(mktemp -d "${TMPDIR:-/tmp}/sinkscope-corpus.XXXXXX")
trap 'rm -rf "$work"' EXIT
# apt's own unprivileged user writes here.
chmod 755 "$work"

update() {
    printf 'updating the lists of packages\n'
    apt-get update -qq || printf 'apt-get update failed (it may need root); going on with the lists there are\n' >&2
}

linux() {
    apt-cache pkgnames linux-doc- | grep -E '^linux-doc-[0-9]+\.[0-9]+$' | sort -V | head -n 1
}

if [[ -z $(linux) ]] || ! apt-cache show dict-gcide dict-wn >/dev/null 2>&1; then
    update
fi
manual=$(linux)
[[ -n $manual ]] || fail "no package linux-doc-VERSION is known to apt; run apt-get update as root, or name files of your own"

download() {
    (cd "$work" && apt-get download -qq "$1" 2>"$work/log")
}

newest() {
    printf '%s is gone: the newest instead, so training will not repeat results/ exactly\n' "$2" >&2
    download "$1"
}

# unpack PACKAGE [VERSION]: that version if there is one, else the newest; lists that are out of date are updated.
unpack() {
    local wanted=$1${2:+=$2}
    printf 'downloading %s\n' "$wanted"
    if ! download "$wanted"; then
        update
        download "$wanted" || { [[ $wanted != "$1" ]] && newest "$1" "$wanted"; } ||
            fail "apt-get could not download $1: $(tail -n 1 "$work/log"); run apt-get update as root, or name files of your own"
    fi
    dpkg-deb -x "$work/$1"_*.deb "$work/$1"
}

if [[ ! -s $corpus/gcide.txt ]]; then
    unpack dict-gcide
    found=$work/dict-gcide/usr/share/dictd/gcide
    text dictionary "$corpus/gcide.txt" "$found.index" "$found.dict.dz"
fi
if [[ ! -s $corpus/wordnet.txt ]]; then
    unpack dict-wn
    found=$work/dict-wn/usr/share/dictd/wn
    text dictionary "$corpus/wordnet.txt" "$found.index" "$found.dict.dz"
fi
if [[ ! -s $corpus/linux-doc.txt ]]; then
    unpack "$manual" "$([[ $manual != linux-doc-6.1 ]] || echo 6.1.192-2)"
    text files "$corpus/linux-doc.txt" "$work/$manual/usr/share/doc/$manual/Documentation"
fi
finish "$corpus"

"""Makes the tokeniser fixtures of crates/sources/tests/fixtures/tokenizers/.

Run with Python packages `tokenizers`, `sentencepiece` and `transformers` installed:

    python scripts/make_tokenizer_fixtures.py

For each pre-tokeniser of GGUF's byte-level BPE (gpt2, llama3, qwen2, smollm) it trains a tiny tokeniser on the text
below and writes

    NAME/tokenizer.json      what a Hugging Face directory holds
    NAME/gguf.json           the tokenizer.ggml.* keys of a GGUF file with the same vocabulary
    NAME/expected.json       [{"text": ..., "ids": [...]}, ...] from the `tokenizers` package, no special tokens added

For SentencePiece it trains a BPE model with byte fallback and one without, and writes gguf.json and expected.json, ids
from the `sentencepiece` package. Texts that spell out a special token are left out there, because SentencePiece itself
never reads control tokens from text; their ids, in special.json, come from transformers' own reading of the GGUF keys.
The first of the two also has a tokenizer.json, as transformers makes it, with its ids in folder.json.

    python scripts/make_tokenizer_fixtures.py --classes

loads these tokenisers as each class of transformers, with the settings of `class_cases`, and writes classes.json: what the
installed version, 4 or 5, puts before a text, and the ids of texts. What the other version said stays. The committed
file is of 4.57.3 and 5.24.0.
"""

import io
import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import __version__ as tokenizers_version

ROOT = Path(__file__).resolve().parent.parent / "crates/sources/tests/fixtures/tokenizers"

CORPUS = [
    "The lighthouse keeper counted the ships: one, two, three, and then the fog came down and he counted no more.",
    "She'll say it's fine; they've said so before, and I'm sure we'd all agree that he's right, can't you see?",
    "SHE'LL SAY IT'S FINE. THEY'VE SAID SO. I'M SURE WE'D AGREE.",
    "In 1987 the harbour took 12345 tonnes of salt, 678 of coal and 90 of tin; in 2024 it took 1000000.",
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return result\n",
    "if (count >= 10) {\n\tprint(\"ready\");\n\tcount = 0;\n}\n\n\nelse { wait(250); }\r\n",
    "Le café était fermé, mais l'été à Besançon était déjà là; über den Straßen lag Nebel, señor.",
    "東京の港に船が着いた。北京的早晨很安静。바다는 조용했다.",
    "Привет, мир! Корабль пришёл в гавань утром. Καλημέρα κόσμε.",
    "Smile 😀 and wave 👋🏽, family 👨‍👩‍👧, flag 🇫🇷, and the number ½ or ² or ٣ or Ⅷ.",
    "   indented by three,  then two  spaces,\tand a tab.   \n\n  New paragraph.  \n",
    "http://example.org/path?query=1&other=2#part user@example.com 3.14159 -1e-5 50% $20 C++ a_b-c/d\\e",
] * 4

TEXTS = [
    "",
    "a",
    " ",
    "The ships came down and he counted no more.",
    " leading space",
    "trailing space ",
    "two  spaces,   three,    four",
    "   start with three",
    "\ttab\t\ttabs",
    "line\nline\n\nparagraph\n\n\n",
    "carriage\r\nreturn\r\n\r\nlines",
    "\n",
    " \n \n",
    "spaces before newline   \n   spaces after",
    "it's they've I'm we'd he'll can't you're",
    "IT'S THEY'VE I'M WE'D HE'LL CAN'T YOU'RE",
    "It'S 'tis ''s 'S 'ſ",
    "0 1 12 123 1234 12345 123456 1234567",
    "a1b22c333d4444 2024-05-17T10:30:00Z",
    "x  1   22    333",
    "½ ² ٣٤٥ Ⅷ 一二三",
    "café déjà über Straße señor",
    "cafe\u0301 de\u0301ja\u0300 u\u0308ber",
    "\u212b \uac00 \u1100\u1161",
    "東京の港に船が着いた。",
    "바다는 조용했다. Привет, мир! Καλημέρα",
    "😀 👋🏽 👨‍👩‍👧 🇫🇷",
    "def f(x):\n    return x ** 2  # square\n",
    "if (a>=10){\n\tb = c[0];\n}\n",
    "C++ a_b-c/d\\e $20 50% -1e-5 #part",
    "...!!!??? --- ___ ''' \"\"\"",
    "non\u00a0breaking\u2009thin\u3000wide\u200bzero",
    "\u2581lower\u2581block",
    "nul\x00byte \x7f \x1b[0m",
    "word" * 30,
    "aaaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaa",
]

SPECIAL_TEXTS = [
    "<|im_start|>",
    "<|im_start|>user\nThe ships<|im_end|>\n",
    "a<|im_start|>b <|im_end|> c",
    "<|im_start|><|im_start|><|im_end|>",
    "<|im_start",
    "<|IM_START|>",
    "x<think>y</think>z",
    "<think> spaced </think> ",
    "cafe\u0301<think>e\u0301",
]

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "</think>"]


def split(digits):
    return [
        pre_tokenizers.Split(Regex(CL100K.replace("DIGITS", digits)), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


PRE_TOKENIZERS = {
    "gpt2": ("gpt-2", [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "llama3": ("llama-bpe", split(r"\p{N}{1,3}")),
    "qwen2": ("qwen2", split(r"\p{N}")),
    "smollm": (
        "smollm",
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    ),
}


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def byte_level(name):
    pre, steps = PRE_TOKENIZERS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if name == "llama3":
        # A token that its merges do not lead to: only a tokeniser that looks whole pieces up first can give it.
        whole = json.loads(tokenizer.to_str())
        whole["model"]["vocab"]["\u0120square"] = len(whole["model"]["vocab"])
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        bos = "<|endoftext|>"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in USER_DEFINED])

    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    # Left on, to see that a reader switches them off.
    saved = Tokenizer.from_str(tokenizer.to_str())
    saved.enable_truncation(max_length=8)
    saved.enable_padding(length=8)
    compact = json.loads(saved.to_str())
    write(folder, "tokenizer.json", compact)

    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    assert [index for _, index in vocabulary] == list(range(len(vocabulary))), name
    tokens = [token for token, _ in vocabulary]
    kinds = [3 if token in SPECIAL else 4 if token in USER_DEFINED else 1 for token in tokens]
    merges = [" ".join(merge) for merge in compact["model"]["merges"]]
    write(
        folder,
        "gguf.json",
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 0,
        },
    )
    texts = TEXTS + SPECIAL_TEXTS
    write(folder, "expected.json", [expected(text, tokenizer.encode(text, add_special_tokens=False).ids) for text in texts])


def expected(text, ids):
    return {"text": text, "ids": ids}


def sentence_pieces(name, byte_fallback):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.split("\n")]),
        model_writer=model,
        model_type="bpe",
        vocab_size=520 if byte_fallback else 300,
        byte_fallback=byte_fallback,
        character_coverage=0.995 if byte_fallback else 0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=USER_DEFINED,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    size = processor.get_piece_size()

    def kind(index):
        if processor.is_unknown(index):
            return 2
        if processor.is_control(index):
            return 3
        if processor.is_byte(index):
            return 6
        return 4 if processor.id_to_piece(index) in USER_DEFINED else 1

    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [processor.id_to_piece(index) for index in range(size)],
        "tokenizer.ggml.scores": [processor.get_score(index) for index in range(size)],
        "tokenizer.ggml.token_type": [kind(index) for index in range(size)],
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
        "tokenizer.ggml.unknown_token_id": processor.unk_id(),
    }
    folder = ROOT / name
    write(folder, "gguf.json", keys)
    texts = list(TEXTS) + ["x<think>y</think>z", "a<think> spaced </think> "]
    # Random stretches of the training text, where many merges compete.
    random_source = random.Random(7)
    letters = sorted(set("".join(CORPUS)))
    texts += ["".join(random_source.choices("aehinorst ", k=60)) for _ in range(20)]
    texts += ["".join(random_source.choices(letters, k=40)) for _ in range(10)]
    write(folder, "expected.json", [expected(text, processor.encode(text)) for text in texts])
    if byte_fallback:
        from transformers.integrations.gguf import convert_gguf_tokenizer

        renamed = {
            "tokenizer_type": "llama",
            "tokens": keys["tokenizer.ggml.tokens"],
            "scores": keys["tokenizer.ggml.scores"],
            "token_type": keys["tokenizer.ggml.token_type"],
        }
        backend, _ = convert_gguf_tokenizer("llama", renamed)
        special = ["<s>", "<s>The ships", "a</s>b", "a </s> b", "<think>the", "<s><think>the</think></s> more", "the <s"]
        by_backend = [expected(text, backend.encode(text, add_special_tokens=False).ids) for text in TEXTS + special]
        write(folder, "special.json", by_backend[len(TEXTS) :])
        # The same vocabulary as a Hugging Face directory has it. Where a text begins with a space, its ids are not
        # those of SentencePiece.
        write(folder, "tokenizer.json", json.loads(backend.to_str()))
        write(folder, "folder.json", by_backend)


CLASS_TEXTS = ["the ships", " two  spaces 1234", "<|im_start|>a b</s> c<tool> d\n\ne<|im_end|>"]
BASES = {"gpt2": "<|endoftext|>", "sentencepiece": "<s>"}
CLASSES = ["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "Qwen2Tokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer"]
PLAIN = ["PreTrainedTokenizerFast", "TokenizersBackend", "SomeOtherTokenizer"]
MODEL_TYPES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "olmo2", "phi3"]


def template(token, identifier, ends=False):
    special = {"SpecialToken": {"id": token, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, text] + [special] * ends,
        "pair": [special, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [identifier], "tokens": [token]}},
    }


def token(content, **flags):
    return dict(content=content, lstrip=False, rstrip=False, normalized=False, single_word=False, special=True) | flags


def class_cases():
    """Settings that decide what stands before a text, and which tokens there are."""
    for base, bos in BASES.items():
        known = json.loads((ROOT / base / "tokenizer.json").read_text())
        ids = {entry["content"]: entry["id"] for entry in known["added_tokens"]}
        processors_ = {"none": None, "bos": template(bos, ids[bos]), "ends": template(bos, ids[bos], ends=True)}

        def case(settings, processor="none", model_type="llama", **files):
            files = {"tokenizer_config.json": settings} | {name.replace("__", "."): value for name, value in files.items()}
            return {"base": base, "post_processor": processors_[processor], "model_type": model_type, "files": files}

        names = {"bos_token": bos, "eos_token": bos, "unk_token": bos, "pad_token": bos}
        for name in CLASSES + PLAIN[: 1 + (base == "gpt2")]:
            fast = [name, name + "Fast"] if name in ("LlamaTokenizer", "GPTNeoXTokenizer") else [name]
            for spelled in fast:
                for processor in ("none", "bos"):
                    for adds in ({}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_bos_token": None}):
                        yield case(names | {"tokenizer_class": spelled} | adds, processor)
            yield case({"tokenizer_class": name}, "bos")
            yield case(names | {"tokenizer_class": name, "add_prefix_space": True}, "bos")
            yield case(names | {"tokenizer_class": name, "add_eos_token": True}, "ends")
        for model_type in MODEL_TYPES:
            yield case(names, "bos", model_type)
            for name in ("LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer"):
                yield case(names | {"tokenizer_class": name}, "none", model_type)
        size = max(list(ids.values()) + list(known["model"]["vocab"].values())) + 1
        for name in ("PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "GemmaTokenizer"):
            settings = names | {"tokenizer_class": name}
            tool = {"<tool>": size}
            yield case(settings | {"additional_special_tokens": ["<tool>", "</s>"]})
            yield case(settings | {"added_tokens_decoder": {str(size + 1): token("<tool>"), str(size): token("</s>")}})
            yield case(settings | {"added_tokens_decoder": {str(size + 7): token("<tool>", lstrip=True, normalized=True)}})
            yield case(settings | {"extra_special_tokens": {"tool_token": "<tool>"}})
            yield case(settings, added_tokens__json=tool)
            yield case(settings, added_tokens__json={"</s>": size + 1, "<tool>": size})
            yield case(settings, special_tokens_map__json={"additional_special_tokens": ["<tool>"], "sep_token": "</s>"})
            yield case(settings, special_tokens_map__json={"sep_token": token("<tool>", rstrip=True)})
            yield case(settings | {"sep_token": "<tool>", "mask_token": token("</s>", __type="AddedToken")})
            yield case(
                settings | {"additional_special_tokens": ["<tool>"]},
                added_tokens__json={"<tool>": size, "</s>": size + 1},
                special_tokens_map__json={"sep_token": "</s>"},
            )


def classes():
    import transformers
    from transformers import AutoTokenizer

    transformers.logging.set_verbosity_error()
    version = transformers.__version__.split(".")[0]
    path = ROOT / "classes.json"
    before = json.loads(path.read_text())["cases"] if path.exists() else []
    before = {json.dumps(entry["case"]): entry for entry in before}
    entries = []
    for case in class_cases():
        entry = before.get(json.dumps(case), {"case": case, "expected": {}})
        entries.append(entry)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            content = json.loads((ROOT / case["base"] / "tokenizer.json").read_text())
            content |= {"post_processor": case["post_processor"], "truncation": None, "padding": None}
            write(folder, "tokenizer.json", content)
            write(folder, "config.json", {"model_type": case["model_type"]})
            for name, value in case["files"].items():
                write(folder, name, value)
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder)
                whole = tokenizer("a")["input_ids"]
                plain = tokenizer("a", add_special_tokens=False)["input_ids"]
                first = next(at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
                ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in CLASS_TEXTS]
                entry["expected"][version] = {"first": whole[:first], "ids": ids}
            except Exception as error:
                entry["expected"][version] = {"error": f"{type(error).__name__}: {error}"[:80]}
    path.write_text(
        '{"texts":' + json.dumps(CLASS_TEXTS) + ',"cases":[\n'
        + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
        + "\n]}\n"
    )
    print(f"transformers {transformers.__version__}: {len(entries)} cases")


if __name__ == "__main__":
    if "--classes" in sys.argv:
        classes()
        sys.exit()
    for name in PRE_TOKENIZERS:
        byte_level(name)
    sentence_pieces("sentencepiece", byte_fallback=True)
    sentence_pieces("sentencepiece-unknown", byte_fallback=False)
    print(f"tokenizers {tokenizers_version}, sentencepiece {sentencepiece.__version__}")
    for path in sorted(ROOT.rglob("*.json")):
        print(f"{path.stat().st_size:8} {path.relative_to(ROOT)}")

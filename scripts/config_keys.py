#!/usr/bin/env python3
"""Writes crates/model/tests/fixtures/config_keys.json: every key of config.json that transformers knows, by family.

Read from transformers' own configuration classes, so that a test can show that each key is read, inert or refused:

- "base": the fields that every configuration inherits, and what its __post_init__ takes besides ("also");
- "generation": settings of generation that old versions left in config.json and new ones move elsewhere;
- "rope": for each type of rotary scaling the keys it requires and those it may have;
- "families": for each model_type its own fields with type and default, "aliases" that its attribute_map gives to them,
  "also" keys that its code takes though they are no fields (older spellings), and "parts" (a wrapper's nested configurations).

    python scripts/config_keys.py [--check]   # needs: pip install transformers==5.24.0 torch

With --check nothing is written; it exits with 1 if the file differs from what would be.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import textwrap
from pathlib import Path

import transformers
from transformers import GenerationConfig, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RotaryEmbeddingConfigMixin
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

OUT = Path(__file__).resolve().parent.parent / "crates/model/tests/fixtures/config_keys.json"
FAMILIES = "llama mistral qwen2 qwen3 gemma2 gemma3_text gemma3 olmo2 smollm3 phi3 gpt2 gpt_neox".split()


def plain(value):
    """A default as JSON can hold it."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value)


def declared(cls, without=()):
    """The fields of a configuration class: name -> type and default."""
    found = {}
    for field in dataclasses.fields(cls):
        if field.name in without:
            continue
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else "required"
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", None) or str(field.type)
        if getattr(field.type, "__args__", None):
            kind = str(field.type)
        found[field.name] = {"type": kind.replace("typing.", ""), "default": plain(default)}
    return dict(sorted(found.items()))


def taken(cls, names):
    """Keys that methods of a class take out of the keyword arguments, read from its source: kwargs.pop("KEY", ...)."""
    keys = set()
    for name in names:
        method = cls.__dict__.get(name)
        if method is None:
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("pop", "get", "setdefault")
            ):
                of = node.func.value
                if isinstance(of, ast.Name) and of.id in ("kwargs", "config_dict") and node.args:
                    if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                        keys.add(node.args[0].value)
    return keys


METHODS = ["__post_init__", "convert_rope_params_to_dict", "from_dict", "standardize_rope_params", "_from_dict"]


def rope_keys():
    """Required and optional sub-keys of each rope type, as its validating method names them."""
    types = {}
    for kind in ["default", *ROPE_INIT_FUNCTIONS]:
        validate = getattr(RotaryEmbeddingConfigMixin, f"_validate_{kind}_rope_parameters", None)
        sets = {"required_keys": set(), "optional_keys": set()}
        if validate is not None:
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(validate)))):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in sets:
                    if isinstance(node.value, ast.Set):
                        sets[node.targets[0].id] = {item.value for item in node.value.elts}
        types[kind] = {"required": sorted(sets["required_keys"]), "optional": sorted(sets["optional_keys"])}
    return types


def main():
    parser = argparse.ArgumentParser(description="Lists every key of config.json that transformers knows, by family.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    options = parser.parse_args()
    base = declared(PreTrainedConfig)
    also = (taken(PreTrainedConfig, METHODS) | taken(RotaryEmbeddingConfigMixin, METHODS)) - {"return_unused_kwargs"}
    families = {}
    for family in FAMILIES:
        cls = CONFIG_MAPPING[family]
        entry = {
            "class": cls.__name__,
            "keys": declared(cls, without=[n for n in base if base[n] == declared(cls).get(n)]),
            "aliases": dict(sorted(cls.attribute_map.items())),
            "also": sorted(taken(cls, METHODS)),
            "rope_theta_default": getattr(cls, "default_theta", None),
        }
        if cls.sub_configs:
            entry["parts"] = {name: getattr(part, "model_type", str(part)) for name, part in sorted(cls.sub_configs.items())}
        families[family] = entry
    text = {
        "transformers": transformers.__version__,
        "base": base,
        "also": sorted(also),
        "generation": sorted(GenerationConfig._get_default_generation_params()),
        "rope": rope_keys(),
        "families": families,
    }
    # One key a line, so that a new version of transformers reads as a short diff.
    lines = []
    for name, value in text.items():
        if name == "families":
            parts = []
            for family, entry in value.items():
                keys = ",\n".join(f"      {json.dumps(k)}: {json.dumps(v)}" for k, v in entry["keys"].items())
                rest = "".join(f",\n    {json.dumps(k)}: {json.dumps(v)}" for k, v in entry.items() if k != "keys")
                parts.append(f'  {json.dumps(family)}: {{\n    "keys": {{\n{keys}\n    }}{rest}\n  }}')
            lines.append('"families": {\n' + ",\n".join(parts) + "\n}")
        elif name in ("base", "rope"):
            lines.append(
                f'"{name}": {{\n' + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
            )
        else:
            lines.append(f'"{name}": {json.dumps(value)}')
    output = "{\n" + ",\n".join(lines) + "\n}\n"
    assert json.loads(output) == json.loads(json.dumps(text))
    if options.check:
        current = OUT.read_text() if OUT.exists() else ""
        print("up to date" if current == output else f"{OUT} differs from transformers {transformers.__version__}")
        sys.exit(0 if current == output else 1)
    OUT.write_text(output)
    print(f"{OUT}: {sum(len(e['keys']) for e in families.values())} keys of {len(families)} families")


if __name__ == "__main__":
    main()

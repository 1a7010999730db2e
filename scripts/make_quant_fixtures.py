#!/usr/bin/env python3
"""Writes what the decoders of crates/sources/src/checkpoint/decode are held to, bit for bit.

For each storage type, NAME.bin holds a few blocks of random bytes whose scales are chosen (normal, subnormal, zero,
negative; never infinite or NaN), and NAME.f32 the values that the reference decoder of the `gguf` Python package makes of
them, as little-endian f32. That package does not decode Q8_K; its definition (scale * code) is evaluated here with numpy.

    python scripts/make_quant_fixtures.py     # needs: pip install gguf==0.19.0 numpy

Running it again writes the same bytes.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

OUT = Path(__file__).resolve().parent.parent / "crates/sources/tests/fixtures/quants"

# Bits of f16: usual sizes, the smallest and largest subnormals, both zeros, 1, the smallest normal, the largest.
CHOSEN_SCALES = [0x0001, 0x83FF, 0x0000, 0x8000, 0x3C00, 0x8400, 0x7BFF, 0xABCD]

# Type: (blocks, byte offsets of its f16 scales within a block).
F16_SCALES = {
    Type.Q4_0: (16, [0]),
    Type.Q4_1: (16, [0, 2]),
    Type.Q5_0: (16, [0]),
    Type.Q5_1: (16, [0, 2]),
    Type.Q8_0: (16, [0]),
    Type.Q2_K: (6, [80, 82]),
    Type.Q3_K: (6, [108]),
    Type.Q4_K: (6, [0, 2]),
    Type.Q5_K: (6, [0, 2]),
    Type.Q6_K: (6, [208]),
}


def finite_halves(random: np.random.Generator, count: int) -> np.ndarray:
    """Random f16 bits, the chosen ones among them; the exponent is never all ones."""
    bits = random.integers(0, 1 << 16, count, dtype=np.uint16)
    bits = np.where(bits & 0x7C00 == 0x7C00, bits ^ 0x4000, bits).astype(np.uint16)
    places = random.permutation(count)[: len(CHOSEN_SCALES)]
    bits[places] = CHOSEN_SCALES[: len(places)]
    return bits


def write(name: str, stored: np.ndarray, values: np.ndarray) -> None:
    assert values.dtype == np.float32 and np.isfinite(values).all(), name
    (OUT / f"{name}.bin").write_bytes(stored.tobytes())
    (OUT / f"{name}.f32").write_bytes(values.astype("<f4").tobytes())


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2)
    for type_, (blocks, offsets) in F16_SCALES.items():
        _, size = gguf.GGML_QUANT_SIZES[type_]
        stored = random.integers(0, 256, (blocks, size), dtype=np.uint8)
        scales = finite_halves(random, blocks * len(offsets)).reshape(blocks, -1).view(np.uint8)
        for index, offset in enumerate(offsets):
            stored[:, offset : offset + 2] = scales[:, 2 * index : 2 * index + 2]
        write(type_.name.lower(), stored, gguf.quants.dequantize(stored, type_))

    stored = random.integers(0, 256, (6, 292), dtype=np.uint8)
    scales = np.array([0.37, -1.5e-3, 1e-40, -0.0, 2.5e30, -7.0], dtype=np.float32)
    stored[:, :4] = scales.reshape(6, 1).view(np.uint8)
    write("q8_k", stored, scales.reshape(6, 1) * stored[:, 4:260].view(np.int8).astype(np.float32))

    halves = finite_halves(random, 1024)
    write("f16", halves, gguf.quants.dequantize(halves.view(np.uint8), Type.F16))
    upper = random.integers(0, 1 << 16, 1024, dtype=np.uint16)
    upper = np.where(upper & 0x7F80 == 0x7F80, upper ^ 0x4000, upper).astype(np.uint16)
    write("bf16", upper, gguf.quants.dequantize(upper.reshape(1, -1).view(np.uint8), Type.BF16))
    single = (upper.astype(np.uint32) << 16 | random.integers(0, 1 << 16, 1024, dtype=np.uint32)).view(np.float32)
    write("f32", single, gguf.quants.dequantize(single.view(np.uint8), Type.F32))


if __name__ == "__main__":
    main()

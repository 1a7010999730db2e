#!/usr/bin/env python3
"""Writes what the quantisers of crates/kernels/src/microscaling.rs and quantise.rs are held to, bit for bit.

values.f32 holds values of many magnitudes; every other file what a reference makes of them, as little-endian f32:

    e4m3, e5m2   torch.float8_e4m3fn and torch.float8_e5m2, one scale for all
    e2m1         the numbers of OCP E2M1, one scale for all, found by distance, half way to the even mantissa
    q8_0         quantised and decoded by the gguf package, blocks of 32
    mxfp4        OCP Microscaling Formats 1.0: shared exponent floor(log2(largest)) - 2, elements saturate at 6
    nvfp4        NVIDIA's layout: blocks of 16, scale of E4M3 relative to largest / (6 * 448) of all
    hadamard     the Hadamard matrix of scipy's order over the square root of its size, sums formed in stages in f32

    python scripts/make_quantiser_fixtures.py     # needs: pip install torch gguf numpy

Running it again writes the same bytes.
"""

from pathlib import Path

import gguf
import numpy as np
import torch

OUT = Path(__file__).resolve().parent.parent / "crates/kernels/tests/fixtures/quantisers"
COUNT = 1536  # 3 * 512: rotated in three parts
E2M1 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], dtype=np.float32)  # by code; even codes have an even mantissa


def values() -> np.ndarray:
    random = np.random.default_rng(7)
    x = random.standard_normal(COUNT) * np.exp(random.uniform(-9, 5, COUNT))
    x[32:64] = 0.0
    x[64:96] = random.integers(-12, 13, 32) / 4  # points of E2M1 and half-ways between them
    x[96:128] = 1e-30 * random.standard_normal(32)
    x[128:160] = np.repeat([6.0, 7.0, 5.0, 3.5], 8) * 2.0**7
    x[160:192] = random.integers(-254, 255, 32) / 2 * 0.25
    x[191] = 31.75  # the scale of Q8_0 is 0.25: halves of codes
    return x.astype(np.float32)


def fp8(x: np.ndarray, kind: torch.dtype) -> np.ndarray:
    largest = torch.finfo(kind).max
    t = torch.from_numpy(x)
    scale = t.abs().max() / torch.tensor(largest, dtype=torch.float32)
    return ((t / scale).clamp(-largest, largest).to(kind).to(torch.float32) * scale).numpy()


def nearest_e2m1(x: np.ndarray) -> np.ndarray:
    magnitude = np.minimum(np.abs(x), np.float32(6.0)).astype(np.float64)
    distance = np.abs(magnitude[..., None] - E2M1.astype(np.float64))
    # Of two as near, the one whose code is even.
    order = distance + np.where(np.arange(8) % 2 == 1, 1e-12, 0.0)
    return np.copysign(E2M1[np.argmin(order, axis=-1)], x)


def scaled_e2m1(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        points = nearest_e2m1(np.where(scale > 0, x / scale, np.float32(0)))
    return (points * scale).astype(np.float32)


def mxfp4(x: np.ndarray) -> np.ndarray:
    blocks = x.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1, keepdims=True).astype(np.float64)
    with np.errstate(divide="ignore"):
        exponent = np.clip(np.floor(np.log2(largest)) - 2, -127, 127)
    scale = np.where(largest > 0, 2.0**exponent, 0.0).astype(np.float32)
    return scaled_e2m1(blocks, scale).reshape(-1)


def nvfp4(x: np.ndarray) -> np.ndarray:
    blocks = x.reshape(-1, 16)
    of_all = np.abs(x).max() / np.float32(6 * 448)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    ratio = torch.from_numpy(largest / np.float32(6) / of_all)
    scale = ratio.clamp(max=448).to(torch.float8_e4m3fn).to(torch.float32).numpy() * of_all
    return scaled_e2m1(blocks, scale).reshape(-1)


def q8_0(x: np.ndarray) -> np.ndarray:
    kind = gguf.GGMLQuantizationType.Q8_0
    return gguf.dequantize(gguf.quantize(x, kind), kind)


def hadamard(x: np.ndarray) -> np.ndarray:
    size = COUNT & -COUNT
    parts = x.reshape(-1, size).copy()
    half = 1
    while half < size:
        pairs = parts.reshape(len(parts), -1, 2, half)
        parts = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(-1, size)
        half *= 2
    # The stages are the matrix: both agree where every sum is exact.
    matrix = np.array([[1.0]])
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    whole = np.arange(size) % 17 - 8.0
    staged = whole.astype(np.float32)
    half = 1
    while half < size:
        pairs = staged.reshape(-1, 2, half)
        staged = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        half *= 2
    assert (staged == matrix @ whole).all()
    return (parts * np.float32(1 / np.sqrt(size))).reshape(-1)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    x = values()
    largest = np.abs(x).max()
    made = {
        "values": x,
        "e4m3": fp8(x, torch.float8_e4m3fn),
        "e5m2": fp8(x, torch.float8_e5m2),
        "e2m1": scaled_e2m1(x, largest / np.float32(6)),
        "q8_0": q8_0(x),
        "mxfp4": mxfp4(x),
        "nvfp4": nvfp4(x),
        "hadamard": hadamard(x),
    }
    for name, array in made.items():
        assert array.shape == x.shape and np.isfinite(array).all(), name
        (OUT / f"{name}.f32").write_bytes(array.astype("<f4").tobytes())


if __name__ == "__main__":
    main()

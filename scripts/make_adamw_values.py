#!/usr/bin/env python3
"""Prints the golden values of crates/kernels/src/adamw.rs: what torch.optim.AdamW makes of four parameters in three steps.

The gradients of each step are clipped beforehand by a factor, as `gradient_scale` does on the fly.

    python scripts/make_adamw_values.py   # needs: pip install torch==2.15.0

Runs on a CPU, downloads nothing.
"""

import torch

START = [0.5, -1.25, 3.0, 0.0]
GRADIENTS = [[0.1, -2.0, 1e-3, 0.0], [-0.3, 1.0, 2e-3, 5.0], [0.2, 0.25, -1e-3, -5.0]]
SCALES = [1.0, 0.5, 0.25]
LEARNING_RATES = [1e-2, 3e-3, 1e-3]

for dtype in (torch.float64, torch.float32):
    parameter = torch.tensor(START, dtype=dtype, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for gradient, scale, learning_rate in zip(GRADIENTS, SCALES, LEARNING_RATES):
        optimizer.param_groups[0]["lr"] = learning_rate
        parameter.grad = torch.tensor(gradient, dtype=dtype) * scale
        optimizer.step()
        print(dtype, parameter.tolist())
    state = optimizer.state[parameter]
    print(dtype, "exp_avg", state["exp_avg"].tolist(), "exp_avg_sq", state["exp_avg_sq"].tolist())

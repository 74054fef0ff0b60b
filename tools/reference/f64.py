# SPDX-License-Identifier: MIT
"""diffusers schedulers in float64: their modules see torch and numpy with float32 -> float64."""

import importlib

import numpy as np
import torch


class _Proxy:
    def __init__(self, mod, wide):
        self._mod, self.float32 = mod, wide

    def __getattr__(self, name):
        return getattr(self._mod, name)


def scheduler_module(name):
    mod = importlib.import_module("diffusers.schedulers.scheduling_" + name)
    mod.torch = _Proxy(torch, torch.float64)
    if hasattr(mod, "np"):
        mod.np = _Proxy(np, np.float64)
    return mod

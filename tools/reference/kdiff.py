# SPDX-License-Identifier: MIT
"""Import k_diffusion/sampling.py alone: its package pulls in training code we do not need."""

import importlib
import importlib.util
import sys
import types

STUBS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def _module(name):
    full = "k_diffusion." + name
    if full in sys.modules:
        return sys.modules[full]
    if "k_diffusion" not in sys.modules:
        pkg = types.ModuleType("k_diffusion")
        pkg.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
        sys.modules["k_diffusion"] = pkg
    added = [s for s in STUBS if s not in sys.modules]
    for s in added:
        sys.modules[s] = types.ModuleType(s)
    sys.modules[STUBS[1]].functional = sys.modules[STUBS[2]]
    try:
        return importlib.import_module(full)
    finally:
        for s in added:
            del sys.modules[s]


def load():
    return _module("sampling")


def external():
    return _module("external")

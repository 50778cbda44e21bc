"""Compile the C++ beside this file for this very processor and load it.

It takes a few seconds once for each source, compiler and processor; the result is kept in the user's cache. Without a
compiler the decoder computes the same with torch's own operations, more slowly, and says so once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# Sums may be reordered into vectors (what -fassociative-math allows, with the two it needs); infinities and NaN keep
# their meaning, and no floating-point mode of the process is touched, as -ffast-math would.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]


def available() -> bool:
    """Whether the fused passes can be used here; the first call may compile them."""
    return library() is not None


def has(name: str) -> bool:
    """Whether a pass that only some processors have is one of this one's."""
    return getattr(library(), name, None) is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled passes, or None (with one warning) where they cannot be had."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        warnings.warn(
            "no C++ compiler (g++) was found: training on the processor will be about half as fast", stacklevel=2
        )
        return None
    try:
        path = _cache_directory() / f"passes-{_fingerprint(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return _declare(ctypes.CDLL(str(path)))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        warnings.warn(
            f"{compiler} could not build the fused passes ({reason[-1] if reason else 'no reason given'}): "
            "training on the processor will be about half as fast",
            stacklevel=2,
        )
        return None


# Arguments of each pass: p a pointer, i a 64-bit integer, f a float. ctypes would cut integers to 32 bits unasked.
SIGNATURES = {
    "rms_norm": "ppppiif",
    "rms_norm_backward": "ppppppii",
    "few_rows": "pppiii",
    "swiglu": "pppii",
    "swiglu_backward": "ppppppii",
    "route": "pppppiiiiiiif",
    "route_backward": "pppppiiiiif",
    "balance": "ppppppppiiii",
    "balance_backward": "ppppfpii",
    "sort_by_expert": "ppppppiiii",
    "gather_sum": "pppiii",
    "add_gradient": "pifpiii",
    "pack_heads": "piiiiiippipiiiii",
    "unpack_heads_bf16": "piipiiiiiippiiii",
    "unpack_heads_fp32": "piipiiiiiippiiii",
    "causal_softmax": "ppipiiiiiif",
    "causal_softmax_backward": "ppppipiiiiiif",
    "pack_slopes": "ppppiiii",
    "place_values": "ppiiiii",
    "accumulate": "pipiii",
    "cross_entropy": "pppiii",
    "attention": "ppppppiiiiif",
    "attention_backward": "ppppppppppiiiiif",
    "experts": "pppppppppiii",
    "experts_backward": "ppppppppppppppiii",
}
# Only on processors with bf16 dot products and no tiles (AMX), where large products are the faster way.
SOMETIMES = ("attention", "attention_backward", "experts", "experts_backward")


def _declare(passes: ctypes.CDLL) -> ctypes.CDLL:
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}
    for name, signature in SIGNATURES.items():
        if name in SOMETIMES and not hasattr(passes, name):
            continue
        function = getattr(passes, name)
        function.argtypes = [kinds[kind] for kind in signature]
        function.restype = None
    return passes


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fathom"


def _fingerprint(compiler: str) -> str:
    """Of everything that decides the machine code: a home may be shared by machines with other processors."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    cpuinfo = Path("/proc/cpuinfo")
    features = (
        next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
        if cpuinfo.exists()
        else ""
    )
    parts = (
        *(file.read_bytes() for file in (*SOURCES, *HEADERS)),
        " ".join(FLAGS).encode(),
        version.encode(),
        platform.machine().encode(),
        features.encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    """Into a file of its own first: another process may be compiling the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "passes.so"
        sources = [str(source) for source in SOURCES]
        subprocess.run([compiler, *FLAGS, *sources, "-o", str(built)], check=True, capture_output=True, text=True)
        built.replace(path)

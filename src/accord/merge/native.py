"""The compiled `kernel`: made once by numba, kept as machine code, loaded in a tenth of a second.

Unusual: importing numba takes longer than merging a small model, so it is imported only where no
compiled kernel is found for this processor and these versions. What is kept is the object file; it
refers to nothing outside itself, and llvmlite puts it into memory. Before it is trusted it has to
give the bytes of the numpy version (`blend`).
"""

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import RunError
from accord.merge import blend as plain
from accord.merge.blend import AS_DELTA, BF16, BLOCK, F16, F32, Blend, Bytes, Piece, Rows, Span
from accord.merge.masks import LEVELS

Kernel = Callable[[Blend, Sequence[int]], Piece]


@cache
def fastest() -> tuple[Kernel, str]:
    """A merge kernel for this machine, and a note if it is not the compiled one, else ""."""
    try:
        compiled = Compiled(*_load())
        _compare(compiled)
    except ImportError:
        note = "numba is not installed: the merge runs in numpy, slower; install accord[merge]"
        return plain.piece_of, note
    except (OSError, RuntimeError, AttributeError, TypeError, RunError) as error:
        line = str(error).strip().split("\n", 1)[0][:200]
        return plain.piece_of, f"the merge runs in numpy, slower: no compiled kernel ({line})"
    return compiled, ""


class Compiled:
    """`blend.piece_of`, compiled."""

    def __init__(self, engine: Any, address: int) -> None:
        self.engine = engine  # the code lives as long as it
        p, n = ctypes.c_void_p, ctypes.c_int64
        # numba's calling convention: where a result and an exception would go, then the arguments.
        arguments = [p, p, p, p, n, p, p, p, n, n, n, n, *[p] * 11]
        self.call = ctypes.CFUNCTYPE(ctypes.c_int32, *arguments)(address)  # frees the GIL

    def __call__(self, blend: Blend, keys: Sequence[int]) -> Piece:
        """`blend.piece_of`, of one tensor."""
        if blend.ranked:  # sorts; numpy is as good at that
            return plain.piece_of(blend, keys)
        models = len(blend.weights)
        spans = blend.spans or (Span(),) * models
        tables: list[NDArray[Any]] = [
            np.array(keys, np.uint64),
            np.array(blend.levels, np.int64),
            np.array([*blend.factors, *blend.weights], np.float32),
            np.array([*(s.low for s in spans), *(s.high for s in spans)], np.uint32),
            np.array([*(s.low_level for s in spans), *(s.high_level for s in spans)], np.int64),
            np.array([blend.spans is not None, blend.choice, blend.normalize], np.int64),
        ]
        scratch = np.empty(7 * BLOCK, np.float32)

        def piece(rows: Rows, out: Bytes, out_code: int, largest: float) -> NDArray[np.int64]:
            assert rows.start % 4 == 0 and isinstance(rows.data, np.ndarray)
            room, places = scratch.ctypes.data, [table.ctypes.data for table in tables]
            found = np.zeros(models + 2, np.int64)
            codes = np.array(rows.codes, np.int64)
            numbers = np.array([blend.divisor, blend.scale, blend.shift, largest], np.float32)
            data, to = rows.data.ctypes.data, out.ctypes.data
            result, exception = ctypes.c_int64(), ctypes.c_void_p()
            status = self.call(
                ctypes.addressof(result), ctypes.addressof(exception), data, data,
                rows.data.strides[0], codes.ctypes.data, to, to, out_code, rows.count, rows.start,
                models, *places, numbers.ctypes.data, room, room, room, found.ctypes.data,
            )  # fmt: skip
            if status:
                raise RunError(f"the compiled merge kernel ended with status {status}")
            return found

        return piece


def _load() -> tuple[Any, int]:
    """The kernel's engine and address, compiled if it is not there yet. Raises ImportError."""
    import llvmlite.binding as llvm

    path = _folder() / f"{_fingerprint(llvm)}.o"
    machine_code = _kept(path)
    if machine_code is None:
        machine_code = _compile()
        _keep(path, machine_code)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    name, _, code = machine_code.partition(b"\n")
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = int(engine.get_function_address(name.decode()))
    if not address:
        raise RunError(f"{path}: holds no kernel")
    return engine, address


def _compile() -> bytes:
    """The kernel's name, a line feed, and its object file."""
    import numba
    from numba.core import compiler, registry

    from accord.merge.kernel import SIGNATURE, blend

    flags: Any = compiler.Flags()  # type: ignore[no-untyped-call]
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    target = registry.cpu_target
    contexts = target.typing_context, target.target_context
    try:
        make: Any = compiler.compile_extra
        made = make(*contexts, blend, SIGNATURE, numba.types.void, flags, {})
    except numba.core.errors.NumbaError as error:
        raise RunError(f"numba: {error}") from error
    code: bytes = made.library._get_compiled_object()
    name: str = made.fndesc.mangled_name
    return name.encode() + b"\n" + code


def _fingerprint(llvm: Any) -> str:
    """Of all that the machine code depends on."""
    files = ("kernel.py", "blend.py", "native.py")
    source = [Path(__file__).with_name(name).read_bytes() for name in files]
    try:
        made_by = f"numba {version('numba')} llvmlite {version('llvmlite')}"
    except PackageNotFoundError as error:
        raise ImportError(str(error)) from None
    machine = f"{platform.machine()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features()}"
    text = b"\0".join([*source, made_by.encode(), machine.encode(), platform.system().encode()])
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "accord" / "kernels"


def _kept(path: Path) -> bytes | None:
    """What `_keep` wrote, if it is whole: LLVM ends the process that gives it anything else."""
    try:
        digest, content = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return content if digest == _digest(content) else None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def _keep(path: Path, content: bytes) -> None:
    """A digest, a line feed, the content; written aside and renamed, if the folder lets itself."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(_digest(content) + b"\n" + content)
        aside.replace(path)
    except OSError:
        return  # it is compiled anew each time


def _compare(compiled: Compiled) -> None:
    """Raises RunError unless the kernel gives the bytes of the numpy version."""
    rng = np.random.default_rng(0)
    count, start, keys = 1500, 8, (7, 2**63 + 5)
    values = (rng.standard_normal((3, count)) * 3).astype(np.float32)
    for codes, elect, out_code in (
        ((BF16, BF16, BF16), "unweighted", BF16),
        ((F16, F32, F16), "weighted", F16),
        ((F32, BF16, AS_DELTA), "none", F32),
    ):
        data = np.zeros((3, 4 * count), np.uint8)
        for row, code in enumerate(codes):
            plain.narrow(values[row].copy(), F32 if code == AS_DELTA else code, data[row])
        blend = Blend(
            (0.7, 0.4), (40000, LEVELS), (1.6, 1.0), (Span(0x3D000000), Span()),
            elect=elect, normalize=True, scale=0.9, shift=0.1,  # type: ignore[arg-type]
        )  # fmt: skip
        results = []
        for kernel in (compiled, plain.piece_of):
            out = np.zeros(4 * count, np.uint8)
            found = kernel(blend, keys)(Rows(data, codes, start, count), out, out_code, 3e4)
            results.append((out.tobytes(), found.tolist()))
        if results[0] != results[1]:
            raise RunError("the compiled kernel differs from numpy")

import os
import subprocess
import sys
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accord.merge import native
from accord.merge.blend import AS_DELTA, BF16, F16, F32, Blend, Ranked, Rows, Span, narrow, piece_of
from accord.merge.blend import widen as widened
from accord.merge.headers import LARGEST
from accord.merge.masks import LEVELS

LARGEST_OF = {F32: LARGEST["F32"], F16: LARGEST["F16"], BF16: LARGEST["BF16"]}
TINY = [0.0, 1e-45, 1.1e-38, 2.98e-8, 6e-8, 6.1e-5, 1e-8, 1.0]
HUGE = [65504, 65519.996, 65520, 1e30, 3.4028235e38, np.inf, np.nan]
SPECIAL = np.float32([*TINY, *HUGE, *np.negative(TINY), *np.negative(HUGE)])


@pytest.fixture(scope="module")
def compiled():
    kernel, note = native.fastest()
    assert note == ""
    return kernel


def stored(values, code):
    """float32 as a row of a piece: rounded to 16 bits by numpy and ml_dtypes."""
    kind = {F16: np.float16, BF16: ml_dtypes.bfloat16}.get(code, np.float32)
    with np.errstate(all="ignore"):
        return values.astype(kind).view(np.uint8)


def rows_of(rng, codes, start, count, odd):
    """Random rows, `odd` of their elements special; unlike rows are not all of them."""
    data = rng.integers(0, 256, (len(codes), 4 * count + 8), np.uint8)
    for row, code in enumerate(codes):
        values = (rng.standard_normal(count) * 10.0 ** rng.integers(-6, 4)).astype(np.float32)
        chosen = rng.random(count) < odd
        values[chosen] = rng.choice(SPECIAL, chosen.sum())
        packed = stored(values, code)
        data[row, : len(packed)] = packed
    return Rows(data, codes, start, count)


def outcome(kernel, blend, keys, rows, out_code):
    out = np.zeros(4 * rows.count, np.uint8)
    found = kernel(blend, keys)(rows, out, out_code, LARGEST_OF[out_code])
    return out.tobytes(), found.tolist()


def spans(size):
    bits = st.one_of(st.integers(0, 0x7FFFFFFF), st.floats(0, 9, width=32).map(as_bits))
    level = st.integers(0, LEVELS)
    one = st.builds(lambda a, b, c, d: Span(min(a, b), max(a, b), c, d), bits, bits, level, level)
    return st.none() | st.lists(one, min_size=size, max_size=size).map(tuple)


def as_bits(value):
    return int(np.float32(value).view(np.uint32))


NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.3, -0.7, 1e-9, 1e-50, 1e30, 2.5]) | st.floats(
    -3, 3, width=32
)


@st.composite
def blends(draw):
    models = draw(st.integers(1, 5))

    def each(one):
        return tuple(draw(st.lists(one, min_size=models, max_size=models)))

    return Blend(
        each(NUMBERS),
        each(st.sampled_from([1, LEVELS - 1, LEVELS]) | st.integers(1, LEVELS)),
        each(NUMBERS),
        draw(spans(models)),
        elect=draw(st.sampled_from(["none", "unweighted", "weighted"])),
        normalize=draw(st.booleans()),
        scale=draw(NUMBERS),
        shift=draw(NUMBERS),
    )


COUNTS = st.sampled_from([1, 2, 3, 5, 1023, 1024, 1025, 2048, 4999]) | st.integers(1, 5000)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    blends(),
    st.lists(st.sampled_from([F32, F16, BF16, AS_DELTA]), min_size=5, max_size=5),
    st.sampled_from([F32, F16, BF16]),
    st.sampled_from([F32, F16, BF16]),
    COUNTS,
    st.integers(0, 2**40).map(lambda n: 4 * n),
    st.sampled_from([0.0, 0.02, 0.9]),
    st.integers(0, 2**64 - 1),
)
def test_the_compiled_kernel_gives_the_bytes_of_numpy(
    compiled, blend, codes, base, out_code, count, start, odd, seed
):
    rng = np.random.default_rng(seed)
    models = len(blend.weights)
    rows = rows_of(rng, (base, *codes[:models]), start, count, odd)
    keys = tuple(rng.integers(0, 2**64, models, np.uint64).tolist())
    mine = outcome(compiled, blend, keys, rows, out_code)
    assert mine == outcome(piece_of, blend, keys, rows, out_code)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(blends(), st.integers(0, 2**32), st.integers(1, 700))
def test_a_piece_does_not_depend_on_how_it_is_cut(compiled, blend, seed, cut):
    rng = np.random.default_rng(seed)
    models, cut = len(blend.weights), 4 * cut
    rows = rows_of(rng, (F32,) * (models + 1), 8, 3001, 0.01)
    keys = tuple(range(models))
    whole, found = outcome(compiled, blend, keys, rows, F32)
    first = Rows(rows.data, rows.codes, 8, min(cut, 3001))
    parts = [outcome(compiled, blend, keys, first, F32)]
    if cut < 3001:
        rest = np.ascontiguousarray(rows.data[:, 4 * cut :])
        last = Rows(rest, rows.codes, 8 + cut, 3001 - cut)
        parts.append(outcome(compiled, blend, keys, last, F32))
    assert b"".join(out for out, _ in parts) == whole
    assert np.sum([counts for _, counts in parts], axis=0).tolist() == found


def test_a_blend_by_rank_is_that_of_numpy(compiled):
    blend = Blend((0.5,), (LEVELS,), (1.0,), ranked=Ranked((0.5,), (0.2,), 10))
    rows = rows_of(np.random.default_rng(0), (BF16, F32), 0, 200, 0)
    assert outcome(compiled, blend, (3,), rows, F16) == outcome(piece_of, blend, (3,), rows, F16)


KEEP = Blend((0.0,), (LEVELS,), (1.0,))  # the base, rounded


def rounded(kernel, values, code):
    """What a kernel makes of base values."""
    data = np.zeros((2, 4 * len(values)), np.uint8)
    data[0] = values.astype(np.float32).view(np.uint8)
    out = np.zeros(4 * len(values), np.uint8)
    kernel(KEEP, (0,))(Rows(data, (F32, AS_DELTA), 0, len(values)), out, code, 1.0)
    return out[: 2 * len(values)].view(np.uint16)


def by_reference(values, code):
    """Bits of 16, one NaN for all."""
    kind = {F16: np.float16, BF16: ml_dtypes.bfloat16}[code]
    with np.errstate(all="ignore"):
        bits = values.astype(kind).view(np.uint16).copy()
    bits[np.isnan(values)] = {F16: 0x7E00, BF16: 0x7FC0}[code]
    return bits


@pytest.mark.parametrize("code", [F16, BF16])
def test_all_patterns_of_16_bits_are_read_right_and_come_back(compiled, code):
    patterns = np.arange(65536, dtype=np.uint16)
    kind = {F16: np.float16, BF16: ml_dtypes.bfloat16}[code]
    wanted = patterns.view(kind).astype(np.float32)
    assert np.array_equal(widened(patterns.view(np.uint8), code, 65536), wanted, equal_nan=True)
    data = np.zeros((2, 4 * 65536), np.uint8)
    data[0, : 2 * 65536] = patterns.view(np.uint8)
    for kernel in (compiled, piece_of):
        for out_code in (F32, code):
            out = np.zeros(4 * 65536, np.uint8)
            rows = Rows(data, (code, AS_DELTA), 0, 65536)
            found = kernel(KEEP, (0,))(rows, out, out_code, LARGEST_OF[F32])
            assert found[0] == np.count_nonzero(~np.isfinite(wanted))
            if out_code == F32:
                bits = wanted.view(np.uint32).copy()
                bits[np.isnan(wanted)] = 0x7FC00000
                assert np.array_equal(out.view(np.uint32), bits)
            else:
                assert np.array_equal(out[: 2 * 65536].view(np.uint16), by_reference(wanted, code))


@pytest.mark.parametrize("code", [F16, BF16])
def test_rounding_is_that_of_numpy_and_ml_dtypes(compiled, code):
    rng = np.random.default_rng(0)
    patterns = np.arange(65536, dtype=np.uint32)
    near = [(patterns << 16) + shift for shift in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    # Midpoints of float16, and their neighbours.
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = ((halves[1:] + halves[:-1]) / 2).view(np.uint32)
    near += [middle - 1, middle, middle + 1, rng.integers(0, 2**32, 200_000)]
    values = np.concatenate(near).astype(np.uint32).view(np.float32)
    wanted = by_reference(values, code)
    assert np.array_equal(rounded(compiled, values, code), wanted)
    assert np.array_equal(rounded(piece_of, values, code), wanted)
    out = np.zeros(2 * len(values), np.uint8)
    with np.errstate(all="ignore"):
        narrow(values.copy(), code, out)
    assert np.array_equal(out.view(np.uint16), wanted)


@pytest.mark.parametrize("kernel", ["compiled", "numpy"])
def test_a_sum_that_is_no_number_counts_as_too_large(compiled, kernel):
    """Infinity less infinity, of inputs that are all finite."""
    chosen = compiled if kernel == "compiled" else piece_of
    data = np.array([[0, 0], [3e38, 1], [3e38, 1]], np.float32).view(np.uint8)
    blend = Blend((2.0, -2.0), (LEVELS,) * 2, (1.0,) * 2)
    out = np.zeros(8, np.uint8)
    found = chosen(blend, (0, 1))(Rows(data, (F32,) * 3, 0, 2), out, F32, LARGEST["F32"])
    assert np.isnan(out.view(np.float32)).tolist() == [True, False]
    assert found.tolist() == [0, 0, 0, 1]


@example(0x7F800001)
@example(0xFFC12345)
@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_a_base_in_float32_stays_but_for_its_nan(compiled, bits):
    data = np.zeros((2, 4), np.uint8)
    data[0] = np.array([bits], np.uint32).view(np.uint8)
    out = np.zeros(4, np.uint8)
    compiled(replace(KEEP, scale=0.0), (0,))(Rows(data, (F32, AS_DELTA), 0, 1), out, F32, 1.0)
    wanted = 0x7FC00000 if bits & 0x7FFFFFFF > 0x7F800000 else bits
    assert out.view(np.uint32)[0] == wanted


def fresh(code, **environment):
    """Python with its own cache of kernels; what it prints of `fastest`."""
    start = "from accord.merge import native\n"
    end = "kernel, note = native.fastest(); print(type(kernel).__name__, note)"
    done = subprocess.run(
        [sys.executable, "-c", start + code + end],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("missing", ["numba", "llvmlite"])
def test_without_numba_the_merge_runs_in_numpy_and_says_so(missing, tmp_path):
    said = fresh(
        f"import sys; sys.modules['{missing}'] = None\n", XDG_CACHE_HOME=str(tmp_path / "none")
    )
    assert said.startswith("function numba is not installed: the merge runs in numpy")
    assert "install accord[merge]" in said
    assert not (tmp_path / "none").exists()


def kept_kernel():
    native.fastest()
    (path,) = [p for p in native._folder().glob("*.o") if native._kept(p) and newest(p)]
    return path


def newest(path):
    import llvmlite.binding as llvm

    return path.stem == native._fingerprint(llvm)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped", "no digest"])
def test_a_damaged_compiled_kernel_is_made_again(damage, tmp_path):
    path = kept_kernel()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 :: 7] = bytes(b ^ 0xFF for b in flipped[len(whole) // 2 :: 7])
    broken = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "garbage": b"garbage\n" * 99,
        "flipped": bytes(flipped),
        "no digest": whole.split(b"\n", 1)[1],
    }[damage]
    folder = tmp_path / "accord" / "kernels"
    folder.mkdir(parents=True)
    (folder / path.name).write_bytes(broken)
    # Compiling takes seconds: what it would give is handed in.
    code = f"native._compile = lambda: native._kept(native.Path({str(path)!r}))\n"
    assert fresh(code, XDG_CACHE_HOME=str(tmp_path)) == "Compiled"
    assert (folder / path.name).read_bytes() == whole


def test_a_kernel_is_compiled_where_none_is_kept_and_the_folder_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert fresh("", XDG_CACHE_HOME=str(tmp_path / "file")) == "Compiled"
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_kernel_that_differs_is_not_trusted(monkeypatch):
    compiled = native.Compiled(*native._load())
    monkeypatch.setattr(native.plain, "piece_of", lambda *a: lambda *b: np.zeros(4, np.int64))
    with pytest.raises(native.RunError, match="differs from numpy"):
        native._compare(compiled)

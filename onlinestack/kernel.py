"""The only door to numba: one float policy, one cache, one table of kernels and their twins.

A *kernel* is a compiled function; its *twin* is the same function in plain Python, which states
what the kernel means. With the environment variable ``ONLINESTACK_TWINS=1`` every kernel is
replaced by its twin, so a whole run can be repeated without compiled code and must score the
same, bit for bit.

Notes
-----
No ``fastmath``: it reorders sums and may drop tests for NaN, and replays would differ. Losses and
update rules are chosen by integer codes inside one kernel, never passed as functions: a function
argument compiles anew in every process and never hits the cache.

Compiled code is kept in the user's cache folder, in a folder whose name hashes the source of all
kernels. numba's own cache looks at one file only and goes stale when a callee, or the order of a
tuple's fields, changes in another.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "KERNELS",
    "TWINS",
    "Kernel",
    "array_at",
    "bound",
    "cache_folder",
    "exp32",
    "expm132",
    "kernel",
    "log1p32",
    "log32",
    "pow32",
    "prefetch",
    "strtof",
    "touch",
]

F = TypeVar("F", bound=Callable[..., Any])

TWINS: bool = os.environ.get("ONLINESTACK_TWINS", "") == "1"
"""Whether every kernel of this process is its plain twin."""

_PACKAGE = Path(__file__).parent


class Kernel(NamedTuple):
    """A compiled function beside the plain function that states its meaning."""

    compiled: Callable[..., Any]
    twin: Callable[..., Any]


KERNELS: dict[str, Kernel] = {}
"""Every kernel of the modules imported so far, by ``module.function``; the tests walk it."""


def kernel(twin: Callable[..., Any] | None = None, *, allocates: bool = False) -> Callable[[F], F]:
    """Compile a function under the project's one policy and register it with its twin.

    Use it on every function that must be fast; nothing else in the package may import numba.
    Kernels are given all the memory they need. One that must make arrays says so, and pays with
    reference counting: about 10 ns for each array of each call from kernel to kernel.

    Parameters
    ----------
    twin
        The plain function with the same signature and meaning. Left out when the function, run
        as plain Python over numpy scalars, is already the plainest statement of itself.

    Returns
    -------
    The compiled function, or its twin when ``ONLINESTACK_TWINS=1``.
    """

    def wrap(function: F) -> F:
        plain = _quiet(twin if twin is not None else function)
        compiled = _compile(function, allocates)
        KERNELS[f"{function.__module__}.{function.__qualname__}"] = Kernel(compiled, plain)
        return plain if TWINS else compiled  # type: ignore[return-value]

    return wrap


def bound(
    function: Callable[..., Any], *arguments: Any, more: tuple[Any, ...] = ()
) -> Callable[..., Any]:
    """Return a call of a kernel with the same arguments each time, array objects among them.

    Finding out the types of arguments takes longer than a kernel takes for a single record; here
    that is done once. Use it where arrays are filled anew for each record.

    Parameters
    ----------
    function
        A kernel, or its twin.
    arguments
        Its first arguments.
    more
        Examples of the rest, which each call gives and which are of these types each time.

    Examples
    --------
    >>> exponential = bound(exp32, more=(np.float32(0),))
    >>> bool(exponential(np.float32(1)) == exp32(np.float32(1)))
    True
    """
    if hasattr(function, "typeof_pyval"):
        types_ = tuple(function.typeof_pyval(argument) for argument in (*arguments, *more))
        function = function.compile(types_)  # type: ignore[attr-defined]
    return functools.partial(function, *arguments)


_C = ctypes.CDLL(None)
"""The C library and its maths, which the interpreter itself is linked to."""
_STRTOF = _C.strtof
_STRTOF.restype = ctypes.c_float


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give plain float32 arithmetic the silent overflow and NaN that compiled code has."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return run


@functools.cache
def _stamp(package: Path = _PACKAGE) -> str:
    """Return the digest of the modules with kernels, or with tuples or constants they name."""
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if b"onlinestack.kernel" in text or b"NamedTuple" in text or path.stem == "block":
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + text)
    return digest.hexdigest()


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder that keeps compiled kernels, or None when none can be written.

    ``ONLINESTACK_CACHE`` names it; the default is ``onlinestack`` in the user's cache folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(os.environ.get("ONLINESTACK_CACHE") or os.path.join(home, "onlinestack"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def compiled_before(module: str) -> bool:
    """Tell whether kernels of a module (by its last name) are in the cache already."""
    folder = cache_folder()
    if TWINS or folder is None:
        return TWINS
    return any((folder / _stamp()).glob(f"{module}.*"))


if TWINS:

    def _compile(function: Any, allocates: bool) -> Any:
        return _quiet(function)

    def array_at(address: Any, count: Any, dtype: Any) -> Any:
        """Return ``count`` items of ``dtype`` that lie at a memory address, without copying."""
        size = int(count) * np.dtype(dtype).itemsize
        if size == 0:
            return np.empty(0, dtype)
        return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype)

    def prefetch(array: Any, position: Any) -> None:
        """Ask the processor to fetch ``array[position]``; without effect on any result."""

    def touch(array: Any, position: Any) -> None:
        """Write to ``array[position]``, 32 bits of integer, what is there, whoever else does."""

    def strtof(address: Any) -> Any:
        """Read the number at a memory address as the C library does: ``(float32, end address)``."""
        end = ctypes.c_char_p()
        value = _STRTOF(ctypes.c_void_p(int(address)), ctypes.byref(end))
        return np.float32(value), ctypes.cast(end, ctypes.c_void_p).value

else:
    import numba
    from llvmlite import ir
    from numba.core import caching, cgutils, codegen, compiler, registry, types
    from numba.extending import intrinsic
    from numba.np import arrayobj

    class _Locator(caching._CacheLocator):
        def __init__(self, py_func: Any, py_file: str) -> None:
            self._stamp = _stamp()
            if _PACKAGE not in Path(py_file).parents:
                self._stamp += hashlib.blake2b(Path(py_file).read_bytes()).hexdigest()[:8]
            self._line = py_func.__code__.co_firstlineno
            self._folder = str((cache_folder() or Path(os.devnull)) / _stamp())

        def get_cache_path(self) -> str:
            return self._folder

        def get_source_stamp(self) -> str:
            return self._stamp

        def get_disambiguator(self) -> str:
            return str(self._line)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> _Locator:
            return cls(py_func, py_file)

    class _CacheImpl(caching.CompileResultCacheImpl):
        _locator_classes = (_Locator,)

    class _Cache(caching.FunctionCache):
        _impl_class = _CacheImpl

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            # numba's own first gets ready to compile, which takes 0.2 s and nothing loaded needs.
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)

    class _PartLibrary(codegen.JITCodeLibrary):
        """Code that is optimised to be linked into other code, and never run by itself."""

        def _finalize_final_module(self) -> None:
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            return 0

        @property
        def codegen(self) -> Any:
            return self

        def set_env(self, name: str, env: Any) -> None:
            """Do nothing: what is never run needs no surroundings."""

    class _PartCompiler(compiler.Compiler):
        def __init__(self, typing: Any, target: Any, library: Any, *rest: Any) -> None:
            super().__init__(typing, target, _PartLibrary(target.codegen(), "part"), *rest)

    class _Part(registry.CPUDispatcher):
        """A kernel as other kernels call it; constants and variables of a type share one."""

        def get_call_template(self, args: Any, kws: Any) -> Any:
            return super().get_call_template([types.unliteral(arg) for arg in args], kws)

    class _Whole(registry.CPUDispatcher):
        """A kernel as Python calls it.

        Other kernels get the same function without machine code and the way in from Python of
        its own: that takes a third of all time to compile, and most kernels are never called but
        by kernels.
        """

        _cache: Any

        @functools.cached_property
        def part(self) -> Any:
            options = {**self.targetoptions, "no_cpython_wrapper": True}
            return _Part(self.py_func, targetoptions=options, pipeline_class=_PartCompiler)

        @property
        def _numba_type_(self) -> Any:
            return types.Dispatcher(self.part)

        def compile(self, sig: Any) -> Any:
            if isinstance(self._cache, caching.NullCache) and cache_folder() is not None:
                self._cache = _Cache(self.py_func)
            return super().compile(sig)

    def _compile(function: Any, allocates: bool) -> Any:
        options = {"nopython": True, "nogil": True, "error_model": "numpy", "_nrt": allocates}
        return _Whole(function, targetoptions={**options, "no_cfunc_wrapper": True})

    @intrinsic
    def array_at(typingctx: Any, address: Any, count: Any, dtype: Any) -> Any:
        """Return ``count`` items of ``dtype`` that lie at a memory address, without copying."""
        kind = types.Array(dtype.dtype, 1, "C")

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(kind)(context, builder)
            item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
            arrayobj.populate_array(
                array,
                data=builder.inttoptr(arguments[0], array.data.type),
                shape=[arguments[1]],
                strides=[context.get_constant(types.intp, item)],
                itemsize=context.get_constant(types.intp, item),
                meminfo=None,
            )
            return array._getvalue()

        return kind(types.int64, types.int64, dtype), codegen

    @intrinsic
    def prefetch(typingctx: Any, array: Any, position: Any) -> Any:
        """Ask the processor to fetch ``array[position]``; without effect on any result."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            place = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
            i32 = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, i32, i32, i32])
            name = "llvm.prefetch.p0i8" if not place.type.is_opaque else "llvm.prefetch.p0"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [place, i32(1), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    @intrinsic
    def touch(typingctx: Any, array: Any, position: Any) -> Any:
        """Write to ``array[position]``, 32 bits of integer, what is there, whoever else does."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            zero = ir.IntType(32)(0)
            # The processor writes even where it compares and finds nothing to exchange.
            builder.cmpxchg(builder.gep(data, [arguments[1]]), zero, zero, "monotonic", "monotonic")
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    @intrinsic
    def _strtof(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bytes_ = cgutils.voidptr_t
            kind = ir.FunctionType(ir.FloatType(), [bytes_, bytes_.as_pointer()])
            function = cgutils.get_or_insert_function(builder.module, kind, "strtof")
            end = cgutils.alloca_once(builder, bytes_)
            value = builder.call(function, [builder.inttoptr(arguments[0], bytes_), end])
            behind = builder.ptrtoint(builder.load(end), ir.IntType(64))
            return context.make_tuple(builder, signature.return_type, [value, behind])

        return types.Tuple((types.float32, types.int64))(types.int64), codegen

    @numba.njit(nogil=True, error_model="numpy")
    def strtof(address: Any) -> Any:
        """Read the number at a memory address as the C library does: ``(float32, end address)``."""
        return _strtof(np.int64(address))


def _libm(name: str, operands: int = 1) -> Callable[..., Any]:
    """Return a float32 function of the C library as a function of numpy scalars."""
    function = getattr(_C, name)
    function.restype = ctypes.c_float
    function.argtypes = [ctypes.c_float] * operands
    return lambda *x: np.float32(function(*(float(v) for v in x)))


@kernel(_libm("expf"))
def exp32(x: Any) -> Any:
    """Return e to the power x, float32 as in the C library."""
    return np.exp(np.float32(x))


@kernel(_libm("logf"))
def log32(x: Any) -> Any:
    """Return the natural logarithm of x, float32 as in the C library."""
    return np.log(np.float32(x))


@kernel(_libm("expm1f"))
def expm132(x: Any) -> Any:
    """Return e to the power x, less one, float32 as in the C library."""
    return np.expm1(np.float32(x))


@kernel(_libm("log1pf"))
def log1p32(x: Any) -> Any:
    """Return the natural logarithm of 1 + x, float32 as in the C library."""
    return np.log1p(np.float32(x))


@kernel(_libm("powf", 2))
def pow32(x: Any, y: Any) -> Any:
    """Return x to the power y, float32 as in the C library."""
    return np.float32(x) ** np.float32(y)

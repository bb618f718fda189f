"""Programs for the kernel, by bpf(2)."""

import ctypes
import platform
import struct
import sys

from driver.errors import KernelError
from driver.kernel.rawsocket import words

NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361}  # of the system call bpf
PROG_LOAD, SCHED_CLS = 5, 3
LOAD = struct.Struct("=IIQQIIQII16sII")  # union bpf_attr, as far as BPF_PROG_LOAD needs it
LOG = 1 << 16  # bytes for what the kernel's verifier says
MOST_SAID = 4  # lines of it that are told
INSTRUCTION_SIZE = 8  # bytes
LICENSE = b"GPL"  # of the few instructions that are loaded: some helpers are for such programs alone


def load(code: bytes, name: str) -> int:
    """A classifier, as an open file: the caller closes it. KernelError where the kernel takes none like it."""
    file, error, _ = _load(code, name, 0)
    if file < 0:
        _, _, said = _load(code, name, LOG)  # what it says of a good program may not fit, and then it refuses that
        raise KernelError(_explained(error, said))
    return file


def _load(code: bytes, name: str, room: int) -> tuple[int, int, str]:
    """The file, or a negative number and an errno; and with room for it, what the verifier says."""
    text, licence = (ctypes.create_string_buffer(value, len(value) + 1) for value in (code, LICENSE))
    said = ctypes.create_string_buffer(room + 1)
    where, instructions = ctypes.addressof, len(code) // INSTRUCTION_SIZE
    log = (1, room, where(said)) if room else (0, 0, 0)
    wanted = (SCHED_CLS, instructions, where(text), where(licence), *log, 0, 0, name.encode(), 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.syscall(number_of_call(), PROG_LOAD, ctypes.create_string_buffer(LOAD.pack(*wanted)), LOAD.size)
    return int(file), ctypes.get_errno(), said.value.decode(errors="replace")


def number_of_call() -> int:
    """That of bpf(2) on this machine. KernelError where it is not known."""
    number = NUMBERS.get(platform.machine())
    if number is None or sys.byteorder != "little":
        raise KernelError(f"there are no programs for kernels of {platform.machine()} machines")
    return number


def _explained(code: int, said: str) -> str:
    reason = " ".join(said.split("\n")[-MOST_SAID:]).strip()
    return f"loading a program: {words(code)}" + (f": {reason}" if reason else "")

"""eBPF, written down: instructions and labels become the bytes that the kernel loads.

Layout and numbers: Documentation/bpf/standardization/instruction-set.rst and linux/bpf.h, for little-endian machines.
Comparisons are of 32 bits, which is what registers hold here but for addresses of memory."""

import struct
from typing import NamedTuple

INSTRUCTION = struct.Struct("<BBhI")  # operation, registers, offset, number
BYTE, HALF, WORD, DOUBLE = 0x10, 0x08, 0x00, 0x18  # sizes in memory
EQUAL, UNEQUAL, ABOVE = 0x10, 0x50, 0x20  # comparisons, unsigned
LOAD, STORE, STORE_NUMBER = 0x61, 0x63, 0x62
ALWAYS, CALL, EXIT = 0x05, 0x85, 0x95
COPY, SET, ADD, AND32 = 0xBF, 0xB7, 0x07, 0x54
COMPARE32, COMPARE64 = 0x06, 0x05
BY_REGISTER = 0x08
R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)  # R0 is an answer, R1-R5 arguments, R10 the stack's top


class _Instruction(NamedTuple):
    operation: int
    to: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    target: str = ""  # a label, for a jump


class Code:
    def __init__(self) -> None:
        self._instructions: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def load(self, size: int, to: int, base: int, offset: int) -> None:
        self._instructions.append(_Instruction(LOAD | size, to, base, offset))

    def store(self, size: int, base: int, offset: int, value: int) -> None:
        """A register."""
        self._instructions.append(_Instruction(STORE | size, base, value, offset))

    def store_number(self, size: int, base: int, offset: int, number: int) -> None:
        self._instructions.append(_Instruction(STORE_NUMBER | size, base, 0, offset, number))

    def copy(self, to: int, source: int) -> None:
        self._instructions.append(_Instruction(COPY, to, source))

    def set(self, to: int, number: int) -> None:
        self._instructions.append(_Instruction(SET, to, number=number))

    def add(self, to: int, number: int) -> None:
        self._instructions.append(_Instruction(ADD, to, number=number))

    def mask(self, to: int, number: int) -> None:
        self._instructions.append(_Instruction(AND32, to, number=number))

    def jump(self, register: int, comparison: int, number: int, target: str) -> None:
        self._instructions.append(_Instruction(COMPARE32 | comparison, register, number=number, target=target))

    def jump_by(self, register: int, comparison: int, other: int, target: str) -> None:
        """Comparing two registers."""
        operation = COMPARE32 | BY_REGISTER | comparison
        self._instructions.append(_Instruction(operation, register, other, target=target))

    def jump_beyond(self, address: int, end: int, target: str) -> None:
        """Comparing two addresses of memory."""
        self._instructions.append(_Instruction(COMPARE64 | BY_REGISTER | ABOVE, address, end, target=target))

    def go(self, target: str) -> None:
        self._instructions.append(_Instruction(ALWAYS, target=target))

    def call(self, helper: int) -> None:
        self._instructions.append(_Instruction(CALL, number=helper))

    def exit(self) -> None:
        self._instructions.append(_Instruction(EXIT))

    def label(self, name: str) -> None:
        """Where jumps to `name` go."""
        self._labels[name] = len(self._instructions)

    def __bytes__(self) -> bytes:
        return b"".join(map(self._packed, range(len(self._instructions)), self._instructions))

    def _packed(self, at: int, each: _Instruction) -> bytes:
        offset = self._labels[each.target] - at - 1 if each.target else each.offset
        return INSTRUCTION.pack(each.operation, each.source << 4 | each.to, offset, each.number & 0xFFFFFFFF)

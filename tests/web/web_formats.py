"""Formats that the scripts are tested with, and for how many tokens."""

FORMATS = (
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "pi-q3",
    "pi-q2",
    "pi-t3",
    "pi-t2",
    "pi-x3",
    "pi-x2",
    "ternary",
    "pi-ternary",
)
GREEDY_TOKENS = 60

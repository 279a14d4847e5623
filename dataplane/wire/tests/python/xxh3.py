"""xxh3-64 with seed 0 and the default secret, for texts of 4 to 64 bytes: the ids of PROTOCOL.md, section 1.

A client never needs it, since WELCOME tells the ids; the checks do, to name a channel that they were not granted.
"""

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
)
_MASK = (1 << 64) - 1


def _u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def _fold(a, b):
    product = a * b
    return (product & _MASK) ^ (product >> 64)


def _rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & _MASK


def _avalanche(value):
    value &= _MASK
    value ^= value >> 37
    value = value * 0x165667919E3779F9 & _MASK
    return value ^ value >> 32


def _mix(data, at, secret_at):
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret_at), _u64(data, at + 8) ^ _u64(_SECRET, secret_at + 8))


def _short(data):
    """4 to 8 bytes."""
    size = len(data)
    first, last = int.from_bytes(data[:4], "little"), int.from_bytes(data[-4:], "little")
    value = (last + (first << 32)) ^ (_u64(_SECRET, 8) ^ _u64(_SECRET, 16))
    value ^= _rotate(value, 49) ^ _rotate(value, 24)
    value = value * 0x9FB21C651E98DF25 & _MASK
    value ^= (value >> 35) + size
    value = value * 0x9FB21C651E98DF25 & _MASK
    return value ^ value >> 28


def _middle(data):
    """9 to 16 bytes."""
    size = len(data)
    low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
    high = _u64(data, size - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
    return _avalanche(size + int.from_bytes(low.to_bytes(8, "little"), "big") + high + _fold(low, high))


def _long(data):
    """17 to 64 bytes: pairs of 16 bytes from both ends inwards."""
    size = len(data)
    total = size * 0x9E3779B185EBCA87
    for pair in range((size - 1) // 32 + 1):
        total += _mix(data, 16 * pair, 32 * pair) + _mix(data, size - 16 * (pair + 1), 32 * pair + 16)
    return _avalanche(total)


def xxh3_64(text):
    data = text.encode()
    if not 4 <= len(data) <= 64:
        raise ValueError(f"{len(data)} bytes: only 4 to 64 are done here")
    return _short(data) if len(data) <= 8 else _middle(data) if len(data) <= 16 else _long(data)

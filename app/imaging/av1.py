"""AV1 pictures: the size that their data claim (AV1 specification, version 1.0.0 with errata 1)."""

from collections.abc import Iterator

Size = tuple[int, int]

_MAX_UNITS = 64  # of a picture: encoders write 1 to 4
_SEQUENCE_HEADER = 1  # a kind of unit: 6.2.2
_SEQUENCE_BYTES = 128  # more than a sequence header takes up to the size


def claimed_sizes(units: memoryview) -> Iterator[Size]:
    """Width and height in each sequence header of a picture (5.3). Raises ValueError or IndexError if it is broken."""
    for _ in range(_MAX_UNITS):
        if not units:
            return
        kind, start, length = units[0] >> 3 & 15, 1 + (units[0] >> 2 & 1), len(units)
        if units[0] & 2:
            length = 0
            for shift in range(0, 56, 7):
                length |= (units[start] & 127) << shift
                start += 1
                if units[start - 1] < 128:
                    break
        if kind == _SEQUENCE_HEADER:
            yield _sequence_size(bytes(units[start : start + length][:_SEQUENCE_BYTES]))
        units = units[start + length :]
    raise ValueError("too many units")


def _sequence_size(header: bytes) -> Size:
    """The largest size of its frames (5.5)."""
    bits, left = int.from_bytes(header), 8 * len(header)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise ValueError("the sequence header ends early")
        return bits >> left & ((1 << count) - 1)

    take(4)  # profile, still picture
    if take(1):  # the short form, for still pictures
        take(5)  # level
    else:
        if take(1):
            raise ValueError("a picture has no timing")
        has_delays = take(1)
        for _ in range(take(5) + 1):
            take(12)  # operating point
            if take(5) > 7:  # level
                take(1)  # tier
            if has_delays and take(1):
                take(4)  # delay
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1

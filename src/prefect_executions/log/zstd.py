"""zstd, alone or as a patch: a text as the change against another one.

This is zstd's own patching (`zstd --patch-from`): the other text is a *prefix*, as if the text went
on after it, so that what stayed is a reference to it, wherever it stood. Each frame ends with
zstd's own checksum of the text, which also tells when it is undone with another prefix.
"""

import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_Option = zstd.CompressionParameter

_LEVEL = 3
# Bytes of a text over which matches are looked for at any distance. Below, zstd's usual tables have
# room for all places, and it takes two thirds of the time; just above, they lose some.
_LONG = 1 << 20
_CANDIDATES = 8  # log2 of how many like places are tried: texts repeat themselves
_SMALL_WINDOW = 17  # log2; up to it zstd's usual tables take most of the time, to be made
_SMALL_TABLE = 15  # log2
_LEAST_WINDOW, _MOST_WINDOW = _Option.window_log.bounds()
_LEAST_PREFIX = 8  # bytes; zstd takes no shorter one
_CHUNK = 1 << 20  # bytes that are made at once


def compress(data: bytes, base: bytes = b"") -> bytes:
    """Compress `data`, as the change against `base` if there is one: one frame.

    The window reaches over both, since a match can be as far away as the beginning of `base`.
    """
    prefix = _prefix(base)
    options: dict[int, int] = {_Option.compression_level: _LEVEL, _Option.checksum_flag: 1}
    if len(base) >= _LEAST_PREFIX:
        span = (len(base) + len(data)).bit_length()
        options[_Option.window_log] = window = min(max(span, _LEAST_WINDOW), _MOST_WINDOW)
        if window <= _SMALL_WINDOW:
            options[_Option.hash_log] = options[_Option.chain_log] = min(window, _SMALL_TABLE)
        if max(len(base), len(data)) > _LONG:
            options[_Option.enable_long_distance_matching] = 1
            options[_Option.ldm_bucket_size_log] = _CANDIDATES
    del base  # a prefix is a copy, and the text may be large: it is held by nobody else
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
    return compressor.compress(data, mode=compressor.FLUSH_FRAME)


def decompress(frame: bytes | memoryview, size: int, base: bytes = b"") -> bytes:
    """Undo `compress`.

    Raises:
        ValueError: the frame is damaged, has another base, or does not hold `size` bytes.
    """
    prefix = _prefix(base)
    del base  # see `compress`
    try:
        if zstd.get_frame_info(frame).decompressed_size != size:
            raise ValueError(f"a frame does not hold {size} bytes")
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MOST_WINDOW}
        decompressor = zstd.ZstdDecompressor(zstd_dict=prefix, options=options)
        data = _made(decompressor, frame, size)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("a frame has another length than was written")
    return data


def frames(data: bytes) -> Iterator[bytes]:
    """The texts of frames that stand one after another.

    Raises:
        ValueError: a frame is damaged.
    """
    rest = memoryview(data)
    while rest:
        try:
            length, size = zstd.get_frame_size(rest), zstd.get_frame_info(rest).decompressed_size
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from error
        yield decompress(rest[:length], size or 0)
        rest = rest[length:]


def _made(decompressor: zstd.ZstdDecompressor, frame: bytes | memoryview, size: int) -> bytes:
    """What a frame holds; a large text is put together where it stays, not copied at the end."""
    if size <= _CHUNK:
        return decompressor.decompress(frame)
    made = BytesIO()
    made.seek(size - 1)
    made.write(b"0")
    made.seek(0)
    while made.write(decompressor.decompress(frame, max_length=_CHUNK)):
        frame = b""
        if decompressor.eof:
            break
    if made.tell() != size:
        raise ValueError("a frame has another length than was written")
    return made.getvalue()


def _prefix(base: bytes) -> Any:
    if len(base) < _LEAST_PREFIX:
        return None
    return zstd.ZstdDict(base, is_raw=True).as_prefix

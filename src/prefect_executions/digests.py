"""Digests of bytes: of large ones that grow, and of several parts."""

import hashlib

_MARK = 64 << 10  # bytes between the places that a digest can be started from


class Digest:
    """The SHA-256 of some bytes, which that of bytes with the same beginning can start from.

    Hashing a large state takes longer than all else that a checkpoint does to it; of a state that
    only grows at its end, the new end is hashed.

    Args:
        data: The bytes.
        like: The digest of other bytes.
        prefix: How many bytes at the beginning are the same in both.
    """

    def __init__(self, data: bytes, like: "Digest | None" = None, prefix: int = 0) -> None:
        self._marks: list[hashlib._Hash] = like._marks[: prefix // _MARK] if like else []
        digest = self._marks[-1].copy() if self._marks else hashlib.sha256()
        for start in range(len(self._marks) * _MARK, len(data), _MARK):
            digest.update(data[start : start + _MARK])
            if start + _MARK <= len(data):
                self._marks.append(digest.copy())
        self.hex = digest.hexdigest()


def digest(*parts: bytes | str) -> str:
    """128 bits of BLAKE2b over the parts and their lengths, in hex; a string is its UTF-8."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()

"""Media types of bodies, and the one that tools send when nobody said any.

`curl -d '{...}'` says `application/x-www-form-urlencoded`, and clients of the protocol are used to it being
read as JSON. A page of another origin may send that type too, without asking (a form). So it is read on
`/v2` only, and only from a caller that shows no sign of a browser: every browser since 2020 sends `Origin` or
`Sec-Fetch-Site` with such a request, and older ones a referrer. This is beside the check of origins, not
instead of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.serving.gateway.api_versions import VENDOR
from plumbline.serving.gateway.refusals import MediaTypeRefused

__all__ = ["verify_media", "verify_protocol_media"]

_FORM = b"application/x-www-form-urlencoded"
_BROWSER = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"referer", b"cookie")


def verify_media(given: bytes, expected: tuple[bytes, ...], *, vendor: bool = False) -> None:
    """The content type is one of these, whatever its parameters.

    Args:
        given: value of the header.
        expected: lower-case media types.
        vendor: the JSON type of this API, with a version in it, will do too.

    Raises:
        MediaTypeRefused: it is another.
    """
    media = _bare(given)
    if media in expected or (vendor and media.startswith(VENDOR) and media.endswith(b"+json")):
        return
    named = ascii(media.decode("latin-1"))[1:-1][:80] or "an empty media type"
    raise MediaTypeRefused(given=named, expected=" or ".join(name.decode() for name in expected))


def verify_protocol_media(headers: Mapping[bytes, bytes], expected: tuple[bytes, ...]) -> None:
    """The same for `/v2`: no content type will do, and a tool's default from what is no browser.

    Raises:
        MediaTypeRefused: see above.
    """
    given = headers.get(b"content-type")
    if given is None or (_bare(given) == _FORM and not any(name in headers for name in _BROWSER)):
        return
    verify_media(given, expected)


def _bare(given: bytes) -> bytes:
    return given.split(b";", 1)[0].strip().lower()

"""Catalogs by name or by URI, and what they refuse as one line with the next step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tierlog.errors import UserError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

DEFAULT_NAME = "default"
"""Of a catalog that is given by its URI: pyiceberg's own default, so that others find the same tables."""
_SECRETS = re.compile(r"(?<=//)[^/@]*@|\?.*")


def open_catalog(given: str, properties: Mapping[str, str]) -> Catalog:
    """``given``: a name that pyiceberg's configuration knows, or a URI. Raises UserError."""
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError:
        raise UserError("Iceberg needs pyiceberg: pip install 'tierlog[iceberg]'") from None
    name, told = given, dict(properties)
    if "://" in given:
        name, told = DEFAULT_NAME, {"uri": given} | told
        step = "check its URI, and --catalog-property for what it asks"
    else:
        step = "check it in ~/.pyiceberg.yaml or PYICEBERG_CATALOG__…, or give its URI"
    with explained(f"the catalog {shown(given)}", step):
        try:
            return load_catalog(name, **told)
        except ValueError as error:
            if not str(error).startswith("URI missing"):
                raise
            raise UserError(f"there is no catalog {name}; {step}") from None


def shown(given: str) -> str:
    """Without what a URI may hold of secrets."""
    return _SECRETS.sub("", given)


class explained:
    """Errors of catalog and storage as UserError, with the next step."""

    def __init__(self, name: str, step: str) -> None:
        self._name = name
        self._step = step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return
        raise UserError(f"{self._name}: {_told(error)}; {self._step}") from error


def _told(error: Exception) -> str:
    """Libraries tell connections as nested objects: the innermost cause is what a person needs."""
    text = (str(error).splitlines() or [""])[0]
    refused = re.search(r"host='([^']*)', port=(\d+).*?(\[Errno \d+\] [^')\"]*|timed out)", text)
    if refused is not None:
        text = f"no answer from {refused[1]}:{refused[2]}: {re.sub(r'.*] ', '', refused[3])}"
    return text or type(error).__name__

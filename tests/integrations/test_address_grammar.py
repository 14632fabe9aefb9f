"""One grammar of addresses: file system, artifact URIs and ``session.use`` read them alike."""

from __future__ import annotations

import pytest

from dreamlake.integrations.fsspec import Place
from dreamlake.integrations.mlflow import location_of
from dreamlake.operations.addressing import parse, text_of


@pytest.mark.parametrize(
    "text",
    ["w/s", "w/s/f", "w/s 1/a b/c.pth@best", "w/s/a/b@v3", "vision/run:1/x@y@v2", "ä/日本/ü.bin", "w/s/100%/a%20b"],
)
def test_all_read_the_same(text):
    url = f"dreamlake://{text}"
    place, address, (artifact, local_path) = Place.of(text), parse(url), location_of(url)
    assert parse(text) == address == artifact and local_path is None
    assert (place.workspace, place.session, place.path) == (*address.session[:2], address.path)
    assert parse(text_of(address.session, address.path)) == address and text_of(address.session, address.path) == url

"""Names of stored bundles: what they say, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.core.bundles import BundleUri, content_of, is_named
from serinus.core.errors import UsageError

HASH = "0123456789abcdef" * 4


@given(
    store=st.from_regex(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", fullmatch=True),
    model=st.from_regex(r"[a-z][-a-z0-9_]*", fullmatch=True),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
)
def test_a_name_is_read_as_it_was_written(store: str, model: str, digest: str) -> None:
    uri = BundleUri(store, model, digest)
    assert BundleUri.parse(str(uri)) == uri
    assert is_named(str(uri))
    assert content_of(str(uri)) == digest


def test_a_name_is_relative_to_its_store() -> None:
    assert str(BundleUri("home", "retail", HASH)) == f"bundles://home/retail/{HASH}"


@pytest.mark.parametrize(
    "text",
    [
        f"file:///home/bundles/retail/{HASH}",
        f"bundles://home/{HASH}",
        f"bundles:///retail/{HASH}",
        f"bundles://Home/retail/{HASH}",
        f"bundles://home/../retail/{HASH}",
        f"bundles://home/retail/{HASH}/",
        "bundles://home/retail/abc",
        "",
    ],
)
def test_another_text_names_no_bundle(text: str) -> None:
    with pytest.raises(UsageError, match="names no stored bundle"):
        BundleUri.parse(text)


def test_the_same_content_is_known_in_another_place() -> None:
    assert content_of(f"file:///old/bundles/retail/{HASH}") == content_of(f"bundles://home/retail/{HASH}")


def test_what_does_not_end_with_a_hash_is_known_by_all_of_it() -> None:
    assert content_of("mlflow-artifacts:/run/artifacts/bundle/gbdt") == "mlflow-artifacts:/run/artifacts/bundle/gbdt"

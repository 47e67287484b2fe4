"""Names of services: what Kubernetes takes is taken, everywhere, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from serinus.core.errors import UsageError
from serinus.core.names import ModelRef, ServiceRef, feast_project, problem_faults, problem_of


def test_a_plain_name_is_in_the_default_namespace() -> None:
    assert ServiceRef.parse("retail") == ServiceRef("default", "retail")
    assert (str(ServiceRef.parse("retail")), ServiceRef.parse("retail").shown) == ("default/retail", "retail")


def test_another_namespace_is_said_with_a_slash_and_shown() -> None:
    ref = ServiceRef.parse("shop/retail-b")
    assert (ref.namespace, ref.name, str(ref), ref.shown) == ("shop", "retail-b", "shop/retail-b", "shop/retail-b")


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/", "/a", "a/b/c", "card_fraud", "Retail", "1st", "-a", "a-", "a.b", "ä", "a b", "..", "../x", "a\n"],
)
def test_what_no_object_could_be_called_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no name of a service"):
        ServiceRef.parse(text)


def test_a_name_leaves_room_for_the_hosts_that_kserve_makes_of_both() -> None:
    assert len(ServiceRef("default", "a" * 32).name) == 32
    assert len(ServiceRef("ml", "a" * 35).name) == 35
    for namespace, size in (("default", 33), ("ml", 36), ("n" * 30, 10)):
        with pytest.raises(UsageError) as refused:
            ServiceRef(namespace, "a" * size)
        assert f"at most {size - 1} characters" in refused.value.cause
    # The longest label: <service>-v<N>-<hash6>-predictor-<namespace>, with versions up to 9999.
    for namespace in ("default", "ml", "n" * 38):
        longest = "a" * min(35, 39 - len(namespace))
        assert len(f"{longest}-v9999-abcdef-predictor-{namespace}") <= 63


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True))
def test_what_is_written_is_read_back(name: str) -> None:
    ref = ServiceRef("some-space", name)
    assert ServiceRef.parse(str(ref)) == ref
    assert ServiceRef.parse(ref.shown) == ref


def test_a_version_reads_as_one_says_it() -> None:
    assert str(ModelRef("retail", 3)) == "retail version 3"


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True))
def test_a_problem_is_named_like_its_service_and_in_feast_by_a_name_of_its_own(name: str) -> None:
    assert not list(problem_faults(name))
    assert ServiceRef.parse(name).name == name
    assert problem_of(feast_project(name)) == name
    assert feast_project(name).isidentifier()


def test_in_documents_a_service_is_one_text_and_a_model_has_two_fields() -> None:
    class Document(BaseModel):
        service: ServiceRef
        model: ModelRef

    made = Document(service=ServiceRef("shop", "retail-b"), model=ModelRef("retail", 3))
    assert made.model_dump_json() == '{"service":"shop/retail-b","model":{"name":"retail","version":3}}'
    assert Document.model_validate_json(made.model_dump_json()) == made
    assert Document.model_validate({"service": "retail", "model": made.model}).service == ServiceRef(
        "default", "retail"
    )
    with pytest.raises(ValidationError, match="a name is lower-case letters"):
        Document.model_validate({"service": "card_fraud", "model": made.model})
    assert Document.model_json_schema()["properties"]["service"]["type"] == "string"

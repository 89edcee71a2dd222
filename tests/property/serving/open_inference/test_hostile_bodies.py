"""Whatever comes as a body, the answer is 200 or a problem below 500 (L4-27, X-56)."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.serving.gateway.application import build_application
from plumbline.serving.open_inference.datatypes import ITEM_BYTES
from plumbline.testing.gateways import ask, fake_gateway

INFER = "/v2/models/echo/infer"
application = build_application(fake_gateway())

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
data = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
PARAMETERS = (
    *("binary_data_size", "binary_data", "classification", "priority", "timeout", "sequence_id", "x"),
    *("binary_data_output", "shared_memory_region", "plumbline_deadline_us"),
)
HEADERS = (
    *("content-encoding", "content-type", "inference-header-content-length", "content-length", "host"),
    *("x-request-id", "accept", "accept-encoding", "origin", "traceparent"),
)
parameters = st.dictionaries(st.sampled_from(PARAMETERS), values, max_size=3)
tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*ITEM_BYTES, "", "x"]),
        "datatype": st.sampled_from([*ITEM_BYTES, "FP8"]),
        "shape": st.lists(st.integers(-1, 4) | st.integers(-(2**66), 2**66), max_size=4),
    },
    optional={"data": data, "parameters": parameters},
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=3)},
    optional={
        "id": st.text(max_size=5),
        "parameters": parameters,
        "outputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from([*ITEM_BYTES])}, optional={"parameters": parameters}
            ),
            max_size=3,
        ),
    },
)


def verify(told):
    assert told.status == 200 or 400 <= told.status < 500, told.body
    if told.status != 200:
        problem = told.json()
        assert problem["status"] == told.status
        assert problem["class"] in ("validation", "decoding")
        assert problem["error"]


@settings(max_examples=250, deadline=None)
@given(document=requests, binary=st.binary(max_size=40), cut=st.integers(0, 60))
def test_requests_that_look_right_never_fail_the_server(document, binary, cut):
    text = json.dumps(document).encode()
    verify(ask(application, "POST", INFER, body=text))
    length = str(max(0, len(text) - (cut if cut < 4 else 0)))
    headers = [("inference-header-content-length", length)]
    verify(ask(application, "POST", INFER, headers=headers, body=text + binary))


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=200),
    headers=st.lists(
        st.tuples(
            st.sampled_from(HEADERS),
            st.text(st.characters(max_codepoint=255), max_size=20),
        ),
        max_size=4,
    ),
)
def test_bytes_and_headers_of_any_kind_never_fail_the_server(body, headers):
    told = ask(application, "POST", INFER, headers=headers, body=body)
    assert 200 <= told.status < 500


@settings(max_examples=150, deadline=None)
@given(
    document=values,
    path=st.sampled_from(["repository/index", "repository/models/echo/load", "trace/setting"]),
)
def test_other_documents_never_fail_the_server(document, path):
    told = ask(application, "POST", f"/v2/{path}", body=json.dumps(document).encode())
    assert 200 <= told.status < 500

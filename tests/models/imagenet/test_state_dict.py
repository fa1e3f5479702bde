"""models/imagenet/state_dict.py: what torch.save wrote, read without torch."""

import io
import os
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from models.imagenet import state_dict


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_every_tensor_is_read_with_its_shape_and_its_order() -> None:
    given = {
        "rows": torch.arange(6.0).reshape(2, 3),
        "turned": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        "a part": torch.arange(10.0)[4:7],
        "counter": torch.tensor(7),
    }

    found = state_dict.read(saved(given))

    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found[name], tensor.numpy())


class Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("called",)


@pytest.mark.parametrize("value", [Call(), {"weight": Call()}])
def test_nothing_else_is_called(value: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="it calls posix mkdir"):
        state_dict.read(saved(value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(1), saved({"a": torch.zeros(4)})[:-9], saved([torch.zeros(2)])])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        state_dict.read(data)

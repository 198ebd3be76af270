"""What may be taken of memory where nobody says how much."""

from onnxopt.task import usual_memory


def test_a_large_model_may_take_more_than_a_gigabyte(tmp_path):
    for size, wanted in ((10, 10**9), (3 * 10**8, 15 * 10**8)):
        path = tmp_path / f"{size}.onnx"
        with path.open("wb") as file:
            file.truncate(size)
        assert usual_memory(path) == wanted

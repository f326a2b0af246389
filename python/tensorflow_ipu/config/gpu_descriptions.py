"""Public figures of GPUs, in the text that XLA's CUDA plugin takes to generate code for one that is not here.

They decide what code may use (the capability, registers, shared memory) and how the compiler weighs costs.
The name is what the driver calls the device, and is compared when the code is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """The data sheet of a GPU.

    capability: major and minor.
    clock: boost clock in GHz. bandwidth: of the memory, in GB/s. memory: in GB. l2: in MiB.
    shared_memory: KiB that blocks of one multiprocessor share, and the most one block may ask for.
    threads: that one multiprocessor keeps resident. lanes: 32-bit floating-point units of one.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock: float
    bandwidth: float
    memory: int
    l2: int
    shared_memory: tuple[int, int]
    threads: int = 2048
    lanes: int = 128


GPUS = {
    "t4": Gpu("Tesla T4", (7, 5), 40, 1.59, 320, 16, 4, (64, 64), 1024, 64),
    "a100": Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 2039, 80, 40, (164, 163), 2048, 64),
    "a100-40gb": Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 108, 1.41, 1555, 40, 40, (164, 163), 2048, 64),
    "a10g": Gpu("NVIDIA A10G", (8, 6), 80, 1.71, 600, 24, 6, (100, 99), 1536),
    "l4": Gpu("NVIDIA L4", (8, 9), 58, 2.04, 300, 24, 48, (100, 99), 1536),
    "l40s": Gpu("NVIDIA L40S", (8, 9), 142, 2.52, 864, 48, 96, (100, 99), 1536),
    "h100": Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 3352, 80, 50, (228, 227)),
    "h100-pcie": Gpu("NVIDIA H100 PCIe", (9, 0), 114, 1.755, 2039, 80, 50, (228, 227)),
    "h200": Gpu("NVIDIA H200", (9, 0), 132, 1.98, 4800, 141, 50, (228, 227)),
    "b200": Gpu("NVIDIA B200", (10, 0), 148, 1.965, 8000, 180, 126, (228, 227)),
}


def target_config(gpu: Gpu) -> str:
    """The text of a stream_executor.GpuTargetConfigProto."""
    major, minor = gpu.capability
    # From Hopper on there are instructions for one generation only.
    extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    shared, shared_by_choice = (kib * 1024 for kib in gpu.shared_memory)
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {shared_by_choice}
  threads_per_core_limit: {gpu.threads}
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.lanes}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {round(gpu.bandwidth * 1e9)}
  l2_cache_size: {gpu.l2 * 1024 * 1024}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {gpu.memory * 10**9}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{gpu.name}"
"""

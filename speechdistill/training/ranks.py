"""Which of the processes of a run this one is: alone, started by another of ours, by torchrun or by Slurm."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment

from speechdistill.errors import UserError

# What the leader hands on to the processes that are started in its name.
OUT_DIR_VARIABLE = "SPEECHDISTILL_OUT_DIR"
LEADER_VARIABLE = "SPEECHDISTILL_LEADER_PID"


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes:
        rank: its number among all processes that train together, as far as it is known before they are started.
        launcher: "torchrun" or "Slurm" where they start every process, else None: then Lightning starts the others.
        devices: processes on each node, where the launcher says so.
        num_nodes: nodes, where the launcher says so.
        is_child: Lightning started it in the leader's name, with the leader's folder in its environment.
    """

    rank: int
    launcher: str | None = None
    devices: int | None = None
    num_nodes: int | None = None
    is_child: bool = False

    @property
    def is_leader(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0


def find_launch() -> Launch:
    """Read from the environment how this process was started.

    Raises:
        UserError: Slurm was not told how many tasks a node gets.
    """
    environment = os.environ
    if torch.distributed.is_torchelastic_launched():
        world, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return Launch(int(environment["RANK"]), "torchrun", local, world // local)
    if SLURMEnvironment.detect() and int(environment["SLURM_NTASKS"]) > 1:
        if "SLURM_NTASKS_PER_NODE" not in environment:
            raise UserError("Slurm: say --ntasks-per-node=N, one task for each GPU of a node, instead of --ntasks.")
        tasks, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", 1))
        return Launch(int(environment["SLURM_PROCID"]), "Slurm", tasks // nodes, nodes)
    # One task of Slurm's is a process like any other, which starts the others itself.
    # On several nodes without a launcher a person starts one process on each, with NODE_RANK (see Lightning's docs).
    local, node = int(environment.get("LOCAL_RANK", 0)), int(environment.get("NODE_RANK", 0))
    return Launch(local or node, is_child=local > 0 and OUT_DIR_VARIABLE in environment)


def choose_devices(devices: Any, launch: Launch | None = None, accelerator: str = "cuda") -> int:
    """Turn "auto" into what the launcher started, else all GPUs, else one process.

    Raises:
        UserError: no number, more GPUs than there are, or not what the launcher started.
    """
    found = torch.cuda.device_count() if accelerator == "cuda" else 0
    started = launch.devices if launch else None
    if devices == "auto":
        devices = started or max(1, found)
    if type(devices) is not int or devices < 1:
        raise UserError(f'trainer.devices={devices}: give "auto" or a number from 1.')
    if accelerator == "mps" and devices > 1:
        raise UserError(f"trainer.devices={devices}: a Mac has one GPU. Give 1, or trainer.accelerator=cpu.")
    if launch and started not in (None, devices):
        raise UserError(
            f"trainer.devices={devices}, but {launch.launcher} started {started} processes on each node. Leave "
            "trainer.devices=auto, or let the two agree."
        )
    if found and devices > found:
        raise UserError(
            f"trainer.devices={devices}, but this process sees {found} GPUs. A resumed run takes fewer with "
            "trainer.accumulate raised by as much. Under Slurm, ask for --gpus-per-node, not --gpus-per-task: every "
            "process chooses its own among all of the node's."
        )
    return devices


def choose_num_nodes(num_nodes: Any, launch: Launch) -> int:
    """Turn "auto" into the nodes that the launcher uses, else one.

    Raises:
        UserError: no number, or not what the launcher uses.
    """
    if num_nodes == "auto":
        return launch.num_nodes or 1
    if type(num_nodes) is not int or num_nodes < 1:
        raise UserError(f'trainer.num_nodes={num_nodes}: give "auto" or a number from 1.')
    if launch.num_nodes not in (None, num_nodes):
        raise UserError(
            f"trainer.num_nodes={num_nodes}, but {launch.launcher} started the run on {launch.num_nodes}. Leave "
            "trainer.num_nodes=auto, or let the two agree."
        )
    return num_nodes

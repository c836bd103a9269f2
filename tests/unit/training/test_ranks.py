"""How a process learns which of a run's processes it is."""

import pytest

from speechdistill.errors import UserError
from speechdistill.training.ranks import Launch, choose_devices, choose_num_nodes, find_launch

VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
SLURM = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_PROCID", "SLURM_JOB_NAME")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in (*VARIABLES, *SLURM, "SPEECHDISTILL_OUT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch(0)),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, Launch(0, "torchrun", 4, 2)),
        ({**TORCHRUN, "RANK": "4", "LOCAL_RANK": "0"}, Launch(4, "torchrun", 4, 2)),
        (
            {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "5"},
            Launch(5, "Slurm", 4, 2),
        ),
        # One process of a batch script, and an interactive shell: nothing but a process alone.
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Launch(0)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}, Launch(0)),
        ({"LOCAL_RANK": "1", "SPEECHDISTILL_OUT_DIR": "/runs/x"}, Launch(1, is_child=True)),
        ({"NODE_RANK": "1"}, Launch(1)),
    ],
)
def test_the_environment_says_who_one_is(monkeypatch, environment, launch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_launch() == launch
    assert launch.is_leader == (launch.rank == 0)


def test_auto_is_what_the_launcher_started():
    launch = Launch(0, "torchrun", devices=4, num_nodes=2)
    assert (choose_devices("auto", launch), choose_num_nodes("auto", launch)) == (4, 2)
    assert (choose_devices("auto", Launch(0)), choose_num_nodes("auto", Launch(0))) == (1, 1)
    assert (choose_devices(3, Launch(0)), choose_num_nodes(2, Launch(0))) == (3, 2)


@pytest.mark.parametrize("value", [0, -1, 1.5, "four", True])
def test_what_is_no_number_of_processes_is_refused(value):
    with pytest.raises(UserError, match=rf"trainer\.devices={value}: give"):
        choose_devices(value, Launch(0))
    with pytest.raises(UserError, match=rf"trainer\.num_nodes={value}: give"):
        choose_num_nodes(value, Launch(0))


def test_what_the_launcher_did_not_start_is_refused():
    launch = Launch(0, "Slurm", devices=4, num_nodes=2)
    with pytest.raises(UserError, match=r"trainer\.devices=2, but Slurm started 4 processes on each node"):
        choose_devices(2, launch)
    with pytest.raises(UserError, match=r"trainer\.num_nodes=1, but Slurm started the run on 2"):
        choose_num_nodes(1, launch)


def test_slurm_has_to_be_told_the_tasks_of_a_node(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(UserError, match="--ntasks-per-node"):
        find_launch()

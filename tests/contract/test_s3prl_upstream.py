"""What s3prl asks of an upstream, for every kind of encoder: its own tests' demands, and what it only relies on."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contract.conftest import KINDS

SMALL = [kind for kind in KINDS if not kind.startswith("paper")]
SECOND = 16000


@pytest.fixture(scope="session")
def s3prl_nn() -> Any:
    pytest.importorskip("s3prl")
    import speechdistill.upstream  # noqa: F401 (registers)

    return pytest.importorskip("s3prl.nn")


@pytest.fixture(scope="session")
def upstream(s3prl_nn: Any, checkpoint: Callable[[str], str]) -> Callable[[str], Any]:
    """The upstream of a kind, built once as users build it."""
    built: dict[str, Any] = {}

    def build(kind: str) -> Any:
        if kind not in built:
            built[kind] = s3prl_nn.S3PRLUpstream("speechdistill", path_or_url=checkpoint(kind))
        built[kind].zero_grad()
        return built[kind].eval()

    return build


def clips(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of these lengths in samples, padded with zeros: (B, S), (B,)."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths)
    waveforms = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator)
    return waveforms * (torch.arange(max(lengths)) < counts[:, None]), counts


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_in_evaluation_the_same_input_gives_the_same_states(kind: str, upstream: Callable[[str], Any]) -> None:
    model = upstream(kind)
    waveforms, lengths = clips(SECOND // 2, SECOND // 4)
    first, first_lengths = model(waveforms, lengths)
    second, second_lengths = model(waveforms, lengths)
    for a, b in zip([*first, *first_lengths], [*second, *second_lengths], strict=True):
        assert torch.equal(a, b)
    assert all(state.isfinite().all() and state.std() > 0 for state in first)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_states_are_alike_in_number_and_shape(kind: str, upstream: Callable[[str], Any]) -> None:
    model = upstream(kind)
    assert set(model.downsample_rates) == {320}
    assert all(type(rate) is int for rate in model.downsample_rates)
    assert len(set(model.hidden_sizes)) == 1
    for seed, mode in enumerate([False, True, True, True]):
        states, lengths = model.train(mode)(*clips(SECOND // 2, 3000 + seed, seed=seed))
        assert len(states) == len(lengths) == model.num_layers == len(model.hidden_sizes)
        assert {tuple(state.shape) for state in states} == {(2, 25, model.hidden_sizes[0])}
        assert {tuple(length.tolist()) for length in lengths} == {(25, 10)}


@pytest.mark.parametrize("lengths", [(800,), (800, 800), (800, 16000, 5000), (12000, 4000)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_trains_forward_and_backward(kind: str, lengths: tuple[int, ...], upstream: Callable[[str], Any]) -> None:
    model = upstream(kind).train()
    # Paper-size models take seconds for what the smaller ones show as well.
    lengths = tuple(min(length, 2000) for length in lengths) if kind.startswith("paper") else lengths
    waveforms, counts = clips(*lengths)
    with torch.autograd.detect_anomaly(check_nan=True):
        states, state_lengths = model(waveforms, counts)
        assert states[0].shape[:2] == (len(lengths), -(-max(lengths) // 320))
        assert state_lengths[0].tolist() == [-(-length // 320) for length in lengths]
        torch.stack(states).square().sum().backward()
    gradients = [
        p.grad for name, p in model.named_parameters() if "masked_spec_embed" not in name and "heads" not in name
    ]
    with_gradient = [gradient is not None and gradient.isfinite().all() for gradient in gradients]
    # The final norm of a pre-norm encoder stands behind the last hidden state.
    assert with_gradient.count(False) <= 2


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_frames_for_every_length(kind: str, upstream: Callable[[str], Any]) -> None:
    expert = upstream(kind).upstream
    for length in (
        1,
        160,
        319,
        320,
        321,
        399,
        400,
        401,
        719,
        720,
        799,
        800,
        801,
        961,
        1039,
        1040,
        1279,
        1281,
        15999,
        16000,
    ):
        alone = expert([clips(length)[0][0]])["hidden_states"][0]
        assert alone.shape[1] == -(-length // 320), length
        beside = expert([clips(length)[0][0], torch.randn(2000)])["hidden_states"][0]
        assert beside.shape[1] == -(-max(length, 2000) // 320), length


@pytest.mark.parametrize("kind", SMALL)
def test_states_are_the_encoders_own(
    kind: str, checkpoint: Callable[[str], str], upstream: Callable[[str], Any]
) -> None:
    from speechdistill.checkpoints.encoders import load_encoder
    from speechdistill.evaluation.features import encoder_features

    waveform = clips(10000)[0][0]
    expected = encoder_features(load_encoder(checkpoint(kind)))(waveform)
    with torch.no_grad():
        states = upstream(kind).upstream([waveform])["hidden_states"]
    assert len(states) == len(expected)
    for state, own in zip(states, expected, strict=True):
        frames = len(own)
        assert frames == 31  # the convolutions' count, one fewer than ceil(10000 / 320)
        torch.testing.assert_close(state[0, :frames], own, atol=1e-5, rtol=1e-4)
        assert torch.equal(state[0, frames], state[0, frames - 1])


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_a_batch_gives_what_each_gives_alone(kind: str, upstream: Callable[[str], Any]) -> None:
    expert = upstream(kind).upstream
    short, long = clips(6000, seed=1)[0][0], clips(16000, seed=2)[0][0]
    together = expert([long, short])["hidden_states"]
    for row, waveform in enumerate([long, short]):
        alone = expert([waveform])["hidden_states"]
        difference = max((a[0] - b[row, : a.shape[1]]).abs().max().item() for a, b in zip(alone, together, strict=True))
        if waveform is long or kind.startswith("layer-norm"):
            assert difference <= 1e-4
        else:
            # Group norm takes its statistics over the row, padding included. If this fails, the caveat can go.
            assert difference > 1e-2
    # Rows of one length carry no padding, whatever the norm.
    for row, waveform in enumerate([long, long.flip(0)]):
        pair = expert([long, long.flip(0)])["hidden_states"]
        alone = expert([waveform])["hidden_states"]
        assert max((a[0] - b[row]).abs().max().item() for a, b in zip(alone, pair, strict=True)) <= 1e-4


@pytest.mark.parametrize("kind", SMALL)
def test_constructing_leaves_the_random_state(kind: str, s3prl_nn: Any, checkpoint: Callable[[str], str]) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002

    random.seed(5)
    torch.manual_seed(6)
    before = states()
    model = s3prl_nn.S3PRLUpstream("speechdistill", path_or_url=checkpoint(kind), extra_conf={"layers": "last"})
    assert states() == before
    assert model.num_layers == 1


@pytest.mark.parametrize("kind", SMALL)
def test_a_head_trains_on_the_frozen_upstream(kind: str, s3prl_nn: Any, upstream: Callable[[str], Any]) -> None:
    model = upstream(kind)
    featurizer = s3prl_nn.Featurizer(model)
    with torch.no_grad():
        states, lengths = model(*clips(8000, 3000))
    features, feature_lengths = featurizer(states, lengths)
    features.square().sum().backward()
    assert featurizer.weights.grad.abs().sum() > 0
    assert feature_lengths.tolist() == [25, 10]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_s3prl_lists_it(s3prl_nn: Any) -> None:
    assert "speechdistill" in s3prl_nn.S3PRLUpstream.available_names()
